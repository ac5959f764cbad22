"""One column of a reference: its grid, its counts and its null calibration; and all features of a reference as arrays.

Fitted from the raw values once; windows are compared with these numbers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from evaluator.drift.calibration import Calibration, calibrate, calibrate_share
from evaluator.drift.columns import NO_STRING, NO_VALUE, Coded, Column, encode_strings, is_categorical, read_numbers
from evaluator.drift.grid import CATEGORIES, HUGE, SINGLE, Bools, Floats, Grid, Ints, category_grid, numeric_grid

Role = Literal["feature", "prediction", "target"]
"""What a column is to the model: an input, its prediction (a label, a number, a score), or the outcome."""
MISSING, ABSENT, MISTYPED, INFINITE = range(4)
SPECIALS = 4
"""Kinds of cell without a slot: no value, no column, a value of another type, an infinite number."""
QUICK_PANES = 2
"""Panes of the quick look, for shifts so large that the shortest window need not be awaited."""
_SIGMAS = 3.0
_RUN = 64
"""Consecutive rows that either all choose categories or none, as neighbours are often alike."""
_SAMPLE = 1 << 17
"""Values from which limits, mean and standard deviation are taken; all are counted."""


UNSHOWN = 0.15
"""Share of rare texts from which they could hide a shift that counts."""


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """One feature of the reference: `counts` by slot of `grid`, and a calibration for each window of its distribution
    (`shape`), its special cells (`missing`) and its outliers (`outlying`); `quick` is that of the quick look.

    `mean` and `deviation` are of the winsorised values, `outliers` counts values beyond three deviations, `specials`
    missing, absent, mistyped and infinite cells. chosen: if the categories with a slot are the most frequent of more,
    the counts of the rows that chose them, which are not among `counts`; else empty.
    """

    name: str
    grid: Grid
    counts: Ints
    specials: tuple[int, int, int, int]
    mean: float
    deviation: float
    outliers: int
    importance: float
    shape: tuple[Calibration, ...]
    missing: tuple[Calibration, ...]
    outlying: tuple[Calibration, ...]
    quick: Calibration
    role: Role = "feature"
    chosen: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def low(self) -> float:
        """Below this a value is an outlier; minus infinity for a reference without values."""
        return -math.inf if self.counts.max(initial=0) == 0 else self.mean - self._reach

    @property
    def high(self) -> float:
        return math.inf if self.counts.max(initial=0) == 0 else self.mean + self._reach

    @property
    def _reach(self) -> float:
        """Distance from the mean beyond which a value is an outlier; a constant may be held with 32 bits as well."""
        return max(_SIGMAS * self.deviation, SINGLE * abs(self.mean))

    @property
    def present(self) -> int:
        """Reference rows with a value in a slot."""
        return int(self.counts.sum())

    @property
    def numeric(self) -> bool:
        return self.grid.kind != "categories"

    @property
    def rare(self) -> float:
        """Share of the reference's values that are too rare for a slot of their own, and are counted together."""
        return int(self.counts[-1]) / self.present if not self.numeric and len(self.chosen) and self.present else 0.0


def fit_feature(
    name: str, values: Column, windows: tuple[int, ...], quick: int, importance: float, role: Role = "feature"
) -> FeatureReference:
    """Fit one column of any kind; odd values are counted, never an error. windows, quick: rows."""
    column = _fit_categories(values) if is_categorical(values) else _fit_numbers(values)
    grid, codes, chosen = column.grid, column.codes, column.chosen
    quickly, *shape = calibrate(codes, grid.slots, (quick, *windows), ordered=grid.kind != "categories")
    counts = np.bincount(codes, minlength=grid.slots + 1)[: grid.slots].astype(np.int64)
    return FeatureReference(
        name=name,
        grid=grid,
        counts=counts - chosen if len(chosen) else counts,
        specials=(int(column.missing.sum()), 0, int(column.mistyped.sum()), int(column.infinite.sum())),
        mean=column.mean,
        deviation=column.deviation,
        outliers=int(column.outlying.sum()),
        importance=importance,
        shape=tuple(shape),
        missing=calibrate_share(column.missing, windows),
        outlying=calibrate_share(column.outlying, windows),
        quick=quickly,
        role=role,
        chosen=chosen,
    )


