"""Alpha spending: how much of a one-sided level may be spent by a given information time (Lan & DeMets 1983).

Invariant: for every function, spent(alpha, 0) = 0, it never falls, and it never exceeds alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np
from scipy.special import ndtr, ndtri

from evaluator.stats.errors import PlanError
from evaluator.stats.score_process import Bools, Floats

Kind = Literal["mixed", "obrien-fleming", "pocock", "power", "hwang-shih-decani", "table"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Spending:
    """A spending function of information time t = I / I_max.

    kind       | spent by t ≤ 1, as a share of α                 | parameter
    -----------|---------------------------------------------|----------
    mixed      | w √t + (1−w) t³: early stops for large effects at little cost in power | w, default 0.2
    obrien-fleming | 2(1 − Φ(z_{α/2} / √t)) / α  (Lan & DeMets 1983) | none
    pocock     | log(1 + (e−1)t)  (Lan & DeMets 1983)             | none
    power      | t^ρ  (Kim & DeMets 1987)                         | ρ > 0
    hwang-shih-decani | (1 − e^{−γt}) / (1 − e^{−γ})  (1990)       | γ
    table      | straight lines through the given (t, share) points, ending in (1, 1) | points

    `reserve` is a share of α kept for after the horizon. With r in reserve, (1−r)·f(t) is spent by t ≤ 1 and 1 − r/t by
    t > 1, so that the level is never exceeded however long the experiment goes on. With r = 0 nothing is left at t > 1.
    """

    kind: Kind = "mixed"
    parameter: float | None = None
    points: tuple[tuple[float, float], ...] = ()
    reserve: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PlanError(f"unknown spending function {self.kind!r}; known are {', '.join(KINDS)}")
        if not 0.0 <= self.reserve < 1.0:
            raise PlanError(f"the reserve {self.reserve!r} does not lie in [0, 1)")
        value = self.parameter
        if value is not None and not math.isfinite(value):
            raise PlanError(f"the parameter {value!r} of spending {self.kind} is not a finite number")
        if self.kind == "mixed" and value is not None and not 0.0 <= value <= 1.0:
            raise PlanError(f"the weight {value!r} of mixed spending does not lie in [0, 1]")
        if self.kind == "power" and (value is None or value <= 0.0):
            raise PlanError("power spending needs a parameter (the exponent) above 0")
        if self.kind == "hwang-shih-decani" and value is None:
            raise PlanError("hwang-shih-decani spending needs a parameter (gamma)")
        if self.kind == "table" and (not self.points or self.points[-1] != (1.0, 1.0)):
            raise PlanError("the last point of a spending table must be (1, 1)")
        for before, point in pairwise(((0.0, 0.0), *self.points)):
            if not (point[0] > before[0] and point[1] >= before[1]):
                raise PlanError(f"a spending table rises from (0, 0); the point {point} after {before} does not")

    def spent(self, alpha: float, t: float) -> float:
        """Level spent by information time t ≥ 0, in [0, alpha]."""
        if t <= 0.0:
            return 0.0
        if t <= 1.0:
            return alpha * (1.0 - self.reserve) * min(1.0, self._share(alpha, t))
        return alpha * (1.0 - self.reserve / t)

    def _share(self, alpha: float, t: float) -> float:
        value = self.parameter or 0.0
        match self.kind:
            case "mixed":
                weight = 0.2 if self.parameter is None else value
                return weight * math.sqrt(t) + (1.0 - weight) * t**3
            case "obrien-fleming":
                return float(2.0 * ndtr(ndtri(alpha / 2.0) / math.sqrt(t))) / alpha
            case "pocock":
                return math.log(1.0 + (math.e - 1.0) * t)
            case "power":
                return float(t**value)
            case "hwang-shih-decani":
                return math.expm1(-value * t) / math.expm1(-value) if value else t
        times, shares = zip((0.0, 0.0), *self.points, strict=True)
        return float(np.interp(t, times, shares))


MIXED: Final = Spending()
POCOCK: Final = Spending(kind="pocock")


def consistent_p(p: Floats, before: Floats, crossed: Bools, alpha: float) -> Floats:
    """The running p value, at most alpha exactly where a bound has been crossed now or before, despite rounding."""
    p = np.where(crossed, np.minimum(p, alpha), p)
    return np.where(~crossed & (before > alpha), np.maximum(p, math.nextafter(alpha, 1.0)), p)
