"""Validation of the log's records: what can be evidence, and the reason why a record can't be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.evaluator_events import Evaluator, Make, MemoryLog, batch, config, outcome, pipelines, prediction, shadow

from gauntlet import events, keys
from gauntlet.types import Task


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with pipelines(tmp_path) as fresh:
        yield fresh


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (outcome(1, 5.0, 2), "none of"),
        (outcome(1, 5.0, "1"), "none of"),
        (outcome(1, 5.0, 0.5), "none of"),
        (outcome(1, -1.0), "not a time"),
        (outcome(1, 1.7e12), "not a time"),
        (prediction(1, 1.7e12), "not a time"),
        (prediction(1, 5.0, output=None), "has an output"),
        (prediction(1, 5.0, output=[0.2, 0.3, 0.5]), "not a distribution"),
        (prediction(1, 5.0, output=[]), "not a distribution"),
        (prediction(1, 5.0, output=[1.0]), "not a distribution"),
        (prediction(1, 5.0, output=0.5), "not a distribution"),
        (prediction(1, 5.0, output=[-0.1, 1.1]), "not a distribution"),
        (prediction(1, 5.0, output=[1e300, 0.0]), "not a distribution"),
        (prediction(1, 5.0, output=[float("nan"), 1.0]), "not a distribution"),
        (prediction(1, 5.0, output=[1.0, float("nan")]), "not a distribution"),
        (prediction(1, 5.0, champion="v0099"), "v0099"),
        (prediction(1, 5.0, champion="../v0001"), "v0001"),
        (shadow(1, 5.0, model="v0099"), "v0099"),
        (shadow(1, 5.0, output=[0.5, 0.6]), "not a distribution"),
    ],
)
def test_what_can_not_be_counted_is_refused_with_the_reason(make: Make, event: Any, reason: str) -> None:
    error = make().validator.validation_error(event)
    assert error is not None
    assert reason in error


def test_shadow_scores_come_out_of_their_record_as_they_went_in(make: Make) -> None:
    scores = [
        shadow(1, 5.0, output=[0.1, 0.9]),
        shadow(2, 6.5, output=None, error="timeout"),
        shadow(1, 5.0, model="v0003", rollout="test-r0002"),
        shadow(3, 7.0, arm="champion", model="v0001", rollout=None),
    ]
    data = events.encode(events.Shadows.of(scores))
    found, reason = make().validator.decode(keys.PREDICTIONS, data)
    assert (sorted(found, key=scores.index), reason) == (scores, None)


async def test_one_score_that_can_not_be_used_costs_its_record_no_other(tmp_path: Path) -> None:
    """Three scores in a record, one of a model that has disappeared; and all of it delivered twice."""
    made, log = config(tmp_path), MemoryLog()
    log.add(prediction(1, 1000.0), prediction(2, 1001.0), outcome(1, 1010.0), outcome(2, 1010.0))
    scores = [shadow(1, 1000.0), shadow(1, 1000.0, model="v0042", rollout="gone"), shadow(2, 1001.0)]
    record = events.encode(events.Shadows.of(scores))
    for _ in range(2):
        log.raw(keys.PREDICTIONS, record, at=1000.0)
    evaluator = await Evaluator(made, tmp_path / "e.db", log).read_all()
    assert log.values(keys.DEAD_LETTERS) == [record] * 2
    counts = {name: n for name, n in evaluator.pipeline.counts.items() if n}
    assert counts == {"predictions": 2, "shadows": 2, "shadow_duplicate": 2, "outcomes": 2, "joined": 2}
    evaluator.close()


@pytest.mark.parametrize(
    "event",
    [
        outcome(1, 0.0, True),
        outcome(1, 5.0, 1.0),
        prediction(1, 5.0),
        prediction(1, 5.0, output=[1.0, 0.0]),
        prediction(1, 5.0, output=[1 / 3, 2 / 3]),
        shadow(1, 5.0, output=None, error="timeout"),
    ],
)
def test_what_can_be_counted_is_not(make: Make, event: Any) -> None:
    assert make().validator.validation_error(event) is None


@pytest.mark.parametrize(
    ("event", "fine"),
    [
        (outcome(1, 5.0, 1), True),
        (outcome(1, 5.0, -1e45), True),
        (outcome(1, 5.0, 10**400), False),
        (outcome(1, 5.0, 1e46), False),
        (outcome(1, 5.0, "1.0"), False),
        (outcome(1, 5.0, True), False),
        (prediction(1, 5.0, output=-1e45), True),
        (prediction(1, 5.0, output=1e46), False),
        (prediction(1, 5.0, output=[1.0]), False),
        (prediction(1, 5.0, output=float("inf")), False),
        (prediction(1, 5.0, output=float("nan")), False),
    ],
)
def test_a_regression_takes_numbers_that_can_be_squared(tmp_path: Path, event: Any, fine: bool) -> None:
    evaluator = Evaluator(config(tmp_path, task=Task.REGRESSION), tmp_path / "r.db", MemoryLog())
    assert (evaluator.pipeline.validator.validation_error(event) is None) is fine
    if fine:  # and the worst of what is let through is really counted
        evaluator.pipeline.step(batch([prediction(1, 1.0, output=1e45), prediction(2, 2.0, output=-1e45)]))
        evaluator.pipeline.step(batch([outcome(1, 5.0, -1e45), outcome(2, 5.0, 1e45), shadow(1, 1.0, output=-1e45)]))
        assert evaluator.pipeline.counts["joined"] == 2
    evaluator.close()
