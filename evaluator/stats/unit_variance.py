"""How far the score of independent units would stray under no effect: its variances and their skewness.

Invariant: everything is a sum over units at predictions from the past, so parts add up.

Given outcomes that the arm does not change, S = Σ (A−π) r with r = Y−m has variance V = Σ w r² and third cumulant
Σ w (1−2π) r³ over assignments, w = π(1−π): both arms' outcomes say how S strays, not only the few of the smaller arm.
The robust variance R = Σ (A−π)² r² rests on those few, and is correlated with S itself where outcomes are skewed: with
rare failures at 99/1 it calls harm in three of four experiments without any.

Outcomes of two kinds: V alone. Their mean is their law, so arms with equal means vary alike. Others may have equal
means and unequal spreads, so that R is asked as well, through Hall's transformation with the skewness of its own terms
and from t with the smaller arm's degrees of freedom; the smaller of both scores decides (see `statistic`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from evaluator.stats.score_process import Bools, Floats


@dataclass(frozen=True)
class Noise:
    """What is known of S, arrays of one shape (cells,).

    drawn, robust: V and R (R 0: not asked), each with the skewness of S that goes with it, above 0 where S is long
    towards a better challenger. degrees: units of the smaller arm, less one.
    """

    drawn: Floats
    drawn_skewness: Floats
    robust: Floats
    robust_skewness: Floats
    degrees: Floats

    @classmethod
    def of(
        cls, robust: Floats, drawn: Floats, robust_third: Floats, drawn_third: Floats, two_kinds: Bools, smaller: Floats
    ) -> Noise:
        """From the sums of `UnitNoise` and the units of the smaller arm."""
        asked = np.where(two_kinds, 0.0, robust)
        return cls(
            drawn,
            _over(drawn_third, drawn**1.5),
            asked,
            np.where(asked > 0.0, _over(robust_third, robust**1.5), 0.0),
            np.maximum(smaller - 1.0, 1.0),
        )

    @classmethod
    def plain(cls, variance: Floats) -> Noise:
        """A variance and nothing else: pairs, clusters, or units about which no more is known."""
        zero = np.zeros(len(variance))
        return cls(variance, zero, zero, zero, zero + 1.0)

    def unless(self, where: Bools, variance: Floats) -> Noise:
        """`plain` with that variance there, this elsewhere."""
        other = Noise.plain(variance)
        return Noise(*(np.where(where, getattr(other, each.name), getattr(self, each.name)) for each in fields(self)))

    @property
    def variance(self) -> Floats:
        """The larger one, to show and to plan with."""
        return np.maximum(self.drawn, self.robust)


def _over(third: Floats, cube: Floats) -> Floats:
    return np.divide(third, cube, out=np.zeros(len(cube)), where=cube > 0.0)


@dataclass(slots=True)
class UnitNoise:
    """Running sums; `add` in batches of independent units."""

    robust: float = 0.0
    drawn: float = 0.0
    robust_third: float = 0.0
    drawn_third: float = 0.0
    two_kinds: bool = True

    def add(self, treated: Bools, propensity: Floats, residual: Floats, two_kinds: bool) -> None:
        """Units with arm, π and r = Y−m, arrays of shape (n,); two_kinds: their Y are all 0 and 1, or 0 and −1."""
        score, square, w = (treated - propensity) * residual, residual * residual, propensity * (1.0 - propensity)
        self.robust += float((score * score).sum())
        self.drawn += float((w * square).sum())
        self.robust_third += float((score * score * score).sum())
        self.drawn_third += float((w * (1.0 - 2.0 * propensity) * square * residual).sum())
        self.two_kinds = self.two_kinds and two_kinds
