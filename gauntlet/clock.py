"""What "now" means: the wall clock, or the clock of the events themselves when recorded traffic is replayed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol


class Clock(Protocol):
    """A source of the time, in seconds since 1970."""

    def now(self) -> float: ...

    def observe(self, at: float) -> None:
        """Tell the clock that an event of time `at` was seen."""


class WallClock:
    """The machine's clock; events cannot move it."""

    def now(self) -> float:
        return time.time()

    def observe(self, at: float) -> None:
        return


class EventClock:
    """The latest event time seen: replayed traffic carries its own time, at any speed. It never runs backwards."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def observe(self, at: float) -> None:
        self._now = max(self._now, at)


def make(kind: str) -> Clock:
    """The clock named in the configuration: `wall` or `events`."""
    return EventClock() if kind == "events" else WallClock()


async def pause(stop: asyncio.Event, seconds: float, *hints: Coroutine[Any, Any, object]) -> None:
    """Wait for `stop` or the first of `hints`, `seconds` at most."""
    waits = [asyncio.create_task(wait) for wait in (stop.wait(), *hints)]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


@contextlib.asynccontextmanager
async def beside(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """`run` as a task while the body lasts; it gets an event that says when to stop, and is ended if it does not."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait([task], timeout=_STOP_SECONDS)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


_STOP_SECONDS = 2.0


def lasting(seconds: float) -> str:
    """A length of time for a sentence: `2 min 20 s`, `8 d 3 h`, in its two largest units; short ones as `1.5 s`."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms" if seconds > 0 else "0 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    for (size, unit), (finer, fine) in itertools.pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // finer
            return f"{whole // size} {unit}" + (f" {rest} {fine}" if rest else "")
    return f"{whole} s"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

_LENIENT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2})(:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(Z|UTC|[+-]\d{2}:?\d{2})?)?"
)
"""ISO 8601 as people write it: month, day or hour without a leading zero, UTC spelled out, a space before the zone."""


def parse_timestamp(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601, in UTC where it names no zone; NaN for a text that is none."""
    text = text.strip()
    match = _LENIENT.fullmatch(text)
    if match is not None:
        year, month, day, hour, rest, zone = match.groups(default="")
        text = f"{year}-{month:0>2}-{day:0>2}"
        if hour:
            text += f"T{hour:0>2}{rest}{zone.replace('UTC', 'Z')}"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
