"""Validation of the log's records: what can be evidence, and the reason why a record can't be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.evaluator_events import Evaluator, Make, MemoryLog, batch, config, outcome, pipelines, prediction, shadow

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
        (outcome(1, -1.0), "no time"),
        (outcome(1, 1.7e12), "no time"),
        (prediction(1, 1.7e12), "no time"),
        (prediction(1, 5.0, output=None), "has an output"),
        (prediction(1, 5.0, output=[0.2, 0.3, 0.5]), "no distribution"),
        (prediction(1, 5.0, output=[]), "no distribution"),
        (prediction(1, 5.0, output=[1.0]), "no distribution"),
        (prediction(1, 5.0, output=0.5), "no distribution"),
        (prediction(1, 5.0, output=[-0.1, 1.1]), "no distribution"),
        (prediction(1, 5.0, output=[1e300, 0.0]), "no distribution"),
        (prediction(1, 5.0, output=[float("nan"), 1.0]), "no distribution"),
        (prediction(1, 5.0, output=[1.0, float("nan")]), "no distribution"),
        (prediction(1, 5.0, champion="v0099"), "v0099"),
        (prediction(1, 5.0, champion="../v0001"), "v0001"),
        (shadow(1, 5.0, model="v0099"), "v0099"),
        (shadow(1, 5.0, output=[0.5, 0.6]), "no distribution"),
    ],
)
def test_what_can_not_be_counted_is_refused_with_the_reason(make: Make, event: Any, reason: str) -> None:
    error = make().validator.validation_error(event)
    assert error is not None
    assert reason in error


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
