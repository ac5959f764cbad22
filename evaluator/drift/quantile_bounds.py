"""Bounds on the distances of all numeric features from a few slots of each, the marks.

Between two marks neither cumulative share leaves the values it has there, so the distance can't be larger than from the
end of the one to the beginning of the other. With marks a quantile of the reference apart that adds no more than the
quantile's mass, and a feature that is near by this bound needs no look at each of its slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluator.drift.feature import Feature
from evaluator.drift.grid import Floats, Ints

QUANTILES = 48
"""Fewer cost less and settle less: with so many about one look in four has to measure one feature of fifty."""


class Marks:
    """The marks of the numeric features, which are the first: as many for each as the one with the most has, the last
    ones repeated; and what a reference has around them."""

    def __init__(self, features: Sequence[Feature], chosen: Sequence[Ints] | None = None) -> None:
        """chosen: each numeric feature's marks, rising slots with the first and the last among them; by default where
        `features` reach their quantiles."""
        numeric = [feature for feature in features if feature.numeric]
        self._chosen = [_quantiles(feature.counts) for feature in numeric] if chosen is None else chosen
        marks = max(map(len, self._chosen), default=0)
        self.shape = len(numeric), marks
        """(numeric features, marks)"""
        sizes = np.array([len(own) for own in self._chosen], dtype=np.int64)
        ends = np.cumsum(sizes)
        self._places = np.minimum((ends - sizes)[:, None] + np.arange(marks), ends[:, None] - 1)
        # Counts are summed from behind each mark to the next one; the first mark is a slot of its own.
        slots = [feature.grid.slots for feature in numeric]
        starts = np.cumsum([0, *slots])
        self._slots = int(starts[-1])
        parts = [np.append(0, own[:-1] + 1) + start for own, start in zip(self._chosen, starts, strict=False)]
        self._behind = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        around = [_around(feature, own, marks) for feature, own in zip(numeric, self._chosen, strict=True)]
        self._before = np.array([before for before, _ in around]).reshape(self.shape)
        self._until = np.array([until for _, until in around]).reshape(self.shape)

    def against(self, features: Sequence[Feature]) -> Marks:
        """The same marks for another reference on the same grids: what was counted at them holds for both."""
        return Marks(features, self._chosen)

    def counted(self, counts: Ints) -> Ints:
        """Rows up to and with each mark, of the slots' counts, shape (slots,): what is summed over panes."""
        if not self._slots:
            return np.zeros(self.shape, dtype=np.int64)
        rows: Ints = np.cumsum(np.add.reduceat(counts[: self._slots], self._behind))[self._places]
        rows[1:] -= rows[:-1, -1:].copy()
        return rows

    def at_most(self, counted: Ints, present: Ints) -> Floats:
        """An upper bound on the Kolmogorov-Smirnov distance (on the grid) of each numeric feature.

        counted: as from `counted`, shape (..., numeric features, marks), of `present` rows, shape (..., numeric
        features).
        """
        if not self._slots:
            return np.zeros(present.shape)
        shares = counted * (1.0 / np.maximum(present, 1))[..., None]
        above = (shares - self._before).max(axis=-1)
        return np.asarray(np.maximum(above, np.subtract(self._until, shares, out=shares).max(axis=-1)))


def _quantiles(counts: Ints) -> Ints:
    """Slots of one feature, rising: the first, the last, those that reach a quantile, and those just before the ones
    that span several."""
    below = np.cumsum(counts)
    levels = np.arange(1, QUANTILES) * (below[-1] / QUANTILES)
    heavy = np.flatnonzero(counts * QUANTILES > below[-1])
    return np.unique([0, *np.searchsorted(below, levels), *np.maximum(heavy - 1, 0), len(counts) - 1])


def _around(feature: Feature, marks: Ints, length: int) -> tuple[Floats, Floats]:
    """The least cumulative share of the reference behind the mark before, up to and with each mark; and the largest
    from each mark on, before the next. Shape (length,) each, the last ones repeated."""
    share = np.cumsum(feature.counts) / max(1, feature.present)
    own, last = share[marks], share[marks[1:] - 1]
    before = np.append(own[:1], np.where(np.diff(marks) > 1, own[:-1], own[1:]))
    until = np.append(last, own[-1:])
    return np.pad(before, (0, length - len(own)), "edge"), np.pad(until, (0, length - len(own)), "edge")
