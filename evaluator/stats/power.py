"""How much evidence a test will need: sample sizes, power and expected stopping, and what no test can beat.

Invariant: closed forms and exact integration, no simulation, so that the same question gives the same answer. Levels
are one-sided throughout, effects are challenger − champion, larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, xlogy

from evaluator.stats.crossing_probability import Course, course
from evaluator.stats.design import WIN_SIDE, Side
from evaluator.stats.errors import PlanError
from evaluator.stats.group_sequential import Boundary

# Drifts beyond this are decided at the first look.
_MOST_DRIFT: Final = 60.0


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise PlanError(f"the {name} {value!r} does not lie strictly between {low:g} and {high:g}")


# What a unit tells -----------------------------------------------------------------------------------------------


def information_per_unit(share: float) -> float:
    """π(1−π): the information of one unit of split traffic at the challenger's share π. A pair carries 1."""
    _between("share", share, 0.0, 1.0)
    return share * (1.0 - share)


def split_variance(share: float, champion: float, challenger: float, effect: float = 0.0) -> float:
    """V/I of split traffic with these outcome variances and the champion's mean as prediction:
    (1−π)(σ₁² + δ²) + π σ₀², the mean of (A−π)²(Y−m)² over π(1−π). It hardly depends on π where variances are alike."""
    _between("share", share, 0.0, 1.0)
    return (1.0 - share) * (challenger + effect * effect) + share * champion


def ramp_information(stages: Sequence[tuple[float, float]]) -> float:
    """Information of a ramp, stages of (share, units)."""
    return math.fsum(information_per_unit(share) * units for share, units in stages)


def ramp_units(information: float, stages: Sequence[tuple[float, float]]) -> float:
    """Units of traffic until a ramp has collected this information. The last stage goes on as long as it takes."""
    if not stages:
        raise PlanError("a ramp has at least one stage")
    total = 0.0
    for share, units in stages[:-1]:
        rate = information_per_unit(share)
        if rate * units >= information:
            return total + information / rate
        information -= rate * units
        total += units
    return total + information / information_per_unit(stages[-1][0])


def cluster_design_effect(size: float, correlation: float, variation: float = 0.0) -> float:
    """Kish's design effect 1 + ((1 + cv²) n̄ − 1) ρ of clusters of mean size n̄, coefficient of variation cv, and
    correlation ρ between the scores of two units of one cluster."""
    if not (size >= 1.0 and 0.0 <= correlation <= 1.0 and variation >= 0.0):
        raise PlanError(f"no clusters of size {size!r}, correlation {correlation!r} and variation {variation!r}")
    return 1.0 + max(0.0, (1.0 + variation * variation) * size - 1.0) * correlation


def block_widening(correlation: float) -> float:
    """(1+r)/(1−r): how much a lag-1 correlation r of many AR(1) blocks widens the variance of their sum."""
    _between("correlation of blocks", correlation, -1.0, 1.0)
    return (1.0 + correlation) / (1.0 - correlation)


# One look --------------------------------------------------------------------------------------------------------


def fixed_information(effect: float, variance: float, alpha: float, power: float) -> float:
    """Information at which the classical one-sided score test has this power: (z_{1−α} + z_power)² v / δ².

    variance: V/I as of `split_variance`, times design effect or widening. Needs power > alpha.
    """
    _between("level", alpha, 0.0, 0.5)
    _between("power", power, alpha, 1.0)
    if not (math.isfinite(effect) and effect != 0.0 and math.isfinite(variance) and variance > 0.0):
        raise PlanError(f"an effect of {effect!r} with variance {variance!r} has no sample size")
    return float((ndtri(power) - ndtri(alpha)) ** 2) * variance / (effect * effect)


def fixed_power(effect: float, variance: float, alpha: float, information: float) -> float:
    """Power of that test at this information against effect > 0 (its chance of a false win for an effect ≤ 0)."""
    return float(ndtr(effect * math.sqrt(information / variance) + ndtri(alpha)))


# Many looks ------------------------------------------------------------------------------------------------------


