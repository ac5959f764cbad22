"""Thompson sampling as an allocation: each arm's share is the probability that it is the best, with a floor.

Invariant: shares are a function of earlier outcomes alone, each arm has at least the floor, and they add to 1. Nothing
is drawn at random. Challengers are compared with the champion on the same requests, so their effects hold whatever the
shares were. Over split traffic the naive z of the arms is not normal under such shares; an e-process is valid there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from evaluator.stats.errors import NoAnswer, OutcomeError, PlanError
from evaluator.stats.score_process import Floats

FLOOR: Final = 0.01
BURN_IN: Final = 100

# Panels between these quantiles of every posterior, eight Gauss-Legendre points each: the error is under 1e-9.
_DEVIATIONS: Final = np.arange(-8.0, 8.25, 0.5)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)

# x → density and distribution function of every challenger, shape (k, len(x)) each.
_Curves = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Allocation:
    """Shares of the traffic, and probabilities of being best: the champion's, first, and each challenger's."""

    shares: tuple[float, ...]
    best: tuple[float, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Contrast:
    """A challenger's effect against the champion (larger is better) with its standard error, from n outcomes."""

    n: int
    effect: float
    error: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.effect) and 0.0 < self.error < math.inf):
            raise OutcomeError(f"an effect of {self.effect!r} ± {self.error!r} is not a posterior")


def contrast_allocation(
    contrasts: Sequence[Contrast], *, floor: float = FLOOR, burn_in: int = BURN_IN
) -> Allocation | NoAnswer:
    """Shares for the requests to come: floor + (1 − k·floor)·P(best); no answer until each has `burn_in` outcomes.

    P(best) of arm i = ∫ f_i(x) Π_{j≠i} F_j(x) dx. Posteriors: effects are independent and normal (a flat prior), and
    the champion's own is 0. Raises PlanError on impossible settings.
    """
    size = len(contrasts) + 1
    if size < 2 or not 0.0 <= floor <= 1.0 / size or burn_in < 1:
        raise PlanError(f"no shares of {size} arms with a floor of {floor!r} and a burn-in of {burn_in!r}")
    fewest = min(each.n for each in contrasts)
    if fewest < burn_in:
        return NoAnswer(f"burn-in: the smallest arm has {fewest} of {burn_in} outcomes")
    centre = np.array([[each.effect] for each in contrasts])
    error = np.array([[each.error] for each in contrasts])
    curves = _normal_curves(centre, error)
    edges = np.unique(np.append(centre + error * _DEVIATIONS, 0.0))
    _, below = curves(np.zeros(1))
    best = np.append(below.prod(), _integrals(edges[edges >= 0.0], curves))
    best /= best.sum()
    shares = floor + (1.0 - size * floor) * best
    reason = f"the champion is the best of {size} arms with probability {best[0]:.3f}"
    return Allocation(tuple(shares.tolist()), tuple(best.tolist()), reason)


def _integrals(edges: Floats, curves: _Curves) -> Floats:
    """∫ f_i(x) Π_{j≠i} F_j(x) dx between the first and the last edge, shape (k,)."""
    half = np.diff(edges)[:, None] / 2.0
    x = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
    density, below = curves(x)
    mass = density * (half * _WEIGHTS).ravel()
    return np.array([mass[i] @ np.delete(below, i, axis=0).prod(axis=0) for i in range(len(density))])


def _normal_curves(centre: Floats, error: Floats) -> _Curves:
    """Normal posteriors of these means and standard errors, shape (k, 1) each."""

    def curves(x: Floats) -> tuple[Floats, Floats]:
        z = (x - centre) / error
        return np.exp(-0.5 * z * z) / (error * math.sqrt(2.0 * math.pi)), ndtr(z)

    return curves
