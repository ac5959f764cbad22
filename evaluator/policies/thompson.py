"""Thompson sampling as an allocation: each arm's share is the probability that it is the best, with a floor.

Invariant: shares are a function of earlier outcomes alone, each arm has at least the floor, and they add to 1. With the
share in force logged as propensity, bets on the score are an e-process (`e_process`). Normal limits are not offered:
the naive z of adaptively allocated arms is not normal. With several arms, challenger i is compared with the champion
over the units of those two, at π = s_i / (s_i + s_0). Where challengers are compared with the champion on the same
requests, as the running services do, `contrast_allocation` goes by those effects: they hold whatever the shares were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betainc, betaincinv, betaln, ndtr, xlog1py, xlogy

from evaluator.stats.errors import NoAnswer, OutcomeError, PlanError
from evaluator.stats.score_process import Arm, Floats

FLOOR: Final = 0.01
BURN_IN: Final = 100

# Panels between these quantiles of every arm, eight Gauss-Legendre points each: the error is under 1e-9.
_DEVIATIONS: Final = np.arange(-8.0, 8.25, 0.5)
_QUANTILES: Final = ndtr(_DEVIATIONS)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)

# x → density and distribution function of every arm, shape (k, len(x)) each.
_Curves = Callable[[Floats], tuple[Floats, Floats]]
# Quantiles of every arm, shape (k, quantiles), and those.
_Law = tuple[Floats, _Curves]


@dataclass(frozen=True, slots=True)
class Allocation:
    """shares: of the arms in the order given. best: the probability that each is the best, None in the burn-in."""

    shares: tuple[float, ...]
    best: tuple[float, ...] | None
    reason: str


def allocation(
    arms: Sequence[Arm],
    *,
    binary: bool,
    floor: float = FLOOR,
    burn_in: int = BURN_IN,
    start: Sequence[float] | None = None,
) -> Allocation | NoAnswer:
    """Shares for the units to come, from the outcomes so far (larger is better).

    Until every arm has `burn_in` outcomes the shares are `start` (default: equal), so that an arm that was unlucky at
    first is tried again; afterwards floor + (1 − k·floor)·P(best). Raises PlanError on impossible settings and
    OutcomeError on sums that no outcomes have.
    """
    size = len(arms)
    if size < 2:
        raise PlanError(f"{size} arm can't share traffic")
    if not 0.0 <= floor <= 1.0 / size or burn_in < 1:
        raise PlanError(f"no shares of {size} arms with a floor of {floor!r} and a burn-in of {burn_in!r}")
    first = tuple(start) if start is not None else (1.0 / size,) * size
    if len(first) != size or not all(share >= floor for share in first) or abs(math.fsum(first) - 1.0) > 1e-9:
        raise PlanError(f"give {size} starting shares that add up to 1, each at least {floor:g}, not {first!r}")
    fewest = min(arm.n for arm in arms)
    if fewest < burn_in:
        return Allocation(first, None, f"burn-in: the smallest arm has {fewest} of {burn_in} outcomes")
    best = best_probabilities(arms, binary=binary)
    if isinstance(best, NoAnswer):
        return best
    shares = floor + (1.0 - size * floor) * best
    leader = int(best.argmax())
    reason = f"arm {leader + 1} of {size} is the best with probability {best[leader]:.3f}"
    return Allocation(tuple(shares.tolist()), tuple(best.tolist()), reason)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A challenger's effect against the champion (larger is better) with its standard error, from n outcomes."""

    n: int
    effect: float
    error: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.effect) and 0.0 < self.error < math.inf):
            raise OutcomeError(f"an effect of {self.effect!r} ± {self.error!r} is no posterior")


