"""Circuit breaker: takes a challenger out of the serving path when too many of its latest calls fail.

A failure is an error, a timeout or an invalid output. The counts belong to a rollout, not to a routing table: a step
up the ramp keeps them, and they are forgotten when the rollout is over.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from gauntlet.config import BreakerConfig


class _Calls:
    """The latest calls of one rollout."""

    def __init__(self, window: int) -> None:
        self.latest: deque[bool] = deque(maxlen=window)
        self.failures = 0
        self.kinds: Counter[str] = Counter()
        self.open = False

    def add(self, failure: str | None) -> None:
        if failure is not None:
            self.kinds[failure] += 1
        if len(self.latest) == self.latest.maxlen:
            self.failures -= self.latest[0]
        self.latest.append(failure is not None)
        self.failures += failure is not None

    def summary(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return f"{self.failures} of the latest {len(self.latest)} calls failed ({kinds} since the rollout began)"


class CircuitBreaker:
    """Failures among the latest `window` calls of each rollout. Once open, it stays open for that rollout.

    `on_open` is called once for a rollout, with its id and a summary of the failures.
    """

    def __init__(self, settings: BreakerConfig, on_open: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._on_open = on_open
        self._calls: dict[str, _Calls] = {}

    def follow(self, rollouts: Iterable[str]) -> None:
        """Count the calls of these rollouts from now on, where they are not counted yet; forget all others."""
        self._calls = {rollout: self._calls.get(rollout) or _Calls(self._settings.window) for rollout in rollouts}

    def is_open(self, rollout: str) -> bool:
        """True if the challenger of `rollout` may not be asked, which also holds once the rollout is over."""
        calls = self._calls.get(rollout)
        return calls is None or calls.open

    def record(self, rollout: str, failure: str | None) -> None:
        """Count one call: `failure` is the kind of failure, None for a success. A rollout that is over counts none."""
        calls = self._calls.get(rollout)
        if calls is None:
            return
        calls.add(failure)
        if calls.open or calls.failures < self._settings.min_failures:
            return
        if calls.failures >= self._settings.failure_share * len(calls.latest):
            calls.open = True
            self._on_open(rollout, calls.summary())
