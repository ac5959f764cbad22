"""Equal means with unequal tails make no winner more often than declared, and light tails keep their power.

Limits are binomial: a right rate breaks one once in a thousand seeds, and the seed is fixed. `python -m
benchmarks.tails` and `.live_tails` have more runs.
"""

import pytest
from builders.statistics import at_least, at_most

from benchmarks.live_tails import Traffic, called, drawn_of, nothing_known
from benchmarks.tails import BETTER_LAWS, EQUAL, counted
from evaluator.stats import Tails
from evaluator.stats.panel import WORSE

RUNS = 80
_LONGER = ("normal, lognormal(1)", "p99, both lognormal(1)")  # the benchmark's alone


@pytest.mark.parametrize("name", [name for name in EQUAL if name not in _LONGER])
def test_no_tail_makes_a_winner(name: str) -> None:
    better, _, unasked, _ = counted(EQUAL[name], 2000, 0.1, RUNS, 3)
    assert better <= at_most(RUNS, 0.025)
    if "disaster" in name or "1.5" in name:
        assert unasked > at_most(RUNS, 0.025)  # the rule is what does it


def test_nothing_near_to_no_variance_wins_of_an_arm_of_equal_size() -> None:
    """A normal champion's noise dilutes the estimate's skewness, and does not fill the Pareto tail."""
    better, _, unasked, _ = counted(EQUAL["normal, Pareto(1.8)"], 1000, 0.5, RUNS, 3)
    assert better <= at_most(RUNS, 0.025) < unasked


def test_no_tail_makes_a_winner_of_clusters() -> None:
    better, _, unasked, _ = counted(EQUAL["normal, Pareto(1.5)"], 2000, 0.1, RUNS, 3, clusters=40)
    assert better <= at_most(RUNS, 0.025) < unasked


@pytest.mark.parametrize("traffic", [Traffic(40, "paired"), Traffic(500, "split")], ids=lambda traffic: traffic.form)
def test_nothing_wins_in_the_running_evaluator_where_there_is_no_variance(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pareto(1.5) against a normal law, equal means: what two moments of each arm can't see."""
    found = drawn_of(EQUAL["normal, Pareto(1.5)"], traffic, RUNS, seed=5)
    assert called(*found) * RUNS <= at_most(RUNS, 0.025)
    monkeypatch.setattr(Tails, "of_sums", nothing_known)
    assert called(*found) * RUNS > at_most(RUNS, 0.025)


def test_no_variance_makes_no_winner_where_many_pairs_are_looked_at_for_weeks() -> None:
    """In one sample of thirty the far outcomes are missing, and in more of them at some time of three weeks."""
    runs = 600
    found = drawn_of(EQUAL["normal, Pareto(1.5)"], Traffic(500, "paired"), runs, seed=21)
    assert called(*found) * runs <= at_most(runs, 0.025)


def test_windfalls_that_have_not_come_make_no_harm_in_the_running_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pareto(1.5) as gains of the challenger against a normal law, equal means."""
    found = drawn_of(EQUAL["normal, Pareto(1.5)"].mirrored(), Traffic(500, "split"), RUNS, seed=5)
    assert called(*found, WORSE) * RUNS <= at_most(RUNS, 0.05)
    monkeypatch.setattr(Tails, "of_sums", nothing_known)
    assert called(*found, WORSE) * RUNS > at_most(RUNS, 0.05)


@pytest.mark.parametrize("name", ["even .995, disaster", "normal, Pareto(1.5)"])
def test_windfalls_that_have_not_come_make_no_harm_in_a_file(name: str) -> None:
    _, worse, _, unasked = counted(EQUAL[name].mirrored(), 2000, 0.1, RUNS, 3)
    assert worse <= at_most(RUNS, 0.025) < unasked


@pytest.mark.parametrize("name", [name for name in BETTER_LAWS if "lognormal" not in name])
def test_light_tails_cost_a_few_points_of_power_at_most(name: str) -> None:
    better, _, unasked, _ = counted(BETTER_LAWS[name], 2000, 0.1, RUNS, 4)
    assert unasked >= at_least(RUNS, 0.75)
    assert better >= unasked - 0.05 * RUNS
