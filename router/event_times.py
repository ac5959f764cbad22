"""Event times of a request: the wall clock's, or during a replay the `at` of each instance or outcome.

Checking and moving the clock are two steps, so that a refused request leaves the replay clock where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gauntlet.clock import Clock
from gauntlet.errors import BadInput

_MAX_GAP_SECONDS = 400 * 86_400.0  # one time far in the future would let every waiting exposure mature at once
MAX_TIME = 1e11


class EventTimes:
    """Resolves the `at` fields of requests against the router's clock."""

    def __init__(self, clock: Clock, *, replay: bool) -> None:
        self._clock = clock
        self._replay = replay

    def resolve(self, given: Sequence[float | None], field: str) -> list[float]:
        """One time for each entry of the request's `field`: its `at`, else the latest time so far.

        Raises `BadInput` for an `at` outside a replay, an impossible one, and one too far ahead. The clock stays.
        """
        latest = self._clock.now()
        times = []
        for index, at in enumerate(given):
            if at is None:
                times.append(latest)
                continue
            where = f"{field}[{index}]"
            if not self._replay:
                raise BadInput(f"{where}: `at` needs the setting `clock: events`", code="time_not_allowed")
            if not (math.isfinite(at) and 0 <= at < MAX_TIME):
                raise BadInput(f"{where}: `at` must be in seconds since 1970", code="bad_time")
            if 0 < latest < at - _MAX_GAP_SECONDS:
                days = (at - latest) / 86_400
                raise BadInput(f"{where}: `at` is {days:.0f} days after the latest event", code="bad_time")
            latest = max(latest, at)
            times.append(at)
        return times

    def observe(self, times: Sequence[float]) -> None:
        """Move the clock to the latest of `times`, once the request they belong to has passed every check."""
        self._clock.observe(max(times))
