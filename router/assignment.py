"""Sticky assignment: a seeded hash maps each unit to a bucket, and a cut divides the buckets between the arms. Pure.

A unit gets the same arm in every process and after every restart. On a step up no unit leaves the challenger: its
buckets at 1 % are a subset of those at 5 %, because a stage only moves the cut.
"""

from __future__ import annotations

import xxhash

from gauntlet.types import CHALLENGER, CHAMPION, Arm

BUCKETS = 1_000_000
"""Resolution 0.0001 %: shares down to one in a million are exact."""

_SHADOW = "shadow"


def salt(experiment: str, rollout: str | None) -> str:
    """The seed of the hash. Each rollout has its own, so that no unit is among the first of every challenger."""
    return f"{experiment}\x1f{rollout or ''}\x1f"


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket in [0, BUCKETS): XXH3-64 of salt and unit, scaled without the bias of a modulo."""
    return xxhash.xxh3_64_intdigest((salt + unit).encode()) * BUCKETS >> 64


def cut(share: float) -> int:
    return round(share * BUCKETS)


def arm(bucket: int, cut: int) -> Arm:
    """The arm of a bucket: the challenger has those below the cut."""
    return CHALLENGER if bucket < cut else CHAMPION


def shadowed(salt: str, unit: str, fraction_cut: int) -> bool:
    """Whether the other arm scores this unit in shadow; independent of the assignment."""
    return fraction_cut >= BUCKETS or bucket(salt + _SHADOW, unit) < fraction_cut
