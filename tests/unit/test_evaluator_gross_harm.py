"""The gross-harm monitor in the pipeline: an alarm is one evaluation at once, long before any block has matured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.evaluator_events import BLOCK, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow

from evaluator.service.gross_harm import GrossHarmMonitor
from gauntlet.events import Evaluation
from gauntlet.types import VerdictCause


def losses(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(0.5, n)


def test_split_traffic_is_compared_loss_by_loss() -> None:
    """A hundred times as many of the champion's: the alarm comes within 400 of the challenger's own outcomes."""
    rng, monitor, taken = np.random.default_rng(1), GrossHarmMonitor(0.2, 0.005), 0
    while monitor.take("r1") is None:
        monitor.arms("r1", losses(rng, 100), 2.0 * losses(rng, 1))
        taken += 1
        assert taken < 400
    assert monitor.take("r1") is None, "an alarm is taken once"


def test_equal_arms_are_left_alone() -> None:
    rng, monitor = np.random.default_rng(2), GrossHarmMonitor(0.2, 0.005)
    for _ in range(300):
        monitor.arms("r1", losses(rng, 90), losses(rng, 10))
    assert monitor.take("r1") is None


def test_it_goes_on_from_its_snapshot_and_forgets_what_is_over() -> None:
    rng, monitor = np.random.default_rng(3), GrossHarmMonitor(0.2, 0.005)
    monitor.pairs("r1", losses(rng, 100), 3.0 * losses(rng, 100))
    monitor.arms("r2", losses(rng, 9), losses(rng, 1))
    other = GrossHarmMonitor(0.2, 0.005)
    other.restore(monitor.to_dict())
    assert other.to_dict() == monitor.to_dict()
    assert other.take("r1") is not None
    other.forget(["r2"])
    assert set(other.to_dict()) == {"r2"}


@pytest.mark.parametrize("form", ["paired", "split"])
def test_an_inverted_challenger_is_worse_at_once(tmp_path: Path, form: str) -> None:
    """300 requests within one block: the champion is nearly right, the challenger nearly wrong."""
    evaluator = Evaluator(config(tmp_path, form=form), tmp_path / "e.db", MemoryLog())
    events: list[object] = []
    for i in range(600):
        treated = form == "split" and i % 2
        right, wrong = [0.1, 0.9], [0.9, 0.1]
        arm = "challenger" if treated else "champion"
        events.append(
            prediction(i, 1.0 + i * BLOCK / 1000, assigned=arm, served=arm, output=wrong if treated else right)
        )
        if form == "paired":
            events.append(shadow(i, 1.0 + i * BLOCK / 1000, output=wrong))
        events.append(outcome(i, 2.0 + i * BLOCK / 1000, 1))
    evaluator.pipeline.step(batch(events))
    [found] = [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, Evaluation)]
    assert (found.result, found.cause, found.crossed) == ("worse", VerdictCause.GROSS_HARM, "worse")
    assert found.pairs <= 300
    assert found.effect is not None
    assert found.effect < -1.0
    assert found.reasons[0].startswith("gross harm: over ")
    assert evaluator.pipeline.evaluate({}) == []
