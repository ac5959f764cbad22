"""Whether what was seen of the arms' tails is enough to believe in a difference of means.

A mean that is bounded by nothing may rest on outcomes that have not come yet: a rare disaster of the challenger, a rare
windfall of the champion. No test can exclude what nobody has seen, so a win waits until

- the long tail on the side that would take it away no longer bends the estimate's law: its skewness is at most
  `MOST_SKEWNESS` (for one arm, n ≥ 69 γ²; Cochran 1977, section 2.15, asks 25 γ² of one look), a little more while
  outcomes are few. Where a law has no variance this skewness, γ/√n, stays as large however many outcomes come, and
  whoever looks long enough finds a time at which the far ones happen to be missing: in 5 % of plans below .14. The
  same is asked of either arm's mean alone, less the skewness that the other arm has alike, which makes up for
  it: noise of a normal champion hides a Pareto tail in the estimate, and does not fill it. Arms of one law are not
  asked more;
- each arm has shown its spread: (Σ r²)² / Σ r⁴ ≥ `LEAST_EFFECTIVE`, about n/3 for normal and n/9 for exponential
  outcomes, so that no few outcomes make up most of it, and the spread is not small beside the effect; or the arm has
  `RARE` outcomes, of which one that comes once in a hundred would be among them with probability .98.

Harm rests on the other side: a rare windfall of the challenger, a rare disaster of the champion that it avoids. So the
same skewness, of that side, holds harm until there are `RARE` outcomes, and from then on harm that is not clear: below
`CLEAR` times its bound. So does an arm that hardly varies. What is bounded is not asked, nor is the gross-harm watch.

Invariant: what is asked depends on outcomes so far alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from evaluator.stats.evidence import ratio
from evaluator.stats.score_process import Bools, Floats, TailSums

MOST_SKEWNESS: Final = 0.12
# Up to `FEW` outcomes of the smaller arm it may be larger by this, and by less beyond: there are few looks at so few.
FEW_MORE_SKEWNESS: Final = 0.02
FEW: Final = 300.0
LEAST_EFFECTIVE: Final = 12.0
RARE: Final = 400.0
# Evidence of harm beyond its bound by this factor is not undone by gains like those seen.
CLEAR: Final = 1.5
# An arm with a smaller part of the estimate's variance does not have a tail that matters to it.
LEAST_PART: Final = 0.05
# An arm's standard deviation that is a smaller part of the effect than this says nothing of its tail.
LEAST_SPREAD: Final = 0.5


class PowerSums:
    """n and Σ (y−c)ᵏ for k = 1 … 4 of both arms, shape (2, 5); c is the first value, so that none is far from it.

    In floats, for one pass over a file; a stream's `TailSums` are the same in integers, exact in whatever order.
    """

    def __init__(self) -> None:
        self.sums = np.zeros((2, 5))
        self._origin: float | None = None

    @property
    def means(self) -> Floats:
        """Both arms' means, shape (2,), NaN before any outcome; exact where all outcomes of an arm are one value."""
        n, total = self.sums[:, 0], self.sums[:, 1]
        origin = math.nan if self._origin is None else self._origin
        return np.where(n > 0.0, origin + total / np.maximum(n, 1.0), math.nan)

    def add(self, arm: int, y: Floats) -> None:
        """Outcomes of an arm (0: champion, 1: challenger), larger is better; differences of pairs are arm 1's."""
        if not len(y):
            return
        if self._origin is None:
            self._origin = float(y[0])
        d = y - self._origin
        square = d * d
        self.sums[arm] += [len(d), d.sum(), square.sum(), (square * d).sum(), (square * square).sum()]


