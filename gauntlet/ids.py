"""Time-ordered prediction ids: UUID version 7 (RFC 9562, section 5.7), at the event's own time.

Ordered ids make inserts into the evaluator's join table appends, and its expiry a range delete.
"""

from __future__ import annotations

import os
import random
import re

_VARIANT_AND_VERSION = (0x7 << 76) | (0x2 << 62)
_UUID7 = re.compile(r"([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")
_RANDOM_BITS = (0xFFF << 64) | (1 << 62) - 1

_entropy = random.Random()  # noqa: S311 - unique, not secret; its own, so that a model that seeds `random` repeats none
os.register_at_fork(after_in_child=_entropy.seed)


def uuid7(at: float) -> str:
    """A UUIDv7 for the time `at` (seconds since the epoch); 74 random bits make it unique."""
    value = int(at * 1000) << 80 | _VARIANT_AND_VERSION | _entropy.getrandbits(76) & _RANDOM_BITS
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_of(prediction_id: str) -> float | None:
    """The time inside a UUIDv7 (seconds, to the millisecond); None for any other id, such as a caller's own."""
    match = _UUID7.fullmatch(prediction_id)
    return int(match[1] + match[2], 16) / 1000 if match else None
