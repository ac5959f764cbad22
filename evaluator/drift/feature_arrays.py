"""The features of a reference as arrays, each worked out once: what every look needs of all of them together."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Feature
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.quantile_bounds import Marks

QUICK_PANES = 2
"""Panes of the quick look, for shifts too plain to wait for the shortest window."""


class Arrays:
    """`features` in the order of the count vector, the numeric ones first; `windows` in rows, and the pane they are
    made of; `rows` of the reference. The slots of a feature are `sizes` many from `starts` on, shape (features,)."""

    features: tuple[Feature, ...]
    windows: tuple[int, ...]
    pane: int
    rows: int
    slots: int
    sizes: Ints
    starts: Ints

    @cached_property
    def ends(self) -> Ints:
        """The last slot of each feature."""
        return self.starts + self.sizes - 1

    def span(self, feature: int) -> slice:
        """The slots of one feature."""
        start = int(self.starts[feature])
        return slice(start, start + int(self.sizes[feature]))

    @cached_property
    def ordered(self) -> npt.NDArray[np.bool_]:
        """Which features are numeric."""
        return np.array([feature.numeric for feature in self.features], dtype=np.bool_)

    @cached_property
    def present(self) -> Ints:
        """Reference rows with a slot, a feature."""
        return np.array([feature.present for feature in self.features], dtype=np.int64)

    @cached_property
    def importance(self) -> Floats:
        """Weight a feature, summing to one."""
        return np.array([feature.importance for feature in self.features])

    @cached_property
    def limits(self) -> Floats:
        """The distance each feature keeps inside the reference, shape (windows + 1, features), the quick look last."""
        own = [[own.limit for own in (*feature.shape, feature.quick)] for feature in self.features]
        return np.array(own).reshape(len(self.features), len(self.windows) + 1).T

    @cached_property
    def efficiencies(self) -> Floats:
        """Independent rows a row, shape (windows, features)."""
        return np.array([[feature.shape[w].efficiency for feature in self.features] for w in range(len(self.windows))])

    @property
    def quick(self) -> int | None:
        """Rows of the quick look, or None where the shortest window is no longer than that."""
        rows = QUICK_PANES * self.pane
        return rows if rows < self.windows[0] else None

    @cached_property
    def bad_share(self) -> Floats:
        """Share of reference rows without a slot, a feature."""
        return np.array([sum(feature.specials) for feature in self.features]) / self.rows

    @cached_property
    def never_empty(self) -> npt.NDArray[np.bool_]:
        """Features that have values in most reference rows, and in no stretch of it as few as none."""
        stretches = np.array([max((own.limit for own in f.missing), default=0.0) for f in self.features])
        return (self.bad_share < 0.5) & (1.0 - self.bad_share > stretches)

    @cached_property
    def outlier_share(self) -> Floats:
        """Share of the reference's values that are outliers, a feature."""
        return np.array([feature.outliers for feature in self.features]) / np.maximum(1, self.present)

    @cached_property
    def unseen_share(self) -> Floats:
        """Share of values that have no slot of their own: as many as in the reference and, where each of its values
        has one, as were seen once by Good and Turing (Good 1953). 0 for numbers."""
        once = [0 if feature.numeric else _without_slot(feature) for feature in self.features]
        return np.asarray(once) / np.maximum(1, self.present)

    @cached_property
    def share_limits(self) -> Floats:
        """The rise of the share of bad cells, and of outliers, that the reference's own windows keep to, shape (2,
        windows, features)."""
        kinds = [[feature.missing for feature in self.features], [feature.outlying for feature in self.features]]
        return np.array([[[own[w].limit for own in kind] for w in range(len(self.windows))] for kind in kinds])

    @cached_property
    def cumulative(self) -> Floats:
        """The reference's cumulative share in each slot, feature by feature; zero where it has no values."""
        parts = [np.cumsum(feature.counts) / max(1, feature.present) for feature in self.features]
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def category_shares(self) -> Floats:
        """The reference's share of each slot of the categorical features, one after the other."""
        parts = [feature.counts / max(1, feature.present) for feature in self.features if not feature.numeric]
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def marks(self) -> Marks:
        """Where a look is taken first."""
        return Marks(self.features)


def _without_slot(feature: Feature) -> int:
    singles = 0 if len(feature.chosen) else int(np.count_nonzero(feature.counts[:-1] == 1))
    return int(feature.counts[-1]) + singles
