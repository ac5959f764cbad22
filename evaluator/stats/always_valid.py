"""Always-valid tests, which need no horizon: mixtures for a score and a rate, the mSPRT and Wald's SPRT.

Sources: Ville (1939); Robbins (1970); Howard, Ramdas, McAuliffe & Sekhon (2021), Proposition 6 and Section 3.2;
Johari, Pekelis & Walsh (2015; 2022, "Always valid inference"); Wald (1945). Invariant: under the null the evidence has
mean at most 1 at every stopping time, so it ever reaches 1/α with probability at most α.

The score is mixed over effects N(0, τ²), of which a side takes the half in its direction; the mSPRT fixes
ρ = (V/I)² / τ². The rate's evidence mixes over shifts of the log odds and needs no normal approximation. For the SPRT
an effect δ moves the score S of variance V and information I by δI, so that λ = δI/V is the slope of the log likelihood
ratio λS − λ²V/2, at any λ fixed by the past.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import numpy as np
from scipy.special import log_ndtr

from evaluator.stats.alpha_spending import consistent_p
from evaluator.stats.errors import PlanError, StatsError, positive_per_cell, require_between
from evaluator.stats.score_process import Bools, CellArrays, Floats, Ints

# The information time at which the bound of a score is made tightest.
TIGHTEST_AT: Final = 0.5
# Newton's method starts above the root of a convex rising function, so it falls to it; six steps are usual.
_MOST_STEPS: Final = 60
# Shifts of the log odds from 2 % to a factor of 1,100 in steps of 15 %, equally weighted: a fixed mixture, so no
# quadrature error enters; narrower steps gain under 1 % of its logarithm.
_SHIFTS: Final = 0.02 * 1.15 ** np.arange(43)
# Limits of a rate closer to 0 or 1 than this are 0 or 1.
_EDGE: Final = 1e-12


# The score: the normal mixture ------------------------------------------------------------------------------------


def best_rho(v_opt: Floats | float, alpha: float) -> Floats:
    """ρ that makes the one-sided bound at level alpha nearly tightest at variance v_opt, in the units of V."""
    v = np.asarray(v_opt, dtype=np.float64)
    if not (bool(np.all((v > 0.0) & np.isfinite(v))) and 0.0 < alpha < 0.5):
        raise PlanError(f"no mixture is tightest at variance {v_opt!r} and level {alpha!r}")
    log = 2.0 * math.log(1.0 / (2.0 * alpha))
    return np.asarray(v / (log + math.log(1.0 + log)))


def log_mixture(s: Floats | float, v: Floats | float, rho: Floats | float) -> Floats:
    """Log evidence for a positive drift of a score s with variance v."""
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


def mixture_look(z: Floats, variance: Floats, rho: Floats, alpha: float, ready: Bools) -> tuple[Floats, Floats]:
    """The bound for z and the log evidence of each cell that is `ready`; infinite and 0 elsewhere."""
    v, r = np.where(ready, variance, 1.0), np.where(ready, rho, 1.0)
    bounds = np.where(ready, mixture_bound(v, alpha, r) / np.sqrt(v), np.inf)
    return bounds, np.where(ready, log_mixture(np.where(ready, z, 0.0) * np.sqrt(v), v, r), 0.0)


@dataclass(frozen=True, eq=False)
class AlwaysValid(CellArrays):
    """The always-valid test of one side. ρ is fixed at a cell's first look, from the variance that the horizon promises
    then; only efficiency depends on it, not the level."""

    alpha: float
    rho: Floats  # nan before the first look
    log_evidence: Floats  # the largest so far
    kept: ClassVar[tuple[str, ...]] = ("rho", "log_evidence")

    @classmethod
    def start(cls, alpha: float, cells: int = 1) -> Self:
        return cls(alpha, np.full(cells, np.nan), np.zeros(cells))

    @property
    def p(self) -> Floats:
        return np.exp(-self.log_evidence)

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        first = ready & np.isnan(self.rho)
        rho = np.where(first, best_rho(np.where(ready, variance * TIGHTEST_AT / t, 1.0), self.alpha), self.rho)
        bounds, evidence = mixture_look(z, variance, rho, self.alpha, ready)
        return bounds, replace(self, rho=rho, log_evidence=np.maximum(self.log_evidence, evidence))


# A rate: the binomial mixture -------------------------------------------------------------------------------------


def log_rate_evidence(events: Ints | int, trials: int, rate: Floats | float, *, above: bool = True) -> Floats:
    """Log of the evidence that events come more (or, `above=False`, less) often than `rate`, in natural units.

    Several counts in the same trials may have a rate each, in arrays of one shape. Raises StatsError on a rate outside
    (0, 1) or counts that are not 0 ≤ events ≤ trials.
    """
    count, rates = np.asarray(events)[..., None], np.asarray(rate, dtype=np.float64)[..., None]
    if not np.all((rates > 0.0) & (rates < 1.0)):
        raise StatsError(f"the rate {rate!r} does not lie strictly between 0 and 1")
    if not np.all((count >= 0) & (count <= trials)):
        raise StatsError(
            f"{events!r} events in {trials!r} trials are impossible: events must be at least 0, at most trials"
        )
    shifts = _SHIFTS if above else -_SHIFTS
    logs = count * shifts - trials * np.log1p(rates * np.expm1(shifts))
    largest = logs.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(logs - largest[..., None]).mean(axis=-1)), dtype=np.float64)


def evidence_p(log_evidence: float) -> float:
    """The p value of an e-value, min(1, 1/E)."""
    return min(1.0, math.exp(-max(0.0, min(700.0, log_evidence))))


def rate_p(events: int, trials: int, rate: float, *, above: bool = True) -> float:
    """The one-sided p value of "at most `rate`" (`above`) or "at least `rate`" at these counts.

    To hold at all moments together keep the smallest so far.
    """
    return evidence_p(float(log_rate_evidence(events, trials, rate, above=above)))


def rate_limits(events: int, trials: int, alpha: float) -> tuple[float, float]:
    """Confidence sequence of the rate: limits that hold at every number of trials at once, each at level alpha / 2.

    They invert `rate_p`: evidence for "above r" falls as r rises. (0, 1) without trials.
    """
    from scipy.optimize import brentq  # see `group_sequential`

    require_between("level", alpha, 0.0, 1.0, StatsError)
    target = math.log(2.0 / alpha)

    def limit(above: bool) -> float:
        def excess(rate: float) -> float:
            return float(log_rate_evidence(events, trials, rate, above=above)) - target

        refuted, kept = (_EDGE, 1.0 - _EDGE) if above else (1.0 - _EDGE, _EDGE)
        if excess(refuted) <= 0.0:
            return float(round(refuted))
        if excess(kept) >= 0.0:
            return float(round(kept))
        return float(brentq(excess, _EDGE, 1.0 - _EDGE, xtol=1e-14, rtol=1e-12))

    return limit(True), limit(False)


@dataclass(frozen=True, eq=False)
class MixtureSPRT(CellArrays):
    """The mSPRT of one side.

    tau: standard deviation τ of the effects hoped for, in units of the effect. The smallest effect worth having is a
    good one: the bound is then nearly tightest when that effect is found. ρ is fixed at a cell's first look, from the
    V/I known then; only efficiency depends on it, not the level.
    """

    alpha: float
    tau: Floats
    horizon: Floats
    rho: Floats  # nan before the first look
    p: Floats
    kept: ClassVar[tuple[str, ...]] = ("rho", "p")

    @classmethod
    def start(cls, alpha: float, cells: int = 1, *, tau: Floats | float, horizon: Floats | float) -> Self:
        """Before the first look. tau in units of the effect, horizon in units of I at t = 1; one, or one a cell."""
        require_between("level", alpha, 0.0, 0.5)
        tau, horizon = positive_per_cell("effect size", tau, cells), positive_per_cell("horizon", horizon, cells)
        return cls(alpha, tau, horizon, np.full(cells, np.nan), np.ones(cells))

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        ratio = np.where(ready, variance, 1.0) / np.where(ready, t * self.horizon, 1.0)
        rho = np.where(ready & np.isnan(self.rho), (ratio / self.tau) ** 2, self.rho)
        bounds, evidence = mixture_look(z, variance, rho, self.alpha, ready)
        p = np.minimum(self.p, np.exp(-np.maximum(evidence, 0.0)))
        return bounds, replace(self, rho=rho, p=consistent_p(p, self.p, ready & (z >= bounds), self.alpha))


# Wald's slope is reset whenever the information has grown by this factor: the variance known at the first look may
# rest on five blocks, and a slope twice too steep can never win.
_LEG: Final = 2.0


@dataclass(frozen=True, eq=False)
class WaldSPRT(CellArrays):
    """The SPRT of one side against an effect δ > 0 in its direction.

    V/I is an estimate and may move with the traffic, so λ is set at the first look and again each time the information
    has doubled; the legs between add up. The null is rejected when the ratio reaches 1/α, the alternative (`accepted`)
    when the ratio for it, −λ(S − δI) − λ²V/2, reaches 1/β: Wald's conservative thresholds, which keep both errors.

    accepted: cells in which an effect of δ or more is ruled out with error at most β. It stays set; p stays valid.
    Confidence limits by inverting this bound are exact at the null, and elsewhere as far as V/I is constant.
    """

    alpha: float
    beta: float
    effect: Floats
    horizon: Floats
    slope: Floats  # λ of the leg that runs; nan before the first look
    legs: Floats  # shape (5, cells): S, V, I at the start of the leg, log evidence for and against δ of the legs before
    p: Floats
    accepted: Bools
    kept: ClassVar[tuple[str, ...]] = ("slope", "legs", "p", "accepted")

    @classmethod
    def start(
        cls, alpha: float, cells: int = 1, *, effect: Floats | float, beta: float, horizon: Floats | float
    ) -> Self:
        """Before the first look. effect: δ > 0 in the side's direction; horizon: I at t = 1; one, or one a cell."""
        require_between("level", alpha, 0.0, 0.5)
        require_between("error beta", beta, 0.0, 1.0)
        effect, horizon = positive_per_cell("effect", effect, cells), positive_per_cell("horizon", horizon, cells)
        none = np.full(cells, np.nan)
        return cls(
            alpha, beta, effect, horizon, none, np.zeros((5, cells)), np.ones(cells), np.zeros(cells, dtype=np.bool_)
        )

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        v, z = np.where(ready, variance, 1.0), np.where(ready, z, 0.0)
        information = np.where(ready, t * self.horizon, 1.0)
        s, next_slope = z * np.sqrt(v), self.effect * information / v
        slope = np.where(ready & np.isnan(self.slope), next_slope, self.slope)
        s0, v0, i0, before, against = self.legs
        step, half = np.where(ready, slope, 1.0), 0.5 * np.where(ready, slope, 0.0) * np.maximum(v - v0, 0.0)
        evidence = before + step * (s - s0 - half)
        refuted = against - step * (s - s0 - self.effect * (information - i0) + half)
        needed = s0 + half + (math.log(1.0 / self.alpha) - before) / step
        # A leg so good that even S < 0 would do has crossed before; limits ask for bounds of at least 0.
        bounds = np.where(ready, np.maximum(needed / np.sqrt(v), 0.0), np.inf)
        p = np.minimum(self.p, np.exp(-np.maximum(np.where(ready, evidence, 0.0), 0.0)))
        turn = ready & ((i0 == 0.0) | (information >= _LEG * i0))
        legs = np.where(turn, np.stack([s, v, information, evidence, refuted]), self.legs)
        return bounds, replace(
            self,
            slope=np.where(turn, next_slope, slope),
            legs=legs,
            p=consistent_p(p, self.p, ready & (z >= bounds), self.alpha),
            accepted=self.accepted | (ready & (refuted >= math.log(1.0 / self.beta))),
        )
