"""Upper bounds on the Kolmogorov-Smirnov distances from both empirical CDFs at about 48 reference quantiles.

A feature whose bound is below its threshold skips the exact computation. Between two quantile slots neither CDF leaves
its values there, so the bound exceeds the distance by at most the mass between two quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from evaluator.drift.feature import Feature, FeatureArrays
from evaluator.drift.grid import Floats, Ints

QUANTILES = 48
"""With so many, about one look in four must measure one feature of fifty."""


class QuantileBounds:
    """Quantile slots of the numeric features and the reference's CDFs around them.

    Every feature has as many as the one with the most; its last one is repeated.
    """

    def __init__(self, features: Sequence[Feature], chosen: Sequence[Ints] | None = None) -> None:
        """chosen: each numeric feature's slots, ascending, with the first and the last; default: its quantiles."""
        numeric = [feature for feature in features if feature.numeric]
        self._quantiles = [_quantiles(feature.counts) for feature in numeric] if chosen is None else chosen
        most = max(map(len, self._quantiles), default=0)
        self.shape = len(numeric), most
        """(numeric features, quantiles)"""
        sizes = np.array([len(own) for own in self._quantiles], dtype=np.int64)
        ends = np.cumsum(sizes)
        self._places = np.minimum((ends - sizes)[:, None] + np.arange(most), ends[:, None] - 1)
        # Counts are summed from behind each quantile slot up to and with the next one; the first slot stands alone.
        slots = [feature.grid.slots for feature in numeric]
        starts = np.cumsum([0, *slots])
        self._slots = int(starts[-1])
        parts = [np.append(0, own[:-1] + 1) + start for own, start in zip(self._quantiles, starts, strict=False)]
        self._behind = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        around = [_around(feature, own, most) for feature, own in zip(numeric, self._quantiles, strict=True)]
        self._before = np.array([before for before, _ in around]).reshape(self.shape)
        self._until = np.array([until for _, until in around]).reshape(self.shape)

    def against(self, features: Sequence[Feature]) -> QuantileBounds:
        """The bounds for another reference on the same grids and slots, so that `cumulative_counts` hold for both."""
        return QuantileBounds(features, self._quantiles)

    def cumulative_counts(self, counts: Ints) -> Ints:
        """Rows up to and with each quantile slot, from the counts by slot, shape (slots,)."""
        if not self._slots:
            return np.zeros(self.shape, dtype=np.int64)
        rows: Ints = np.cumsum(np.add.reduceat(counts[: self._slots], self._behind))[self._places]
        rows[1:] -= rows[:-1, -1:].copy()
        return rows

    def upper_bounds(self, counted: Ints, present: Ints) -> Floats:
        """Upper bound on the distance of each numeric feature.

        counted: `cumulative_counts`, shape (..., numeric features, quantiles), of `present` rows, shape (..., numeric
        features).
        """
        if not self._slots:
            return np.zeros(present.shape)
        shares = counted * (1.0 / np.maximum(present, 1))[..., None]
        above = (shares - self._before).max(axis=-1)
        return np.asarray(np.maximum(above, np.subtract(self._until, shares, out=shares).max(axis=-1)))


@lru_cache(maxsize=8)
def bounds_of(profile: FeatureArrays) -> QuantileBounds:
    """The bounds at a reference's own quantiles."""
    return QuantileBounds(profile.features)


def _quantiles(counts: Ints) -> Ints:
    """Ascending slots of one feature: the first, the last, those that reach a quantile, and those just before slots
    that span several quantiles."""
    below = np.cumsum(counts)
    levels = np.arange(1, QUANTILES) * (below[-1] / QUANTILES)
    heavy = np.flatnonzero(counts * QUANTILES > below[-1])
    return np.unique([0, *np.searchsorted(below, levels), *np.maximum(heavy - 1, 0), len(counts) - 1])


def _around(feature: Feature, quantiles: Ints, length: int) -> tuple[Floats, Floats]:
    """The smallest value of the reference's CDF between the previous quantile slot and this one, and the largest from
    this one to before the next; shape (length,) each, the last ones repeated."""
    share = np.cumsum(feature.counts) / max(1, feature.present)
    own, last = share[quantiles], share[quantiles[1:] - 1]
    before = np.append(own[:1], np.where(np.diff(quantiles) > 1, own[:-1], own[1:]))
    until = np.append(last, own[-1:])
    return np.pad(before, (0, length - len(own)), "edge"), np.pad(until, (0, length - len(own)), "edge")
