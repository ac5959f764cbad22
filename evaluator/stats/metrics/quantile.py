"""Quantiles (p99 of a latency, say) by a sequential binomial test: the share of each arm's rows above the champion's
past quantile, which a sketch estimates.

Invariant: the threshold comes from earlier batches, so what is tested is exactly a share of rows. It is DDSketch
(Masson, Rim & Lee 2019) with powers of two cut into equal instead of logarithmic parts: a float's bits are its bucket.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluator.stats.metrics.base import MEMORY, Influence, fading
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats, Ints

_MANTISSA: Final = 52
_BIAS: Final = 1023


@dataclass(frozen=True, slots=True)
class FloatBuckets:
    """Each power of two is cut into 2^bits buckets: a number and its bucket's edges differ by at most 2^-bits of it.

    Magnitudes below 2^lowest count as zero, those from 2^highest on share the last bucket. With `mirrored` the buckets
    between 1/2 and 1 are as fine near 1 as those below 1/2 are near 0, as probabilities ask for.
    """

    bits: int
    lowest: int
    highest: int
    mirrored: bool = False

    def buckets(self, values: Floats) -> Ints:
        """Bucket of each finite value; rises with the value, shape kept."""
        if not self.mirrored:
            return self._signed(values)
        upper = (values > 0.5) & (values <= 1.0)
        # 1 − x is exact for x in (1/2, 1] (Sterbenz).
        found = self._signed(np.where(upper, 1.0 - values, values))
        half, one = self._bucket(0.5), self._bucket(1.0)
        return np.where(upper, 2 * half - found, found + np.where(values > 1.0, 2 * half - one, 0))

    def edges(self, buckets: Ints) -> Floats:
        """Where each bucket begins, seen from zero: the edge of smaller magnitude. Not for mirrored grids."""
        size = np.abs(buckets)
        raw = np.where(size > 0, size + (self._first - 1), 0) << (_MANTISSA - self.bits)
        return np.asarray(np.sign(buckets) * raw.astype(np.int64).view(np.float64))

    @property
    def _first(self) -> int:
        return (_BIAS + self.lowest) << self.bits

    def _bucket(self, value: float) -> int:
        return int(self._signed(np.array([value]))[0])

    def _signed(self, values: Floats) -> Ints:
        raw = np.abs(values).view(np.int64) >> (_MANTISSA - self.bits)
        size = np.clip(raw - (self._first - 1), 0, (self.highest - self.lowest) << self.bits)
        return np.asarray(np.where(values < 0.0, -size, size))


# Relative error of a value read back: at most 2^-7 (0.8 %), half of it in the middle; from 1e-12 to 1e12.
VALUES: Final = FloatBuckets(bits=7, lowest=-40, highest=40)
# Scores: ties within 1.6 % of the score or of its distance to 1, from 6e-8.
SCORES: Final = FloatBuckets(bits=6, lowest=-24, highest=24, mirrored=True)


class Histogram:
    """Weights by bucket for several rows of the same grid at once (arms, classes), `counts` of shape (rows, width).

    Column j is bucket lowest + j. Only the range that has been seen is kept.
    """

    __slots__ = ("counts", "lowest")

    def __init__(self, rows: int) -> None:
        self.lowest = 0
        self.counts: Floats = np.zeros((rows, 0))

    def add(self, rows: Ints, buckets: Ints) -> None:
        """Count one in each (row, bucket)."""
        if len(buckets):
            low = int(buckets.min())
            width = int(buckets.max()) - low + 1
            height = len(self.counts)
            flat = np.bincount(rows * width + (buckets - low), minlength=height * width)
            self.add_counts(low, flat.reshape(height, width).astype(np.float64))

    def add_counts(self, lowest: int, counts: Floats) -> None:
        """Add weights (rows, width) whose first column is bucket `lowest`."""
        width, mine = counts.shape[1], self.counts.shape[1]
        if not width:
            return
        if not mine:
            self.lowest, self.counts = lowest, counts.copy()
            return
        low, high = min(self.lowest, lowest), max(self.lowest + mine, lowest + width)
        if (low, high) != (self.lowest, self.lowest + mine):
            wide = np.zeros((len(self.counts), high - low))
            wide[:, self.lowest - low : self.lowest - low + mine] = self.counts
            self.lowest, self.counts = low, wide
        self.counts[:, lowest - low : lowest - low + width] += counts

    def positions(self, buckets: Ints) -> Ints:
        """Column of each bucket, from 1; 0 for one below the range and width + 1 for one above it."""
        return np.clip(buckets - (self.lowest - 1), 0, self.counts.shape[1] + 1)

    def ranks(self) -> Floats:
        """Share of each row's weight below each of `positions`, plus half of that in it: (rows, width + 2).

        Every row needs some weight.
        """
        padded = np.pad(self.counts, ((0, 0), (1, 1)))
        sums = padded.cumsum(axis=1)
        return np.asarray((sums - 0.5 * padded) / sums[:, -1:])

    def quantile(self, row: int, level: float, grid: FloatBuckets) -> float | None:
        """The value below which this share of the row's weight lies, interpolated in its bucket; None if empty."""
        counts = self.counts[row]
        weights = counts.cumsum()
        if not counts.any():
            return None
        target = level * weights[-1]
        at = int(np.searchsorted(weights, target))
        at = min(at, len(counts) - 1)
        inside = (target - (weights[at] - counts[at])) / counts[at] if counts[at] else 0.0
        low, high = self._span(at, grid)
        return low + min(max(float(inside), 0.0), 1.0) * (high - low)

    def below(self, row: int, value: float, grid: FloatBuckets) -> float:
        """Share of the row's weight below a value, interpolated in its bucket: the inverse of `quantile`."""
        counts = self.counts[row]
        at = int(grid.buckets(np.array([value]))[0]) - self.lowest
        if at < 0 or at >= len(counts):
            return float(at >= 0)
        low, high = self._span(at, grid)
        inside = (value - low) / (high - low) if high > low else 0.5
        return float((counts[:at].sum() + min(max(inside, 0.0), 1.0) * counts[at]) / counts.sum())

    def _span(self, at: int, grid: FloatBuckets) -> tuple[float, float]:
        bucket = self.lowest + at
        if bucket == 0:
            return 0.0, 0.0
        ends = grid.edges(np.array([bucket, bucket + (1 if bucket > 0 else -1)]))
        return float(ends.min()), float(ends.max())


