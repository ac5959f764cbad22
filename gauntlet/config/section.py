"""What all sections of the configuration are made of.

Durations are written `250ms`, `90s`, `15m`, `12h`, `7d`, or as a number of seconds.
"""

from __future__ import annotations

import re

import msgspec

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Seconds(float):
    """A duration in seconds, parsed from `12h`, `250ms` or a plain number."""

    @classmethod
    def parse(cls, value: object) -> Seconds:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        else:
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", str(value))
            if match is None:
                raise ValueError(f"a duration looks like 250ms, 90s, 15m, 12h or 7d, not {value!r}")
            number = float(match[1]) * _UNITS[match[2]]
        if not 0 <= number < float("inf"):
            raise ValueError(f"a duration is finite and not negative, not {value!r}")
        return cls(number)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are refused."""


def check(condition: bool, reason: str) -> None:
    """Refuse a setting: `reason` begins with its name."""
    if not condition:
        raise ValueError(reason)
