"""How far event time has come: stale predictions, and a clock that was ahead and is set right."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from builders.evaluator_events import HORIZON, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow

from evaluator.service.checkpoint import EvaluatorState
from evaluator.service.watermark import WENT_BACK, Watermark
from gauntlet.events import Evaluation

MONTH = 30 * 86_400.0


def admitted(watermark: Watermark, start: int, n: int, at: float, source: str = "predictions/a") -> int:
    """How many of n predictions from number `start` on, a second apart, are not stale."""
    found = batch([prediction(i, at + i - start) for i in range(start, start + n)], source)
    return len(watermark.admit(found)[0])


def test_a_prediction_is_stale_by_its_own_partitions_time() -> None:
    watermark = Watermark(100.0)
    assert admitted(watermark, 0, 1, 1000.0) == 1
    assert admitted(watermark, 1, 1, 899.0) == 0
    assert admitted(watermark, 2, 1, 900.0) == 1
    assert admitted(watermark, 3, 1, 500.0, "predictions/b") == 1
    assert watermark.time == 500.0


def test_a_clock_that_was_ahead_loses_a_hundred_requests_and_no_month() -> None:
    watermark = Watermark(100.0)
    admitted(watermark, 0, 50, 1000.0)
    admitted(watermark, 50, 20, 1000.0 + MONTH)
    assert admitted(watermark, 70, WENT_BACK + 30, 1100.0) == 31
    assert watermark.time == 1100.0 + WENT_BACK + 29
    assert watermark.gaps == {"predictions/a": (1019.0 + MONTH, watermark.time)}
    assert admitted(watermark, 300, 1, 1000.0 + MONTH) == 1
    assert admitted(watermark, 301, 1, 1020.0 + MONTH) == 1
    assert watermark.gaps == {}, "it is as late as it was"


def test_late_ones_between_others_are_no_clock() -> None:
    """Redelivered ones, however many, while the partition goes on."""
    watermark = Watermark(100.0)
    admitted(watermark, 0, 1, 10_000.0)
    for i in range(5 * WENT_BACK):
        assert admitted(watermark, i, 1, 1000.0) == 0
        if i % (WENT_BACK - 1) == 0:
            assert admitted(watermark, i, 1, 10_000.0 + i) == 1
    assert watermark.gaps == {}


def test_what_is_delivered_again_is_no_clock_however_much_it_is() -> None:
    """As from an old backup of a router's folder: it may have been counted, so it counts for nothing, also after a
    clock that was ahead."""
    watermark = Watermark(100.0)
    admitted(watermark, 0, 1000, 1000.0)
    assert admitted(watermark, 0, 5 * WENT_BACK, 1000.0) == 0
    assert watermark.time == 1999.0
    admitted(watermark, 1000, 20, 1000.0 + MONTH)
    assert admitted(watermark, 0, 1000, 1000.0) == 0
    assert watermark.gaps == {}
    assert admitted(watermark, 1020, WENT_BACK, 2000.0) == 1


def test_a_router_that_begins_with_a_clock_that_is_ahead_is_heard_once_it_is_set_right() -> None:
    watermark = Watermark(100.0)
    admitted(watermark, 0, 20, 1000.0 + MONTH)
    assert admitted(watermark, 20, WENT_BACK + 10, 1000.0) == 11


@pytest.mark.parametrize("again", [False, True])
def test_looks_and_watches_go_on_after_a_clock_that_was_a_month_ahead(tmp_path: Path, again: bool) -> None:
    """For 20 seconds of an hour; the challenger is inverted from the moment on at which the clock is set right. And
    the status says so."""
    made = config(tmp_path, "drift: {enabled: false}", form="paired")
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    pipeline, found = evaluator.pipeline, []
    for i in range(3600):
        ahead = MONTH if 1000 <= i < 1020 else 0.0
        at = 1000.0 + i + ahead
        output = [0.9, 0.1] if i >= 1020 else [0.25, 0.75]
        pipeline.step(batch([prediction(i, at), shadow(i, at, output=output), outcome(i, at + 1.0)]))
        found += [event for event in pipeline.evaluate({}) if isinstance(event, Evaluation)]
        if again and i % 50 == 0:
            saved = msgspec.json.encode(pipeline.state(0, {}))
            pipeline.adopt(msgspec.json.decode(saved, type=EvaluatorState))
    problems = [problem for problem in pipeline.problems if problem.code == "clock_went_back"]
    evaluator.close()
    assert pipeline.watermark == 1000.0 + 3599
    assert pipeline.counts["stale"] <= 2 * WENT_BACK
    assert found[-1].at >= 1000.0 + 3600 - 2 * HORIZON
    assert any(event.reasons[0].startswith("gross harm") for event in found)
    [problem] = problems
    assert "1970-01-31" in problem.text
    assert "NTP" in problem.remedy
