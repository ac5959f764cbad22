"""Worse challengers that would win if only the primary metric were looked at: each must be stopped by its guard.
Invariant: withheld labels, rare failures and a harmed segment are shown to win first, with the guard switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import ROLLOUT, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow, treated

from gauntlet import events
from gauntlet.config import Config
from gauntlet.rollout import Control, Rollout, Stage
from retrainer.decisions import decide

EVERY = 0.25  # seconds between requests; a coarse block has 160
NO_DRIFT = "\ndrift: {enabled: false}\n"

Request = dict[str, Any]
"""What a test may look at and change: i, treated, y, right (of champion and challenger), label, failed, seconds,
segments."""


def evaluations(
    folder: Path,
    form: str,
    right: tuple[float, float],
    change: Callable[[Request, np.random.Generator], None],
    *,
    text: str = "",
    n: int = 4000,
    seed: int = 1,
    **evidence: Any,
) -> tuple[list[events.Evaluation], Config]:
    """All looks at `n` requests, split in halves, in which the arms are right with these probabilities."""
    settings = {"metric": "accuracy", "min_samples": 2500, "min_blocks": 20} | evidence
    made = config(folder, text + NO_DRIFT, form=form, **settings)
    rng = np.random.default_rng(seed)
    stream: list[Any] = []
    for i in range(n):
        request: Request = {
            "i": i,
            "treated": bool(rng.random() < 0.5),
            "y": int(rng.random() < 0.5),
            "right": [bool(rng.random() < p) for p in right],
            "label": True,
            "failed": False,
            "seconds": 0.01,
            "segments": {},
        }
        change(request, rng)
        stream += _events(request)
    stream.sort(key=lambda event: event.at)
    evaluator = Evaluator(made, folder / "e.db", MemoryLog())
    evaluator.pipeline.step(batch(stream))
    evaluator.pipeline.settle_joins()
    found = [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, events.Evaluation)]
    evaluator.close()
    assert len(found) > 40
    return found, made


def _events(request: Request) -> list[Any]:
    i, at = request["i"], 1000.0 + EVERY * request["i"]
    sure = [[0.2, 0.8] if request["y"] == right else [0.8, 0.2] for right in request["right"]]
    served = request["treated"] and not request["failed"]
    facts = {
        "unit": f"p{i:06d}",
        "output": sure[served],
        "seconds": request["seconds"],
        "segments": request["segments"],
        "served": "challenger" if served else "champion",
        "fallback": "error" if request["failed"] else None,
    }
    found: list[Any] = [(treated if request["treated"] else prediction)(i, at, **facts)]
    if not request["failed"]:
        arm, model = ("champion", "v0001") if served else ("challenger", "v0002")
        found.append(shadow(i, at, arm=arm, model=model, output=sure[not served]))
    if request["label"]:
        found.append(outcome(i, at + 30.0, request["y"]))
    return found


def decisions(found: list[events.Evaluation], made: Config) -> list[str]:
    """What is done at each look, were the rollout in its last stage with every gate open."""
    stage = Stage(share=0.5, min_seconds=0.0)
    rollout = Rollout(
        id=ROLLOUT, challenger="v0002", stages=(stage,), stage=0, started_at=0.0, stage_since=0.0, shadow=stage
    )
    control = Control(experiment="test", champion="v0001", rollouts=(rollout,), begun=1)
    commands = [decide(control, event, made, event.at) for event in found]
    return [command.name if command else "hold" for command in commands]


def withheld(request: Request, rng: np.random.Generator) -> None:
    """The label of a wrong answer that the challenger served mostly does not come."""
    request["label"] = not (request["treated"] and not request["right"][1] and rng.random() < 0.8)


@pytest.mark.parametrize(("form", "right"), [("split", (0.80, 0.77)), ("paired", (0.80, 0.79))])
def test_withheld_labels_do_not_promote_a_worse_challenger(
    tmp_path: Path, form: str, right: tuple[float, float]
) -> None:
    attacked, made = evaluations(tmp_path / "off", form, right, withheld, label_arrival_margin=1.0)
    assert "promote" in decisions(attacked, made), "the attack does not work, so nothing is proved"
    found, made = evaluations(tmp_path / "on", form, right, withheld)
    assert "promote" not in decisions(found, made)
    last = found[-1]
    assert (last.result, last.crossed) == ("invalid", None)
    assert last.reasons[0].startswith("label arrival mismatch: outcomes arrived for 100.00% of the champion's")
    arrival = last.guardrails[0]
    assert (arrival.name, arrival.standing, arrival.champion) == ("label_arrival", "breached", 1.0)
    assert arrival.challenger is not None
    assert arrival.upper is not None
    assert arrival.challenger < 0.9
    assert arrival.upper < -0.01


def test_a_difference_in_arrival_that_is_not_beyond_the_margin_yet_holds_a_win(tmp_path: Path) -> None:
    found, made = evaluations(
        tmp_path / "e", "split", (0.80, 0.77), withheld, label_arrival_margin=0.19
    )  # shown to differ, and neither by more nor by less than that
    assert "promote" not in decisions(found, made)
    assert any("better, but labels do not arrive alike" in event.reasons[0] for event in found)
    assert found[-1].result == "inconclusive"


@pytest.mark.parametrize("form", ["split", "paired"])
def test_labels_that_are_missing_alike_hold_nothing(tmp_path: Path, form: str) -> None:
    """A better challenger wins although a fifth of the labels never comes."""

    def missing(request: Request, rng: np.random.Generator) -> None:
        request["label"] = rng.random() < 0.8

    found, made = evaluations(tmp_path / "e", form, (0.75, 0.88), missing)
    assert "promote" in decisions(found, made)
    assert found[-1].guardrails[0].standing == "open"  # neither equal within a percent nor different is shown
    assert found[-1].guardrails[0].champion == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("form", "require_safe", "seed"), [("split", False, 2), ("paired", True, 2)])
def test_a_challenger_that_fails_three_calls_in_a_thousand_is_not_promoted(
    tmp_path: Path, form: str, require_safe: bool, seed: int
) -> None:
    """Far below the breaker's share, and better in everything else."""

    def failing(request: Request, rng: np.random.Generator) -> None:
        request["failed"] = request["treated"] and rng.random() < 0.003

    loose, made = evaluations(tmp_path / "off", form, (0.70, 0.88), failing, seed=seed)
    assert "promote" in decisions(loose, made)
    text = "\nguardrails: [{metric: fallback_rate, margin: 0.001}]"
    found, made = evaluations(
        tmp_path / "on", form, (0.70, 0.88), failing, text=text, seed=seed, require_safe=require_safe
    )
    assert "promote" not in decisions(found, made)
    waits = [reason for event in found for reason in event.reasons if reason.startswith("better, but ")]
    assert any("fallback_rate" in reason for reason in waits)


