"""A fast seeded part of the A/A grid of `benchmarks.sequential`, with lower limits too, and the power it leaves.

Limits are binomial: a right rate breaks one once in a thousand seeds, and the seed is fixed.
"""

import numpy as np
import pytest
from builders.statistics import at_least, at_most

from benchmarks import engine
from benchmarks.simulated import LAWS, Cell, Law, Sums, draw
from evaluator.stats.panel import ArmTotals, States, decide
from evaluator.stats.sequential_test import Plan

RUNS = 1000
LOOKS, UNITS = 100, 500  # the horizon's 50,000 units with fewer looks


def cell(allocation: str, drift: str, law: Law) -> Cell:
    return Cell(allocation, drift, law, LOOKS, UNITS)


def crossings(sums: Sums) -> tuple[int, int, int]:
    win, harm = engine.group_sequential(engine.watch(sums))
    return int((win > 0).sum()), int((harm > 0).sum()), int(((win > 0) | (harm > 0)).sum())


@pytest.mark.parametrize("drift", ["flat", "stage drift"])
@pytest.mark.parametrize("allocation", ["50/50", "90/10", "99/1", "ramp 1→5→10 %"])
@pytest.mark.parametrize("law", ["Bernoulli .01", "Bernoulli .2", "Bernoulli .8"])
def test_false_decisions_on_two_kinds_of_outcomes(law: str, allocation: str, drift: str) -> None:
    win, harm, both = crossings(draw(cell(allocation, drift, LAWS[law]), RUNS, 5))
    assert win <= at_most(RUNS, 0.025)
    assert harm <= at_most(RUNS, 0.025)
    assert both <= at_most(RUNS, 0.05)
    assert both >= at_least(RUNS, 0.04)


@pytest.mark.parametrize(
    ("law", "allocation", "drift"),
    [
        ("lognormal", "95/5", "weekly"),
        ("lognormal", "99/1", "flat"),
        ("unequal variances", "90/10", "weekly"),
        ("unequal variances", "99/1", "stage drift"),
    ],
)
def test_false_decisions_on_other_outcomes(law: str, allocation: str, drift: str) -> None:
    runs = 600
    win, harm, both = crossings(draw(cell(allocation, drift, LAWS[law]), runs, 6))
    assert max(win, harm) <= at_most(runs, 0.025)
    assert both <= at_most(runs, 0.05)
    assert both >= at_least(runs, 0.04)


def test_the_grid_can_fail() -> None:
    """The pooled two-proportion z at the horizon alone calls most A/A runs of a drifting ramp significant."""
    sums = draw(cell("ramp 1→5→10 %", "stage drift", LAWS["Bernoulli .8"]), RUNS, 7)
    n0, y0, _, n1, y1, _ = (part.sum(axis=1) for part in sums.arms)
    rate = (y0 + y1) / (n0 + n1)
    z = (y1 / n1 - y0 / n0) / np.sqrt(rate * (1.0 - rate) * (1.0 / n0 + 1.0 / n1))
    assert (np.abs(z) >= 1.96).mean() > 0.8


@pytest.mark.parametrize(
    ("allocation", "drift", "p0", "effect", "power"),
    [("90/10", "flat", 0.80, 0.02, 0.885), ("50/50", "flat", 0.80, 0.01, 0.75)],
)
def test_power(allocation: str, drift: str, p0: float, effect: float, power: float) -> None:
    sums = draw(cell(allocation, drift, Law("bernoulli", p0, effect)), RUNS, 8)
    win, harm, _ = crossings(sums)
    assert win >= at_least(RUNS, power)
    assert harm <= 2


def test_power_on_a_ramp_with_drift_is_near_that_of_one_look() -> None:
    sums = draw(cell("ramp 1→5→10 %", "stage drift", Law("bernoulli", 0.80, 0.025)), RUNS, 9)
    watched = engine.watch(sums)
    once = (watched.score[:, -1] >= 1.96 * np.sqrt(watched.variance[:, -1])).sum()
    assert crossings(sums)[0] >= once - 0.05 * RUNS


def test_all_looks_at_once_are_the_engines_looks_one_by_one() -> None:
    """Rare events: the runs' sides open at many different looks, each with a boundary of its own."""
    runs = 25
    sums = draw(Cell("95/5", "stage drift", Law("bernoulli", 0.03, 0.03), 40, 250), runs, 10)
    watched = engine.watch(sums)
    rows = engine.unit_sums(sums)
    counted = np.cumsum(np.stack(sums.arms, axis=2), axis=1)
    plan: Plan = watched.plan
    states = States.start(plan, runs)
    win, harm = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    for look in range(40):
        horizon, drawn = np.full(runs, plan.horizon), engine.drawn(sums).reshape(runs, 40, 2)[:, look]
        tally = ArmTotals(counted[:, look, :3], counted[:, look, 3:], horizon, drawn=drawn)
        found = engine.evidence(rows[:, look], tally)
        states, looks = decide(states, found, tally, found, tally, plan)
        for first, crossed in (
            (win, looks.ready_win & (looks.support.z_win >= looks.bound_win)),
            (harm, looks.ready_harm & (looks.harm.z_harm >= looks.bound_harm)),
        ):
            first[crossed & (first == 0)] = look + 1
    assert np.count_nonzero(win) >= 5
    np.testing.assert_array_equal(engine.group_sequential(watched)[0], win)
    np.testing.assert_array_equal(engine.group_sequential(watched)[1], harm)
