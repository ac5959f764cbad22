"""The one-sided normal mixture: a boundary that holds at every time at once and needs no horizon.

Invariant: exp(log_mixture(S, V)) is at most 1 on average under no effect at any stopping time, so it exceeds 1/α with
probability at most α (Ville; Robbins 1970; Howard, Ramdas, McAuliffe & Sekhon 2021, Proposition 6 and Section 3.2).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr

from evaluator.stats.refusal import PlanError


def best_rho(v_opt: float, alpha: float) -> float:
    """ρ that makes the one-sided bound at level alpha nearly tightest at variance v_opt, in the units of V."""
    if not (v_opt > 0.0 and math.isfinite(v_opt) and 0.0 < alpha < 0.5):
        raise PlanError(f"no mixture is tightest at variance {v_opt!r} and level {alpha!r}")
    log = 2.0 * math.log(1.0 / (2.0 * alpha))
    return v_opt / (log + math.log(1.0 + log))


def log_mixture(s: float, v: float, rho: float) -> float:
    """log ∫ exp(λs − λ²v/2) dF(λ) with F the half-normal of variance 1/ρ on λ > 0: evidence for a positive drift."""
    return 0.5 * math.log(4.0 * rho / (v + rho)) + s * s / (2.0 * (v + rho)) + float(log_ndtr(s / math.sqrt(v + rho)))


def mixture_bound(v: float, alpha: float, rho: float) -> float:
    """s at which log_mixture(s, v, ρ) reaches log(1/α)."""
    target = math.log(1.0 / alpha)
    # Without Φ (which is above a half for s > 0) the equation has a closed solution on either side of this one.
    high = math.sqrt(2.0 * (v + rho) * (target + 0.5 * math.log((v + rho) / rho) + 1.0))
    return float(brentq(lambda s: log_mixture(s, v, rho) - target, 0.0, high, xtol=1e-12 * high, rtol=1e-12))
