"""Building blocks of the configuration's sections: their base class, durations, and numbers with a range."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Self

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
"""0 takes any free one."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 36_525 * 86_400.0
"""Seconds of the longest duration, a hundred years."""


class Seconds(float):
    """A duration in seconds, written `250ms`, `90s`, `15m`, `12h`, `7d`, or as a number of seconds."""

    @classmethod
    def parse(cls, value: object) -> Seconds:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        else:
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", str(value))
            if match is None:
                raise ValueError(f"a duration must look like 250ms, 90s, 15m, 12h or 7d, not {value!r}")
            number = float(match[1]) * _UNITS[match[2]]
        return cls.checked(number, repr(value))

    @classmethod
    def checked(cls, number: float, written: str = "") -> Self:
        """This many seconds, which were `written` so. Raises `ValueError`."""
        written = written or f"{number:g}s"
        if not 0 <= number < float("inf"):
            raise ValueError(f"a duration must be finite and not negative, not {written}")
        if number > LONGEST:  # the calendar ends, and with it every time that is shown
            raise ValueError(f"a duration must be at most 100 years (36525d), not {written}")
        return cls(number)


class BlockLength(Seconds):
    """The length of blocks of outcomes: a duration, or `auto` (its value is then 0)."""

    @classmethod
    def parse(cls, value: object) -> BlockLength:
        if value == "auto":
            return cls(0)
        length = cls(Seconds.parse(value))
        if not length:
            raise ValueError("a block must be `auto` or longer than 0")
        return length

    @property
    def auto(self) -> bool:
        return not self


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are refused."""


def check(condition: bool, reason: str) -> None:
    """Refuse a setting unless `condition`. `reason` begins with the setting's name, in backticks."""
    if not condition:
        raise ValueError(reason)


def check_most(section: Section, **limits: tuple[float, str]) -> None:
    """Refuse settings beyond their limits, each with why there is one."""
    for name, (most, why) in limits.items():
        value = getattr(section, name)
        check(value is None or value <= most, f"`{name}` must be at most {most:,}: {why}")


def distinct(setting: str, names: Sequence[str]) -> None:
    """Refuse names that are empty or repeated."""
    check(all(names) and len(set(names)) == len(names), f"`{setting}` must have names, each once, not {list(names)}")


def check_decimals(name: str, share: float) -> None:
    """Shares are exact to one in a million, the router's resolution."""
    check(abs(share * 1e6 - round(share * 1e6)) < 1e-6, f"`{name}` must have at most six decimals")


def span(seconds: float) -> str:
    """A duration as the configuration writes it: in the largest unit that is not below 1 and says it exactly in four
    digits, else rounded in the largest. `clock.lasting` is for sentences."""
    fitting = [(unit, seconds / size) for unit, size in reversed(_UNITS.items()) if seconds >= size or unit == "ms"]
    exact = [(unit, count) for unit, count in fitting if math.isclose(float(f"{count:.4g}"), count, rel_tol=1e-12)]
    unit, count = (exact or fitting)[0]
    return f"{count:.4g}{unit}"
