"""Quantiles (latency's p99, say) by a sequential binomial: which arm is above the champion's past quantile more often.

Invariant: the threshold comes from earlier batches, so that what is tested is exactly a share of rows in each arm; the
sketch decides where the threshold lies and nothing else.

Equal shares above the champion's quantile mean equal quantiles. `scale` puts a difference of shares into the metric's
units: one over the champion's mean density around the thresholds while they were in force, times how the density
changes on the way from one arm's quantile to the other's, since F₁(q₁) − F₁(q₀) = ∫ f₁ from q₀ to q₁.
"""

from __future__ import annotations

import math
from typing import Final, Self

import numpy as np

from evaluator.stats.histogram import VALUES, Histogram
from evaluator.stats.linear import MEMORY, Influence, Snapshot, fading, numbers
from evaluator.stats.metric import Columns
from evaluator.stats.refusal import StatsError
from evaluator.stats.sums import Bools, Floats

# So many of the champion's rows on the rarer side of its quantile before it serves as a threshold, and at least as
# many times more in its fading past.
_FEWEST_BEYOND: Final = 5.0
_MEMORY_BEYOND: Final = 20.0
# The density is read over this part of the rarer side, up and down: more if that is under 50 rows, but half at most.
_BAND: Final = 0.25
_BAND_ROWS: Final = 50.0
_WIDEST_BAND: Final = 0.5


class QuantileInfluence(Influence):
    """Y = 1 for a row above the champion's past quantile at `level`, else 0."""

    def __init__(self, level: float, kind: str = "quantile") -> None:
        super().__init__(kind)
        self.level = level
        self._seen = Histogram(2)  # by arm
        self._recent = Histogram(1)  # champion, fading
        # Champion's rows; n₀n₁/n of its batches with a threshold, and their density there times that.
        self._weights = np.zeros(3)

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        threshold = self._recent.quantile(0, self.level, VALUES) if self._ripe() else None
        if threshold is None:
            return np.full(treated.shape, math.nan)
        return np.where(present, columns[0] > threshold, math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        batch = Histogram(2)
        batch.add(treated[present].astype(np.int64), VALUES.buckets(columns[0][present]))
        champion, challenger = (float(n) for n in batch.counts.sum(axis=1))
        low, high = self._around(self._recent) if self._ripe() else (0.0, 0.0)
        if champion and challenger and high > low:
            weight = champion * challenger / (champion + challenger)
            inside = np.count_nonzero(present & ~treated & (columns[0] > low) & (columns[0] <= high))
            self._weights = self._weights + np.array([0.0, weight, weight * inside / champion / (high - low)])
        self._weights = self._weights + np.array([champion, 0.0, 0.0])
        self._seen.add_counts(batch.lowest, batch.counts)
        self._recent.counts *= self._fading(champion)
        self._recent.add_counts(batch.lowest, batch.counts[:1])

    def figures(self) -> tuple[float | None, float | None]:
        """Within 0.8 % of the quantiles of the rows themselves."""
        champion, challenger = (self._seen.quantile(arm, self.level, VALUES) for arm in (0, 1))
        return champion, challenger

    @property
    def scale(self) -> float:
        """Metric's units by which the quantile moves for each unit of difference in the shares; 1 while unknown."""
        _, weight, density = self._weights
        slope = float(weight / density) if density > 0.0 else self._slope()
        return 1.0 if slope is None else slope * self._bend()

    def merge(self, other: Self) -> Self:
        self._fits(other)
        if self.level != other.level:
            raise StatsError(f"quantiles at {self.level} and {other.level} do not merge")
        new = type(self)(self.level, self.kind)
        new._seen = self._seen.merge(other._seen)
        new._recent = self._recent.merge(other._recent, self._fading(other._weights[0]))
        new._weights = self._weights + other._weights
        return new

    def state(self) -> Snapshot:
        seen, recent = self._seen.state(), self._recent.state()
        return {"level": self.level, "seen": seen, "recent": recent, "weights": self._weights.tolist()}

    def restore(self, state: Snapshot) -> None:
        if state.get("level") != self.level:
            raise StatsError(f"a snapshot of the quantile at {self.level} is not one at {state.get('level')!r}")
        weights = numbers(state, "weights", (3,))
        self._seen.restore(state.get("seen", {}), VALUES)
        self._recent.restore(state.get("recent", {}), VALUES)
        self._weights = weights

    @property
    def _rarer(self) -> float:
        return min(self.level, 1.0 - self.level)

    def _ripe(self) -> bool:
        return float(self._recent.counts.sum()) * self._rarer >= _FEWEST_BEYOND

    def _fading(self, rows: float) -> float:
        return float(fading(rows * min(1.0, MEMORY * self._rarer / _MEMORY_BEYOND)))

    def _around(self, champion: Histogram) -> tuple[float, float]:
        """Where the champion's density is read: its quantile ± the step to the nearer end of the band.

        Of the two sides of a tail that is the one with rows; reaching as far as the other would flatten the slope.
        """
        enough = _BAND_ROWS / float(champion.counts[0].sum())
        band = min(max(_BAND * self._rarer, enough), _WIDEST_BAND * self._rarer)
        low, here, high = (champion.quantile(0, self.level + step, VALUES) or 0.0 for step in (-band, 0.0, band))
        step = min(here - low, high - here)
        return here - step, here + step

    def _slope(self) -> float | None:
        """One over the champion's density at its quantile over all rows."""
        if not self._seen.counts[:1].any():
            return None
        low, high = self._around(self._seen)
        share = self._seen.below(0, high, VALUES) - self._seen.below(0, low, VALUES)
        return (high - low) / share if high > low and share > 0.0 else None

    def _bend(self) -> float:
        """Slope on the way to the challenger's quantile over the champion's own, as far as rows lie between them."""
        here, there = self.figures()
        own = self._slope()
        if here is None or there is None or own is None:
            return 1.0
        between = abs(self._seen.below(1, there, VALUES) - self._seen.below(1, here, VALUES))
        prior = _BAND_ROWS / float(self._seen.counts[1].sum())
        return (abs(there - here) / own + prior) / (between + prior)