class _FittedColumn(NamedTuple):
    """The grid of a column, the slot of each row (`grid.slots` for none), and masks of its special cells."""

    grid: Grid
    codes: Ints
    missing: Bools
    mistyped: Bools
    infinite: Bools
    outlying: Bools
    mean: float = 0.0
    deviation: float = 0.0
    chosen: Ints = np.empty(0, dtype=np.int64)


def _fit_categories(values: Column) -> _FittedColumn:
    coded = values if isinstance(values, Coded) else encode_strings(values)
    choosing = _choosing(coded)
    grid = category_grid(coded.values, np.bincount(coded.codes[choosing], minlength=len(coded.values)))
    known = {category: slot for slot, category in enumerate(grid.categories)}
    slots = [*(known.get(value, len(known)) for value in coded.values), grid.slots, grid.slots]
    codes = np.array(slots, dtype=np.int64)[coded.codes]
    none = np.zeros(len(coded), dtype=np.bool_)
    column = _FittedColumn(grid, codes, coded.codes == NO_VALUE, coded.codes == NO_STRING, none, none)
    if len(choosing) < np.count_nonzero(coded.codes >= 0):
        return column._replace(chosen=np.bincount(codes[choosing], minlength=grid.slots))
    return column


def _fit_numbers(values: Column) -> _FittedColumn:
    numbers, wrong = read_numbers(values)
    mistyped = np.zeros(len(numbers), dtype=np.bool_) if wrong is None else wrong
    missing, finite = np.isnan(numbers) & ~mistyped, np.abs(numbers) <= HUGE
    present = numbers[finite]
    sample = _sample(present)
    ordered = np.sort(sample)
    grid = numeric_grid(present, ordered)
    codes = np.full(len(numbers), grid.slots, dtype=np.int64)
    codes[finite] = grid.slot_of(present)
    mean, deviation = _winsorised(sample, ordered)
    low, high = mean - _SIGMAS * deviation, mean + _SIGMAS * deviation
    outlying = finite & ((numbers < low) | (numbers > high))
    infinite = ~finite & ~np.isnan(numbers)
    return _FittedColumn(grid, codes, missing, mistyped, infinite, outlying, mean, deviation)