# Rows of the champion on the rarer side of its quantile that a threshold needs, and that its fading past should hold.
_FEWEST_BEYOND: Final = 5.0
_MEMORY_BEYOND: Final = 20.0


class QuantileInfluence(Influence):
    """Y = 1 for a row above the champion's past quantile at `level`, else 0.

    A difference of such shares is told as a movement of the quantile by the challenger's own distribution F₁ from the
    champion's quantile q₀ on (Woodruff 1952): F₁⁻¹(F₁(q₀) + d) − q₀. It is 0 where the shares are alike, whatever ramp
    and drift have made of the arms' totals; and where they are not confounded, it is the difference of the quantiles.
    """

    def __init__(self, level: float, kind: str = "quantile") -> None:
        super().__init__(kind)
        self.level = level
        self._seen = Histogram(2)  # by arm
        self._recent = Histogram(1)  # champion, fading

    def _numbers(self, treated: Bools, columns: Columns) -> Bools | None:
        threshold = self._recent.quantile(0, self.level, VALUES) if self._ripe() else None
        return None if threshold is None else columns[0] > threshold

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
        batch = Histogram(2)
        batch.add(treated[present].astype(np.int64), VALUES.buckets(columns[0][present]))
        self._seen.add_counts(batch.lowest, batch.counts)
        self._recent.counts *= self._fading(float(batch.counts[0].sum()))
        self._recent.add_counts(batch.lowest, batch.counts[:1])

    def _figure(self, arm: int) -> float | None:
        """Within 0.8 % of the quantile of the rows themselves."""
        return self._seen.quantile(arm, self.level, VALUES)

    def in_units(self, difference: float) -> float:
        """How far the challenger's quantile is from the champion's; infinite beyond all of the challenger's rows."""
        here, there = self.figures()
        if here is None or there is None:
            return difference
        share = self._seen.below(1, here, VALUES) + difference
        if not 0.0 < share < 1.0:
            return math.copysign(math.inf, difference)
        movement = (self._seen.quantile(1, share, VALUES) or 0.0) - here
        return max(movement, 0.0) if difference > 0.0 else min(movement, 0.0) if difference < 0.0 else 0.0

    def of_units(self, movement: float) -> float:
        """The challenger's rows on that way from the champion's quantile, as a share."""
        here, there = self.figures()
        if here is None or there is None:
            return movement
        return self._seen.below(1, here + movement, VALUES) - self._seen.below(1, here, VALUES)

    @property
    def _rarer(self) -> float:
        return min(self.level, 1.0 - self.level)

    def _ripe(self) -> bool:
        return float(self._recent.counts.sum()) * self._rarer >= _FEWEST_BEYOND

    def _fading(self, rows: float) -> float:
        return float(fading(rows * min(1.0, MEMORY * self._rarer / _MEMORY_BEYOND)))
