"""Reverse holdout and continuous A/A: what they report, and that snapshots and states keep it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evaluator.stats import NoAnswer, SplitSums, State, StatsError, split_blocks
from evaluator.stats.aa_monitor import LEVELS, AAMonitor, Round
from evaluator.stats.always_valid import log_rate_evidence, rate_p
from evaluator.stats.guards import GuardReading
from evaluator.stats.interim_analysis import Look, advance
from evaluator.stats.sequential_test import holdout_plan


def blocks_of(previous: float, new: float, seed: int, days: int = 60) -> list[SplitSums]:
    """Days of 500 units, 5 % of them held out on the previous champion."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(days):
        treated = rng.random(500) < 0.95
        y = (rng.random(500) < np.where(treated, new, previous)).astype(np.float64)
        sums = SplitSums()
        sums.add(treated, np.full(500, 0.95), y)
        made.append(sums)
    return made


PLAN = holdout_plan(1000.0)


def held_out(sums: list[SplitSums]) -> Look | NoAnswer:
    state, reading = State.start(PLAN), None
    for k in range(1, len(sums) + 1):
        state, reading = advance(state, split_blocks(sums[:k], 0.8), PLAN)
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("new", "standing"), [(0.9, "gained"), (0.7, "lost"), (0.8, "open"), (0.82, "open"), (0.78, "open")]
)
def test_holdout_says_what_the_promotion_brought(new: float, standing: str) -> None:
    found = held_out(blocks_of(0.8, new, 1))
    assert isinstance(found, Look)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < new - 0.8 < found.upper
    assert found.n_challenger + found.n_champion == 30_000
    assert (found.p_value <= 0.05) is (standing != "open")
    assert (found.lower > 0.0, found.upper < 0.0) == (standing == "gained", standing == "lost")


def test_holdout_without_evidence() -> None:
    reading = held_out(blocks_of(0.8, 0.9, 2, days=3))
    assert isinstance(reading, NoAnswer)
    assert "blocks" in reading.reason


def test_holdout_follows_the_average_where_the_effect_fades() -> None:
    """Ten points for thirty days, none for thirty: five on average."""
    reading = held_out(blocks_of(0.8, 0.9, 3, 30) + blocks_of(0.8, 0.8, 4, 30))
    assert isinstance(reading, Look)
    assert reading.effect == pytest.approx(0.05, abs=0.02)


def monitored(rounds: list[Round], alpha: float = 0.05) -> AAMonitor:
    monitor = AAMonitor(alpha)
    for done in rounds:
        monitor = monitor.add(done)
    return monitor


def named(monitor: AAMonitor) -> dict[str, GuardReading]:
    return {reading.name: reading for reading in monitor.read()}


def uniform(n: int, seed: int, rate: float = 0.05) -> list[Round]:
    """Rounds as they should be: crossings at that rate, p values uniform."""
    rng = np.random.default_rng(seed)
    return [Round(bool(rng.random() < rate), float(rng.random()), float(rng.random())) for _ in range(n)]


def test_rounds_in_order_are_open_or_safe() -> None:
    readings = named(monitored(uniform(400, 5)))
    assert {reading.standing for reading in readings.values()} <= {"open", "safe"}
    assert readings["A/A crossings"].value == pytest.approx(0.05, abs=0.03)
    assert named(monitored(uniform(600, 6, rate=0.005)))["A/A crossings"].standing == "safe"
    assert {reading.standing for reading in AAMonitor().read()} == {"open"}


def test_too_many_crossings_are_found() -> None:
    monitor = monitored(uniform(400, 7, rate=0.15))
    readings = named(monitor)
    assert readings["A/A crossings"].standing == "breached"
    assert readings["A/A crossings"].lower is not None
    assert readings["A/A crossings"].lower > 0.05
    assert readings["A/A recent crossings"].standing == "breached"
    assert readings["A/A p values"].standing == "open"


