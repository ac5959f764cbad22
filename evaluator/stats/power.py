"""Power: crossing probabilities of a sequential test, what a unit of traffic tells, and what no test can beat.

Invariant: closed forms and recursive numerical integration (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000,
chapter 19), no simulation; the probabilities of a course add up to 1 within 1e-8. Levels are one-sided, effects are
challenger − champion, larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr, rel_entr

from evaluator.stats.errors import PlanError, require_between
from evaluator.stats.group_sequential import gauss_legendre
from evaluator.stats.score_process import Floats

# Paths further than this many standard deviations from their mean are not followed.
_REACH: Final = 8.5
# Width of a panel of the quadrature, in standard deviations of the smaller step beside it.
_PANEL: Final = 2.0


@dataclass(frozen=True)
class Course:
    """Probabilities to cross the upper and the lower bound first at each look, shape (looks,) each."""

    upper: Floats
    lower: Floats

    @property
    def above(self) -> float:
        """Probability ever to cross the upper bound first: the power of the win side."""
        return float(self.upper.sum())

    @property
    def below(self) -> float:
        """Probability ever to cross the lower bound first."""
        return float(self.lower.sum())


def course(
    times: Sequence[float], upper: Sequence[float], lower: Sequence[float] | None = None, drift: float = 0.0
) -> Course:
    """Crossing probabilities of B(t) + drift · t, watched as z = (B(t) + drift t)/√t at rising times t > 0.

    upper, lower: bounds for z at each look, infinite where there is none; without `lower` only the upper ones stop.
    drift: the mean of z at t = 1, that is effect · √(I_max / (V/I)). Raises PlanError for impossible arguments.
    """
    at, high = np.asarray(times, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    low = np.full(len(at), -np.inf) if lower is None else np.asarray(lower, dtype=np.float64)
    if not len(at) or not (len(at) == len(high) == len(low)) or not math.isfinite(drift):
        raise PlanError("a course needs one bound a side for each of at least one look, and a finite drift")
    if not (at[0] > 0.0 and bool(np.all(np.diff(at) > 0.0)) and bool(np.all(np.isfinite(at)))):
        raise PlanError(f"look times must be positive and increasing, not {list(times)!r}")
    if bool(np.any(high <= low)):
        raise PlanError("at each look the upper bound must lie above the lower bound")
    over, under = np.zeros(len(at)), np.zeros(len(at))
    points, masses, before = np.zeros(1), np.ones(1), 0.0
    for look, t in enumerate(at):
        spread, sigma = math.sqrt(t), math.sqrt(t - before)
        mean = points + drift * (t - before)
        top, bottom = high[look] * spread, low[look] * spread
        over[look] = masses @ ndtr((mean - top) / sigma)
        under[look] = masses @ ndtr((bottom - mean) / sigma)
        if look + 1 == len(at):
            break
        finest = min(sigma, math.sqrt(at[look + 1] - t))
        first, last = max(bottom, drift * t - _REACH * spread), min(top, drift * t + _REACH * spread)
        if first >= last:  # no path worth following is left between the bounds
            break
        nodes, weights = gauss_legendre(first, last, _PANEL * finest)
        distance = (nodes[:, None] - mean) / sigma
        density = np.exp(-0.5 * distance * distance) @ masses / (sigma * math.sqrt(2.0 * math.pi))
        points, masses, before = nodes, weights * density, t
    return Course(over, under)


# What a unit of traffic tells ---------------------------------------------------------------------------------------


def split_variance(share: float, champion: float, challenger: float, effect: float = 0.0) -> float:
    """V/I of split traffic with these outcome variances σ₀², σ₁² and the champion's mean as prediction.

    It is (1−π)(σ₁² + δ²) + π σ₀², the mean of (A−π)²(Y−m)² over π(1−π).
    """
    require_between("share", share, 0.0, 1.0)
    return (1.0 - share) * (challenger + effect * effect) + share * champion


def cluster_design_effect(size: float, correlation: float, variation: float = 0.0) -> float:
    """Kish's design effect 1 + ((1 + cv²) n̄ − 1) ρ.

    Clusters have mean size n̄, coefficient of variation cv, and correlation ρ between the scores of two of their units.
    """
    if not (size >= 1.0 and 0.0 <= correlation <= 1.0 and variation >= 0.0):
        raise PlanError(
            f"clusters must have a size of at least 1, a correlation in [0, 1] and a variation of at least 0, not "
            f"{size!r}, {correlation!r} and {variation!r}"
        )
    return 1.0 + max(0.0, (1.0 + variation * variation) * size - 1.0) * correlation


def block_widening(correlation: float) -> float:
    """(1+r)/(1−r): how much a lag-1 correlation r of many AR(1) blocks widens the variance of their sum."""
    require_between("correlation of blocks", correlation, -1.0, 1.0)
    return (1.0 + correlation) / (1.0 - correlation)


# What no test can beat -------------------------------------------------------------------------------------------


def kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats; inf where q is 0 or 1 and p is not."""
    if not (0.0 <= p <= 1.0 and 0.0 <= q <= 1.0):
        raise PlanError(f"p and q must be probabilities, not {p!r} and {q!r}")
    return float(rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q))


def information_rate(share: float, champion: float, challenger: float) -> tuple[float, float]:
    """Information rates in nats per unit of binary outcomes, at true rates p₀ and p₁.

    First against the composite null "equal rates, any": the mutual information of arm and outcome,
    π KL(p₁‖p̄) + (1−π) KL(p₀‖p̄) with p̄ = π p₁ + (1−π) p₀. Then against "the challenger has p₀": π KL(p₁‖p₀).
    """
    require_between("share", share, 0.0, 1.0)
    pooled = share * challenger + (1.0 - share) * champion
    composite = share * kl(challenger, pooled) + (1.0 - share) * kl(champion, pooled)
    return composite, share * kl(challenger, champion)


def least_units(rate: float, alpha: float, beta: float) -> float:
    """Lower bound of the mean number of units under the alternative, for any test of one-sided level α and miss rate β.

    kl(1−β ‖ α) / rate: Wald (1945); Garivier & Kaufmann (2019), "Non-asymptotic sequential tests".
    """
    require_between("level", alpha, 0.0, 1.0)
    require_between("miss rate beta", beta, 0.0, 1.0)
    if not rate > 0.0:
        raise PlanError(f"an information rate of {rate!r} a unit never decides")
    return kl(1.0 - beta, alpha) / rate


def wald_units(effect: float, variance: float, alpha: float, beta: float, per_unit: float) -> tuple[float, float]:
    """Wald's (1945) approximate mean number of units of the SPRT between 0 and δ, under no effect and under δ.

    The log ratio drifts by ∓ δ² i / (2v) a unit of information i = per_unit; it ends near log((1−β)/α) or
    log(β/(1−α)), overshoot neglected.
    """
    require_between("level", alpha, 0.0, 1.0)
    require_between("miss rate beta", beta, 0.0, 1.0 - alpha)
    step = effect * effect * per_unit / (2.0 * variance)
    return kl(alpha, 1.0 - beta) / step, kl(1.0 - beta, alpha) / step