@dataclass(frozen=True, eq=False)
class Tails:
    """Central moments of each cell's arms, shape (cells, 2) each, columns champion and challenger. n is 0 where there
    is no such arm (pairs have differences alone, as the challenger's). harm_asked: whether harm is asked for them."""

    n: Floats
    mean: Floats
    variance: Floats
    third: Floats
    fourth: Floats
    harm_asked: bool = True

    @classmethod
    def of_sums(cls, sums: Floats) -> Tails:
        """The tails from `PowerSums.sums` of each cell, shape (cells, 2, 5)."""
        n = sums[:, :, 0]
        mean, second, third, fourth = (sums[:, :, k] / np.maximum(n, 1.0) for k in range(1, 5))
        variance = second - mean**2
        variance = np.where(variance > 1e-12 * second, variance, 0.0)
        fourth = fourth - 4.0 * mean * third + 6.0 * mean**2 * second - 3.0 * mean**4
        third = third - 3.0 * mean * second + 2.0 * mean**3
        varies = variance > 0.0
        return cls(n, mean, variance, np.where(varies, third, 0.0), np.where(varies, np.maximum(fourth, 0.0), 0.0))

    @classmethod
    def of_two_moments(cls, arms: Floats) -> Self:
        """The tails from (n, Σ Y, Σ Y²) of each arm, shape (cells, 2, 3), where no more was kept: as if outcomes were
        normal, so that only an arm that hardly varies has not shown its spread. Harm is not asked."""
        n, total, squares = np.moveaxis(arms, 2, 0)
        mean = total / np.maximum(n, 1.0)
        second = squares / np.maximum(n, 1.0)
        variance = np.where(second - mean**2 > 1e-12 * second, second - mean**2, 0.0)
        return cls(n, mean, variance, np.zeros_like(n), 3.0 * variance**2, harm_asked=False)

    @classmethod
    def of_arms(cls, champion: TailSums, challenger: TailSums) -> Self:
        """The tails of one cell from exact sums of both arms' outcomes; of pairs, their differences as the
        challenger's."""
        moments = np.array([champion.moments, challenger.moments])
        return cls(*moments.T[:, None])

    @property
    def skewness(self) -> Floats:
        """Skewness from the tails that would take a win away, of the estimated effect or of one arm's mean, whichever
        is larger; shape (cells,), at least 0."""
        return self._skewness(1.0)

    def _skewness(self, sign: float) -> Floats:
        """As `skewness`, of the tails that would take a win (sign 1) or harm (−1) away."""
        n = np.maximum(self.n, 1.0)
        noise = self.variance / n
        total = noise.sum(axis=1)
        third = sign * self.third * [1.0, -1.0]
        made = np.maximum(third, 0.0) / (n * n)
        varies = self.variance > 0.0
        own = np.divide(third, self.variance**1.5, out=np.zeros_like(noise), where=varies)
        beyond = np.maximum(own, 0.0) - np.maximum(-own, 0.0)[:, ::-1]
        alone = np.where(noise > LEAST_PART * total[:, None], beyond / np.sqrt(n), 0.0)
        found: Floats = np.maximum(ratio(made.sum(axis=1), total**1.5), alone.max(axis=1))
        return found

    @property
    def _smaller(self) -> Floats:
        """Outcomes of the smaller arm, of pairs the pairs."""
        least: Floats = np.where(self.n > 0.0, self.n, np.inf).min(axis=1)
        return least

    @property
    def most_skewness(self) -> Floats:
        """What the skewness may be, shape (cells,)."""
        most: Floats = MOST_SKEWNESS + FEW_MORE_SKEWNESS * np.minimum(1.0, FEW / self._smaller)
        return most

    @property
    def even(self) -> Bools:
        """Arms, shape (cells, 2), whose outcomes are too few and vary too little beside the effect to show a tail."""
        effect = np.abs(self.mean[:, 1] - self.mean[:, 0])[:, None]
        found: Bools = (self.n > 0.0) & (self.n < RARE) & (np.sqrt(self.variance) < LEAST_SPREAD * effect)
        return found

    @property
    def unseen(self) -> Bools:
        """Arms, shape (cells, 2), that have not shown their spread."""
        bulk = self.variance**2 * self.n
        effective = np.divide(bulk, self.fourth, out=np.zeros_like(bulk), where=self.fourth > 0.0)
        return self.even | (self.n > 0.0) & (self.n < RARE) & (effective < LEAST_EFFECTIVE)

    @property
    def shown(self) -> Bools:
        """Cells whose tails are known well enough for a win, shape (cells,)."""
        return (self.skewness <= self.most_skewness) & ~self.unseen.any(axis=1)

    @property
    def harm_factor(self) -> Floats:
        """By what harm's bound is multiplied, shape (cells,): 1 where the tails that would take it away are shown."""
        if not self.harm_asked:
            return np.ones(len(self.n))
        long = self._skewness(-1.0) > self.most_skewness
        waits = self.even.any(axis=1) | long & (self._smaller < RARE)
        return np.where(waits, np.inf, np.where(long, CLEAR, 1.0))

    def lacking(self, cell: int) -> str | None:
        """What a cell's win still waits for; None where its tails are shown."""
        return None if self.shown[cell] else self._lacking(cell, 1.0, self.unseen)

    def lacking_for_harm(self, cell: int) -> str:
        """What a cell's harm still waits for, where `harm_factor` is above 1."""
        return self._lacking(cell, -1.0, self.even)

    def _lacking(self, cell: int, sign: float, unseen: Bools) -> str:
        who = ("champion", "challenger")
        for arm in np.flatnonzero(unseen[cell]).tolist():
            n = self.n[cell, arm]
            return (
                f"the {who[arm]}'s {n:.0f} outcomes vary too little, or too few of them, to show what its mean rests "
                f"on; {RARE:.0f} do"
            )
        rest, most = float(self._skewness(sign)[cell]), float(self.most_skewness[cell])
        more = float(self.n[cell, 1]) * (rest / most) ** 2
        return (
            f"rare outcomes far out, on the side that would take it away, make much of the mean (skewness {rest:.2f} "
            f"of the estimate or of one arm's mean, {most:.2g} at most); about {more:,.0f} outcomes of the challenger "
            "would do"
        )
