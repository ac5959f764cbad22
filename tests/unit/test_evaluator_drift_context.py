"""Drift that meets both arms is told from drift that meets one, and what meets both moves no verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import Evaluator, MemoryLog, batch, config, outcome, prediction, shadow, treated

from evaluator.service import drift_context
from evaluator.service.checkpoint import EvaluatorState
from evaluator.stats import Block
from evaluator.stats.score_process import Arm
from gauntlet import events
from gauntlet.types import CHALLENGER, CHAMPION

EVERY = 0.25


def drift(event: str, at: float, episode: str = "e1", **more: Any) -> events.Drift:
    known = {"severity": "HIGH", "root_cause": "covariate", "action": "retrain_full", "model": "v0001", **more}
    return events.Drift(
        id=f"{episode}-{event}", at=at, experiment="test", episode=episode, event=event, confidence=0.9, rows=1, **known
    )


def blocks(rng: np.random.Generator, n: int, loss: float, gap: float = 0.0) -> list[Block]:
    """Blocks of a hundred pairs: both arms' gains have noise of their own and share the world's."""
    found = []
    for _ in range(n):
        world = -loss + 0.05 * rng.normal()
        champion, challenger = (world + 0.01 * rng.normal() - cost for cost in (0.0, gap))
        found.append(Block(Arm(100, 100 * champion), Arm(100, 100 * challenger), 100 * (challenger - champion), 100.0))
    return found


def test_the_open_episode_is_the_last_one_that_was_not_closed_by_then() -> None:
    steps = [drift("open", 10.0), drift("escalate", 20.0), drift("close", 30.0), drift("open", 40.0, "e2")]
    assert drift_context.open_episode(steps, 5.0) is None
    assert drift_context.open_episode(steps, 15.0) == (steps[0], 10.0)
    assert drift_context.open_episode(steps, 25.0) == (steps[1], 10.0)
    assert drift_context.open_episode(steps, 35.0) is None
    assert drift_context.open_episode(steps, 99.0) == (steps[3], 40.0)


def test_drift_in_both_arms_alike_is_told_from_drift_in_one() -> None:
    alike = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before, both = blocks(rng, 8, 0.3), blocks(rng, 8, 0.6)
        found = drift_context.condition(drift("open", 1.0), 1.0, before, both)
        alike += bool(found.alike)
        one = drift_context.condition(drift("open", 1.0), 1.0, before, blocks(rng, 8, 0.6, gap=0.1))
        assert one.alike is False
        assert "did not meet both arms alike" in drift_context.sentence(one, "log_loss")
        assert -found.after[CHAMPION] == pytest.approx(0.6, abs=0.1)
        assert -found.before[CHALLENGER] == pytest.approx(0.3, abs=0.1)
    assert 190 <= alike <= 200  # one time in a hundred by chance
    assert "nothing shows that it met the arms differently" in drift_context.sentence(found, "log_loss")


def test_of_few_blocks_nothing_is_said() -> None:
    rng = np.random.default_rng(1)
    for before, after in ((2, 9), (9, 2), (0, 9), (9, 0)):
        sides = (blocks(rng, before, 0.3), blocks(rng, after, 0.6))
        found = drift_context.condition(drift("open", 1.0), 1.0, *sides)
        assert (found.p_value, found.alike) == (None, None)
        assert "too few blocks" in drift_context.sentence(found, "log_loss")
    same = [Block(Arm(10, -1.0), Arm(10, -1.0), 0.0, 10.0)] * 4
    assert drift_context.condition(drift("open", 1.0), 1.0, same, same).alike is True


def requests(n: int, drifts_at: int, *, challenger_too: bool) -> list[Any]:
    """A world that turns at a request: the inputs move, and the champion's errors rise; the challenger's as well, or
    (harm) three times as much."""
    rng = np.random.default_rng(5)
    found: list[Any] = []
    for i in range(n):
        at, late = 1000.0 + EVERY * i, i >= drifts_at
        wrong = rng.random(2) < ([0.45, 0.45 if challenger_too else 0.95] if late else [0.15, 0.15])
        y = int(rng.random() < 0.5)
        sure = [[0.2, 0.8] if y != bool(miss) else [0.8, 0.2] for miss in wrong]
        serves = rng.random() < 0.5
        facts = {"output": sure[serves], "features": {"x": float(rng.normal(4.0 if late else 0.0))}}
        found.append((treated if serves else prediction)(i, at, **facts))
        arm, model = ("champion", "v0001") if serves else ("challenger", "v0002")
        found += [shadow(i, at, arm=arm, model=model, output=sure[not serves]), outcome(i, at + 30.0, y)]
    return sorted(found, key=lambda event: event.at)


def looks(folder: Path, stream: list[Any], form: str) -> list[events.Evaluation]:
    made = config(folder, "\ndrift: {pane: 32, reference_rows: 400}\n", form=form, metric="accuracy", min_samples=3000)
    evaluator = Evaluator(made, folder / "e.db", MemoryLog())
    found: list[Any] = []
    for start in range(0, len(stream), 500):
        evaluator.pipeline.step(batch(stream[start : start + 500]))
        evaluator.pipeline.settle_joins()
        found += evaluator.pipeline.evaluate({})
        saved = msgspec.json.encode(evaluator.pipeline.state(1, {}))
        evaluator.pipeline.adopt(msgspec.json.decode(saved, type=EvaluatorState))  # what was said survives a restart
    evaluator.close()
    assert any(isinstance(event, events.Drift) and event.severity in ("HIGH", "CRITICAL") for event in found)
    return [event for event in found if isinstance(event, events.Evaluation)]


@pytest.mark.parametrize("form", ["paired", "split"])
def test_a_world_that_turns_for_both_arms_rolls_nobody_back_and_the_verdict_knows(tmp_path: Path, form: str) -> None:
    both = looks(tmp_path / "both", requests(4000, 1800, challenger_too=True), form)
    assert {look.result for look in both} <= {"inconclusive", "invalid", "equivalent"}
    assert all(look.crossed is None for look in both)
    assert both[0].drift is None
    last = both[-1].drift
    assert last is not None
    assert last.alike is True
    assert last.after[CHAMPION] < last.before[CHAMPION] - 0.2
    assert any("nothing shows that it met the arms differently" in reason for reason in both[-1].reasons)
    one = looks(tmp_path / "one", requests(4000, 1800, challenger_too=False), form)
    if form == "paired":  # the arms' own traffic, half each, needs longer
        assert one[-1].crossed == "worse"
    assert one[-1].drift is not None
    assert one[-1].drift.alike is False
