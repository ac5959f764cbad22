"""The exact tests of few events against SciPy's, and what they leave to the expansion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from evaluator.stats import Arm, Block, Look, NoAnswer, Plan, State, advance, advance_at_scales
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.evidence import Evidence
from evaluator.stats.few_events import FewEvents, log_tail

Counts = tuple[int, int, int, int]  # champion's good and all outcomes, challenger's good and all


def tables(*counts: Counts, margin: float = 0.0, independent: bool = True, sign: float = 1.0) -> FewEvents:
    """sign −1: outcomes are 0 and −1, as losses are."""
    good0, n0, good1, n1 = np.array(counts, dtype=float).T
    arms = [
        np.stack([n, sign * (y := good if sign > 0 else n - good), y], axis=1) for good, n in ((good0, n0), (good1, n1))
    ]
    cells = len(counts)
    options = {"independent": np.full(cells, independent), "margin": np.full(cells, margin), "least": 5}
    return FewEvents.of_cells(*arms, **options)  # type: ignore[arg-type]


def some_evidence(effect: float = 0.0, variance: float = 25.0) -> Evidence:
    return evidence_of(
        np.array([[[effect * 100.0, 100.0, variance, 400.0]]]),
        margin=np.zeros(1),
        clustered=False,
        most_correlation=0.0,
    )


@pytest.mark.parametrize("counts", [(1443, 1526, 1474, 1474), (8, 10, 100, 900), (0, 20, 20, 20), (40, 40, 37, 40)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_score_is_that_of_fishers_exact_p(counts: Counts, sign: float) -> None:
    good0, n0, good1, n1 = counts
    table = [[good1, n1 - good1], [good0, n0 - good0]]
    few = tables(counts, sign=sign)
    for side, way in ((1.0, "greater"), (-1.0, "less")):
        p = stats.fisher_exact(table, alternative=way).pvalue
        assert log_tail(few.good[:, 0], few.of[:, 0], 1.0, side) == pytest.approx(math.log(p), abs=1e-9)
        assert few.z(some_evidence(), side)[0] == pytest.approx(np.clip(stats.norm.isf(p), -37.0, 37.0), rel=1e-6)


def test_a_ramp_whose_outcomes_drift_is_judged_by_the_odds_of_their_propensities() -> None:
    few = FewEvents.of_cells(
        np.array([[90.0, 40.0, 40.0]]),
        np.array([[12.0, 3.0, 3.0]]),
        drawn=np.array([[14.0, 3.4]]),  # good ones had 3.4/43, the others 10.6/59 on average
        independent=np.array([True]),
        margin=np.zeros(1),
        least=5,
    )
    good, bad = 3.4 / 43.0, 10.6 / 59.0
    law = stats.nchypergeom_fisher(102, 43, 12, good / (1.0 - good) / (bad / (1.0 - bad)))
    assert few.z(some_evidence(), 1.0)[0] == pytest.approx(stats.norm.isf(law.sf(2)), rel=1e-6)
    assert few.z(some_evidence(), -1.0)[0] == pytest.approx(stats.norm.isf(law.cdf(3)), rel=1e-6)


@pytest.mark.parametrize(("lost", "won"), [(0, 9), (4, 17), (3, 0), (0, 2000), (0, 0)])
def test_pairs_are_a_fair_coin_over_those_that_one_arm_alone_gets_right(lost: int, won: int) -> None:
    n, both = 5000.0, 2000.0
    few = FewEvents.of_cells(
        np.array([[n, both + lost, both + lost]]),
        np.array([[n, both + won, both + won]]),
        discordant=np.array([float(lost + won)]),
        independent=np.array([True]),
        margin=np.zeros(1),
        least=5,
    )
    for sign, count in ((1.0, won), (-1.0, lost)):
        p = stats.binomtest(count, lost + won, alternative="greater").pvalue if lost + won else 1.0
        expected = np.clip(stats.norm.isf(p), -37.0, 37.0) if p > 1e-300 else 37.0
        assert few.z(some_evidence(), sign)[0] == pytest.approx(expected, rel=1e-6)


def test_five_of_each_kind_are_left_to_the_expansion_and_other_outcomes_always() -> None:
    evidence = some_evidence(0.1)
    assert tables((95, 100, 195, 200)).z(evidence, 1.0)[0] == evidence.z_win[0]
    assert tables((96, 100, 195, 200)).z(evidence, 1.0)[0] != evidence.z_win[0]
    paid = FewEvents.of_cells(
        np.array([[100.0, 0.0, 0.0]]),
        np.array([[100.0, 35.0, 1200.0]]),
        independent=np.array([True]),
        margin=np.zeros(1),
        least=5,
    )
    assert not paid.few_win[0]
    assert not paid.few_harm[0]


def test_limits_stand_on_the_side_that_the_score_says() -> None:
    few, bound = tables((1443, 1526, 1474, 1474), (98, 100, 100, 100)), np.array([1.96, 1.96])
    evidence = evidence_of(
        np.array([[[40.8, 750.0, 20.0, 3000.0]], [[1.0, 50.0, 1.0, 200.0]]]),
        margin=np.zeros(2),
        clustered=False,
        most_correlation=0.0,
    )
    lower, upper = few.limit(evidence, bound, 1.0), few.limit(evidence, bound, -1.0)
    assert (lower[0] > 0.0, lower[1] <= 0.0) == (True, True)
    assert np.all(lower < evidence.effect)
    assert np.all(upper > evidence.effect)
    low, high = (stats.binomtest(k, n).proportion_ci(0.95, "wilson") for k, n in ((1474, 1474), (1443, 1526)))
    reach = math.hypot(1.0 - low.low, high.high - 1443 / 1526)  # Newcombe's method 10
    assert lower[0] == pytest.approx(evidence.effect[0] - reach, abs=1e-4)


def test_an_effect_that_stays_short_of_the_difference_does_not_take_it_out_of_the_limits() -> None:
    """Scenario: the champion is always right, the challenger never. Each row is taken by the champion's mean before it,
    which begins at a half: the effect is above −1 for ever, and −1 is the truth."""
    few, evidence, bound = tables((2020, 2020, 0, 1980)), some_evidence(-0.99048), np.array([2.0])
    lower, upper = float(few.limit(evidence, bound, 1.0)[0]), float(few.limit(evidence, bound, -1.0)[0])
    assert lower == pytest.approx(-1.0)
    assert -0.99048 < upper < -0.98


def test_no_failure_in_either_arm_is_within_a_margin_once_there_are_enough() -> None:
    """The challenger's own failure rate is below .01 with p = .99^n."""
    shown = [float(tables((n, n, n, n), margin=0.01).z(some_evidence(), 1.0)[0]) for n in (100, 300, 1000, 3000)]
    assert shown == sorted(shown)
    for z, n in zip(shown, (100, 300, 1000, 3000), strict=True):
        assert z < 1.96 or stats.norm.sf(z) >= 0.99**n  # no bound is below 1.96: never more than the data say
    assert shown[0] < 1.96 < shown[2]