def test_p_values_that_are_too_small_are_found_and_conservative_ones_are_not() -> None:
    rng = np.random.default_rng(8)
    small = [Round(False, float(rng.random() ** 2), float(rng.random())) for _ in range(300)]
    large = [Round(False, float(rng.random() ** 0.3), float(rng.random())) for _ in range(300)]
    assert named(monitored(small))["A/A p values"].standing == "breached"
    assert named(monitored(large))["A/A p values"].standing == "open"


@pytest.mark.parametrize("power", [2.0, 0.4])
def test_fixed_p_values_must_be_uniform_on_both_sides(power: float) -> None:
    rng = np.random.default_rng(9)
    rounds = [Round(False, 1.0, float(rng.random() ** power)) for _ in range(400)]
    readings = named(monitored(rounds))
    assert readings["A/A fixed p values"].standing == "breached"
    assert readings["A/A p values"].standing == "open"


def test_a_late_break_is_found_by_the_rolling_monitor_first() -> None:
    """2,000 sound rounds of few crossings hide what the last hundred do from the total, not from the recent."""
    monitor = monitored(uniform(2000, 10, rate=0.02) + uniform(100, 11, rate=0.3))
    readings = named(monitor)
    assert readings["A/A recent crossings"].standing == "breached"
    assert readings["A/A crossings"].standing != "breached"


def test_statistics_by_hand() -> None:
    rounds = [Round(True, 0.02, 0.6), Round(False, 0.3, 0.04), Round(True, 0.008, 0.5)]
    monitor = monitored(rounds)
    shifts, recent = 0.1 * 1.5 ** np.arange(11), np.zeros(11)
    for done in rounds:
        recent = (recent + 1.0) * np.exp(shifts * done.crossed) / (0.95 + 0.05 * np.exp(shifts))
    assert monitor.recent == pytest.approx(recent.tolist())
    assert (monitor.rounds, monitor.crossed) == (3, 2)
    assert monitor.valid == tuple(sum(done.p_value <= level for done in rounds) for level in LEVELS)
    assert monitor.smallest[0] == pytest.approx(min(rate_p(1, 1, 0.05), rate_p(1, 2, 0.05), rate_p(2, 3, 0.05)))
    ends = [
        np.mean([math.exp(log_rate_evidence(sum(r.p_value <= u for r in rounds[:k]), k, u)) for u in LEVELS])
        for k in (1, 2, 3)
    ]
    assert monitor.smallest[1] == pytest.approx(min(1.0, 1.0 / max(ends)))


def test_expected_rolling_evidence_is_the_number_of_rounds() -> None:
    """Σ over beginnings of a martingale of mean 1: exact over all 2^6 histories."""
    total = 0.0
    for code in range(64):
        crossed = [bool(code >> k & 1) for k in range(6)]
        monitor = monitored([Round(each, 1.0, 1.0) for each in crossed], alpha=0.2)
        total += math.prod(0.2 if each else 0.8 for each in crossed) * float(np.mean(monitor.recent))
    assert total == pytest.approx(6.0, abs=1e-12)


def test_monitor_snapshot_and_refusals() -> None:
    monitor = monitored(uniform(50, 12))
    restored = AAMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
    assert restored == monitor
    assert restored.add(Round(True, 0.01, 0.01)) == monitor.add(Round(True, 0.01, 0.01))
    for bad in ((True, 1.5, 0.5), (True, 0.5, -0.1), (True, math.nan, 0.5)):
        with pytest.raises(StatsError):
            Round(*bad)
    with pytest.raises(StatsError):
        AAMonitor(0.0)
    with pytest.raises(StatsError):
        monitor.read(level=0.0)


def test_a_round_is_closed_by_its_look() -> None:
    sums = blocks_of(0.8, 0.9, 13)
    plan = replace(PLAN, min_blocks_win=5)
    state, look = State.start(plan), None
    for k in (20, 40, 60):
        state, look = advance(state, split_blocks(sums[:k]), plan)
    assert isinstance(look, Look)
    done = Round.from_look(look)
    assert done.crossed
    assert (done.p_value, done.fixed_p) == (look.p_value, look.fixed_p)
