"""Sticky assignment: a seeded hash maps each unit to a bucket, and each challenger has a range of buckets. Pure.

A unit gets the same arm in every process and after every restart. A challenger's range begins where its slot begins,
so that on a step up no unit leaves it (its buckets at 1 % are a subset of those at 5 %), and nobody moves when another
challenger comes or goes.
"""

from __future__ import annotations

import xxhash

BUCKETS = 1_000_000
"""Resolution 0.0001 %: shares down to one in a million are exact."""

_SHADOW = "shadow"


def salt(experiment: str, rollout: str) -> str:
    """The seed of the hash: for the assignment, by the rollout that opened the ramp, so that no unit is among the first
    of every challenger; for shadow, by each rollout, so that each has a sample of its own."""
    return f"{experiment}\x1f{rollout}\x1f"


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket in [0, BUCKETS): XXH3-64 of salt and unit, scaled without the bias of a modulo."""
    return xxhash.xxh3_64_intdigest((salt + unit).encode()) * BUCKETS >> 64


def cut(share: float) -> int:
    return round(share * BUCKETS)


def buckets(slot: int, slots: int, share: float) -> range:
    """The buckets of the challenger in `slot` of `slots`: those of its share, from where its slot begins."""
    start, end = slot * BUCKETS // slots, (slot + 1) * BUCKETS // slots
    return range(start, min(start + cut(share), end))  # a sixth, rounded up, must not reach into the next slot


def shadowed(salt: str, unit: str, fraction_cut: int) -> bool:
    """Whether a model that did not serve this unit scores it in shadow; independent of the assignment."""
    return fraction_cut >= BUCKETS or bucket(salt + _SHADOW, unit) < fraction_cut