def test_a_challenger_that_fails_one_call_in_a_hundred_is_rolled_back(tmp_path: Path) -> None:
    def failing(request: Request, rng: np.random.Generator) -> None:
        request["failed"] = request["treated"] and rng.random() < 0.01

    text = "\nguardrails: [{metric: fallback_rate, margin: 0.001}]"
    found, made = evaluations(tmp_path / "e", "paired", (0.75, 0.75), failing, text=text)
    first = next(event for event in found if event.result == "worse")
    assert first.reasons[0].startswith("guardrail fallback_rate is worse by at least 0.00")
    assert "rollback" in decisions(found, made)
    assert "promote" not in decisions(found, made)


@pytest.mark.parametrize("form", ["split", "paired"])
def test_a_challenger_that_is_far_worse_for_a_few_is_held(tmp_path: Path, form: str) -> None:
    """Better for four in five, and much worse for the fifth: all in all it wins."""

    def unfair(request: Request, rng: np.random.Generator) -> None:
        few = request["i"] % 5 == 0
        request["segments"] = {"country": "DE" if few else "FR", "plan": str(rng.integers(2))}
        if few:
            request["right"][1] = request["right"][1] and rng.random() < 0.35

    loose, made = evaluations(tmp_path / "off", form, (0.70, 0.98), unfair)
    assert "promote" in decisions(loose, made)
    found, made = evaluations(tmp_path / "on", form, (0.70, 0.98), unfair, text="\nsegments: [country, plan]")
    assert "promote" not in decisions(found, made)
    last = found[-1]
    assert last.holds[0].startswith("holds: worse in segment country=DE: effect -0.")
    assert last.reasons[0] == last.holds[0]
    assert [(s.name, s.value) for s in last.segments if s.harmed] == [("country", "DE")]
    assert [(s.name, s.value) for s in last.segments] == [
        ("country", "DE"),
        ("country", "FR"),
        ("plan", "0"),
        ("plan", "1"),
    ]


