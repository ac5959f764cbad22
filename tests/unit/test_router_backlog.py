"""Where nobody reads the log, the status says so: who, since when, how many, and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import small_experiment

from gauntlet import adapters, keys
from gauntlet.config import Config
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader
from gauntlet.status import EvaluatorProgress, Problem, RetrainerProgress
from gauntlet.status_document import Reports
from router.backlog import Backlog

pytestmark = pytest.mark.asyncio

NOON = 1_796_040_000.0
READ = {"predictions/router": 3, "evaluations/evaluator": 1}


class Noon:
    """A clock that stands still."""

    def now(self) -> float:
        return NOON

    def observe(self, at: float) -> None:
        return


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small_experiment.load(small_experiment.write(tmp_path))


@pytest.fixture
async def reader(config: Config) -> AsyncIterator[LocalLogReader]:
    """Three predictions, of 65, 60 and 2 seconds ago, and an evaluation of 40 seconds ago."""
    router = adapters.local_writer(config, "router")
    await router.append([Record(keys.PREDICTIONS, str(age), NOON - age, b"{}") for age in (65, 60, 2)])
    await router.close()
    evaluator = adapters.local_writer(config, "evaluator")
    await evaluator.append([Record(keys.EVALUATIONS, "e", NOON - 40, b"{}")])
    await evaluator.close()
    reading = adapters.local_reader(config)
    yield reading
    await reading.close()


async def problems(
    config: Config, reader: LocalLogReader, evaluator: dict[str, Any] | None, retrainer: dict[str, Any] | None
) -> dict[str, Problem]:
    reports = Reports(
        evaluator=None if evaluator is None else EvaluatorProgress(**evaluator),
        retrainer=None if retrainer is None else RetrainerProgress(**retrainer),
    )
    return {one.code: one for one in await Backlog(config, reader, Noon()).problems(reports)}


async def test_services_that_have_read_all_are_no_problem(config: Config, reader: LocalLogReader) -> None:
    assert await problems(config, reader, {"at": NOON - 300, "offsets": READ}, {"offsets": READ}) == {}


async def test_a_service_that_leaves_events_unread_is_named_with_the_way_on(
    config: Config, reader: LocalLogReader
) -> None:
    stopped = {"at": NOON - 61, "offsets": {"predictions/router": 1}}
    (one,) = (await problems(config, reader, stopped, {"offsets": READ})).values()
    assert (one.code, one.severity, one.source) == ("evaluator_behind", "HIGH", "evaluator")
    assert one.text == "the evaluator has left 2 events unread: nothing is judged"
    assert "gauntlet evaluator CONFIG" in one.remedy
    assert "the disk of the state store is full" in one.remedy  # then it runs, and can't say so
    assert one.since == datetime(2026, 11, 30, 11, 59, tzinfo=UTC)
    (other,) = (await problems(config, reader, {"at": NOON, "offsets": READ}, {"offsets": {}})).values()
    assert other.text == "the retrainer has left 1 event unread: no verdict is acted on"


async def test_a_service_that_never_came_is_a_problem_once_there_is_work_for_it(
    config: Config, reader: LocalLogReader
) -> None:
    assert (await problems(config, reader, None, None)).keys() == {"evaluator_behind", "retrainer_behind"}


@pytest.mark.parametrize(
    "evaluator",
    [
        {"at": NOON - 300, "offsets": {"predictions/router": 2}},  # what is unread has just come
        {"at": NOON - 5, "offsets": {"predictions/router": 0}},  # it is at work, and catches up
    ],
)
async def test_work_of_a_moment_is_no_problem(
    config: Config, reader: LocalLogReader, evaluator: dict[str, Any]
) -> None:
    assert await problems(config, reader, evaluator, {"offsets": READ}) == {}


async def test_on_an_empty_log_there_is_nothing_to_read(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    reader = adapters.local_reader(config)
    assert await problems(config, reader, None, None) == {}
    await reader.close()


@pytest.mark.parametrize("other", [{"log": "kafka://b:9092"}, {"clock": "events"}])
async def test_a_replay_and_kafka_are_not_judged(config: Config, reader: LocalLogReader, other: dict[str, Any]) -> None:
    assert await problems(msgspec.structs.replace(config, **other), reader, None, None) == {}


async def test_a_log_that_is_gone_is_told_elsewhere(config: Config, reader: LocalLogReader) -> None:
    lost = {"at": NOON - 300, "offsets": {"predictions/router": 99}}
    assert await problems(config, reader, lost, {"offsets": READ}) == {}
