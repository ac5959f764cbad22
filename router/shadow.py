"""Shadow scoring: the models that did not serve score the same request, off the response path and in batches.

Each model has a queue of its own, so that one that hangs holds up nobody else. Live traffic goes first: rows gather
for a moment so that a batch pays for its call, one model computes at a time, and the newest rows go without a score
when too many wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from gauntlet import events, telemetry
from gauntlet.config import RouterConfig
from gauntlet.types import CHALLENGER
from router.breaker import CircuitBreaker
from router.model_worker import as_json, breaker_kind
from router.recorder import Recorder
from router.routing_table import Scoring

_BATCH = 128  # rows in one call: what a live caller may have to wait for
GATHER_SECONDS = 0.02  # in which rows come together, and then scores: a call and a record cost as much as tens of them
_TURN_SECONDS = 0.1  # how long one call keeps the other models from beginning theirs


class ShadowRequest(NamedTuple):
    """A served prediction that is to be scored."""

    id: str
    at: float
    features: dict[str, Any]


class ShadowScorer:
    """Bounded queues, one for each model, and a task for each that has rows waiting."""

    def __init__(self, settings: RouterConfig, experiment: str, recorder: Recorder, breaker: CircuitBreaker) -> None:
        self._experiment = experiment
        self._recorder = recorder
        self._breaker = breaker
        self._limit = settings.shadow_queue
        self._timeout = settings.deadline
        self._queues: dict[Scoring, deque[ShadowRequest]] = {}
        self._waiting = 0
        self._tasks: dict[Scoring, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._scoring = 0  # batches that have been taken and have no scores yet
        self._scored: list[events.Shadow] = []
        self._writing: asyncio.TimerHandle | None = None

    def offer(self, request: ShadowRequest, scorings: Iterable[Scoring]) -> None:
        """Queue a request for each of these models; beyond the limit the newest row of the longest queue is shed."""
        for scoring in scorings:
            queue = self._queues.get(scoring)
            if queue is None:
                queue = self._queues[scoring] = deque()
                self._tasks[scoring] = asyncio.get_running_loop().create_task(self._empty(scoring, queue))
            queue.append(request)
            if self._waiting < self._limit:
                self._waiting += 1
            else:
                max(self._queues.values(), key=len).pop()
                self._count("queue_full")

    async def drained(self) -> None:
        """Return when no row waits any more."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        self._write()

    def close(self) -> None:
        """Give up what waits for a score, and record what has one."""
        self._write()
        for task in self._tasks.values():
            task.cancel()
        self._queues.clear()
        self._tasks.clear()  # one that has not begun never ends by itself

    async def _empty(self, scoring: Scoring, queue: deque[ShadowRequest]) -> None:
        """Score what waits for one model, until nothing does."""
        try:
            while queue:
                if len(queue) < _BATCH:
                    await asyncio.sleep(GATHER_SECONDS)
                batch = [queue.popleft() for _ in range(min(_BATCH, len(queue)))]
                self._waiting -= len(batch)
                self._scoring += 1
                try:
                    scored = await self._scores(scoring, batch)
                finally:
                    self._scoring -= 1
                self._scored += scored
                if not self._scoring:
                    self._write()  # nobody's scores are to come together with these
                elif self._writing is None and self._scored:
                    self._writing = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._write)
        finally:
            self._waiting -= len(queue)
            self._queues.pop(scoring, None)
            self._tasks.pop(scoring, None)

    def _write(self) -> None:
        """Record the scores of all models that came together."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        scored, self._scored = self._scored, []
        if scored:
            self._recorder.shadows(scored)

    async def _scores(self, scoring: Scoring, batch: list[ShadowRequest]) -> list[events.Shadow]:
        rows = [request.features for request in batch]
        async with self._turn:  # whoever takes longer computes on while the next begins
            if reason := self._out(scoring):
                self._count(reason, len(batch))
                return []
            asking = asyncio.ensure_future(scoring.model.attempt(rows, self._timeout, shadow=True))
            await asyncio.wait([asking], timeout=_TURN_SECONDS)
        answers = await asking
        if isinstance(answers, str) and answers != "timeout" and len(batch) > 1:
            # One row that a model can't take must not cost its neighbours their score; a model that hangs stays hung.
            return [shadow for request in batch for shadow in await self._scores(scoring, [request])]
        shadows = []
        for index, request in enumerate(batch):
            failure = output = None
            if isinstance(answers, str):
                failure = answers
            elif answers[1][index]:
                output = as_json(answers[0][index])
            else:
                failure = "invalid_output"
            shadows.append(
                events.Shadow(
                    id=request.id,
                    at=request.at,
                    experiment=self._experiment,
                    arm=scoring.arm,
                    model=scoring.model.version,
                    output=output,
                    rollout=scoring.rollout,
                    error=failure,
                )
            )
            self._count("failed" if failure else "scored")
            if (
                scoring.arm == CHALLENGER and scoring.rollout and (index == 0 or failure != "timeout")
            ):  # a call that timed out is one failure
                self._breaker.record(scoring.rollout, breaker_kind(failure))
        return shadows

    def _out(self, scoring: Scoring) -> str | None:
        """Why the model is not asked any more; None where it is."""
        if scoring.model.closed:
            return "model_gone"
        rollout = scoring.rollout if scoring.arm == CHALLENGER else None
        return "breaker_open" if rollout and self._breaker.is_open(rollout) else None

    def _count(self, result: str, rows: int = 1) -> None:
        telemetry.SHADOWS.labels(self._experiment, result).inc(rows)