def contrast_allocation(
    contrasts: Sequence[Contrast], *, floor: float = FLOOR, burn_in: int = BURN_IN
) -> Allocation | NoAnswer:
    """Shares of the champion, first, and of each challenger, as `allocation`; no answer in the burn-in.

    Posteriors: effects are independent and normal (a flat prior), and the champion's own is 0.
    """
    size = len(contrasts) + 1
    if size < 2 or not 0.0 <= floor <= 1.0 / size or burn_in < 1:
        raise PlanError(f"no shares of {size} arms with a floor of {floor!r} and a burn-in of {burn_in!r}")
    fewest = min(each.n for each in contrasts)
    if fewest < burn_in:
        return NoAnswer(f"burn-in: the smallest arm has {fewest} of {burn_in} outcomes")
    centre = np.array([[each.effect] for each in contrasts])
    error = np.array([[each.error] for each in contrasts])
    quantiles, curves = _normal_law(centre, error)
    edges = np.unique(np.append(quantiles, 0.0))
    _, below = curves(np.zeros(1))
    best = np.append(below.prod(), _integrals(edges[edges >= 0.0], curves))
    best /= best.sum()
    shares = floor + (1.0 - size * floor) * best
    reason = f"the champion is the best of {size} arms with probability {best[0]:.3f}"
    return Allocation(tuple(shares.tolist()), tuple(best.tolist()), reason)


def best_probabilities(arms: Sequence[Arm], *, binary: bool) -> Floats | NoAnswer:
    """P(arm i has the largest mean | outcomes) = ∫ f_i(x) Π_{j≠i} F_j(x) dx, shape (k,), without random draws.

    Posteriors: Beta(1 + successes, 1 + failures) of 0/1 outcomes; else normal, from mean and standard error (a flat
    prior, for which the burn-in is large enough). An arm whose outcomes are all alike takes the pooled variance.
    """
    for arm in arms:
        if arm.n < 2 or not (math.isfinite(arm.total) and math.isfinite(arm.squares)):
            raise OutcomeError(f"{arm} does not hold two finite outcomes")
    law = _betas(arms) if binary else _normals(arms)
    if isinstance(law, NoAnswer):
        return law
    quantiles, curves = law
    best = _integrals(np.unique(quantiles), curves)
    return np.asarray(best / best.sum(), dtype=np.float64)


def _integrals(edges: Floats, curves: _Curves) -> Floats:
    """∫ f_i(x) Π_{j≠i} F_j(x) dx between the first and the last edge, shape (k,)."""
    half = np.diff(edges)[:, None] / 2.0
    x = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
    density, below = curves(x)
    mass = density * (half * _WEIGHTS).ravel()
    return np.array([mass[i] @ np.delete(below, i, axis=0).prod(axis=0) for i in range(len(density))])


def _betas(arms: Sequence[Arm]) -> _Law:
    for arm in arms:
        if arm.squares != arm.total or not 0.0 <= arm.total <= arm.n:
            raise OutcomeError(f"{arm} is not made of outcomes 0 and 1")
    wins = np.array([[1.0 + arm.total] for arm in arms])
    losses = np.array([[1.0 + arm.n - arm.total] for arm in arms])

    def curves(x: Floats) -> tuple[Floats, Floats]:
        density = np.exp(xlogy(wins - 1.0, x) + xlog1py(losses - 1.0, -x) - betaln(wins, losses))
        return density, np.asarray(betainc(wins, losses, x), dtype=np.float64)

    return np.asarray(betaincinv(wins, losses, _QUANTILES), dtype=np.float64), curves


def _normals(arms: Sequence[Arm]) -> _Law | NoAnswer:
    n = np.array([float(arm.n) for arm in arms])
    means = np.array([arm.total for arm in arms]) / n
    squares = np.array([arm.squares for arm in arms])
    # What rounding leaves of squares that cancel is no spread.
    spreads = np.where(squares - n * means**2 > 1e-12 * squares, squares - n * means**2, 0.0)
    pooled = spreads.sum() / (n.sum() - len(arms))
    if pooled == 0.0:
        return NoAnswer("the outcomes of no arm vary, so no arm can be shown to be better")
    variances = np.where(spreads > 0.0, spreads / (n - 1.0), pooled)
    return _normal_law(means[:, None], np.sqrt(variances / n)[:, None])


def _normal_law(centre: Floats, error: Floats) -> _Law:
    """Normal posteriors, means and standard errors of shape (k, 1)."""

    def curves(x: Floats) -> tuple[Floats, Floats]:
        z = (x - centre) / error
        return np.exp(-0.5 * z * z) / (error * math.sqrt(2.0 * math.pi)), ndtr(z)

    return centre + error * _DEVIATIONS, curves
