"""Shadow scoring: the model that did not serve scores the same request, off the response path and in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from gauntlet import events, telemetry
from gauntlet.config import RouterConfig
from gauntlet.types import CHALLENGER, Scorer
from router.breaker import CircuitBreaker
from router.model_worker import ModelWorker, as_json, breaker_kind
from router.recorder import Recorder
from router.routing_table import RoutingTable

_BATCH = 128  # rows in one call: what a live caller may have to wait for


class ShadowRequest(NamedTuple):
    """One served prediction that `scorer` is to score too."""

    id: str
    at: float
    features: dict[str, Any]
    scorer: Scorer


class ShadowScorer:
    """A bounded queue and one task that empties it. When the queue is full, new work is dropped and counted."""

    def __init__(self, settings: RouterConfig, experiment: str, recorder: Recorder, breaker: CircuitBreaker) -> None:
        self._experiment = experiment
        self._recorder = recorder
        self._breaker = breaker
        self._limit = settings.shadow_queue
        self._timeout = settings.deadline
        self._queue: deque[tuple[RoutingTable, ShadowRequest]] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, table: RoutingTable, requests: Sequence[ShadowRequest]) -> None:
        """Queue as many of `requests` as there is room for."""
        room = max(0, self._limit - len(self._queue))
        self._queue.extend((table, request) for request in requests[:room])
        if len(requests) > room:
            telemetry.SHADOWS.labels(self._experiment, "dropped").inc(len(requests) - room)
        if self._queue:
            self._idle.clear()
            self._work.set()

    async def run(self) -> None:
        while True:
            await self._work.wait()
            while self._queue:
                await self._score(*self._next_batch())
            self._work.clear()
            self._idle.set()

    async def drained(self) -> None:
        await self._idle.wait()

    def _next_batch(self) -> tuple[RoutingTable, list[ShadowRequest]]:
        """The requests of one table and one model at the head of the queue, in order."""
        head_table, head = self._queue[0]
        batch: list[ShadowRequest] = []
        while self._queue and len(batch) < _BATCH:
            table, request = self._queue[0]
            if table is not head_table or request.scorer != head.scorer:
                break
            batch.append(self._queue.popleft()[1])
        return head_table, batch

    async def _score(self, table: RoutingTable, batch: list[ShadowRequest]) -> None:
        scorer = batch[0].scorer
        model = {"champion": table.champion, "challenger": table.challenger, "previous": table.previous}[scorer]
        if model is None or model.closed or (scorer == CHALLENGER and self._breaker.is_open(table.rollout)):
            telemetry.SHADOWS.labels(self._experiment, "dropped").inc(len(batch))
            return
        self._recorder.shadows(await self._scores(table, model, scorer, batch))

    async def _scores(
        self, table: RoutingTable, model: ModelWorker, scorer: Scorer, batch: list[ShadowRequest]
    ) -> list[events.Shadow]:
        answers = await model.attempt([request.features for request in batch], self._timeout, shadow=True)
        if isinstance(answers, str) and answers != "timeout" and len(batch) > 1:
            # One row that a model can't take must not cost its neighbours their score; a model that hangs stays hung.
            return [s for request in batch for s in await self._scores(table, model, scorer, [request])]
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
                    arm=scorer,
                    model=model.version,
                    output=output,
                    rollout=table.rollout,
                    error=failure,
                )
            )
            telemetry.SHADOWS.labels(self._experiment, "failed" if failure else "scored").inc()
            if scorer == CHALLENGER and (index == 0 or failure != "timeout"):  # a call that timed out is one failure
                self._breaker.record(table.rollout, breaker_kind(failure))
        return shadows
