"""The decision matrix in short: the running pure core with all defaults, seeded, on traffic of several kinds."""

from __future__ import annotations

import pytest
from builders.statistics import at_least

from benchmarks.decisions import Cell, Outcome, config_of, rollout


def outcomes(cell: Cell, runs: int) -> list[Outcome]:
    config = config_of(cell)
    return [rollout(cell, config, seed) for seed in range(runs)]


@pytest.mark.parametrize("task", ["binary", "classes", "regression"])
@pytest.mark.parametrize("kind", ["inverted", "gross"])
@pytest.mark.parametrize("a_day", [2_000.0, 100_000.0])
def test_a_broken_challenger_never_leaves_shadow(kind: str, task: str, a_day: float) -> None:
    """Out within 300 requests and two hours for the labels; half as much loss again of heavy tails within a day."""
    for found in outcomes(Cell(a_day, kind=kind, task=task), 4):
        assert (found.state, found.answered, found.stage) == ("rolled_back", 0, -1)
        assert found.day <= (1.0 if (kind, task) == ("gross", "regression") else (300 / (a_day / 24) + 3) / 24)


@pytest.mark.parametrize("world", ["independent", "day effects"])
def test_a_worse_challenger_is_out_within_two_days_and_answers_next_to_nothing(world: str) -> None:
    """By .1 standard deviations at 2,000 outcomes a day, whose labels come after an hour: 95 to 97 % of 400."""
    found = outcomes(Cell(2_000, -0.1, world=world), 60)
    assert sum(each.day <= 2.0 for each in found) >= at_least(60, 0.95)
    for each in found:
        assert (each.state, each.stage <= 0) == ("rolled_back", True)
        assert each.day <= 4.0


def test_a_worse_challenger_with_late_labels_is_out_a_day_later() -> None:
    for found in outcomes(Cell(2_000, -0.1, delay=24.0), 4):
        assert (found.state, found.stage <= 0) == ("rolled_back", True)
        assert found.day <= 4.0


@pytest.mark.parametrize("a_day", [2_000.0, 10_000_000.0])
def test_a_better_challenger_is_promoted_when_the_ramp_allows_it(a_day: float) -> None:
    """The minimum times are nine days. The interval of the first look that is a win may take some days more."""
    for found in outcomes(Cell(a_day, 0.1), 1):
        assert found.state == "promoted"
        assert 9.0 <= found.day <= 14.0
        assert found.excess < 0.0


def test_few_outcomes_take_longer_and_still_end() -> None:
    for found in outcomes(Cell(100, 0.1), 1):
        assert found.state == "promoted"
        assert found.day <= 45.0


@pytest.mark.parametrize("traffic", ["one block", "silence"])
def test_odd_traffic_decides_nothing_about_equal_models(traffic: str) -> None:
    for found in outcomes(Cell(1_000, traffic=traffic, days=20), 1):
        assert found.state in ("archived", "running")
        assert found.day >= 6.0
