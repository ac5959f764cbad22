"""One column of a reference: its grid, its counts and what it does inside the reference.

Fitted from the raw values once; everything later is compared with these numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import Calibration, calibrate, calibrate_share
from evaluator.drift.columns import MISSING, WRONG, Coded, is_categorical, read_coded, read_numbers
from evaluator.drift.grid import CATEGORIES, HUGE, Floats, Grid, Ints, category_grid, numeric_grid

Column = Sequence[Any] | npt.NDArray[Any]
Role = Literal["feature", "prediction", "target"]
"""What a column is to the model: an input, what it says (a label, a number, a score), or the truth."""
_SIGMAS = 3.0
_STRETCH = 64
"""Rows in a row that choose categories, or don't: neighbours are often alike."""
_ENOUGH = 1 << 17
"""Values from which limits, mean and spread are taken; all are counted."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the reference. `counts` has one number a slot of `grid`; calibrations go with the windows, and
    `quick` with the shortest look at the shape.

    `low` and `high` are mean -+ 3 standard deviations of the values winsorised at the grid's limits; `outliers` how
    many reference values lie beyond. `specials` counts missing, absent, mistyped and infinite cells. chosen: where the
    categories with a slot are the most frequent of more, the counts of the rows that chose them, which are not among
    `counts`; else empty.
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
        """Below this a value is an outlier; nothing is one for a reference without values."""
        return -math.inf if self.counts.max(initial=0) == 0 else self.mean - _SIGMAS * self.deviation

    @property
    def high(self) -> float:
        """Above this a value is an outlier."""
        return math.inf if self.counts.max(initial=0) == 0 else self.mean + _SIGMAS * self.deviation

    @property
    def present(self) -> int:
        """Reference rows with a value in a slot."""
        return int(self.counts.sum())

    @property
    def numeric(self) -> bool:
        """Whether the slots are ordered."""
        return self.grid.kind != "categories"


def fit_feature(
    name: str, values: Column, windows: tuple[int, ...], quick: int, importance: float, role: Role = "feature"
) -> Feature:
    """Fit one column of any kind; odd values are counted, never an error. windows, quick: rows."""
    chosen = np.empty(0, dtype=np.int64)
    if is_categorical(values):
        coded = values if isinstance(values, Coded) else read_coded(values)
        choosing = _choosing(coded)
        grid = category_grid(coded.values, np.bincount(coded.codes[choosing], minlength=len(coded.values)))
        known = {category: slot for slot, category in enumerate(grid.categories)}
        slots = [*(known.get(value, len(known)) for value in coded.values), grid.slots, grid.slots]
        codes = np.array(slots, dtype=np.int64)[coded.codes]
        missing, wrong = coded.codes == MISSING, coded.codes == WRONG
        infinite = np.zeros(len(coded), dtype=np.bool_)
        outlying = infinite
        mean = deviation = 0.0
        if len(choosing) < np.count_nonzero(coded.codes >= 0):
            chosen = np.bincount(codes[choosing], minlength=grid.slots)
    else:
        numbers, mistyped = read_numbers(values)
        wrong = np.zeros(len(numbers), dtype=np.bool_) if mistyped is None else mistyped
        missing, finite = np.isnan(numbers) & ~wrong, np.abs(numbers) <= HUGE
        infinite = ~finite & ~np.isnan(numbers)
        present = numbers if finite.all() else numbers[finite]
        few = _sample(present)
        ordered = np.sort(few)
        grid = numeric_grid(present, ordered)
        codes = grid.slot_of(present)
        if present is not numbers:
            whole = np.full(len(numbers), grid.slots, dtype=np.int64)
            whole[finite] = codes
            codes = whole
        mean, deviation = _winsorised(few, ordered)
        low, high = mean - _SIGMAS * deviation, mean + _SIGMAS * deviation
        outlying = finite & ((numbers < low) | (numbers > high))
    hasty, *shape = calibrate(codes, grid.slots, (quick, *windows), ordered=grid.kind != "categories")
    counts = np.bincount(codes, minlength=grid.slots + 1)[: grid.slots].astype(np.int64)
    return Feature(
        name=name,
        grid=grid,
        counts=counts - chosen if len(chosen) else counts,
        specials=(int(missing.sum()), 0, int(wrong.sum()), int(infinite.sum())),
        mean=mean,
        deviation=deviation,
        outliers=int(outlying.sum()),
        importance=importance,
        shape=tuple(shape),
        missing=calibrate_share(missing, windows),
        outlying=calibrate_share(outlying, windows),
        quick=hasty,
        role=role,
        chosen=chosen,
    )


def _choosing(coded: Coded) -> Ints:
    """The rows that choose which categories get a slot: all with a value if all categories do, else every second 64.

    Those that came out on top in some rows are frequent there partly by chance and fall back in any others. Only rows
    that had no part in the choice say how frequent they are.
    """
    present = np.flatnonzero(coded.codes >= 0)
    if np.count_nonzero(np.bincount(coded.codes[present], minlength=1)) <= CATEGORIES:
        return present
    chosen: Ints = present[np.arange(len(present)) // _STRETCH % 2 == 0]
    return chosen


def _sample(values: Floats) -> Floats:
    """`values`, or so many of them drawn with a fixed seed that order statistics are as good."""
    if len(values) <= _ENOUGH:
        return values
    return values[np.random.default_rng(0).integers(0, len(values), _ENOUGH)]


def _winsorised(values: Floats, ordered: Floats) -> tuple[float, float]:
    """Mean and standard deviation with each tail pulled in to its 0.5 % order statistic: wild values don't widen it.

    ordered: the same values sorted.
    """
    if len(values) == 0:
        return 0.0, 0.0
    cut = max(1, int(0.005 * len(values))) if len(values) >= 10 else 0
    clipped = np.clip(values, ordered[cut], ordered[len(values) - 1 - cut])
    if clipped.min() == clipped.max():  # a constant is its own mean, exactly: no rounding error makes it an outlier
        return float(clipped[0]), 0.0
    return float(clipped.mean()), float(clipped.std())


def feature_dict(feature: Feature) -> dict[str, Any]:
    """As JSON-able values."""

    def pairs(calibrations: tuple[Calibration, ...]) -> list[list[float]]:
        return [[one.limit, one.efficiency] for one in calibrations]

    return {
        "name": feature.name,
        "grid": feature.grid.to_dict(),
        "counts": feature.counts.tolist(),
        "specials": list(feature.specials),
        "mean": feature.mean,
        "deviation": feature.deviation,
        "outliers": feature.outliers,
        "importance": feature.importance,
        "shape": pairs(feature.shape),
        "missing": pairs(feature.missing),
        "outlying": pairs(feature.outlying),
        "quick": pairs((feature.quick,)),
        "role": feature.role,
        "chosen": feature.chosen.tolist(),
    }


def feature_from(raw: Mapping[str, Any]) -> Feature:
    """The inverse of `feature_dict`, also after JSON."""

    def calibrations(pairs: Sequence[Sequence[float]]) -> tuple[Calibration, ...]:
        return tuple(Calibration(limit, efficiency) for limit, efficiency in pairs)

    missing, absent, mistyped, infinite = raw["specials"]
    return Feature(
        name=raw["name"],
        grid=Grid.from_dict(raw["grid"]),
        counts=np.array(raw["counts"], dtype=np.int64),
        specials=(missing, absent, mistyped, infinite),
        mean=raw["mean"],
        deviation=raw["deviation"],
        outliers=raw["outliers"],
        importance=raw["importance"],
        shape=calibrations(raw["shape"]),
        missing=calibrations(raw["missing"]),
        outlying=calibrations(raw["outlying"]),
        quick=calibrations(raw["quick"])[0],
        role=raw["role"],
        chosen=np.array(raw["chosen"], dtype=np.int64),
    )
