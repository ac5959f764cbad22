"""The mixture sequential probability ratio test (mSPRT), one-sided.

Sources: Robbins (1970); Johari, Pekelis & Walsh (2015; 2022, "Always valid inference"). The likelihood ratio is mixed
over effects N(0, τ²), of which a side takes the half in its direction: the normal mixture with ρ = (V/I)² / τ².
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from evaluator.stats.alpha_spending import consistent_p
from evaluator.stats.always_valid import mixture_look
from evaluator.stats.errors import positive_per_cell, require_between
from evaluator.stats.score_process import Bools, CellArrays, Floats


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
