"""Wald's (1945) sequential probability ratio test of "no effect" against one stated effect, for each cell.

An effect δ moves the score S of variance V and information I by δI, so that λ = δI/V is the slope of the log likelihood
ratio λS − λ²V/2. exp of that has mean at most 1 at any stopping time under no effect, at any λ fixed by the past.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import numpy as np

from evaluator.stats.alpha_spending import consistent_p
from evaluator.stats.errors import positive_per_cell, require_between
from evaluator.stats.score_process import Bools, CellArrays, Floats

# Wald's slope is set anew whenever the information has grown by this factor: the variance known at the first look may
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
