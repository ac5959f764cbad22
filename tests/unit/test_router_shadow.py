"""Shadow scoring: bounded over all models, the newest shed first, and a model that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from gauntlet import events
from gauntlet.config import BreakerConfig, RouterConfig
from gauntlet.registry.artifact import Feature, Predictor, Rows, Schema
from gauntlet.types import Task
from router.breaker import CircuitBreaker
from router.model_worker import ModelWorker
from router.routing_table import Scoring
from router.shadow import ShadowRequest, ShadowScorer

SCHEMA = Schema(task=Task.REGRESSION, features=(Feature(name="x"),), input="rows")


class Model:
    """Answers with `x` once its gate is open; raises for negative values."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[int] = []

    def predict(self, rows: Rows) -> Any:
        assert self.gate.wait(20)
        self.calls.append(len(rows))
        if any(row["x"] < 0 for row in rows):
            raise ValueError("negative")
        return np.array([row["x"] for row in rows], dtype=float)


class Recorded:
    """Keeps the shadow events in the order in which they come."""

    healthy = True

    def __init__(self) -> None:
        self.events: list[events.Shadow] = []
        self.records = 0

    def shadows(self, shadows: Sequence[events.Shadow]) -> None:
        self.events += shadows
        self.records += 1

    def ids(self, model: str) -> list[str]:
        return [event.id for event in self.events if event.model == model]


class Case:
    """A scorer over challengers `r1`, `r2`, … of models `m1`, `m2`, …"""

    def __init__(self, name: str, count: int, queue: int = 2000) -> None:
        self.name = name
        self.models = [Model() for _ in range(count)]
        self.recorded = Recorded()
        self.opened: list[str] = []
        settings = BreakerConfig(window=10, min_failures=3, failure_share=0.5)
        self.breaker = CircuitBreaker(settings, lambda rollout, _: self.opened.append(rollout))
        self.breaker.follow(f"r{n + 1}" for n in range(count))
        self.scorer = ShadowScorer(
            RouterConfig(shadow_queue=queue),
            name,
            self.recorded,  # type: ignore[arg-type]
            self.breaker,
        )
        self.scorings = [
            Scoring("challenger", ModelWorker(Predictor(model, SCHEMA, f"m{n}")), f"r{n}")
            for n, model in enumerate(self.models, 1)
        ]

    def offer(self, first: int, last: int, *scorings: Scoring) -> None:
        for i in range(first, last):
            self.scorer.offer(ShadowRequest(str(i), 0.0, {"x": i}), scorings or self.scorings)

    def counts(self) -> dict[str, float]:
        results = ("scored", "failed", "queue_full", "breaker_open", "model_gone")
        found = {
            result: REGISTRY.get_sample_value("gauntlet_shadow_total", {"experiment": self.name, "result": result})
            for result in results
        }
        return {result: value for result, value in found.items() if value}


@pytest.fixture
def close() -> Iterator[list[Case]]:
    cases: list[Case] = []
    yield cases
    for case in cases:
        for model, scoring in zip(case.models, case.scorings, strict=True):
            model.gate.set()
            scoring.model.close()


async def test_each_model_scores_each_row_once_and_in_batches(close: list[Case]) -> None:
    case = Case("shadow-batches", 6)
    close.append(case)
    case.offer(0, 300)
    await case.scorer.drained()
    for n, model in enumerate(case.models, 1):
        assert case.recorded.ids(f"m{n}") == [str(i) for i in range(300)]
        assert model.calls == [128, 128, 44]
    assert {(event.rollout, event.model) for event in case.recorded.events} == {(f"r{n}", f"m{n}") for n in range(1, 7)}
    assert case.counts() == {"scored": 1800}


async def test_scores_of_all_models_that_come_together_are_recorded_together(
    close: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.shadow.GATHER_SECONDS", 60.0)
    case = Case("shadow-together", 6)
    close.append(case)
    case.offer(0, 128)  # a whole batch doesn't wait for more rows
    await case.scorer.drained()
    assert len(case.recorded.events) == 6 * 128
    assert case.recorded.records == 1


async def test_scores_are_recorded_at_once_where_no_others_come(
    close: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.shadow.GATHER_SECONDS", 60.0)
    case = Case("shadow-alone", 1)
    close.append(case)
    case.offer(0, 128)  # a whole batch doesn't wait for more rows
    async with asyncio.timeout(30):
        while len(case.recorded.events) < 128:
            await asyncio.sleep(0.001)


async def test_what_is_scored_is_recorded_in_a_moment_while_others_wait(close: list[Case]) -> None:
    case = Case("shadow-moment", 2)
    close.append(case)
    case.models[0].gate.clear()
    case.offer(0, 10)
    while len(case.recorded.events) < 10:
        await asyncio.sleep(0.001)
    case.scorer.close()


async def test_a_full_queue_sheds_the_newest_rows_of_the_longest(close: list[Case]) -> None:
    case = Case("shadow-full", 3, queue=60)
    close.append(case)
    case.offer(0, 10, case.scorings[0])
    case.offer(10, 100)
    await case.scorer.drained()
    kept = [case.recorded.ids(f"m{n}") for n in (1, 2, 3)]
    assert [len(ids) for ids in kept] == [20, 20, 20]
    assert kept[0] == [str(i) for i in range(20)], "what came first is scored"
    assert kept[1] == kept[2] == [str(i) for i in range(10, 30)]
    assert case.counts() == {"scored": 60, "queue_full": 220}
    case.offer(100, 110)
    await case.scorer.drained()
    assert case.counts() == {"scored": 90, "queue_full": 220}, "there is room again"


async def test_a_model_that_hangs_holds_up_nobody_else(close: list[Case]) -> None:
    case = Case("shadow-hangs", 3)
    close.append(case)
    case.models[0].gate.clear()
    case.offer(0, 200)
    while len(case.recorded.events) < 400:
        await asyncio.sleep(0.001)
    assert not case.recorded.ids("m1")
    case.models[0].gate.set()
    await case.scorer.drained()
    assert len(case.recorded.ids("m1")) == 200


async def test_an_open_breaker_and_a_closed_model_cost_only_their_own_rows(close: list[Case]) -> None:
    case = Case("shadow-out", 3)
    close.append(case)
    case.scorer.offer(ShadowRequest("bad", 0.0, {"x": -1}), case.scorings)
    await case.scorer.drained()
    assert case.counts() == {"failed": 3}
    for _ in range(2):
        case.breaker.record("r1", "error")
    assert case.opened == ["r1"]
    case.scorings[1].model.close()
    case.offer(0, 20)
    await case.scorer.drained()
    assert case.counts() == {"failed": 3, "breaker_open": 20, "model_gone": 20, "scored": 20}


async def test_a_row_that_a_model_can_not_take_costs_its_neighbours_nothing(close: list[Case]) -> None:
    case = Case("shadow-row", 2)
    close.append(case)
    case.offer(0, 5)
    case.scorer.offer(ShadowRequest("bad", 0.0, {"x": -1}), case.scorings)
    case.offer(5, 10)
    await case.scorer.drained()
    failed = Counter((event.model, event.id) for event in case.recorded.events if event.error)
    assert failed == {("m1", "bad"): 1, ("m2", "bad"): 1}
    assert case.counts() == {"scored": 20, "failed": 2}


async def test_closing_gives_up_what_waits(close: list[Case]) -> None:
    case = Case("shadow-close", 2)
    close.append(case)
    case.models[0].gate.clear()
    case.offer(0, 10)
    case.scorer.close()
    await case.scorer.drained()
    assert case.recorded.events == []