def test_a_challenger_that_is_slower_in_one_of_ten_requests_is_out(tmp_path: Path) -> None:
    def slow(request: Request, rng: np.random.Generator) -> None:
        request["seconds"] = float(rng.lognormal(-4.0, 0.3))
        if request["treated"] and rng.random() < 0.1:
            request["seconds"] += 0.2

    text = "\nguardrails: [{metric: latency, margin: 0.02}]"
    found, made = evaluations(tmp_path / "e", "paired", (0.75, 0.78), slow, text=text)
    assert "rollback" in decisions(found, made)
    assert "promote" not in decisions(found, made)
    latency = next(event for event in found if event.result == "worse").guardrails[1]
    assert (latency.name, latency.standing) == ("latency p99", "breached")
    assert latency.champion is not None
    assert latency.champion < 0.03
    assert latency.challenger == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("form", ["split", "paired"])
def test_a_win_on_average_does_not_hide_a_class_that_is_lost(tmp_path: Path, form: str) -> None:
    def lost(request: Request, rng: np.random.Generator) -> None:
        request["y"] = int(rng.random() < 0.1)
        if request["y"]:
            request["right"][1] = rng.random() < 0.4

    text = "\nguardrails: [{metric: recall, label: 1, margin: 0.05}, {metric: brier, margin: 0.05}]"
    found, made = evaluations(tmp_path / "e", form, (0.75, 0.92), lost, text=text)
    assert "promote" not in decisions(found, made)
    assert {"better", "worse"} >= {event.result for event in found} - {"inconclusive"}
    last = {guard.name: guard for guard in found[-1].guardrails}
    assert last["recall of 1"].effect == pytest.approx(-0.35, abs=0.1)
    assert last["recall of 1"].challenger == pytest.approx(0.6, abs=0.08)  # its misses, as a loss
    assert last["brier"].standing == "safe"
    assert any(event.result == "worse" and "recall of 1" in event.reasons[0] for event in found)


def test_shadow_scores_that_fail_break_the_coverage_before_any_traffic_and_outcome(tmp_path: Path) -> None:
    made = config(tmp_path, "\nguardrails: [{metric: coverage, margin: 0.01}]" + NO_DRIFT, form="paired")
    rng = np.random.default_rng(3)
    stream: list[Any] = []
    for i in range(2500):
        at = 1000.0 + EVERY * i
        failed = rng.random() < 0.05
        stream += [
            prediction(i, at, propensity=0.0),
            shadow(i, at, output=None if failed else [0.4, 0.6], error="timeout" if failed else None),
        ]
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    evaluator.pipeline.step(batch(stream))
    found = [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, events.Evaluation)]
    evaluator.close()
    [first] = [event for event in found if event.result == "worse"]
    assert first.reasons[0].startswith("coverage: 136 of the challenger's 2500 requests got no valid answer, and 0 of")


def test_a_unit_that_meets_both_arms_makes_it_invalid_and_so_does_an_arm_without_traffic_hold_it(
    tmp_path: Path,
) -> None:
    made = config(tmp_path, NO_DRIFT, form="split", metric="accuracy")
    stream: list[Any] = []
    for i in range(2000):
        at = 1000.0 + EVERY * i
        arm = treated if i % 4 in (1, 2) else prediction  # every unit comes twice, once to each arm
        stream += [arm(i, at, unit=f"customer-{i // 2}"), outcome(i, at + 30.0, i % 3 == 0)]
    for i in range(2000, 2800):
        stream.append(prediction(i, 1000.0 + EVERY * i))
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    evaluator.pipeline.step(batch(sorted(stream, key=lambda event: event.at)))
    found = [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, events.Evaluation)]
    evaluator.close()
    early = next(event for event in found if event.result == "invalid")
    assert early.reasons[0].startswith("multiple exposure: ")
    assert found[-1].moved_units == 1000
    assert found[-1].holds == [
        "holds: no traffic: the challenger got none of 160 units where 80.0 were expected (p = 1.4e-48)"
    ]
