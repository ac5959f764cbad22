"""Assignment: a seeded hash of the unit to a bucket, and one cut between the arms. Pure.

The same unit meets the same arm in every process and after every restart, and nobody changes arm on a step up: the
challenger's buckets at 1 % are a subset of those at 5 %, because a stage only moves the cut.
"""

from __future__ import annotations

import xxhash

from gauntlet.types import CHALLENGER, CHAMPION, Arm

BUCKETS = 1_000_000
"""Resolution 0.0001 %: shares down to one in a million are exact."""

_SHADOW = "shadow"


def salt(experiment: str, rollout: str | None) -> str:
    """What seeds the hash. Each rollout draws anew, so that no unit is every challenger's first victim."""
    return f"{experiment}\x1f{rollout or ''}\x1f"


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket in [0, BUCKETS): XXH3-64 of salt and unit, scaled without a modulo's bias."""
    return xxhash.xxh3_64_intdigest((salt + unit).encode()) * BUCKETS >> 64


def cut(share: float) -> int:
    """How many buckets a share of traffic takes."""
    return round(share * BUCKETS)


def arm(bucket: int, cut: int) -> Arm:
    """The challenger has the buckets below the cut."""
    return CHALLENGER if bucket < cut else CHAMPION


def shadowed(salt: str, unit: str, fraction_cut: int) -> bool:
    """Whether the other arm scores this unit too; drawn independently of the assignment."""
    return fraction_cut >= BUCKETS or bucket(salt + _SHADOW, unit) < fraction_cut
