"""Harm by pairs whose label came early: which hours speak, what missing labels are taken for, and who waits."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import BLOCK, ROLLOUT, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import BlockSums, LossSums, RolloutSums
from evaluator.service.design import EvaluationDesign, evaluation_design
from evaluator.service.evaluation import evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.join import JoinTable
from evaluator.service.primary_metric import young_blocks
from evaluator.stats import PairedSums
from gauntlet.config import load as configs
from gauntlet.config.section import BlockLength, Seconds
from gauntlet.events import Evaluation
from gauntlet.types import Rule, Task

A_DAY = 2_000
LAST = 23
"""The last block of the first day, looked at when it has matured a day later."""


def design(more: str = "") -> EvaluationDesign:
    text = 'experiment: test\ntask: classification\nchampion: {model: "nowhere:model"}\n'
    return evaluation_design(configs.parse(text + more))


def hour(block: BlockSums, differences: np.ndarray, early: np.ndarray | slice = slice(None)) -> None:
    """Pairs of an hour by how much better the challenger is; `early` are those with their label already."""
    champion = np.full(len(differences), -1.0)
    block.paired.add(champion, champion + differences)
    block.early.add(champion[early], (champion + differences)[early])
    block.shadows.both += len(differences)


def two_days(effect: float, seed: int = 1, early: slice = slice(None)) -> RolloutSums:
    """What is known at the end of the second day: its last three hours are too young."""
    sums, rng = RolloutSums("v0001", "v0002"), np.random.default_rng(seed)
    for index in range(45):
        hour(sums.block(index), rng.normal(effect, 1.0, A_DAY // 24), early)
    return sums


def look(sums: RolloutSums, made: EvaluationDesign, rule: Rule = Rule.PROVE) -> Evaluation:
    state = EvaluationState.start(msgspec.structs.replace(made.plan, rule=rule))
    assert state.planned(made, sums, LAST)
    return evaluate(made, ROLLOUT, sums, state, LAST, {}, Task.CLASSIFICATION)


def test_harm_counts_the_second_day_as_soon_as_its_labels_have_come() -> None:
    """One day can't show that days differ; with most of the next z is -4.9 on average."""
    none = slice(0, 0)
    waits, found = (look(two_days(-0.08, early=early), design()) for early in (none, slice(None)))
    assert waits.result == "inconclusive"
    assert "1 more whole block of the longest scale has to close" in str(waits.reasons)
    assert (found.result, found.cause, found.blocks) == ("worse", "harm", 45)
    assert found.pairs == waits.pairs


def test_an_hour_with_some_labels_missing_waits_for_its_horizon() -> None:
    sums = RolloutSums("v0001", "v0002")
    for index, missing in enumerate([0, 2, 3, 50, 100], start=LAST + 1):
        hour(sums.block(index), np.random.default_rng(index).normal(size=100), slice(missing, None))
    sums.block(40).shadows.both += 100
    assert list(young_blocks(design(), sums, LAST)) == [LAST + 1, LAST + 2]


def test_a_missing_label_is_taken_to_speak_for_the_challenger() -> None:
    sums = RolloutSums("v0001", "v0002")
    hour(sums.block(LAST + 1), np.resize([1.0, -1.0], 100), slice(2, None))
    _, part = young_blocks(design(), sums, LAST)[LAST + 1]  # type: ignore[misc]
    assert isinstance(part, PairedSums)
    assert part.n == 98
    assert part.score() == pytest.approx(2 * 2.0)


def test_late_labels_that_hold_all_of_a_challengers_gain_make_no_harm() -> None:
    """Models that are equal but for the order of their labels: the last 2 % are better by two standard deviations."""
    sums, rng = RolloutSums("v0001", "v0002"), np.random.default_rng(3)
    for index in range(LAST + 1, 45):
        late = np.arange(4_000) < 80
        hour(sums.block(index), rng.normal(np.where(late, 1.96, -0.04), 1.0), ~late)
    seen = sum(block.early.score() for block in sums.blocks.values())
    found = sum(pairs.score() for _, pairs in young_blocks(design(), sums, LAST).values())  # type: ignore[misc]
    error = (21 * 3_920) ** 0.5
    assert seen < -10 * error
    assert abs(found) < 3 * error


def test_an_hour_that_has_been_used_stays_in_use() -> None:
    """The challenger's scores of it may come late: a look must not know less than the one before."""
    sums, made = two_days(0.0), design()
    state = EvaluationState.start(made.plan)
    assert state.planned(made, sums, LAST)
    evaluate(made, ROLLOUT, sums, state, LAST, {}, Task.CLASSIFICATION)
    assert state.young == list(range(24, 45))
    for index in range(25, 45):
        sums.block(index).shadows.both += 10
    again = EvaluationState.from_dict(state.to_dict())
    found = evaluate(made, ROLLOUT, sums, again, LAST + 1, {}, Task.CLASSIFICATION)
    assert (found.blocks, again.young) == (45, list(range(25, 45)))


