"""Circuit breaker: takes the challenger out of the serving path when too many of its latest calls fail.

A failure is an error, a timeout or an invalid output. The counts belong to a rollout, not to a routing table: a step
up the ramp keeps them, the next rollout starts with none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gauntlet.config import BreakerConfig


class CircuitBreaker:
    """Failures among the latest `window` challenger calls of one rollout. Once open, it stays open for that rollout.

    `on_open` is called once, with the rollout and a summary of the failures.
    """

    def __init__(self, settings: BreakerConfig, on_open: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._on_open = on_open
        self._rollout: str | None = None
        self._open = False
        self._start_counting()

    def follow(self, rollout: str) -> None:
        """Count the calls of `rollout` from now on; the counts start at zero unless it is already the one counted."""
        if rollout != self._rollout:
            self._rollout = rollout
            self._start_counting()

    def is_open(self, rollout: str | None) -> bool:
        """True if the challenger of `rollout` may not be asked, which also holds after a later rollout has begun."""
        return rollout is not None and (self._open or rollout != self._rollout)

    def record(self, rollout: str | None, failure: str | None) -> None:
        """Count one call: `failure` is the kind of failure, None for a success. Other rollouts' calls don't count."""
        if rollout != self._rollout:
            return
        if failure is not None:
            self._kinds[failure] = self._kinds.get(failure, 0) + 1
        if len(self._latest) == self._settings.window:
            self._failures -= self._latest[0]
        self._latest.append(failure is not None)
        self._failures += failure is not None
        if self._open or self._failures < self._settings.min_failures:
            return
        if self._failures >= self._settings.failure_share * len(self._latest):
            self._open = True
            self._on_open(self._rollout or "", self._summary())

    def _start_counting(self) -> None:
        self._latest: deque[bool] = deque(maxlen=self._settings.window)
        self._failures = 0
        self._kinds: dict[str, int] = {}
        self._open = False

    def _summary(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
        return f"{self._failures} of the latest {len(self._latest)} calls failed ({kinds} since the rollout began)"
