"""Planning against statsmodels, scipy, other forms of the same formula, and closed forms of Brownian motion."""

import math

import numpy as np
import pytest
from builders.statistics import bounds_of, expected_time, group_sequential
from scipy.stats import entropy, multivariate_normal, norm

from evaluator.stats import PlanError, Spending
from evaluator.stats.power import (
    block_widening,
    cluster_design_effect,
    course,
    information_rate,
    kl,
    least_units,
    split_variance,
    wald_units,
)
from evaluator.stats.sequential_test import HARM_SIDE, Side

TWENTIETHS = [k / 20 for k in range(1, 21)]


# What a unit of traffic tells ----------------------------------------------------------------------------------------


def test_variance_of_split_traffic_by_enumeration() -> None:
    share, p0, p1 = 0.1, 0.8, 0.83
    squares = sum(
        chance * rate * (arm - share) ** 2 * (y - p0) ** 2
        for arm, chance, p in ((1, share, p1), (0, 1.0 - share, p0))
        for y, rate in ((1, p), (0, 1.0 - p))
    )
    found = split_variance(share, p0 * (1 - p0), p1 * (1 - p1), p1 - p0)
    assert found == pytest.approx(squares / (share * (1.0 - share)), rel=1e-12)


def test_design_effects_are_variances_of_sums() -> None:
    sizes, rho = np.array([1.0, 5.0, 9.0, 25.0]), 0.2
    exact = (sizes + sizes * (sizes - 1.0) * rho).sum() / sizes.sum()
    variation = sizes.std() / sizes.mean()
    assert cluster_design_effect(float(sizes.mean()), rho, float(variation)) == pytest.approx(exact)
    assert cluster_design_effect(1.0, 0.5) == 1.0
    r, n = 0.4, 4000
    lags = np.arange(1, n)
    assert block_widening(r) == pytest.approx(1.0 + 2.0 * ((n - lags) / n * r**lags).sum(), rel=1e-3)
    assert block_widening(0.0) == 1.0


# Many looks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [-1.0, 0.0, 2.0, 3.5, 5.0])
def test_first_crossings_are_a_normal_integral(drift: float) -> None:
    """Against the joint normal law of z at the first looks."""
    times, bounds, lower = [0.3, 0.5, 1.0], [2.2, 2.0, 1.7], [-1.5, -1.0, 0.5]
    found = course(times, bounds, lower, drift)
    means = [drift * math.sqrt(t) for t in times]
    correlations = np.array([[math.sqrt(min(s, t) / max(s, t)) for s in times] for t in times])
    inside = [1.0, float(norm.cdf(bounds[0] - means[0]) - norm.cdf(lower[0] - means[0]))]
    for k in (2, 3):
        law = {"mean": means[:k], "cov": correlations[:k, :k], "lower_limit": lower[:k], "abseps": 1e-9, "rng": 1}
        inside.append(float(multivariate_normal.cdf(bounds[:k], **law)))
    assert found.upper + found.lower == pytest.approx(-np.diff(inside), abs=2e-6)
    assert found.upper[0] == pytest.approx(norm.sf(bounds[0] - drift * math.sqrt(0.3)), abs=1e-12)
    if drift == 0.0:
        mirrored = course(times, [-b for b in lower], [-b for b in bounds])
        assert mirrored.upper == pytest.approx(found.lower, abs=1e-12)


def test_many_looks_at_a_line_come_near_the_closed_form() -> None:
    """B(t) + θt ever over a by t = 1 (Bachelier-Lévy), watched often; a correction of 0.5826 σ for discreteness."""
    looks, a, theta = 200, 1.5, 0.8
    times = [k / looks for k in range(1, looks + 1)]
    found = course(times, [a / math.sqrt(t) for t in times], None, theta).above
    moved = a + 0.5826 / math.sqrt(looks)
    expected = norm.sf(moved - theta) + math.exp(2.0 * theta * moved) * norm.cdf(-moved - theta)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("spending", [Spending(), Spending("obrien-fleming"), Spending("power", 2.0)])
def test_under_no_effect_a_plan_costs_its_level_at_each_look(spending: Spending) -> None:
    found = group_sequential(0.0, TWENTIETHS, Side(spending=spending))
    assert np.cumsum(found.upper) == pytest.approx([spending.spent(0.025, t) for t in TWENTIETHS], abs=1e-9)
    both = group_sequential(0.0, TWENTIETHS, harm=HARM_SIDE)
    assert both.above + both.below <= 0.045
    assert both.above == pytest.approx(0.025, abs=2e-4)


def test_jennison_and_turnbulls_inflation_of_pocock_and_obrien_fleming() -> None:
    """Chapter 2: five looks, α = .05 two-sided, power .9: R_P = 1.207 and R_B = 1.026 times the fixed sample."""
    times, fixed = [k / 5 for k in range(1, 6)], norm.isf(0.025) + norm.ppf(0.9)
    for c, delta, expected in ((2.413, 0.5, 1.207), (2.040, 0.0, 1.026)):
        bounds = [c * (k / 5) ** (delta - 0.5) for k in range(1, 6)]
        low, high = 2.0, 5.0
        for _ in range(60):
            middle = (low + high) / 2.0
            found = course(times, bounds, [-b for b in bounds], middle)
            low, high = (middle, high) if found.above + found.below < 0.9 else (low, middle)
        assert (middle / fixed) ** 2 == pytest.approx(expected, abs=1e-3)