@pytest.mark.parametrize(
    "more",
    [
        "evidence: {form: split}",
        "evidence: {block: 1d}",
        "outcomes: {correction: last}",
        "evidence: {outcome_horizon: 1h}",
    ],
)
def test_split_traffic_explicit_blocks_and_corrections_wait_for_the_horizon(more: str) -> None:
    assert design(more).early_blocks == 0
    assert design().early_blocks == 21


def test_a_successor_in_shadow_waits_with_all_of_it() -> None:
    """Under `refresh` nobody is harmed meanwhile, so harm waits for whole days, and for mature ones."""
    effects = [look(two_days(-0.3, early=early), design(), Rule.REFRESH) for early in (slice(0, 0), slice(None))]
    assert effects[0] == effects[1]
    assert effects[0].result == "inconclusive"


@pytest.mark.parametrize(("differ", "result"), [(False, "worse"), (True, "inconclusive")])
def test_days_of_the_champion_that_differ_make_harm_wait(differ: bool, result: str) -> None:
    """By two days' hours the challenger is worse by .08 standard deviations; the champion's own days differed by .2."""
    sums, made, rng = two_days(-0.08), design(), np.random.default_rng(5)
    for block in sums.blocks.values():  # losses of spread 1
        block.paired.yy_champion = 2 * block.paired.yy_champion
    models: dict[str, dict[int, LossSums]] = {"v0001": {}, "v0000": {LAST - 1: LossSums(9, {"log_loss": 2**40})}}
    for day in range(-9, 1):
        level = 5.0 + 0.2 * rng.normal() * differ
        for index in range(day * 24, (day + 1) * 24):
            served = models["v0001"].setdefault(index, LossSums())
            served.add({"log_loss": rng.normal(level, 1.0, A_DAY // 24)}, slice(None))
    state = EvaluationState.start(made.plan)
    assert state.planned(made, sums, LAST, models)
    assert (state.plan.intraclass > 0.01) == differ
    kept = EvaluationState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert kept.plan.primary.intraclass == state.plan.intraclass
    found = evaluate(made, ROLLOUT, sums, kept, LAST, {}, Task.CLASSIFICATION)
    assert found.result == result
    assert any("from day to day" in reason for reason in found.reasons) == differ


def labelled_pairs(n: int, delay: float) -> list[Any]:
    found: list[Any] = []
    for i in range(n):
        at = 1000.0 + i
        found += [prediction(i, at, propensity=0.0), shadow(i, at), outcome(i, at + delay, (i * i // 3) % 2)]
    return sorted(found, key=lambda event: event.at)


def test_a_pair_is_early_by_the_age_of_its_request_when_the_label_came() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    joined = JoinTable(db, 100.0).apply([*labelled_pairs(30, 12.5), *labelled_pairs(40, 12.6)])
    db.close()
    fold = Accumulators(Task.CLASSIFICATION, "log_loss", BLOCK, 0.0, {0: 0, 1: 1}, early=12.5)
    fold.add(joined)
    blocks = fold.rollouts[ROLLOUT].blocks.values()
    assert (sum(b.early.n for b in blocks), sum(b.paired.n for b in blocks)) == (30, 40)
    for block in blocks:
        assert BlockSums.from_dict(block.to_dict()).early == block.early


def test_early_labels_count_however_the_log_was_read(tmp_path: Path) -> None:
    made = config(tmp_path, form="paired", block=BlockLength(0), harm_block=None, cycle=Seconds(24 * BLOCK))
    stream, found = labelled_pairs(900, 5.0), {}
    for name, pieces in (("whole", [stream]), ("single", [[event] for event in stream])):
        evaluator, looks = Evaluator(made, tmp_path / f"{name}.db", MemoryLog()), []
        for piece in pieces:
            evaluator.pipeline.step(batch(piece))
            evaluator.pipeline.settle_joins()
            looks += [e for e in evaluator.pipeline.evaluate({}) if isinstance(e, Evaluation)]
        evaluator.close()
        found[name] = looks
    assert found["whole"] == found["single"]
    assert found["whole"][-1].blocks == len(found["whole"]) + 4


def test_the_champions_days_are_known_however_the_log_was_read(tmp_path: Path) -> None:
    """Eight days before the rollout, every other one bad for most; the health of a champion looks back at less."""
    made = config(tmp_path, form="paired", block=BlockLength(0), harm_block=None, cycle=Seconds(24 * BLOCK))
    stream: list[Any] = []
    for i in range(400):
        at = 12.0 * i
        known = {"propensity": 0.0} if at >= 8 * 24 * BLOCK else {"rollout": None}
        stream += [prediction(i, at, **known), outcome(i, at + 5.0, (int(at // (24 * BLOCK)) + (i % 5 == 0)) % 2)]
        stream += [shadow(i, at)] if "propensity" in known else []
    found = []
    for name, pieces in (("whole", [stream]), ("single", [[event] for event in stream])):
        evaluator = Evaluator(made, tmp_path / f"{name}.db", MemoryLog())
        for piece in pieces:
            evaluator.pipeline.step(batch(piece))
            evaluator.pipeline.settle_joins()
            evaluator.pipeline.evaluate({})
        found.append(evaluator.pipeline.plans[ROLLOUT]["intraclass"])
        evaluator.close()
    assert found[0] == found[1] > 0.5
