"""Counts of requests and how they ended, and the exact sums that a test makes of them. Pure.

Invariant: counts are whole numbers, so they don't depend on order or partition; the sums made of them are bit for bit
those of adding request after request. A label may have any number of values, so only those with the smallest hashes
are counted separately, and the rest as one value; which ones depends on the values alone, and merging parts agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

from evaluator.stats import AssignmentCounts, PairedSums, SplitSums

_PARTS = 16
"""Classes in a power of two of seconds: 3 to 6 % wide. A test against a quantile holds for any threshold near it."""


@lru_cache(maxsize=4096)
def _unit(treated: bool, propensity: float, y: float) -> tuple[int, ...]:
    sums = SplitSums()
    sums.add(treated, propensity, y)
    return tuple(sums.to_list())


def _split(kinds: Iterable[tuple[bool, float, float, int]]) -> SplitSums:
    """The sums of (treated, π, Y, how many) units."""
    total = [0] * len(SplitSums().to_list())
    for treated, propensity, y, n in kinds:
        if n:
            total = [sum_ + n * one for sum_, one in zip(total, _unit(treated, propensity, y), strict=True)]
    return SplitSums.from_list(total)


def indicator(assigned: AssignmentCounts, hits: AssignmentCounts, value: float) -> SplitSums:
    """Y = `value` for those of the assigned units that are in `hits` too, 0 for the others."""
    none = (0, 0)
    return _split(
        (arm, share, y, n)
        for share, of in assigned.counts.items()
        for arm in (False, True)
        for y, n in ((value, hits.counts.get(share, none)[arm]), (0.0, of[arm] - hits.counts.get(share, none)[arm]))
    )


@dataclass
class LatencyCounts:
    """Requests by logged π and class of served time: π → class → [champion's, challenger's].

    π = 0 stands for requests that were not split; they only tell what is usual for the champion.
    """

    counts: dict[float, dict[int, list[int]]] = field(default_factory=dict)

    def add(self, treated: bool, propensity: float, seconds: float) -> None:
        self.counts.setdefault(propensity, {}).setdefault(time_class(seconds), [0, 0])[treated] += 1

    def over(self, threshold: int) -> SplitSums:
        """Y = −1 for requests slower than class `threshold`, 0 for the others."""
        return _split(
            (arm, share, -1.0 if index > threshold else 0.0, n[arm])
            for share, classes in self.counts.items()
            if 0 < share < 1
            for index, n in classes.items()
            for arm in (False, True)
        )

    def champion(self) -> dict[int, int]:
        """The champion's requests by class, at every share."""
        found: dict[int, int] = {}
        for classes in self.counts.values():
            for index, (n, _) in classes.items():
                found[index] = found.get(index, 0) + n
        return found

    def to_list(self) -> list[list[float]]:
        """[[π, class, champion, challenger], …], in order."""
        return [[share, i, *self.counts[share][i]] for share in sorted(self.counts) for i in sorted(self.counts[share])]

    @classmethod
    def from_list(cls, rows: Sequence[Sequence[float]]) -> LatencyCounts:
        found = cls()
        for share, index, champion, challenger in rows:
            found.counts.setdefault(share, {})[int(index)] = [int(champion), int(challenger)]
        return found


def time_class(seconds: float) -> int:
    """The class that a time falls into."""
    mantissa, exponent = math.frexp(seconds)
    return exponent * _PARTS + int((2.0 * mantissa - 1.0) * _PARTS)


def quantile_class(counts: dict[int, int], quantile: float) -> int | None:
    """The class that holds the quantile; None while too few requests are above it to say where it lies."""
    total = sum(counts.values())
    if total * (1.0 - quantile) < 10:
        return None
    below = 0
    for index in sorted(counts):
        below += counts[index]
        if below >= quantile * total:
            return index
    raise AssertionError("the classes hold all requests")


def class_end(index: int) -> float:
    """The longest time in a class, in seconds."""
    exponent, part = divmod(index, _PARTS)
    return math.ldexp(0.5 * (1.0 + (part + 1) / _PARTS), exponent)


@dataclass
class ShadowCounts:
    """Requests that both arms were asked, by who gave a valid answer: both, only the champion, only the challenger."""

    both: int = 0
    champion: int = 0
    challenger: int = 0

    def add(self, champion: bool, challenger: bool) -> None:
        self.both += champion and challenger
        self.champion += champion and not challenger
        self.challenger += challenger and not champion

    def sums(self) -> PairedSums:
        """Y = 1 for an arm's valid answer, 0 for none."""
        total = [0] * len(PairedSums().to_list())
        for ours, theirs, n in ((1.0, 1.0, self.both), (1.0, 0.0, self.champion), (0.0, 1.0, self.challenger)):
            one = PairedSums()
            one.add(ours, theirs)
            total = [sum_ + n * unit for sum_, unit in zip(total, one.to_list(), strict=True)]
        return PairedSums.from_list(total)

    def to_list(self) -> list[int]:
        return [self.both, self.champion, self.challenger]


# Segments: values of a label that are counted apart -----------------------------------------------------------------

VALUES = 20
"""Values of one label that are kept."""
OTHER = "(other)"
"""All others."""
ABSENT = "(none)"
"""Requests without the label."""
_LONGEST = 64  # characters of a value; it stands in events and metrics

T = TypeVar("T", SplitSums, PairedSums, SplitSums | PairedSums)


def value_of(labels: Mapping[str, str], name: str) -> str:
    """The value that a request is counted under."""
    return labels.get(name, "")[:_LONGEST] or ABSENT


def kept(values: Iterable[str]) -> set[str]:
    """The values that are kept: at most `VALUES`, and the two names that stand for no value."""
    named = {value for value in values if value not in (OTHER, ABSENT)}
    return {OTHER, ABSENT, *sorted(named, key=_hash)[:VALUES]}


def capped(sums: dict[str, T], apart: set[str]) -> dict[str, T]:
    """The sums by value, those of values that are not in `apart` under (other)."""
    found = {value: part for value, part in sums.items() if value in apart}
    for value, part in sums.items():
        if value not in apart:
            found[OTHER] = part.merge(found[OTHER]) if OTHER in found else part  # type: ignore[arg-type]
    return found


def _hash(value: str) -> bytes:
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8, person=b"segment").digest()
