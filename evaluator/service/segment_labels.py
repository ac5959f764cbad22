"""Values of request labels that make a segment of their own. Pure.

A label may have any number of values, so only those with the smallest hashes are kept and the rest are one value. Which
ones depends on the values alone, not on their order, and merging parts agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TypeVar

from evaluator.stats import PairedSums, SplitSums

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