def test_the_default_plan_reaches_its_numbers_on_the_reference_traffic() -> None:
    """p₀ = 0.80, horizon 50,000 units, a look every 50 in the table, every 500 here; E[N] against the oracle SPRT's."""
    times = [k / 100 for k in range(1, 101)]
    for share, p1, oracle, power, ratio in (
        (0.1, 0.82, 28_234, 0.90, 1.10),
        (0.1, 0.85, 5_014, 0.999, 1.75),
        (0.5, 0.81, 35_752, 0.75, 1.00),
    ):
        v = split_variance(share, 0.16, p1 * (1.0 - p1), p1 - 0.8)
        drift = (p1 - 0.8) * math.sqrt(50_000 * (share * (1.0 - share)) / v)
        found = group_sequential(drift, times, harm=HARM_SIDE)
        assert found.above >= power
        assert expected_time(times, found) * 50_000 <= ratio * oracle


def test_impossible_courses_are_refused() -> None:
    for times, upper, lower, reason in (
        ([], [], None, "one bound a side"),
        ([1.0], [1.0, 2.0], None, "one bound a side"),
        ([0.0], [1.0], None, "must be positive and increasing"),
        ([0.5, 0.5], [1.0, 1.0], None, "must be positive and increasing"),
        ([1.0], [1.0], [1.0], "the upper bound must lie above the lower bound"),
        ([math.inf], [1.0], None, "must be positive and increasing"),
    ):
        with pytest.raises(PlanError, match=reason):
            course(times, upper, lower)
    with pytest.raises(PlanError):
        course([1.0], [1.0], None, math.nan)


# What no test can beat ------------------------------------------------------------------------------------------------


def test_divergence() -> None:
    for p, q in ((0.3, 0.8), (0.5, 0.5), (0.0, 0.4), (1.0, 0.4)):
        assert kl(p, q) == pytest.approx(float(entropy([p, 1.0 - p], [q, 1.0 - q])), abs=1e-14)
    assert (kl(0.5, 0.0), kl(0.5, 1.0), kl(0.0, 0.0), kl(1.0, 1.0)) == (math.inf, math.inf, 0.0, 0.0)


def test_the_composite_rate_is_the_mutual_information_and_less() -> None:
    composite, simple = information_rate(0.3, 0.6, 0.9)
    joint = np.array([[0.7 * 0.4, 0.7 * 0.6], [0.3 * 0.1, 0.3 * 0.9]])
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    assert composite == pytest.approx(float((joint * np.log(joint / product)).sum()), rel=1e-12)
    assert composite < simple


def test_lower_bound_and_walds_approximation() -> None:
    rate = information_rate(0.1, 0.8, 0.82)[0]
    bound = least_units(rate, 0.025, 0.1)
    assert bound == pytest.approx((0.9 * math.log(0.9 / 0.025) + 0.1 * math.log(0.1 / 0.975)) / rate)
    # A small effect's rate is δ² i / 2v, so Wald's mean under the alternative is the bound.
    null, alternative = wald_units(0.001, 0.16, 0.025, 0.1, 0.09)
    small = least_units(information_rate(0.1, 0.8, 0.801)[0], 0.025, 0.1)
    assert alternative == pytest.approx(small, rel=0.005)
    assert null < alternative
    # The oracle SPRT was simulated to need 28,234 units here, at α/2 and power .9; no plan can need fewer than this.
    assert 0.85 * 28_234 < bound < 28_234


@pytest.mark.parametrize(
    "call",
    [
        lambda: split_variance(1.0, 1.0, 1.0),
        lambda: block_widening(1.0),
        lambda: cluster_design_effect(0.5, 0.1),
        lambda: cluster_design_effect(5.0, 1.1),
        lambda: kl(1.1, 0.5),
        lambda: least_units(0.0, 0.1, 0.1),
        lambda: least_units(1.0, 0.0, 0.1),
        lambda: wald_units(0.1, 1.0, 0.5, 0.6, 0.1),
    ],
)
def test_impossible_plans_are_refused(call: object) -> None:
    with pytest.raises(PlanError):
        call()  # type: ignore[operator]


# One clock for two stages ---------------------------------------------------------------------------------------------


def test_boundaries_agree_with_the_independent_integration_at_odd_times() -> None:
    times = [0.013, 0.02, 0.3, 0.31, 0.7, 1.0, 1.3]
    bounds = bounds_of(Side(0.025, Spending(reserve=0.3)), times)
    spent = [Spending(reserve=0.3).spent(0.025, t) for t in times]
    assert np.cumsum(course(times, bounds).upper) == pytest.approx(spent, abs=1e-8)
