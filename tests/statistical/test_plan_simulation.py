"""What a plan promises is what the engine does in simulated runs: error rates, power, duration and coverage.

Every count is laid against binomial limits that a right rate leaves once in a thousand seeds; the seeds are fixed.
"""

from __future__ import annotations

from typing import Any

import pytest
from builders.statistics import at_least, at_most

import gauntlet
from evaluator.offline.planning.result import Share, SimulationReport

# A design, what the closed forms may be wrong by, and the least share of a level that must be spent on it: blocks'
# safeguards are meant to spend less.
DESIGNS: dict[str, tuple[dict[str, Any], float, float]] = {
    "independent": ({"ramp": "0.5", "independent": True, "effect": 0.03}, 0.0, 0.75),
    "ramp, drifting weekly": (
        {
            "baseline": 0.5,
            "ramp": "0.02:2d,0.1:2d,0.3",
            "independent": True,
            "effect": 0.04,
            "drift": 0.1,
            "weekly": 0.05,
        },
        0.02,
        0.7,
    ),
    "rare, lower is better": (
        {"baseline": 0.04, "effect": -0.015, "ramp": "0.1:1d,0.5", "independent": True, "traffic": 1000},
        0.02,
        0.6,
    ),
    "day blocks": ({"ramp": "0.5", "traffic": 500, "effect": 0.03, "harm_block": "1d"}, 0.015, 0.15),
    "harm blocks": ({"ramp": "0.3", "traffic": 600, "effect": 0.035, "runs": 500}, 0.015, 0.1),
    "correlated blocks": ({"ramp": "0.5", "traffic": 2000, "effect": 0.02, "block_correlation": 0.3}, 0.035, 0.2),
    "users": (
        {
            "ramp": "0.5",
            "traffic": 600,
            "effect": 0.06,
            "cluster_size": 4,
            "cluster_correlation": 0.3,
            "harm_block": "1d",
        },
        0.02,
        0.15,
    ),
    "pairs": ({"form": "paired", "discordance": 0.12, "traffic": 120, "effect": 0.02, "independent": True}, 0.01, 0.7),
    "skewed mean": (
        {
            "baseline": 12.0,
            "sd": 30.0,
            "effect": 4.0,
            "ramp": "0.5",
            "traffic": 200,
            "harm_block": "1d",
            "skewness": 2.0,
        },
        0.03,
        0.1,
    ),
}


@pytest.fixture(scope="module", params=list(DESIGNS))
def measured(request: pytest.FixtureRequest) -> tuple[SimulationReport, float, float]:
    design, wrong, least = DESIGNS[request.param]
    asked = {"baseline": 0.8, "traffic": 1500, "delay": "12h", "runs": 1000, "seed": 20, **design}
    return gauntlet.simulate(**asked), wrong, least


def test_error_rates_keep_their_levels_and_use_them(measured: tuple[SimulationReport, float, float]) -> None:
    report, _, least = measured
    assert report.held
    null = report.scenarios[0]
    for side in (null.better, null.worse):
        assert side.level is not None
        assert side.count <= at_most(report.runs, side.level)
        assert side.count >= at_least(report.runs, least * side.level)
    assert null.covered.share >= at_least(report.runs, 1.0 - 0.075) / report.runs


def test_power_and_duration_are_those_that_were_planned(measured: tuple[SimulationReport, float, float]) -> None:
    report, wrong, _ = measured
    for one in report.scenarios[1:]:
        for share in (one.better, one.worse):
            _near(share, wrong, report.runs)
        assert one.days == pytest.approx(one.planned_days, rel=0.06)


def _near(share: Share, wrong: float, runs: int) -> None:
    assert share.planned is not None
    low, high = max(0.0, share.planned - wrong), min(1.0, share.planned + wrong)
    assert at_least(runs, low) <= share.count <= at_most(runs, high)


def test_estimates_at_the_end_are_covered_and_hardly_biased(measured: tuple[SimulationReport, float, float]) -> None:
    report, _, _ = measured
    null = report.scenarios[0]
    assert null.bias is not None
    assert null.bias_error is not None
    assert abs(null.bias) < 4.0 * null.bias_error + 0.02 * abs(report.scenarios[1].effect)
    for one in report.scenarios:
        assert one.covered.held


@pytest.mark.parametrize("mode", ["anytime", "msprt", "sprt", "fixed"])
def test_other_modes_keep_their_levels_too(mode: str) -> None:
    report = gauntlet.simulate(
        baseline=0.8, effect=0.04, traffic=1500, ramp="0.5", independent=True, mode=mode, runs=600, seed=5
    )
    assert report.held
    assert report.scenarios[1].better.share > 0.4
