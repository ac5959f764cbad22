"""Looks: what they are taken at, that they do not depend on the reading, and the trap of the ramp with drift."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    GUARDED,
    HORIZON,
    ROLLOUT,
    Evaluator,
    MemoryLog,
    batch,
    config,
    evaluations,
    outcome,
    prediction,
    shadow,
    traffic,
)

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import RolloutSums
from evaluator.service.design import evaluation_design
from evaluator.service.evaluation import evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.join_records import Contest, Exposure, Match, Truth
from gauntlet import events
from gauntlet.types import Task
from router import assignment


@pytest.mark.parametrize("form", ["split", "paired"])
def test_reading_one_by_one_or_all_at_once_gives_the_same_evaluations(tmp_path: Path, form: str) -> None:
    """Byte for byte, with their ids and their sample-ratio p value; a restart in between changes nothing either."""
    made = config(tmp_path, GUARDED, form=form, min_samples=300, min_blocks=5)
    stream = traffic(700)
    whole = evaluations(tmp_path / "whole", made, [stream])
    single = evaluations(tmp_path / "single", made, [[event] for event in stream])
    assert len(whole) > 25
    assert [e.id for e in whole] == [f"{ROLLOUT}/{i}" for i in range(50, 50 + len(whole))]
    assert [msgspec.json.encode(e) for e in single] == [msgspec.json.encode(e) for e in whole]
    assert {e.form for e in whole} == {form}
    assert sum(e.effect is not None for e in whole) > 10
    assert len({e.srm_p_value for e in whole}) > 10
    assert [guard.name for guard in whole[-1].guardrails] == [
        "label_arrival",
        "brier",
        "recall of 1",
        "fallback_rate",
        "error_rate",
        "coverage",
        "latency p70",
    ]
    figures = {guard.name: guard.effect for guard in whole[-1].guardrails}
    assert {"brier", "latency p70"} <= {name for name, effect in figures.items() if effect is not None}
    assert [(s.name, s.value) for s in whole[-1].segments] == [
        ("country", "DE"),
        ("country", "FR"),
        ("country", "IT"),
        ("plan", "(none)"),
    ]
    assert sum(s.effect is not None for s in whole[-1].segments) >= 2


def test_a_block_is_looked_at_when_it_has_matured_and_only_then(tmp_path: Path) -> None:
    made = config(tmp_path)
    rules = evaluation_design(made)
    ready = BLOCK + HORIZON
    assert [rules.first_open(at) for at in (ready - 0.01, ready, ready + BLOCK)] == [0, 1, 2]
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    start = 50 * BLOCK
    evaluator.pipeline.step(batch([prediction(1, start), outcome(1, start + 1.0), prediction(2, start + ready - 0.01)]))
    assert evaluator.pipeline.evaluate({}) == []
    evaluator.pipeline.step(batch([prediction(3, start + ready)]))
    (found,) = [e for e in evaluator.pipeline.evaluate({"a": 7}) if isinstance(e, events.Evaluation)]
    assert (found.at, found.offsets, found.arms["champion"].outcomes) == (start + ready, {"a": 7}, 1)
    assert evaluator.pipeline.evaluate({}) == []  # once
    evaluator.close()


def test_without_an_answer_there_is_no_number_and_a_reason(tmp_path: Path) -> None:
    found = evaluations(tmp_path / "e", config(tmp_path), [traffic(400)])
    first = found[0]
    assert first.result == "inconclusive"
    assert (first.effect, first.lower, first.upper, first.z, first.p_value) == (None,) * 5
    assert "no answer yet" in first.reasons[0]
    assert any("of at least 5 blocks are closed" in e.reasons[0] for e in found)
    assert first.arms["champion"].exposures == sum(i % 3 != 0 for i in range(20))
    assert first.arms["challenger"].model == "v0002"


def test_a_sample_ratio_mismatch_makes_it_invalid_and_stays(tmp_path: Path) -> None:
    """The log says a half; a third comes, and later it is right again: what was wrong stays in the sums."""
    stream = traffic(900)
    found = evaluations(tmp_path / "e", config(tmp_path), [stream])
    p_values = [e.srm_p_value for e in found if e.srm_p_value is not None]
    assert p_values == sorted(p_values, reverse=True)
    assert found[-1].result == "invalid"
    assert found[0].result != "invalid"
    first = next(e for e in found if e.result == "invalid")
    units = re.search(r"sample ratio mismatch: the challenger got \d+ of (\d+) units", first.reasons[0])
    assert units is not None
    assert int(units[1]) == first.at - 1000.0  # all that were assigned by the look's own time, and no other


def test_the_paired_form_counts_pairs_and_ignores_who_served(tmp_path: Path) -> None:
    stream: list[Any] = []
    chances = np.random.default_rng(11).uniform(0.6, 0.8, 1500).tolist()
    for i, better in enumerate(chances):
        at = 1000.0 + i
        stream += [
            prediction(i, at, propensity=0.0, output=[0.5, 0.5]),
            shadow(i, at, output=[1 - better, better]),
            outcome(i, at + 5.0, 1),
        ]
    stream.sort(key=lambda event: event.at)
    found = evaluations(tmp_path / "e", config(tmp_path, form="paired", min_samples=1000, min_blocks=5), [stream])
    last = found[-1]
    assert last.pairs == last.arms["challenger"].outcomes == 20 * len(found)
    assert last.effect == pytest.approx(np.mean(np.log(np.array(chances[: last.pairs]) / 0.5)), abs=0.01)
    for event in found[12:]:  # the win side's blocks are two of the harm side's: only those that are whole
        assert event.blocks == (int(event.id.rpartition("/")[2]) - 49) // 2
    assert last.result == "better"
    assert last.srm_p_value is None  # nobody was assigned by chance


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_ramp_while_the_baseline_drifts_shows_no_effect(tmp_path: Path, seed: int) -> None:
    """Simpson's trap: 1 → 5 → 10 % while the truth drifts from 0.50 to 0.60. Pooled, the challenger seems to win."""
    made = config(tmp_path, metric="accuracy", min_samples=3000, min_blocks=10)
    rules = evaluation_design(made)
    rng = np.random.default_rng(seed)
    days, per_day = 30, 2000
    salt = assignment.salt("test", f"{ROLLOUT}-{seed}")
    exposures: list[Exposure] = []
    matches: list[Match] = []
    for i in range(days * per_day):
        day = i // per_day
        share = (0.01, 0.05, 0.10)[day * 3 // days]
        ours = assignment.bucket(salt, f"u{i}") in assignment.buckets(0, 1, share)
        arm = "challenger" if ours else "champion"
        at = 2 * BLOCK * (day + (i % per_day) / per_day)
        contest = Contest(ROLLOUT, "v0002", share, "prove")
        of = ROLLOUT if arm == "challenger" else None
        e = Exposure(at, arm, arm, 2, "v0001", of, [contest], [0.3, 0.7], None, False)
        exposures.append(e)
        matches.append(Match(e, Truth(at + 1.0, int(rng.random() < 0.50 + 0.10 * i / (days * per_day))), None))
    fold = Accumulators(Task.CLASSIFICATION, "accuracy", BLOCK, 0.0, {0: 0, 1: 1})
    fold.exposures(exposures)
    fold.matches(matches)
    sums = fold.rollouts[ROLLOUT]
    looks = EvaluationState.start(rules.plan)
    for last in range(2 * days):
        found = evaluate(rules, ROLLOUT, sums, looks, last, {}, Task.CLASSIFICATION)
        assert found.crossed is None, found.reasons
        assert found.result in ("inconclusive", "equivalent")
    pooled = found.arms["challenger"].metrics["accuracy"] - found.arms["champion"].metrics["accuracy"]
    assert pooled > 0.01  # the trap is there,
    assert found.effect is not None
    n = found.arms["challenger"].outcomes
    assert abs(found.effect) < 2.5 * 0.5 / n**0.5  # and the score doesn't step into it:
    assert found.effect < pooled - 0.01
    assert found.lower is not None
    assert found.lower < 0 < (found.upper or 1.0)


def test_looks_survive_json(tmp_path: Path) -> None:
    rules = evaluation_design(config(tmp_path))
    looks = EvaluationState.start(rules.plan)
    looks.next_block, looks.sample_ratio_p = 7, 0.25
    again = EvaluationState.from_dict(msgspec.json.decode(msgspec.json.encode(looks.to_dict())))
    assert again.to_dict() == looks.to_dict()


def test_a_changed_configuration_starts_with_the_next_rollout(tmp_path: Path) -> None:
    before, after = (evaluation_design(config(tmp_path, min_samples=n)) for n in (1000, 4000))
    looks = EvaluationState.from_dict(EvaluationState.start(before.plan).to_dict())
    sums = RolloutSums("v0001", "v0002")
    rng = np.random.default_rng(5)
    for index in range(30):
        treated = rng.random(200) < 0.5
        sums.block(index).split.add(treated, np.full(200, 0.5), rng.normal(size=200))
    found = evaluate(after, ROLLOUT, sums, looks, 29, {}, Task.CLASSIFICATION)
    again = evaluate(before, ROLLOUT, sums, EvaluationState.start(before.plan), 29, {}, Task.CLASSIFICATION)
    assert found.information_fraction == again.information_fraction > 0
    anew = evaluate(after, ROLLOUT, sums, EvaluationState.start(after.plan), 29, {}, Task.CLASSIFICATION)
    assert found.information_fraction != anew.information_fraction
