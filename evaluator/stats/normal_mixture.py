"""The one-sided normal mixture: a boundary that holds at every time at once and needs no horizon.

Invariant: exp(log_mixture(S, V)) is at most 1 on average under no effect at any stopping time, so it exceeds 1/α with
probability at most α (Ville; Robbins 1970; Howard, Ramdas, McAuliffe & Sekhon 2021, Proposition 6 and Section 3.2).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import log_ndtr

from evaluator.stats.errors import PlanError
from evaluator.stats.score_process import Floats

# Newton's method starts above the root of a convex rising function, so it falls to it; six steps are usual.
_MOST_STEPS = 60


def best_rho(v_opt: Floats | float, alpha: float) -> Floats:
    """ρ that makes the one-sided bound at level alpha nearly tightest at variance v_opt, in the units of V."""
    v = np.asarray(v_opt, dtype=np.float64)
    if not (bool(np.all((v > 0.0) & np.isfinite(v))) and 0.0 < alpha < 0.5):
        raise PlanError(f"no mixture is tightest at variance {v_opt!r} and level {alpha!r}")
    log = 2.0 * math.log(1.0 / (2.0 * alpha))
    return np.asarray(v / (log + math.log(1.0 + log)))


def log_mixture(s: Floats | float, v: Floats | float, rho: Floats | float) -> Floats:
    """log ∫ exp(λs − λ²v/2) dF(λ) with F the half-normal of variance 1/ρ on λ > 0: evidence for a positive drift."""
    s, w, rho = np.asarray(s), np.asarray(v) + rho, np.asarray(rho)
    return np.asarray(0.5 * np.log(4.0 * rho / w) + s * s / (2.0 * w) + log_ndtr(s / np.sqrt(w)))


def mixture_bound(v: Floats | float, alpha: float, rho: Floats | float) -> Floats:
    """s at which log_mixture(s, v, ρ) reaches log(1/α)."""
    target, w = math.log(1.0 / alpha), np.asarray(v) + rho
    # Without Φ (which is above a half for s > 0) the equation has a closed solution on either side of this one.
    s = np.sqrt(2.0 * w * (target + 0.5 * np.log(w / rho) + 1.0))
    for _ in range(_MOST_STEPS):
        hazard = np.exp(-s * s / (2.0 * w) - log_ndtr(s / np.sqrt(w))) / np.sqrt(2.0 * math.pi * w)
        step = (log_mixture(s, v, rho) - target) / (s / w + hazard)
        s = s - step
        if np.all(np.abs(step) <= 1e-14 * s):
            break
    return np.asarray(s)


def two_sided_rho(v_opt: Floats | float, alpha: float) -> Floats:
    """ρ that makes the two-sided bound nearly tightest at variance v_opt: that of one side at half the level."""
    return best_rho(v_opt, alpha / 2.0)


def two_sided_log_mixture(s: Floats | float, v: Floats | float, rho: Floats | float) -> Floats:
    """log ∫ exp(λs − λ²v/2) dF(λ) with F the whole normal of variance 1/ρ: evidence for a drift either way.

    This is the ratio of the mSPRT, and exp of minus it the p value of asymptotic confidence sequences.
    """
    w = np.asarray(v) + rho
    return np.asarray(0.5 * np.log(rho / w) + np.square(s) / (2.0 * w))


def two_sided_bound(v: Floats | float, alpha: float, rho: Floats | float) -> Floats:
    """|s| at which two_sided_log_mixture(s, v, ρ) reaches log(1/α): √((v+ρ)(log((v+ρ)/ρ) + 2 log(1/α))), Howard et
    al. (2021), eq. 14; divided by v the half-width of the asymptotic confidence sequence of Waudby-Smith et al. (2021).
    """
    w = np.asarray(v) + rho
    return np.asarray(np.sqrt(w * (np.log(w / rho) + 2.0 * math.log(1.0 / alpha))))
