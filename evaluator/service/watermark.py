"""How far the event time of the predictions has come, by partition of their log, and what is too old to count.

A prediction more than `keep` behind its partition's latest is stale: its tombstone may be gone, so that nobody can tell
whether it was counted. A router's clock that was ahead and is set right would make all stale until it gets there again.
So a partition is taken at its word where `WENT_BACK` of its predictions in a row, with none that is not stale, are of
times that it had jumped over: its time goes back, and requests count again. Nothing of such times was ever counted, so
nothing counts twice; predictions that are delivered again, however many, are of times before the jump.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from evaluator.service.validation import Batch, InputEvent
from gauntlet.events import Outcome, Prediction

WENT_BACK: Final = 100
"""Stale predictions of a partition in a row after which its clock was set back."""


class _State(Protocol):
    latest: dict[str, float]
    jumped: dict[str, tuple[float, float]]
    behind: dict[str, tuple[int, float]]
    went_back: dict[str, float]


class Watermark:
    """Event time by prediction partition.

    Its state: latest, of its predictions. jumped: between which times it last jumped forward by more than `keep`, with
    its first prediction from 0. behind: stale predictions in a row of a time in between, and the latest of these.
    went_back: the time that a partition had before its clock was set back, until it gets there again.
    """

    def __init__(self, keep: float) -> None:
        """`keep`: seconds behind its partition's latest event after which an event is stale."""
        self._keep = keep
        self.latest: dict[str, float] = {}
        self.jumped: dict[str, tuple[float, float]] = {}
        self.behind: dict[str, tuple[int, float]] = {}
        self.went_back: dict[str, float] = {}

    @property
    def time(self) -> float:
        """The event time that every prediction partition with any records has reached; 0 before the first."""
        return min(self.latest.values(), default=0.0)

    @property
    def gaps(self) -> dict[str, tuple[float, float]]:
        """Of partitions whose clock was set back the time before, and the latest since."""
        return {source: (before, self.latest[source]) for source, before in self.went_back.items()}

    def restore(self, state: _State) -> None:
        self.latest, self.jumped = dict(state.latest), dict(state.jumped)
        self.behind, self.went_back = dict(state.behind), dict(state.went_back)

    def admit(self, batch: Batch) -> tuple[list[InputEvent], Counter[str]]:
        """The events that are not stale, and how many are. Predictions move the watermark."""
        fresh: list[InputEvent] = []
        for source, event in batch:
            if isinstance(event, Outcome) or not self._stale(source, event):
                fresh.append(event)
        return fresh, Counter(stale=len(batch) - len(fresh))

    def _stale(self, source: str, event: InputEvent) -> bool:
        latest = self.latest.get(source, 0.0)
        stale = event.at < latest - self._keep
        if not isinstance(event, Prediction):
            return stale
        if event.at > latest + self._keep:
            self.jumped[source] = latest, event.at
        if stale:
            before, after = self.jumped.get(source, (0.0, 0.0))
            if not before < event.at < after:
                return True
            count, newest = self.behind.get(source, (0, 0.0))
            self.behind[source] = count + 1, max(newest, event.at)
            if count + 1 < WENT_BACK:
                return True
            self.went_back[source] = max(latest, self.went_back.get(source, 0.0))
            latest = self.behind[source][1]
        self.behind.pop(source, None)
        self.latest[source] = max(latest, event.at)
        if self.latest[source] >= self.went_back.get(source, float("inf")):
            del self.went_back[source]
        return False
