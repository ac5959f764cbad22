"""Shadow scoring: the arm that did not serve answers the same request, off the response path, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gauntlet import events, telemetry
from gauntlet.errors import InvalidOutput
from gauntlet.types import CHALLENGER, Scorer
from router.model_worker import Arm, as_json
from router.recorder import Recorder
from router.routing_table import Table

_BATCH = 128  # rows in one call: what a live caller may have to wait for

_KINDS = {"timeout": "timeout", "invalid_output": "invalid_output"}
"""Failures as the breaker names them; every exception is an error to it, and stands by its name in the event."""

Wanted = tuple[str, float, dict[str, Any], Scorer]
"""Prediction id, its time, its features, and who is to score it."""


class Shadower:
    """A bounded queue and one task that empties it. When it is full new work is dropped and counted, never waited
    for."""

    def __init__(
        self, experiment: str, recorder: Recorder, limit: int, timeout: float, on_trip: Callable[[Table], None]
    ) -> None:
        self._experiment = experiment
        self._recorder = recorder
        self._limit = limit
        self._timeout = timeout
        self._on_trip = on_trip
        self._waiting: deque[tuple[Table, Wanted]] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, table: Table, wanted: Sequence[Wanted]) -> None:
        """Take on as much as there is room for."""
        room = max(0, self._limit - len(self._waiting))
        for one in wanted[:room]:
            self._waiting.append((table, one))
        if len(wanted) > room:
            telemetry.SHADOWS.labels(self._experiment, "dropped").inc(len(wanted) - room)
        if self._waiting:
            self._idle.clear()
            self._work.set()

    async def run(self) -> None:
        """Score until cancelled."""
        while True:
            await self._work.wait()
            while self._waiting:
                await self._score(self._next_batch())
            self._work.clear()
            self._idle.set()

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._idle.wait()

    def _next_batch(self) -> list[tuple[Table, Wanted]]:
        """The longest run of equal table and arm at the head of the queue: order is kept, a batch has one model."""
        head_table, head = self._waiting[0]
        batch: list[tuple[Table, Wanted]] = []
        while self._waiting and len(batch) < _BATCH:
            table, wanted = self._waiting[0]
            if table is not head_table or wanted[3] != head[3]:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _score(self, batch: list[tuple[Table, Wanted]]) -> None:
        table, (_, _, _, name) = batch[0]
        arm = {"champion": table.champion, "challenger": table.challenger, "previous": table.previous}[name]
        if arm is None or arm.closed or (name == CHALLENGER and table.breaker.open):
            telemetry.SHADOWS.labels(self._experiment, "dropped").inc(len(batch))
            return
        self._recorder.shadows(await self._scores(table, arm, name, [wanted for _, wanted in batch]))

    async def _scores(self, table: Table, arm: Arm, name: Scorer, wanted: list[Wanted]) -> list[events.Shadow]:
        error: str | None = None
        answers = None
        try:
            answers = await arm.predict([features for _, _, features, _ in wanted], self._timeout, shadow=True)
        except TimeoutError:
            error = "timeout"
        except InvalidOutput:
            error = "invalid_output"
        except Exception as cause:  # noqa: BLE001 - the model's failure is what is to be recorded
            error = type(cause).__name__
        if error is not None and error != "timeout" and len(wanted) > 1:
            # (A model that hangs would hang for each of them.)
            # One row that a model can't take must not cost its neighbours their score.
            return [s for one in wanted for s in await self._scores(table, arm, name, [one])]
        shadows = []
        for index, (prediction_id, at, _, _) in enumerate(wanted):
            usable = answers is not None and bool(answers[1][index])
            reason = None if usable else (error or "invalid_output")
            shadows.append(
                events.Shadow(
                    id=prediction_id,
                    at=at,
                    experiment=self._experiment,
                    arm=name,
                    model=arm.version,
                    output=as_json(answers[0][index]) if usable and answers is not None else None,
                    rollout=table.rollout,
                    error=reason,
                )
            )
            telemetry.SHADOWS.labels(self._experiment, "scored" if usable else "failed").inc()
            counted = index == 0 or reason != "timeout"  # one call that timed out is one failure, however many rows
            if name == CHALLENGER and counted and table.breaker.record(_KINDS.get(reason, "error") if reason else None):
                self._on_trip(table)
        return shadows
