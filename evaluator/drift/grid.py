"""Grid of one feature: the map from its values to slots of a count vector.

A grid is a monotone map of the value axis, or a dictionary of categories. Counts over it give a lower bound on the
Kolmogorov-Smirnov distance and a bound on what binning hides; counts over equal grids add.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.integer[Any]]
GridKind = Literal["linear", "asinh", "exact", "categories"]

BINS = 512
"""Bins between the limits: the distance is short by at most the mass of one bin."""
TAIL = 0.0005
"""Share of the reference beyond each limit, so that one extreme value cannot stretch the grid."""
EXACT_VALUES = 64
"""Distinct values up to which each has its own slot and the distance is exact."""
CATEGORIES = 256
"""Most frequent categories with a slot of their own; rare and unseen ones share `other`."""
_FINE = 1.0 / 128
"""Largest share of one bin that a linear axis may have: the distance is short by at most as much."""
HUGE = 1e150
"""Larger numbers count as infinite: their squares overflow."""
UNLIMITED = sys.float_info.max
"""A limit that limits nothing, as JSON has no infinity."""
SINGLE = 2.0**-23
"""Relative precision of a 32-bit float."""
STRIP = 16_384
"""Values of one column processed at once, so that they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of one feature on a linear or inverse-hyperbolic-sine axis, of exact values, or of categories.

    `linear` and `asinh` have `BINS` slots between `low` and `high` (on the transformed axis) and an overflow slot at
    each end; `exact` has a slot for each value and for each gap between values; `categories` one for each and `other`.
    """

    kind: GridKind
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    values: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        if self.kind == "exact":
            return 2 * len(self.values) + 1
        if self.kind == "categories":
            return len(self.categories) + 1
        return BINS + 2

    @property
    def step(self) -> float:
        """Slots per unit of the (transformed) axis."""
        return BINS / (self.high - self.low)

    @property
    def origin(self) -> float:
        """Lower end of the underflow slot, taken as wide as any other."""
        return self.low - 1.0 / self.step

    def slot_of(self, values: Floats) -> Ints:
        """Slots of finite `values` (any shape) on a numeric grid."""
        if self.kind == "exact":
            # Left plus right insertion point: 2i+1 on the i-th value, 2i in the gap before it.
            known = np.asarray(self.values)
            if len(np.unique(rounded := in_single(known))) == len(known):
                known, values = rounded, in_single(values)
            return np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
        if values.ndim == 1 and len(values) > STRIP:
            return np.concatenate([self.slot_of(values[i : i + STRIP]) for i in range(0, len(values), STRIP)])
        with np.errstate(over="ignore"):
            axis = values if self.kind == "linear" else np.arcsinh((values - self.centre) / self.scale)
            places: Floats = axis - self.origin
            places *= self.step
            return np.clip(places, 0, BINS + 1, out=places).astype(np.int64)


def in_single(values: Floats) -> Floats:
    """Fractions as 32 bits hold them, so that 9.99 is the same in either precision; whole numbers as they are, and what
    32 bits can't hold."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(np.float64)
    size = np.abs(rounded)
    return np.where((values == np.rint(values)) | (size < 1e-37) | (size > 1e37), values, rounded)


def upper_tail(values: Floats) -> float:
    """The order statistic at `TAIL` from the upper end of `values` (at least one), rounded inwards."""
    rank = int((1.0 - TAIL) * (len(values) - 1))
    return float(np.partition(values, rank)[rank])


def numeric_grid(values: Floats, ordered: Floats) -> Grid:
    """The grid for a reference of finite `values`, shape (rows,); `ordered` are all of them or a sample, sorted.

    Limits are order statistics at `TAIL` from each end, rounded inwards. The axis is linear, which is several times
    cheaper, where no bin has a larger share than `_FINE`; otherwise the axis with the smaller largest bin.
    """
    # A sample with too many distinct values answers without sorting everything.
    if np.count_nonzero(ordered[1:] != ordered[:-1]) < EXACT_VALUES:
        distinct = np.unique(values)
        if len(distinct) <= EXACT_VALUES:
            return Grid("exact", values=tuple(distinct.tolist()))
    last = len(ordered) - 1
    ranks = [int(np.ceil(TAIL * last)), last // 4, last // 2, last - last // 4, int((1.0 - TAIL) * last)]
    low, first, middle, third, high = ordered[ranks].tolist()
    if not low < high:  # all but the tails is one value: the tails span the axis
        low, high = float(values.min()), float(values.max())
    centre = middle
    scale = (third - first) / 2 or (high - low) / 6
    with np.errstate(over="ignore"):
        transformed = (float(np.arcsinh((low - centre) / scale)), float(np.arcsinh((high - centre) / scale)))
    grids = [
        grid
        for grid in (Grid("linear", low, high), Grid("asinh", *transformed, centre=centre, scale=scale))
        if np.isfinite(grid.high - grid.low) and grid.high > grid.low and np.isfinite(grid.step)
    ]
    if not grids:  # a range at the limits of the number format: below, between and above
        return Grid("exact", values=(low, high))
    enough = len(ordered) * _FINE
    enough += 4.0 * np.sqrt(enough)  # sampling error of such a bin
    if grids[0].kind == "linear" and _largest_bin(grids[0], ordered) <= enough:
        return grids[0]
    return min(grids, key=lambda grid: _largest_bin(grid, ordered))


def _largest_bin(grid: Grid, values: Floats) -> int:
    return int(np.bincount(grid.slot_of(values)).max())


def category_grid(values: Sequence[str], counts: Ints) -> Grid:
    """The grid for categories with these counts: the `CATEGORIES` most frequent, ties by name."""
    seen = sorted((-int(count), value) for value, count in zip(values, counts, strict=True) if count > 0)[:CATEGORIES]
    return Grid("categories", categories=tuple(value for _, value in seen))
