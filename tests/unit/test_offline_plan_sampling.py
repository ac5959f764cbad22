"""Simulated sums have the law of the units they stand for, and become the same blocks as real traffic does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from evaluator.offline.planning.schedule import Schedule, TrafficSlices
from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld
from evaluator.offline.planning.simulation import ArmSums, OutcomeSampler, block_rows, correlate_blocks
from evaluator.stats import PairedSums, SplitSums, paired_blocks, split_blocks
from evaluator.stats.cluster_robust import rows_of

RUNS = 4000


def drawn(
    true: float, world: SimulatedWorld | None = None, runs: int = RUNS, **change: Any
) -> tuple[ArmSums, TrafficSlices]:
    settings = PlanSettings(**{"baseline": 0.8, "effect": 0.1, "traffic": 200.0, "ramp": "0.3", **change})
    slices = Schedule(settings).slices(1)
    source = OutcomeSampler(settings, world or SimulatedWorld(), slices, true, 30.0)
    return source.draw(np.random.default_rng(7), runs), slices


def close(found: float, wanted: float, error: float) -> None:
    """Within four standard errors."""
    assert abs(found - wanted) < 4.0 * error, (found, wanted, error)


def test_proportions_have_the_arms_rates() -> None:
    sums, slices = drawn(0.1)
    units = float(slices.units.sum()) * RUNS
    assert ((sums.n_champion + sums.n_challenger) == slices.units).all()
    close(sums.n_challenger.sum() / units, 0.3, math.sqrt(0.21 / units))
    close(sums.y_champion.sum() / sums.n_champion.sum(), 0.8, math.sqrt(0.16 / units / 0.7))
    close(sums.y_challenger.sum() / sums.n_challenger.sum(), 0.9, math.sqrt(0.09 / units / 0.3))


def test_lower_is_better_turns_a_proportion_around() -> None:
    sums, _ = drawn(0.1, baseline=0.2, effect=-0.1)
    close(float(sums.y_champion.sum() / sums.n_champion.sum()), 0.8, math.sqrt(0.16 / sums.n_champion.sum()))


@pytest.mark.parametrize("change", [{}, {"sd": 2.0, "baseline": 5.0}])
def test_clusters_widen_by_the_design_effect(change: dict[str, Any]) -> None:
    plain, _ = drawn(0.0, runs=20_000, ramp="0.5", **change)
    sums, _ = drawn(0.0, runs=20_000, ramp="0.5", cluster_size=10, cluster_correlation=0.2, **change)
    assert (sums.n_champion % 10 == 0).all()
    spread = [_residual(each).var() for each in (plain, sums)]
    assert spread[1] / spread[0] == pytest.approx(1.0 + 9 * 0.2, rel=0.05)
    # Of the outcomes themselves there is the same variance with clusters and without.
    within = [
        float((each.yy_champion.sum() - 0 * each.n_champion.sum()) / each.n_champion.sum()) for each in (plain, sums)
    ]
    assert within[1] == pytest.approx(within[0], rel=0.02)


def _residual(sums: ArmSums) -> np.ndarray[Any, np.dtype[np.float64]]:
    mean = sums.y_champion.sum() / sums.n_champion.sum()
    return np.asarray((sums.y_champion - mean * sums.n_champion)[:, 0])


@pytest.mark.parametrize("skewness", [2.0, -3.0])
@pytest.mark.parametrize("clustered", [False, True])
def test_means_have_the_spread_and_skewness_asked_for(skewness: float, clustered: bool) -> None:
    change = {"cluster_size": 2, "cluster_correlation": 0.3} if clustered else {}
    sums, _ = drawn(
        0.5,
        SimulatedWorld(skewness=skewness),
        baseline=9.0,
        effect=0.5,
        sd=2.0,
        challenger_sd=3.0,
        traffic=8.0,
        ramp="0.5",
        runs=60_000,
        **change,
    )
    one = sums.n_champion[:, 0] == 2
    units = sums.n_champion.sum()
    assert sums.y_champion.sum() / units == pytest.approx(0.0, abs=0.05)
    assert sums.yy_champion.sum() / units == pytest.approx(4.0, rel=0.06)
    assert sums.y_challenger.sum() / sums.n_challenger.sum() == pytest.approx(0.5, abs=0.07)
    assert (sums.yy_challenger / np.maximum(sums.n_challenger, 1)).sum() / (
        sums.n_challenger > 0
    ).sum() == pytest.approx(9.25, rel=0.06)
    if not clustered:  # two independent units: their sum has skewness s/√2
        pair = sums.y_champion[one, 0]
        found = ((pair - pair.mean()) ** 3).mean() / pair.std() ** 3
        assert found == pytest.approx(skewness / math.sqrt(2.0), rel=0.2)


def test_pairs_disagree_as_often_as_said() -> None:
    sums, slices = drawn(0.1, form="paired", discordance=0.2)
    assert sums.d is not None
    assert sums.dd is not None
    n = float(slices.units.sum()) * RUNS
    close(sums.d.sum() / n, 0.1, math.sqrt(0.19 / n))
    close(sums.dd.sum() / n, 0.2, math.sqrt(0.16 / n))
    assert np.array_equal(sums.y_challenger - sums.y_champion, sums.d)
    close(sums.y_champion.sum() / n, 0.8, math.sqrt(0.16 / n))
    wide, _ = drawn(0.1, form="paired", discordance=0.2, cluster_size=5, cluster_correlation=0.25)
    assert wide.d is not None
    assert wide.d.var() / sums.d.var() == pytest.approx(2.0, rel=0.12)


def test_the_world_moves_the_baseline() -> None:
    settings = PlanSettings(baseline=0.5, effect=0.1, traffic=200.0)
    world = SimulatedWorld(drift=0.2, weekly=0.1)
    assert world.baseline(settings, np.array([0.0, 15.0, 30.0, 60.0, 1.75]), 30.0) == pytest.approx(
        [
            0.5,
            0.6 + 0.1 * math.sin(30 * math.pi / 7),
            0.7 + 0.1 * math.sin(60 * math.pi / 7),
            0.7 + 0.1 * math.sin(120 * math.pi / 7),
            0.5 + 0.2 * 1.75 / 30 + 0.1,
        ]
    )


def test_simulated_blocks_are_those_of_real_traffic() -> None:
    """Units one by one through the engine's own sums and blocks, and their sums through the simulation's rows."""
    rng = np.random.default_rng(3)
    shares, block = np.array([0.1, 0.1, 0.4, 0.4, 0.5]), np.array([0, 1, 1, 2, 3])
    blocks, parts = [SplitSums() for _ in range(4)], []
    for share, index in zip(shares, block, strict=True):
        treated, y = rng.random(50) < share, rng.normal(2.0, 1.0, 50)
        blocks[index].add(treated, np.full(50, share), y)
        parts.append([value for arm in (~treated, treated) for value in (arm.sum(), y[arm].sum(), (y[arm] ** 2).sum())])
    sums = ArmSums(*(np.array(column, dtype=np.float64)[None] for column in zip(*parts, strict=True)))
    units = np.full(5, 50.0)
    slices = TrafficSlices(block, units, units, shares, units, shares * (1 - shares) * 50)
    assert block_rows(sums, slices, block)[0] == pytest.approx(rows_of(split_blocks(blocks)), rel=1e-9, abs=1e-9)


def test_simulated_pairs_are_those_of_real_traffic() -> None:
    rng = np.random.default_rng(4)
    blocks, parts = [PairedSums(), PairedSums()], []
    for index in range(2):
        y0, y1 = rng.normal(size=(2, 30))
        blocks[index].add(y0, y1)
        d = y1 - y0
        parts.append([30.0, y0.sum(), (y0**2).sum(), 30.0, y1.sum(), (y1**2).sum(), d.sum(), (d**2).sum()])
    sums = ArmSums(*(np.array(column, dtype=np.float64)[None] for column in zip(*parts, strict=True)))
    units = np.full(2, 30.0)
    slices = TrafficSlices(np.array([0, 1]), units, units, units, units, units)
    assert block_rows(sums, slices, slices.block)[0] == pytest.approx(rows_of(paired_blocks(blocks)), rel=1e-9)


def test_the_filter_correlates_blocks_and_keeps_their_variance() -> None:
    rng = np.random.default_rng(5)
    rows = np.zeros((4000, 30, 4))
    rows[:, 1:, 1] = 25.0
    rows[:, 1:, 0] = 0.4 * 25.0 + 3.0 * rng.standard_normal((4000, 29))
    correlate_blocks(rows, 0.6, 0.4)
    noise = rows[:, 1:, 0] - 10.0
    assert not rows[:, 0].any()
    assert noise.std() == pytest.approx(3.0, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.1)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / 9.0 == pytest.approx(0.6, abs=0.02)