def test_clustered_blocks_and_the_table_must_both_say_it() -> None:
    """30 blocks without a failure of the challenger: alike, or all of the champion's failures in one of them."""
    alike = [Block(Arm(40, 38.0, 38.0), Arm(40, 40.0, 40.0), 2.0, 40.0, 2.0, 40)] * 30
    storm = [Block(Arm(40, 40.0, 40.0), Arm(40, 40.0, 40.0), 0.0, 40.0, 0.0, 40)] * 29
    storm = [Block(Arm(40, 2.0, 2.0), Arm(40, 40.0, 40.0), 38.0, 40.0, 38.0, 40), *storm]
    plan = Plan(horizon=1200.0)
    for blocks, crossed in ((alike, "better"), (storm, None)):
        _, look = advance(State.start(plan), blocks, plan)
        assert isinstance(look, Look)
        assert look.crossed == crossed


@pytest.mark.parametrize("failures", [(), (4,), (4, 9, 15)])
def test_clusters_without_a_failure_are_within_a_margin_as_those_with_one_are(failures: tuple[int, ...]) -> None:
    """30 days of 200 units, on some of which the champion failed once: less is never less decisive."""
    day = Block(Arm(100, 0.0, 0.0), Arm(100, 0.0, 0.0), 0.0, 50.0, 0.0, 200)
    bad = Block(Arm(100, -1.0, 1.0), Arm(100, 0.0, 0.0), 0.5, 50.0, 0.25, 200)
    plan = Plan(horizon=1500.0, margin=0.01)
    for days, crossed in ((19, None), (30, "better")):
        blocks = [bad if index in failures else day for index in range(days)]
        _, look = advance(State.start(plan), blocks, plan)
        assert isinstance(look, Look)
        assert look.crossed == crossed
        assert look.information_fraction == pytest.approx(days / 30)
        assert ("not enough for better yet: 19 of at least 20 blocks are closed" in look.reasons) is (days == 19)
    assert isinstance(advance(State.start(plan), [day] * 4, plan)[1], NoAnswer)
    assert isinstance(advance(State.start(plan), [day] * 30, replace(plan, margin=0.0))[1], NoAnswer)


def test_outcomes_that_are_all_alike_wait_for_whole_days_too() -> None:
    """At several scales five whole days are asked of a win, however many hours there are."""
    hour = Block(Arm(100, 0.0, 0.0), Arm(100, 0.0, 0.0), 0.0, 50.0, 0.0, 200)
    plan = Plan(horizon=24 * 7 * 50.0, margin=0.01, min_blocks_win=5)
    for days, crossed in ((4, None), (7, "better")):
        scales = [[_times(hour, length)] * (24 * days // length) for length in (1, 6, 24)]
        _, look = advance_at_scales(State.start(plan), scales, scales, plan)
        assert isinstance(look, Look)
        assert look.crossed == crossed


def _times(block: Block, n: int) -> Block:
    arm = Arm(n * block.champion.n, 0.0, 0.0)
    return Block(arm, arm, 0.0, n * block.information, 0.0, n * block.units)


def test_harm_that_has_no_success_yet_needs_no_five_of_them() -> None:
    """Four failures of forty, all the challenger's, which serves ten of them: p = C(36,6)/C(40,10)."""
    plan = Plan(horizon=7.5, clustered=False, mode="fixed")
    block = Block(Arm(30, 0.0, 0.0), Arm(10, -4.0, 4.0), -4 * 0.75 + 0.0, 7.5, 0.75, 40)
    _, look = advance(State.start(plan), [block], plan)
    assert isinstance(look, Look)
    assert look.crossed == "worse"
    assert look.p_harm == pytest.approx(stats.hypergeom(40, 4, 10).sf(3), rel=1e-9)