def group_sequential(drift: float, times: Sequence[float], win: Side = WIN_SIDE, harm: Side | None = None) -> Course:
    """What a group-sequential test does when the mean of z at t = 1 is `drift` = δ √(I_max / v).

    times: information times of the looks. With `harm` its side stops the test too: `below` is its share.
    """
    bounds = _bounds(win, times)
    lower = None if harm is None else [-bound for bound in _bounds(harm, times)]
    return course(times, bounds, lower, drift)


def _bounds(side: Side, times: Sequence[float]) -> list[float]:
    boundary, bounds = Boundary(side.alpha, side.spending), []
    for t in times:
        bound, boundary = boundary.look(t)
        bounds.append(bound)
    return bounds


def sequential_drift(power: float, times: Sequence[float], win: Side = WIN_SIDE, harm: Side | None = None) -> float:
    """The drift at which that test has this power. Its square over (z_{1−α} + z_power)² is the price of looking."""
    _between("power", power, win.alpha, 1.0)
    bounds = _bounds(win, times)
    lower = None if harm is None else [-bound for bound in _bounds(harm, times)]
    return float(brentq(lambda drift: course(times, bounds, lower, drift).above - power, 0.0, _MOST_DRIFT, xtol=1e-9))


def sequential_information(
    effect: float, variance: float, power: float, times: Sequence[float], win: Side = WIN_SIDE, harm: Side | None = None
) -> float:
    """I_max at which a group-sequential test with looks at these shares of it has this power against the effect."""
    if not (math.isfinite(effect) and effect != 0.0 and math.isfinite(variance) and variance > 0.0):
        raise PlanError(f"an effect of {effect!r} with variance {variance!r} has no sample size")
    return sequential_drift(power, times, win, harm) ** 2 * variance / (effect * effect)


# What no test can beat -------------------------------------------------------------------------------------------


def kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats; inf where q is 0 or 1 and p is not."""
    if not (0.0 <= p <= 1.0 and 0.0 <= q <= 1.0):
        raise PlanError(f"{p!r} and {q!r} are not both probabilities")
    if (q == 0.0 and p > 0.0) or (q == 1.0 and p < 1.0):
        return math.inf
    if q in (0.0, 1.0):
        return 0.0
    return float(xlogy(p, p / q) + xlogy(1.0 - p, (1.0 - p) / (1.0 - q)))


def information_rate(share: float, champion: float, challenger: float) -> tuple[float, float]:
    """Nats a unit of binary outcomes tells at most about the arms differing, at true rates p₀ and p₁.

    First against the composite null "equal rates, any": the mutual information of arm and outcome,
    π KL(p₁‖p̄) + (1−π) KL(p₀‖p̄) with p̄ = π p₁ + (1−π) p₀. Then against "the challenger has p₀": π KL(p₁‖p₀).
    """
    _between("share", share, 0.0, 1.0)
    pooled = share * challenger + (1.0 - share) * champion
    composite = share * kl(challenger, pooled) + (1.0 - share) * kl(champion, pooled)
    return composite, share * kl(challenger, champion)


def least_units(rate: float, alpha: float, beta: float) -> float:
    """Lower bound of the mean number of units under the alternative for ANY test with one-sided level α and miss rate
    at most β: kl(1−β ‖ α) / rate (Wald 1945; Garivier & Kaufmann 2019, "Non-asymptotic sequential tests")."""
    _between("level", alpha, 0.0, 1.0)
    _between("miss rate beta", beta, 0.0, 1.0)
    if not rate > 0.0:
        raise PlanError(f"an information rate of {rate!r} a unit never decides")
    return kl(1.0 - beta, alpha) / rate


def wald_units(effect: float, variance: float, alpha: float, beta: float, per_unit: float) -> tuple[float, float]:
    """Wald's (1945) approximate mean number of units of the SPRT between 0 and δ, under no effect and under δ.

    The log ratio drifts by ∓ δ² i / (2v) a unit of information i = per_unit; it ends near log((1−β)/α) or
    log(β/(1−α)), overshoot neglected.
    """
    _between("level", alpha, 0.0, 1.0)
    _between("miss rate beta", beta, 0.0, 1.0 - alpha)
    step = effect * effect * per_unit / (2.0 * variance)
    return kl(alpha, 1.0 - beta) / step, kl(1.0 - beta, alpha) / step
