"""The fold against sums made in the plainest way, and the rules of what is evidence for whom."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import BLOCK, ROLLOUT, contender, fold_of, outcome, prediction, shadow, treated

from evaluator.service.accumulators import Accumulators, block_index
from evaluator.service.block_sums import BlockSums, LossSums, TrackedMetrics
from evaluator.stats import TailSums
from gauntlet.losses import loss
from gauntlet.types import Task

UNIT = 2.0**60


def log_loss(output: list[float], value: int) -> float:
    return -float(np.log(output[value]))


def test_sums_are_those_of_a_plain_loop_over_the_rows() -> None:
    """Served, fallen back, forced, in shadow stage or ramping: each row where it belongs."""
    rng = np.random.default_rng(5)
    found: list[Any] = []
    rows = []
    for i in range(600):
        at = float(rng.uniform(0, 5 * BLOCK))
        share = float(rng.choice([0.0, 0.01, 0.1, 0.5]))
        arm = "challenger" if rng.random() < share else "champion"
        fallback = arm == "challenger" and rng.random() < 0.3
        served = "champion" if fallback else arm
        p, q = rng.uniform(0.05, 0.95, 2).tolist()
        value, forced = int(rng.random() < 0.5), bool(rng.random() < 0.1)
        found.append(
            prediction(
                i,
                at,
                assigned=arm,
                served=served,
                propensity=share,
                output=[1 - p, p],
                forced=forced,
                fallback="error" if fallback else None,
            )
        )
        scored = bool(rng.random() < 0.6)
        if scored:
            other, model = ("challenger", "v0002") if served == "champion" else ("champion", "v0001")
            found.append(shadow(i, at, arm=other, model=model, output=[1 - q, q]))
        found.append(outcome(i, at + 1.0, value))
        rows.append(
            (
                int(at // BLOCK),
                share,
                arm,
                served,
                fallback,
                forced,
                scored,
                log_loss([1 - p, p], value),
                log_loss([1 - q, q], value),
            )
        )
    fold = fold_of(found)
    rollout = fold.rollouts[ROLLOUT]
    for index in range(5):
        block = rollout.block(index)
        here = [row for row in rows if row[0] == index]
        fair = [row for row in here if not row[5]]
        assert block.exposures == {arm: sum(r[2] == arm for r in fair) for arm in ("champion", "challenger")}
        failed = [r for r in fair if r[4] and 0 < r[1] < 1]
        assert sum(sum(pair) for pair in block.fallbacks.counts.values()) == len(failed)
        split = [r for r in fair if r[1] > 0]
        for share in (0.01, 0.1, 0.5):
            of = [r for r in split if r[1] == share]
            assert block.assignments.counts[share] == [sum(r[2] == a for r in of) for a in ("champion", "challenger")]
        assert 0.0 not in block.assignments.counts
        a = np.array([(r[2] == "challenger") - r[1] for r in split])
        y = -np.array([r[7] for r in split])
        sums = block.split
        assert sums.n_champion + sums.n_challenger == len(split)
        assert sums.n_challenger == sum(r[2] == "challenger" for r in split)
        assert sums.ay / UNIT == pytest.approx(float(a @ y), abs=1e-9)
        assert sums.aayy / UNIT == pytest.approx(float((a * a) @ (y * y)), abs=1e-9)
        assert sums.i / UNIT == pytest.approx(sum(r[1] * (1 - r[1]) for r in split), abs=1e-9)
        for arm in ("champion", "challenger"):
            of = [r[7] for r in split if r[2] == arm]
            assert block.arms[arm].n == len(of)
            if of:
                assert block.arms[arm].metrics(Task.CLASSIFICATION)["log_loss"] == pytest.approx(np.mean(of))
        pairs = [r for r in fair if r[6] and not r[4]]
        ours = np.array([r[7] if r[3] == "champion" else r[8] for r in pairs])
        theirs = np.array([r[8] if r[3] == "champion" else r[7] for r in pairs])
        assert block.paired.n == len(pairs)
        assert block.paired.d / UNIT == pytest.approx(float((ours - theirs).sum()), abs=1e-9)
        assert block.paired.dd / UNIT == pytest.approx(float(((ours - theirs) ** 2).sum()), abs=1e-9)
        means = [block.pairs[arm].metrics(Task.CLASSIFICATION)["log_loss"] for arm in ("champion", "challenger")]
        assert means == pytest.approx([ours.mean(), theirs.mean()])
        for model, arm in (("v0001", "champion"), ("v0002", "challenger")):
            own = [r[7] for r in here if r[3] == arm] + [r[8] for r in pairs if r[3] != arm]
            assert fold.models[model][index].n == len(own)
            assert fold.models[model][index].metrics(Task.CLASSIFICATION)["log_loss"] == pytest.approx(np.mean(own))


def test_a_fallback_is_charged_to_the_challenger_with_the_answer_that_was_served() -> None:
    fold = fold_of(
        [
            prediction(1, 5.0, assigned="challenger", served="champion", fallback="timeout", output=[0.9, 0.1]),
            outcome(1, 6.0, 1),
        ]
    )
    block = fold.rollouts[ROLLOUT].block(0)
    assert (block.split.n_champion, block.split.n_challenger, block.fallbacks.counts) == (0, 1, {0.5: [0, 1]})
    assert block.arms["challenger"].metrics(Task.CLASSIFICATION)["log_loss"] == pytest.approx(-np.log(0.1))
    assert set(fold.models) == {"v0001"}  # whose answer it was: the champion's own health


def test_a_request_is_in_the_block_of_its_exposure_not_of_its_outcome() -> None:
    fold = fold_of([prediction(1, BLOCK - 0.5), outcome(1, BLOCK + 30.0)])
    assert set(fold.rollouts[ROLLOUT].blocks) == {0}
    assert [block_index(at, 20.0, 5.0) for at in (4.9, 5.0, 24.9, 25.0)] == [-1, 0, 0, 1]


def test_the_previous_champions_scores_are_its_own_and_no_pair_of_a_rollout() -> None:
    """Also under a rollout: a score of a model that is not its other arm says nothing about its arms."""
    found: list[Any] = []
    for i, changes in enumerate([{"rollout": None, "challenger": None}, {}]):
        found += [
            prediction(i, 5.0, **changes),
            outcome(i, 6.0, 1),
            shadow(i, 5.0, arm="previous", model="v0003", output=[0.2, 0.8]),
        ]
    fold = fold_of(found)
    assert fold.models["v0003"][0].n == 2
    assert fold.models["v0003"][0].metrics(Task.CLASSIFICATION)["log_loss"] == pytest.approx(-np.log(0.8))
    assert fold.rollouts[ROLLOUT].block(0).paired.n == 0


@pytest.mark.parametrize(
    "score",
    [
        {"arm": "challenger", "model": "v0003"},  # scored after another challenger had taken its place
        {"arm": "champion", "model": "v0001"},  # the very arm that served
    ],
)
def test_a_score_by_another_model_than_the_rollouts_is_no_pair(score: dict[str, Any]) -> None:
    fold = fold_of([prediction(1, 5.0), shadow(1, 5.0, **score), outcome(1, 6.0)])
    assert fold.rollouts[ROLLOUT].block(0).paired.n == 0


def test_one_models_scores_as_challenger_and_as_champion_lie_side_by_side() -> None:
    """Promoted in the middle of a block: its scores of both times are its own, not the served answers."""
    later = {"champion": "v0002", "challenger": "v0003", "rollout": "test-r0002"}
    found = [
        prediction(1, 5.0),
        shadow(1, 5.0, output=[0.3, 0.7]),
        outcome(1, 6.0, 1),
        treated(2, 6.0, **later, output=[0.9, 0.1]),
        outcome(2, 7.0, 1),
        shadow(2, 6.0, arm="champion", model="v0002", output=[0.4, 0.6]),
    ]
    mean = fold_of(found).models["v0002"][0].metrics(Task.CLASSIFICATION)["log_loss"]
    assert mean == pytest.approx((-np.log(0.7) - np.log(0.6)) / 2)
    second = fold_of(found).rollouts["test-r0002"].block(0)
    assert second.pairs["champion"].metrics(Task.CLASSIFICATION)["log_loss"] == pytest.approx(-np.log(0.6))


@pytest.mark.parametrize("metric", ["mse", "mae"])
def test_a_regression_is_summed_in_its_own_units(metric: str) -> None:
    outputs, truths = np.array([1.5, -2.0, 1e6]), np.array([1.0, 2.0, -1e6])
    found: list[Any] = []
    for i, (output, truth) in enumerate(zip(outputs.tolist(), truths.tolist(), strict=True)):
        found += [prediction(i, 1.0, output=output), outcome(i, 2.0, truth)]
    fold = fold_of(found, task=Task.REGRESSION, metric=metric)
    expected = loss(metric, outputs, truths).sum()
    assert -fold.rollouts[ROLLOUT].block(0).split.y_champion / UNIT == pytest.approx(expected)
    assert fold.models["v0001"][0].metrics(Task.REGRESSION)["mae"] == pytest.approx(np.abs(outputs - truths).mean())


@pytest.mark.parametrize("paired", [True, False])
def test_the_tail_of_a_regression_is_kept_as_its_evidence_is_compared(paired: bool) -> None:
    found: list[Any] = []
    for i in range(60):
        found += [treated(i, 1.0, output=float(i % 7)), outcome(i, 2.0, 0.0)]
        found += [
            prediction(100 + i, 1.0, output=float(i)),
            shadow(100 + i, 1.0, output=1.0),
            outcome(100 + i, 2.0, 0.0),
        ]
    tracked = TrackedMetrics(paired=paired)
    block = fold_of(found, task=Task.REGRESSION, metric="mse", tracked=tracked).rollouts[ROLLOUT].block(0)
    champion, challenger = np.arange(60.0) ** 2, (np.arange(60) % 7.0) ** 2
    kept = {"challenger": champion - 1.0} if paired else {"champion": -champion, "challenger": -challenger}
    assert block.tails.keys() == kept.keys()
    for arm, values in kept.items():
        sums = TailSums()
        sums.add(values)
        assert block.tails[arm] == sums
    assert BlockSums.from_dict(json.loads(json.dumps(block.to_dict()))) == block


def test_the_losses_of_a_classification_are_bounded_and_keep_no_tail() -> None:
    found = [prediction(1, 1.0), shadow(1, 1.0), outcome(1, 2.0, 1)]
    assert fold_of(found, tracked=TrackedMetrics(paired=True)).rollouts[ROLLOUT].block(0).tails == {}


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12, 1e45])
def test_loss_sums_are_exact_for_any_size_and_any_cut(scale: float) -> None:
    values = {"mse": np.random.default_rng(3).exponential(scale, 500)}
    whole, parts, rows = LossSums(), LossSums(), LossSums()
    whole.add(values, slice(None))
    for chosen in np.array_split(np.random.default_rng(4).permutation(500), 7):
        part = LossSums()
        part.add(values, chosen)
        parts.merge(part)
    for value in values["mse"].tolist():
        rows.n += 1
        rows.sums["mse"] = rows.sums.get("mse", 0) + round(value * 2**40)
    assert parts == whole == rows


def test_a_snapshot_survives_json() -> None:
    fold = fold_of(
        [
            *(e for i in range(40) for e in (treated(i, i), outcome(i, i + 2.0, i % 2))),
            *(e for i in range(40, 80) for e in (prediction(i, i), shadow(i, i), outcome(i, i + 2.0, i % 2))),
        ]
    )
    other = Accumulators(Task.CLASSIFICATION, "log_loss", BLOCK, 0.0, {0: 0, 1: 1})
    other.restore(json.loads(json.dumps(fold.to_dict())))
    assert other.rollouts == fold.rollouts
    assert other.models == fold.models


def test_forget_keeps_the_named_rollouts_and_the_blocks_from_a_time_on() -> None:
    found: list[Any] = []
    for i in range(10):
        found += [prediction(i, BLOCK * i, rollout=f"test-r{i % 2}"), outcome(i, BLOCK * i + 1)]
    fold = fold_of(found)
    fold.forget(4.5 * BLOCK, ["test-r1"])
    assert set(fold.rollouts) == {"test-r1"}
    assert set(fold.rollouts["test-r1"].blocks) == {1, 3, 5, 7, 9}
    assert sorted(fold.models["v0001"]) == [4, 5, 6, 7, 8, 9]
    fold.forget(1e9, [])
    assert (fold.rollouts, fold.models) == ({}, {})


def test_comparisons_at_once_are_what_each_would_be_alone() -> None:
    """Three challengers on one log against logs with one each: the same pairs, bit for bit; and split traffic only from
    the two arms of a comparison."""
    rng = np.random.default_rng(5)
    names = {"test-r0001": "v0002", "test-r0002": "v0003", "test-r0003": "v0004"}
    shares = {"test-r0001": 0.2, "test-r0002": 0.3, "test-r0003": 0.0}
    together: list[Any] = []
    alone: dict[str, list[Any]] = {name: [] for name in names}
    for i in range(300):
        at, value = float(rng.uniform(0, 3 * BLOCK)), int(rng.random() < 0.5)
        outputs = {
            model: [1 - p, p]
            for model, p in zip(("v0001", *names.values()), rng.uniform(0.1, 0.9, 4).tolist(), strict=True)
        }
        drawn = rng.choice([None, *names], p=[0.5, *shares.values()])
        arm, served = ("champion", "v0001") if drawn is None else ("challenger", names[drawn])
        common = {"assigned": arm, "served": arm, "output": outputs[served]}
        contenders = [contender(name, model, shares[name]) for name, model in names.items()]
        together.append(prediction(i, at, **common, contenders=contenders, rollout=drawn))
        scores = [
            shadow(i, at, arm="champion" if model == "v0001" else "challenger", model=model, output=output)
            for model, output in outputs.items()
            if model != served
        ]
        together += [*scores, outcome(i, at + 1.0, value)]
        for name, model in names.items():
            if drawn in (None, name):
                share = shares[name] / (shares[name] + 0.5)
                alone[name].append(
                    prediction(i, at, **common, contenders=[contender(name, model, share)], rollout=drawn)
                )
                alone[name] += [s for s in scores if s.model in ("v0001", model)]
                alone[name].append(outcome(i, at + 1.0, value))
    fold = fold_of(together)
    for name in names:
        one = fold_of(alone[name]).rollouts[name]
        for index in range(3):
            ours, theirs = fold.rollouts[name].block(index), one.block(index)
            assert ours.split.to_list() == theirs.split.to_list()
            assert (ours.exposures, ours.arrived.to_list()) == (theirs.exposures, theirs.arrived.to_list())
            assert ours.paired.n >= theirs.paired.n, "the others' units are pairs, too"
        assert sum(block.paired.n for block in fold.rollouts[name].blocks.values()) == 300


def test_the_champion_is_compared_with_the_one_before_it() -> None:
    found: list[Any] = []
    for i in range(4):
        found += [
            prediction(i, 5.0, output=[0.2, 0.8]),
            outcome(i, 6.0, 1),
            shadow(i, 5.0, arm="previous", model="v0000", output=[0.4, 0.6], rollout="test-r0001"),
        ]
    (worth,) = fold_of(found).worth.values()
    assert (worth.promotion, worth.champion, worth.previous, worth.first) == ("test-r0001", "v0001", "v0000", 5.0)
    sums = worth.blocks[0]
    assert sums.n == 4
    assert sums.score() / 4 == pytest.approx(np.log(0.8) - np.log(0.6)), "positive: the champion is better"
