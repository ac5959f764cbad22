"""What arrives at this replica: the latest prediction and outcome, recent counts, and refusals."""

from __future__ import annotations

import time
from collections import deque

from gauntlet.recent import RecentCounts
from gauntlet.status import Arrivals, Flow

_GAPS_SECONDS = 8 * 86_400.0
"""How long a gap is remembered: as much as is usual in a week is not a silence."""

_USUAL = 20
"""Arrivals from which on the longest gap between two says what is usual."""


class _Kind:
    """Predictions, or outcomes."""

    def __init__(self) -> None:
        self._recent = RecentCounts()
        self._gaps: deque[tuple[float, float]] = deque()  # when one ended, and how long it was; each beats all after it
        self._arrivals = 0
        self._refusal = ""
        self.latest = 0.0

    def came(self, count: int, now: float) -> None:
        if self._arrivals:
            gap = now - self.latest
            while self._gaps and self._gaps[-1][1] <= gap:
                self._gaps.pop()
            self._gaps.append((now, gap))
            while self._gaps[0][0] < now - _GAPS_SECONDS:
                self._gaps.popleft()
        self._arrivals += 1
        self.latest = now
        self._recent.add({"came": count})

    def refused(self, count: int, code: str) -> None:
        self._recent.add({"refused": count})
        self._refusal = code

    def report(self) -> Flow:
        recent = self._recent.total()
        usual = self._gaps[0][1] if self._arrivals >= _USUAL else None
        return Flow(
            latest=self.latest,
            count=recent["came"],
            refused=recent["refused"],
            refusal=self._refusal if recent["refused"] else "",
            longest_gap=usual,
        )


class ArrivalCounter:
    """Counts what one replica answers and refuses. Times are the machine's, whatever the experiment's clock is."""

    def __init__(self) -> None:
        self._since = time.time()
        self._predictions, self._outcomes = _Kind(), _Kind()
        self._unanswered_since = 0.0

    def load(self, prediction: float, outcome: float) -> None:
        """When the latest of each came before this start; 0 where that is not known."""
        self._predictions.latest, self._outcomes.latest = prediction, outcome
        self._unanswered_since = prediction if prediction > outcome else 0.0

    def predictions(self, count: int) -> None:
        now = time.time()
        self._predictions.came(count, now)
        self._unanswered_since = self._unanswered_since or now

    def outcomes(self, count: int) -> None:
        self._outcomes.came(count, time.time())
        self._unanswered_since = 0.0

    def refused(self, route: str, count: int, code: str) -> None:
        """`count` predictions or outcomes were refused with `code`; those of other routes do not count."""
        kind = {"predict": self._predictions, "outcomes": self._outcomes}.get(route)
        if kind is not None:
            kind.refused(count, code)

    def report(self) -> Arrivals:
        """What has arrived up to now."""
        return Arrivals(
            at=time.time(),
            since=self._since,
            predictions=self._predictions.report(),
            outcomes=self._outcomes.report(),
            unanswered_since=self._unanswered_since,
        )
