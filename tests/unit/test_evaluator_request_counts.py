"""Counts, and the sums made of them: those of adding request after request, bit for bit."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import BLOCK, HORIZON, ROLLOUT, outcome, prediction, shadow, treated

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import BlockSums, RolloutSums, TrackedMetrics
from evaluator.service.join import JoinTable
from evaluator.service.request_counts import (
    ABSENT,
    OTHER,
    VALUES,
    LatencyCounts,
    ShadowCounts,
    class_end,
    indicator,
    quantile_class,
    value_of,
)
from evaluator.stats import AssignmentCounts, PairedSums, SplitSums
from gauntlet.types import Task

RNG = np.random.default_rng(7)
EVERYTHING = TrackedMetrics(losses=["brier"], recalls={"recall of 1": 1}, segments=["country"], latency=True)


def block_of(found: list[Any], tracked: TrackedMetrics = EVERYTHING, index: int = 0) -> BlockSums:
    db = sqlite3.connect(":memory:", isolation_level=None)
    joined = JoinTable(db, HORIZON, tracked.segments).apply(found)
    db.close()
    fold = Accumulators(Task.CLASSIFICATION, "log_loss", BLOCK, 0.0, {0: 0, 1: 1}, tracked)
    fold.exposures(joined.exposures)
    fold.matches(joined.matches)
    fold.pairs(joined.pairs)
    fold.scored(joined.scored)
    return fold.rollouts[ROLLOUT].block(index)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_an_indicators_sums_are_those_of_the_units(value: float) -> None:
    assigned, hits, plain = AssignmentCounts(), AssignmentCounts(), SplitSums()
    for _ in range(300):
        share, treated_, hit = float(RNG.choice([0.01, 0.1, 1 / 3])), bool(RNG.random() < 0.4), bool(RNG.random() < 0.2)
        assigned.add(treated_, share)
        if hit:
            hits.add(treated_, share)
        plain.add(treated_, share, value if hit else 0.0)
    assert indicator(assigned, hits, value) == plain
    assert indicator(AssignmentCounts(), AssignmentCounts(), value) == SplitSums()


def test_latency_sums_are_those_of_the_requests_above_the_threshold() -> None:
    seconds = RNG.lognormal(-4.0, 1.0, 3000).tolist()
    counts, plain = LatencyCounts(), SplitSums()
    for i, each in enumerate(seconds):
        counts.add(i % 3 == 0, 0.1 if i % 2 else 0.0, each)
    threshold = quantile_class(counts.champion(), 0.7)
    assert threshold is not None
    for i, each in enumerate(seconds):
        if i % 2:
            plain.add(i % 3 == 0, 0.1, -1.0 if each >= class_end(threshold) else 0.0)
    assert counts.over(threshold) == plain
    assert LatencyCounts.from_list(json.loads(json.dumps(counts.to_list()))) == counts
    champion = [each for i, each in enumerate(seconds) if i % 3]
    assert class_end(threshold) == pytest.approx(np.quantile(champion, 0.7), rel=0.1)
    assert class_end(threshold) > np.quantile(champion, 0.7)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.004, 0.5, 0.999, 1.0, 1.5, 3600.0])
def test_a_class_is_narrow_and_holds_its_time(seconds: float) -> None:
    counts = LatencyCounts()
    counts.add(False, 0.5, seconds)
    ((index, n),) = counts.champion().items()
    assert n == 1
    if seconds:
        assert seconds < class_end(index) <= seconds * (1 + 1 / 16 + 1e-9)


def test_a_quantile_needs_requests_beyond_it() -> None:
    assert quantile_class({3: 999}, 0.99) is None
    assert quantile_class({3: 1000}, 0.99) == 3
    assert quantile_class({3: 989, 4: 11}, 0.99) == 4
    assert quantile_class({}, 0.99) is None


def test_shadow_answers_are_pairs_of_valid_or_not() -> None:
    counts, plain = ShadowCounts(), PairedSums()
    for ours, theirs, n in ((True, True, 40), (True, False, 3), (False, True, 2)):
        for _ in range(n):
            counts.add(ours, theirs)
            plain.add(float(ours), float(theirs))
    assert counts.sums() == plain
    assert counts.to_list() == [40, 3, 2]


def test_a_request_is_counted_by_what_became_of_it() -> None:
    """Arrived in time or not; answered by the champion because the challenger failed, or was not asked."""
    found = [
        prediction(1, 1.0),
        outcome(1, 2.0),
        prediction(2, 1.0),
        outcome(2, 1.1 + HORIZON),
        treated(3, 1.0),
        treated(4, 1.0, served="champion", fallback="timeout"),
        outcome(4, 3.0),
        treated(5, 1.0, served="champion", fallback="breaker_open"),
        prediction(6, 1.0, propensity=0.0),
        outcome(6, 2.0),
        prediction(7, 1.0, forced=True),
        outcome(7, 2.0),
    ]
    block = block_of(found)
    assert block.assignments.counts == {0.5: [2, 3]}
    assert block.arrived.counts == {0.5: [1, 1]}
    assert block.fallbacks.counts == {0.5: [0, 2]}
    assert block.errors.counts == {0.5: [0, 1]}


def test_a_sticky_units_later_requests_are_no_units_of_their_own() -> None:
    unit = {"unit": "customer"}
    block = block_of([e for i in range(4) for e in (prediction(i, 1.0, **unit), outcome(i, 2.0))])
    assert (block.assignments.counts, block.arrived.counts) == ({0.5: [1, 0]}, {0.5: [1, 0]})


def test_shadow_scores_count_once_with_or_without_an_outcome() -> None:
    failed = {"output": None, "error": "timeout"}
    found = [
        prediction(1, 1.0),
        shadow(1, 1.0),
        outcome(1, 2.0),
        shadow(1, 1.0, **failed),
        shadow(2, 1.0, **failed),
        prediction(2, 1.0),
        treated(3, 1.0),
        shadow(3, 1.0, arm="champion", model="v0001", **failed),
        prediction(4, 1.0),
        shadow(4, 1.0, model="v0003", **failed),
    ]
    assert block_of(found).shadows.to_list() == [1, 1, 1]


@pytest.mark.parametrize("paired", [False, True])
def test_what_is_tracked_is_summed_over_its_own_rows(paired: bool) -> None:
    found: list[Any] = []
    for i in range(12):
        found += [prediction(i, 1.0, output=[0.4, 0.6]), shadow(i, 1.0, output=[0.7, 0.3]), outcome(i, 2.0, int(i < 9))]
    block = block_of(
        found, TrackedMetrics(paired=paired, losses=["brier"], recalls={"r": 1}, segments=["country", "plan"])
    )

    def figures(sums: Any) -> tuple[int, float]:
        n = sums.n if paired else sums.n_champion
        return n, round(sums.y_champion / 2**60, 9)

    assert figures(block.metrics["brier"]) == (12, -9 * 0.16 - 3 * 0.36)
    assert figures(block.metrics["r"]) == (9, 0.0)  # all nine of the class were found
    assert {value: figures(sums)[0] for value, sums in block.segments["country"].items()} == {"DE": 6, "FR": 3, "IT": 3}
    assert {value: figures(sums)[0] for value, sums in block.segments["plan"].items()} == {ABSENT: 12}
    if paired:
        assert round(block.metrics["r"].y_challenger / 2**60, 9) == -9.0
        assert block.paired.n == sum(figures(sums)[0] for sums in block.segments["country"].values())


def test_a_value_is_short_and_never_empty() -> None:
    assert value_of({"a": "x" * 100}, "a") == "x" * 64
    assert value_of({"a": ""}, "a") == value_of({}, "a") == ABSENT


def test_a_block_survives_json() -> None:
    found: list[Any] = []
    for i in range(40):
        arm = treated if i % 3 else prediction
        found += [arm(i, 1.0), shadow(i, 1.0), outcome(i, 2.0, i % 2)]
    for tracked in (EVERYTHING, TrackedMetrics(paired=True, losses=["brier"], segments=["country"])):
        block = block_of(found, tracked)
        assert BlockSums.from_dict(json.loads(json.dumps(block.to_dict()))) == block
        sums = RolloutSums("v0001", "v0002", tracked, rivals={"r2"}, blocks={0: block})
        assert RolloutSums.from_dict(json.loads(json.dumps(sums.to_dict()))) == sums


@pytest.mark.parametrize("paired", [False, True])
def test_clients_that_send_ever_new_values_fill_no_memory(paired: bool) -> None:
    found: list[Any] = []
    for i in range(70):
        found += [prediction(i, 1.0, segments={"country": f"c{i}"}), shadow(i, 1.0), outcome(i, 2.0)]
    values = block_of(found, TrackedMetrics(paired=paired, segments=["country"])).segments["country"]
    assert len(values) == VALUES + 1
    other = values[OTHER]
    assert (other.n if isinstance(other, PairedSums) else other.n_champion) == 70 - VALUES
