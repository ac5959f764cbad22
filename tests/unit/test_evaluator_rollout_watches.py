"""Watches in the pipeline: an alarm is one evaluation at once, long before any block has matured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import BLOCK, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow, treated

from evaluator.service.checkpoint import EvaluatorState
from evaluator.service.design import evaluation_design
from evaluator.service.rollout_watches import GrossHarmMonitor, RateMonitor
from gauntlet.decision_table import DECISION_TABLE
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
    assert set(other.to_dict()["rollouts"]) == {"r2"}


def test_a_rollout_that_begins_in_a_calm_night_is_measured_by_the_usual_loss() -> None:
    """Five times the loss of a night in which hardly anything is lost is not gross beside the loss of a day."""
    rng = np.random.default_rng(4)
    night = rng.exponential(0.02, 400)
    without, monitor = GrossHarmMonitor(0.2, 0.005), GrossHarmMonitor(0.2, 0.005)
    monitor.served(losses(rng, 3000))
    restored = GrossHarmMonitor(0.2, 0.005)
    restored.restore(monitor.to_dict())
    for watch in (without, restored):
        watch.pairs("r1", night, 5.0 * night)
    assert without.take("r1") is not None
    assert restored.take("r1") is None
    day = losses(rng, 300)
    restored.pairs("r1", day, 2.0 * day)
    assert restored.take("r1") is not None


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


RAILS = """
guardrails:
  - {metric: error_rate, margin: 0.01}
  - {metric: coverage, margin: 0.01}
  - {metric: latency, margin: 0.02, quantile: 0.9}
drift: {enabled: false}
"""
SHARE = 0.1


def requests(n: int, broken: str, *, begins: int = 500, seed: int = 1) -> list[Any]:
    """A tenth by the challenger, scores in shadow, labels after two seconds; from request `begins` on the challenger is
    broken in one way."""
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    for i in range(n):
        at, now, arm = 1000.0 + 0.05 * i, i >= begins, rng.random() < SHARE
        facts: dict[str, Any] = {"propensity": SHARE, "seconds": float(rng.lognormal(-4.0, 0.3))}
        if arm and now and broken == "latency":
            facts["seconds"] *= 2.0
        if arm and now and broken == "error_rate" and rng.random() < 0.1:
            facts |= {"served": "champion", "fallback": "error"}
        found.append((treated if arm else prediction)(i, at, **facts))
        failed = now and broken == "coverage" and rng.random() < 0.5
        other = {"arm": "champion", "model": "v0001"} if arm else {"output": None if failed else [0.5, 0.5]}
        if "fallback" not in facts:
            found.append(shadow(i, at, **other))
        if not (arm and now and broken == "label_arrival"):
            found.append(outcome(i, at + 2.0, int(rng.random() < 0.5)))
    return sorted(found, key=lambda event: event.at)


def alarms(folder: Path, stream: list[Any], *, form: str = "paired", again: bool = False) -> list[Evaluation]:
    """The evaluations of a stream that is read in pieces of a second; `again`: by an evaluator that is restarted."""
    made = config(folder, RAILS, form=form)
    evaluator = Evaluator(made, folder / "e.db", MemoryLog())
    found: list[Any] = []
    second: list[Any] = []
    for event in stream:
        if second and event.at >= second[0].at + 1.0:
            evaluator.pipeline.step(batch(second))
            found += evaluator.pipeline.evaluate({})
            second = []
            if again:
                saved = msgspec.json.encode(evaluator.pipeline.state(0, {}))
                evaluator.pipeline.adopt(msgspec.json.decode(saved, type=EvaluatorState))
        second.append(event)
    evaluator.close()
    return [event for event in found if isinstance(event, Evaluation)]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("broken", ["latency", "coverage", "error_rate", "label_arrival"])
def test_a_challenger_that_breaks_is_out_within_some_hundred_requests(tmp_path: Path, broken: str, again: bool) -> None:
    """Twice as slow, half of the answers invalid, one error in ten, no labels: 20 requests a second, 2 of them the
    challenger's, and labels after two seconds."""
    [found] = alarms(tmp_path, requests(6000, broken), again=again)[:1]
    assert found.subject.startswith(broken)
    assert (found.result, found.cause) == ("worse", VerdictCause.GUARDRAIL)
    assert DECISION_TABLE[found.cause].command == "rollback"
    seconds = found.at - (1000.0 + 0.05 * 500)
    assert 0 < seconds <= {"latency": 60, "coverage": 5, "error_rate": 120, "label_arrival": 40}[broken]
    [guard] = found.guardrails
    assert (guard.name, guard.standing) == (found.subject, "breached")
    assert found.reasons == [guard.reason]
    assert "of the challenger's" in guard.reason


def test_equal_arms_raise_no_alarm_and_neither_do_labels_that_come_later(tmp_path: Path) -> None:
    """Also where the challenger's labels take half as long again."""
    for seed in range(3):
        stream = requests(3000, "nothing", seed=seed)
        stream += [outcome(9000 + i, 900.0) for i in range(3)]
        assert all("/" in e.id and e.cause is not VerdictCause.GUARDRAIL for e in alarms(tmp_path / str(seed), stream))


def test_rates_go_on_from_their_snapshot_and_forget_what_is_over(tmp_path: Path) -> None:
    made = config(tmp_path, RAILS, form="paired")
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    evaluator.pipeline.step(batch(requests(300, "latency", begins=100)))
    saved = evaluator.pipeline.state(0, {})
    evaluator.close()
    design = evaluation_design(made)
    monitor = RateMonitor(design.plan, design.horizon)
    monitor.restore(saved.rates)
    assert monitor.to_dict() == saved.rates
    monitor.forget([])
    assert monitor.to_dict()["rollouts"] == {}
    assert monitor.take("test-r0001") is None
