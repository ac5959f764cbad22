"""How far the score of independent units would stray under no effect: its variance and its skewness.

Invariant: everything is a sum over units at predictions from the past, so parts add up.

Given outcomes that the arm does not change, S = Σ (A−π) r with r = Y−m has variance Σ w r² and third cumulant
Σ w (1−2π) r³ over assignments, w = π(1−π): both arms' outcomes say how S strays, not only the few of the smaller arm.
The robust variance Σ (A−π)² r² rests on those few, and is correlated with S itself where outcomes are skewed: with
rare failures at 99/1 it calls harm in three of four experiments without any.

- Outcomes of two kinds: the first it is. Their mean is their law, so arms with equal means vary alike, and a
  Cornish-Fisher expansion takes the skewness out. With p = 0.01, where the larger of the two variances made a 1→5→10
  ramp reject .020 at a level of .05, this rejects .047.
- Others: the larger of the two, for arms with equal means may vary differently, and no skewness is taken out, since it
  may be one arm's alone; but where the robust one is smaller than chance can make it, the robust one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluator.stats.sums import Bools, Floats

# Σ (A−π)² r² this many of its standard deviations (over assignments) under Σ w r² is no chance.
_SURELY: Final = 5.0


@dataclass(slots=True)
class UnitNoise:
    """Running sums; `add` in batches of independent units."""

    robust: float = 0.0
    drawn: float = 0.0
    third: float = 0.0
    fourth: float = 0.0
    two_kinds: bool = True

    def add(self, treated: Bools, propensity: Floats, residual: Floats, two_kinds: bool) -> None:
        """Units with arm, π and r = Y−m, arrays of shape (n,); two_kinds: their Y are all 0 and 1, or 0 and −1."""
        square, w, lean = residual * residual, propensity * (1.0 - propensity), 1.0 - 2.0 * propensity
        self.robust += float((np.square(treated - propensity) * square).sum())
        self.drawn += float((w * square).sum())
        self.third += float((w * lean * square * residual).sum())
        self.fourth += float((w * lean * lean * square * square).sum())
        self.two_kinds = self.two_kinds and two_kinds

    @property
    def variance(self) -> float:
        return float(settled(self.robust, self.drawn, self.third, self.fourth, self.two_kinds)[0])

    @property
    def skewness(self) -> float:
        """Of S; 0 where it is not taken out."""
        return float(settled(self.robust, self.drawn, self.third, self.fourth, self.two_kinds)[1])


def settled(
    robust: Floats | float,
    drawn: Floats | float,
    third: Floats | float,
    fourth: Floats | float,
    two_kinds: Bools | bool,
) -> tuple[Floats, Floats]:
    """Variance and skewness of S from the sums of `UnitNoise`, by the rules above; elementwise."""
    surely = robust < drawn - _SURELY * np.sqrt(np.maximum(fourth, 0.0))
    variance = np.where(two_kinds, drawn, np.where(surely, robust, np.maximum(robust, drawn)))
    known = np.asarray(two_kinds) & (np.asarray(drawn) > 0.0)
    return variance, np.where(known, third / np.where(known, drawn, 1.0) ** 1.5, 0.0)