def _choosing(coded: Coded) -> Ints:
    """The rows that choose which categories get a slot: all rows if all categories do, else every second run of 64.

    The most frequent categories of some rows are so partly by chance (winner's curse), so that only the other rows
    estimate their frequencies.
    """
    present = np.flatnonzero(coded.codes >= 0)
    if np.count_nonzero(np.bincount(coded.codes[present], minlength=1)) <= CATEGORIES:
        return present
    chosen: Ints = present[np.arange(len(present)) // _RUN % 2 == 0]
    return chosen


def _sample(values: Floats) -> Floats:
    """`values`, or `_SAMPLE` of them drawn with a fixed seed."""
    if len(values) <= _SAMPLE:
        return values
    return values[np.random.default_rng(0).integers(0, len(values), _SAMPLE)]


def _winsorised(values: Floats, ordered: Floats) -> tuple[float, float]:
    """Mean and standard deviation with each tail winsorised at its 0.5 % order statistic. ordered: `values` sorted."""
    if len(values) == 0:
        return 0.0, 0.0
    cut = max(1, int(0.005 * len(values))) if len(values) >= 10 else 0
    clipped = np.clip(values, ordered[cut], ordered[len(values) - 1 - cut])
    if clipped.min() == clipped.max():  # exactly the constant, lest rounding make it an outlier
        return float(clipped[0]), 0.0
    return float(clipped.mean()), float(clipped.std())


class FeatureArrays:
    """All features of a reference as arrays, each computed once.

    `features` are in the order of the count vector, the numeric ones first; `windows` and `pane` are in rows. A count
    vector of `width` numbers holds the slots of each feature, `SPECIALS` numbers a feature, and an outlier count each.
    """

    features: tuple[FeatureReference, ...]
    windows: tuple[int, ...]
    pane: int
    rows: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def sizes(self) -> Ints:
        return np.array([feature.grid.slots for feature in self.features], dtype=np.int64)

    @cached_property
    def starts(self) -> Ints:
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    @cached_property
    def slots(self) -> int:
        return int(self.sizes.sum())

    @cached_property
    def width(self) -> int:
        """Length of a count vector."""
        return self.slots + (SPECIALS + 1) * len(self.features)

    @cached_property
    def numeric_count(self) -> int:
        return sum(feature.numeric for feature in self.features)

    @cached_property
    def even_count(self) -> int:
        """Number of features with an evenly spaced grid, which are the first and have equally many slots."""
        return sum(feature.grid.kind in ("linear", "asinh") for feature in self.features)

    @cached_property
    def ends(self) -> Ints:
        return self.starts + self.sizes - 1

    def span(self, feature: int) -> slice:
        """The slots of one feature."""
        start = int(self.starts[feature])
        return slice(start, start + int(self.sizes[feature]))

    @cached_property
    def ordered(self) -> Bools:
        return np.array([feature.numeric for feature in self.features], dtype=np.bool_)

    @cached_property
    def present(self) -> Ints:
        """Reference rows with a slot, by feature."""
        return np.array([feature.present for feature in self.features], dtype=np.int64)

    @cached_property
    def importance(self) -> Floats:
        """Weights of the features, with sum one."""
        return np.array([feature.importance for feature in self.features])

    @cached_property
    def limits(self) -> Floats:
        """Limits of the distances, shape (windows + 1, features), the quick look last."""
        own = [[own.limit for own in (*feature.shape, feature.quick)] for feature in self.features]
        return np.array(own).reshape(len(self.features), len(self.windows) + 1).T

    @cached_property
    def efficiencies(self) -> Floats:
        """Effective rows per row, shape (windows, features)."""
        return np.array([[feature.shape[w].efficiency for feature in self.features] for w in range(len(self.windows))])

    @property
    def quick(self) -> int | None:
        """Rows of the quick look, or None if the shortest window is not longer."""
        rows = QUICK_PANES * self.pane
        return rows if rows < self.windows[0] else None

    @cached_property
    def bad_share(self) -> Floats:
        """Share of reference rows without a slot, by feature."""
        return np.array([sum(feature.specials) for feature in self.features]) / self.rows

    @cached_property
    def never_empty(self) -> Bools:
        """Mask of features with values in most reference rows and in every block of them."""
        gaps = np.array([max((own.limit for own in f.missing), default=0.0) for f in self.features])
        return (self.bad_share < 0.5) & (1.0 - self.bad_share > gaps)

    @cached_property
    def outlier_share(self) -> Floats:
        """Share of outliers among the reference's values, by feature."""
        return np.array([feature.outliers for feature in self.features]) / np.maximum(1, self.present)

    @cached_property
    def unseen_share(self) -> Floats:
        """Expected share of values without a slot of their own, by feature; 0 for numbers. If every category of the
        reference has a slot, it is the share of categories seen once (Good 1953)."""
        without = [0 if feature.numeric else _without_slot(feature) for feature in self.features]
        return np.asarray(without) / np.maximum(1, self.present)

    @cached_property
    def share_limits(self) -> Floats:
        """Limits of the rise of the shares of special cells and of outliers, shape (2, windows, features)."""
        kinds = [[feature.missing for feature in self.features], [feature.outlying for feature in self.features]]
        return np.array([[[own[w].limit for own in kind] for w in range(len(self.windows))] for kind in kinds])

    @cached_property
    def cumulative(self) -> Floats:
        """Empirical distribution functions of the reference, shape (slots,); zero for features without values."""
        parts = [np.cumsum(feature.counts) / max(1, feature.present) for feature in self.features]
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def category_shares(self) -> Floats:
        """Shares of the slots of the categorical features in the reference, one feature after the other."""
        parts = [feature.counts / max(1, feature.present) for feature in self.features if not feature.numeric]
        return np.concatenate(parts) if parts else np.empty(0)


def _without_slot(feature: FeatureReference) -> int:
    singles = 0 if len(feature.chosen) else int(np.count_nonzero(feature.counts[:-1] == 1))
    return int(feature.counts[-1]) + singles
