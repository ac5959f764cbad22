"""Which arms each unit has met: exact up to a number of units, beyond it exact for a uniform sample of them.

Invariant: the sketch is a function of the set of (unit, arm) pairs and the capacity alone, so any order, repetition,
partition and merge gives the same sketch; every unit in it has all of its arms.

Units are kept whose hash starts with `level` zero bits, and the level rises by one when more than `capacity` are
there (distinct sampling, Gibbons 2001). A unit that is kept was never dropped before, which is why its arms are whole.
Up to `capacity` distinct units the level is 0 and nothing is sampled; beyond, between half of the capacity and all of
it remain, and shares have the sampling error of that many units.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from evaluator.stats.errors import StatsError

Integers = NDArray[np.integer[Any]]


def _marks(units: Collection[str]) -> NDArray[np.uint32]:
    """A hash of each unit: CRC-32 and murmur3's finaliser, which is quick over many. A hash of its own, so that the
    sample is independent of any hash that assigns arms."""
    mark = np.fromiter((crc32(unit.encode("utf-8", "surrogatepass")) for unit in units), dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mark ^= mark >> np.uint32(shift)
        mark *= np.uint32(factor)
    mark ^= mark >> np.uint32(16)
    return mark


def _kept(units: Collection[str], level: int) -> NDArray[np.bool_]:
    """Which units are in the sample of that level, shape (n,)."""
    if level == 0:
        return np.ones(len(units), dtype=np.bool_)
    return np.asarray(_marks(units) >> np.uint32(32 - level) == 0)


def _sampled(arms: Mapping[str, tuple[str, ...]], level: int) -> dict[str, tuple[str, ...]]:
    kept = _kept(arms.keys(), level).tolist()
    return {unit: met for (unit, met), keep in zip(arms.items(), kept, strict=True) if keep}


@dataclass(slots=True)
class Exposures:
    """Units and the arms they met (sorted). `multiple` of them met more than one. The default takes about 15 MB."""

    capacity: int = 65_536
    level: int = 0
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    multiple: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise StatsError(f"a capacity of {self.capacity!r} units holds nothing")

    @property
    def units(self) -> int:
        """Units in the sketch."""
        return len(self.arms)

    @property
    def exact(self) -> bool:
        return self.level == 0

    @property
    def distinct(self) -> int:
        """Distinct units met: exact at level 0, else an unbiased estimate."""
        return len(self.arms) << self.level

    def add(self, unit: str, arm: str) -> None:
        """The unit was exposed to the arm (any number of times)."""
        if self.level == 0 or _kept([unit], self.level)[0]:
            self._meet(unit, arm)
            self._shrink()

    def add_codes(self, units: Integers, unit_names: Sequence[str], arms: Integers, arm_names: Sequence[str]) -> None:
        """Many exposures as codes into names, arrays of one shape (n,). A code below 0 is a null and is skipped."""
        if units.shape != arms.shape or units.ndim != 1:
            raise StatsError(f"units of shape {units.shape} do not fit arms of shape {arms.shape}")
        whole = (units >= 0) & (arms >= 0)
        width = len(arm_names)
        pairs = np.unique(units[whole].astype(np.int64) * width + arms[whole])
        if self.level:
            pairs = pairs[_kept([unit_names[unit] for unit in (pairs // width).tolist()], self.level)]
        for pair in pairs.tolist():
            self._meet(unit_names[pair // width], arm_names[pair % width])
        self._shrink()

    def merge(self, other: Exposures) -> Exposures:
        """Both together, as a new sketch: what one pass over both would have given. Raises StatsError if the capacities
        differ."""
        if self.capacity != other.capacity:
            raise StatsError(f"sketches of capacities {self.capacity} and {other.capacity} don't merge")
        level = max(self.level, other.level)
        merged = Exposures(self.capacity, level)
        for part in (self, other):
            for unit, arms in _sampled(part.arms, level).items():
                merged.arms[unit] = tuple(sorted({*merged.arms.get(unit, ()), *arms}))
        merged._recount()
        merged._shrink()
        return merged

    def _meet(self, unit: str, arm: str) -> None:
        seen = self.arms.get(unit)
        if seen is None:
            self.arms[unit] = (arm,)
        elif arm not in seen:
            self.arms[unit] = tuple(sorted((*seen, arm)))
            self.multiple += len(seen) == 1

    def _shrink(self) -> None:
        while len(self.arms) > self.capacity:
            self.level += 1
            self.arms = _sampled(self.arms, self.level)
            self._recount()

    def _recount(self) -> None:
        self.multiple = sum(len(arms) > 1 for arms in self.arms.values())

    def to_dict(self) -> dict[str, Any]:
        """All that must be kept, fit for JSON, the same bytes for the same sketch."""
        units = {unit: list(self.arms[unit]) for unit in sorted(self.arms)}
        return {"capacity": self.capacity, "level": self.level, "units": units}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        sketch = cls(data["capacity"], data["level"], {unit: tuple(arms) for unit, arms in data["units"].items()})
        sketch._recount()
        return sketch
