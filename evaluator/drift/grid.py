"""How one feature's values become slots of a count vector.

A grid is a monotone map of the value axis (or a dictionary of categories): counts over it give the Kolmogorov-Smirnov
distance from below, and a bound on what the map hides. Equal grids are what makes counts of two partitions addable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer[Any]]
Kind = Literal["linear", "asinh", "exact", "categories"]

BINS = 512
"""Bins between the limits: the distance is then at most the mass of one bin short."""
TAIL = 0.0005
"""Share of the reference beyond each limit: what one wild value may not stretch."""
EXACT_VALUES = 64
"""Up to so many distinct values each is counted by itself and the distance is exact."""
CATEGORIES = 256
"""The most frequent categories that get a slot of their own; the rest and the unseen share `other`."""
_FINE = 1.0 / 128
"""Share of one bin that costs a distance of 0.15 nothing: it is at most so much short, and mostly far less."""
HUGE = 1e150
"""Beyond this a number counts as infinite: its square is no number any more."""
STRIP = 16_384
"""Values of one column worked on at once: what stays in a processor's cache."""
_NARROW, _UNSURE = 40.0, 2.0**-9
"""Single precision holds the square of e^40. With up to `BINS` slots a unit and an axis of at most `2 * BINS` slots it
is at most a third of `_UNSURE` slots off: root, sums and logarithm lose a few units in the last of its 24 bits."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of one feature: an affine or inverse-hyperbolic-sine grid, exact values, or categories.

    `linear` and `asinh` have `BINS` slots between `low` and `high` (on the transformed axis) and an overflow slot at
    each end; `exact` has one slot a value and one for each gap between values; `categories` one a category and `other`.
    """

    kind: Kind
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    values: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """Number of slots."""
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
        """Where the (transformed) axis begins: the lower end of the underflow slot as wide as any other."""
        return self.low - 1.0 / self.step

    def slot_of(self, values: Floats) -> Ints:
        """Slots of finite `values` (any shape) on a numeric grid."""
        if self.kind == "exact":
            # Left plus right insertion point: 2i+1 on the i-th value, 2i in the gap before it.
            known = np.asarray(self.values)
            return np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
        if values.ndim == 1 and len(values) > STRIP:
            return np.concatenate([self.slot_of(values[i : i + STRIP]) for i in range(0, len(values), STRIP)])
        with np.errstate(over="ignore"):
            if self.kind == "linear":
                return _slots(self._places(values))
            values = (values - self.centre) / self.scale
            reach = max(-self.low, self.high)
            if reach > _NARROW or self.step > BINS or reach * self.step > 2 * BINS:
                return _slots(self._places(np.arcsinh(values)))
            return self._bent_slots(values)

    def _places(self, axis: Floats) -> Floats:
        """Where on the grid numbers of the (transformed) axis lie: the slot is what is before the point."""
        places: Floats = axis - self.origin
        places *= self.step
        return places

    def _bent_slots(self, values: Floats) -> Ints:
        """Slots of centred and scaled values: the inverse hyperbolic sine is taken in single precision, which costs a
        quarter, and again in double where that is too near an edge to tell on which side of it the value lies."""
        narrow = values.astype(np.float32)
        places = np.square(narrow)
        places += np.float32(1.0)
        np.sqrt(places, out=places)
        places += np.abs(narrow)
        np.log(places, out=places)
        np.copysign(places, narrow, out=places)
        places -= np.float32(self.origin)
        places *= np.float32(self.step)
        edge = np.rint(places)
        with np.errstate(invalid="ignore"):  # what is infinite in single precision is far beyond the last edge
            edge -= places
        unsure = np.flatnonzero(np.abs(edge, out=edge) < _UNSURE)
        slots = _slots(places)
        slots.ravel()[unsure] = _slots(self._places(np.arcsinh(values.ravel()[unsure])))
        return slots

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Grid:
        """The inverse of `to_dict`, also after JSON turned tuples into lists."""
        return cls(**{**raw, "values": tuple(raw["values"]), "categories": tuple(raw["categories"])})


def _slots(places: npt.NDArray[np.floating[Any]]) -> Ints:
    return np.clip(places, 0, BINS + 1, out=places).astype(np.int64)


def tail(values: Floats) -> float:
    """The value at `TAIL` from the upper end of `values`, at least one; rounded inwards: a lone wild one is beyond."""
    rank = int((1.0 - TAIL) * (len(values) - 1))
    return float(np.partition(values, rank)[rank])


def numeric_grid(values: Floats, ordered: Floats) -> Grid:
    """The grid for a reference of finite `values` (1-D, any length, may be empty); limits are taken from `ordered`, all
    of them or a sample, sorted.

    Limits are order statistics at `TAIL` from each end, rounded inwards, so that a lone wild value is beyond them
    even in a hundred rows. The axis is linear, which is several times cheaper, where no bin of it has a larger share
    than `_FINE`; else of the linear and the inverse-hyperbolic-sine axis the one with the lighter heaviest bin.
    """
    # A sample with too many distinct values answers without sorting everything.
    if np.count_nonzero(ordered[1:] != ordered[:-1]) < EXACT_VALUES:
        distinct = np.unique(values)
        if len(distinct) <= EXACT_VALUES:
            return Grid("exact", values=tuple(distinct.tolist()))
    last = len(ordered) - 1
    ranks = [int(np.ceil(TAIL * last)), last // 4, last // 2, last - last // 4, int((1.0 - TAIL) * last)]
    low, first, middle, third, high = ordered[ranks].tolist()
    if not low < high:  # all but the tails is one value: let the tails span the axis
        low, high = float(values.min()), float(values.max())
    centre = middle
    scale = (third - first) / 2 or (high - low) / 6
    with np.errstate(over="ignore"):
        bent = (float(np.arcsinh((low - centre) / scale)), float(np.arcsinh((high - centre) / scale)))
    grids = [
        grid
        for grid in (Grid("linear", low, high), Grid("asinh", *bent, centre=centre, scale=scale))
        if np.isfinite(grid.high - grid.low) and grid.high > grid.low and np.isfinite(grid.step)
    ]
    if not grids:  # a range at the limits of the number format: nothing finer than below, between and above
        return Grid("exact", values=(low, high))
    enough = len(ordered) * _FINE
    enough += 4.0 * np.sqrt(enough)  # what such a bin has at most in so few rows
    if grids[0].kind == "linear" and _heaviest(grids[0], ordered) <= enough:
        return grids[0]
    return min(grids, key=lambda grid: _heaviest(grid, ordered))


def _heaviest(grid: Grid, values: Floats) -> int:
    return int(np.bincount(grid.slot_of(values)).max())


def category_grid(values: Sequence[str], counts: Ints, most: int = CATEGORIES) -> Grid:
    """The grid for a reference of categories with these counts: the `most` frequent by count, then by name."""
    seen = sorted((-int(count), value) for value, count in zip(values, counts, strict=True) if count > 0)[:most]
    return Grid("categories", categories=tuple(value for _, value in seen))
