"""Adjusted p values against statsmodels and scipy, Dunnett's constants against the published tables."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from statsmodels.stats.multitest import multipletests

from evaluator.stats import NoAnswer, PlanError, StatsError
from evaluator.stats.multiplicity import (
    benjamini_hochberg,
    dunnett,
    dunnett_bound,
    dunnett_level,
    holm,
    many_to_one_error,
    sidak_level,
)

FAMILIES = [
    (0.012, 0.04, 0.003, 0.76, 0.2),
    (0.05,),
    (0.01, 0.01, 0.01),
    (1.0, 0.0, 0.5, 0.5),
    tuple(np.random.default_rng(3).random(40).tolist()),
]


@pytest.mark.parametrize("ps", FAMILIES)
def test_adjusted_values_are_statsmodels(ps: tuple[float, ...]) -> None:
    assert holm(ps) == pytest.approx(tuple(multipletests(ps, method="holm")[1]), abs=1e-15)
    assert benjamini_hochberg(ps) == pytest.approx(tuple(multipletests(ps, method="fdr_bh")[1]), abs=1e-15)
    by = tuple(multipletests(ps, method="fdr_by")[1])
    assert benjamini_hochberg(ps, dependent=True) == pytest.approx(by, abs=1e-15)


def test_no_answer_keeps_its_place_and_counts_in_the_family() -> None:
    assert holm((0.01, None, 0.04)) == pytest.approx((0.03, None, 0.08))
    assert benjamini_hochberg((0.01, None, 0.04)) == pytest.approx((0.03, None, 0.06))
    assert holm((None, None)) == (None, None)
    assert holm(()) == benjamini_hochberg(()) == ()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(StatsError):
        holm((0.1, bad))
    with pytest.raises(StatsError):
        benjamini_hochberg((bad,))


# Dunnett (1955, 1964): equal groups, infinite degrees of freedom, k = 1 … 9.
ONE_SIDED = {
    0.05: (1.64, 1.92, 2.06, 2.16, 2.23, 2.29, 2.34, 2.38, 2.42),
    0.01: (2.33, 2.56, 2.68, 2.77, 2.84, 2.89, 2.93, 2.97, 3.00),
}
TWO_SIDED = {
    0.05: (1.96, 2.21, 2.35, 2.44, 2.51, 2.57, 2.61, 2.65, 2.69),
    0.01: (2.58, 2.79, 2.92, 3.00, 3.06, 3.11, 3.15, 3.19, 3.22),
}


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_published_constants_of_equal_groups(alpha: float) -> None:
    for k in range(1, 10):
        assert dunnett_bound(alpha, [0.5] * k, "greater") == pytest.approx(ONE_SIDED[alpha][k - 1], abs=0.0051)
        assert dunnett_bound(alpha, [0.5] * k) == pytest.approx(TWO_SIDED[alpha][k - 1], abs=0.0051)


@pytest.mark.parametrize("shares", [(0.1, 0.3, 0.8), (0.05, 0.05), (0.99, 0.01, 0.5, 0.9)])
@pytest.mark.parametrize("bound", [0.0, 1.0, 2.0, 3.5])
def test_one_integral_is_the_multivariate_normal(shares: tuple[float, ...], bound: float) -> None:
    correlation = np.sqrt(np.outer(shares, shares))
    np.fill_diagonal(correlation, 1.0)
    law = multivariate_normal(np.zeros(len(shares)), correlation, maxpts=400_000, abseps=1e-6, releps=1e-6, seed=1)
    upper = np.full(len(shares), bound)
    assert many_to_one_error(bound, shares, "greater") == pytest.approx(1.0 - law.cdf(upper), abs=1e-5)
    assert many_to_one_error(bound, shares) == pytest.approx(1.0 - law.cdf(upper, lower_limit=-upper), abs=1e-5)


def test_ends_of_correlation_and_of_the_tail() -> None:
    """Nearly no champion: all z are one. Nearly only champion: they are independent. Tails keep their digits."""
    pair = 1.0 - multivariate_normal([0.0, 0.0], [[1.0, 0.999], [0.999, 1.0]]).cdf([1.96, 1.96])
    assert many_to_one_error(1.96, [0.999, 0.999], "greater") == pytest.approx(pair, rel=1e-6)
    assert norm.sf(1.96) < pair < 1.05 * norm.sf(1.96)
    assert many_to_one_error(1.96, [1e-9] * 5, "greater") == pytest.approx(1 - norm.cdf(1.96) ** 5, rel=1e-6)
    assert many_to_one_error(8.0, [1e-6] * 4, "greater") == pytest.approx(4 * norm.sf(8.0), rel=1e-6)


def test_correlation_is_that_of_the_score_process() -> None:
    """Three arms of shares .5, .3, .2: S_i over the units of the champion and challenger i, π_i within them."""
    rng, runs, n = np.random.default_rng(4), 4000, 400
    arm = rng.choice(3, size=(runs, n), p=[0.5, 0.3, 0.2])
    y = rng.standard_normal((runs, n))
    scores, shares = [], []
    for i, share in ((1, 0.3 / 0.8), (2, 0.2 / 0.7)):
        scores.append((np.where(arm == i, 1.0 - share, np.where(arm == 0, -share, 0.0)) * y).sum(axis=1))
        shares.append(share)
    assert np.corrcoef(scores)[0, 1] == pytest.approx(np.sqrt(shares[0] * shares[1]), abs=0.045)


def test_step_down_values() -> None:
    zs, shares = (2.5, None, -2.2, 0.3), (0.2, 0.3, 0.4, 0.5)
    found = dunnett(zs, shares)
    assert not isinstance(found, NoAnswer)
    first = many_to_one_error(2.5, shares)
    second = many_to_one_error(2.2, (0.3, 0.4, 0.5))
    third = many_to_one_error(0.3, (0.3, 0.5))
    assert found == (pytest.approx(first), None, pytest.approx(second), pytest.approx(third))
    assert first < second < third
    one_sided = dunnett(zs, shares, "greater")
    assert not isinstance(one_sided, NoAnswer)
    assert one_sided[2] == pytest.approx(many_to_one_error(-2.2, (0.3, 0.4), "greater"))


def test_what_is_weaker_is_never_adjusted_to_less() -> None:
    found = dunnett((2.0, 1.99, 1.98), (0.5, 0.5, 0.5))
    assert not isinstance(found, NoAnswer)
    assert found == (pytest.approx(many_to_one_error(2.0, (0.5, 0.5, 0.5))),) * 3
    assert many_to_one_error(1.99, (0.5, 0.5)) < many_to_one_error(2.0, (0.5, 0.5, 0.5))


def test_step_down_is_never_above_holm_and_beats_it_where_the_champion_is_shared() -> None:
    zs, shares = (2.3, 2.1, 1.9, 0.1), (0.5, 0.5, 0.5, 0.5)
    by_holm = holm([float(2.0 * norm.sf(z)) for z in zs])
    found = dunnett(zs, shares)
    assert not isinstance(found, NoAnswer)
    for ours, theirs in zip(found, by_holm, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours <= theirs * (1 + 1e-12)  # equal for the last one, but for the last bit on some processors
    assert found[0] is not None
    assert by_holm[0] is not None
    assert found[0] < 0.9 * by_holm[0]


def test_levels() -> None:
    assert dunnett_level(0.05, [0.5]) == pytest.approx(0.05)
    assert dunnett_level(0.05, [0.5] * 3, "greater") == pytest.approx(norm.sf(2.0621), rel=1e-3)
    assert sidak_level(0.05, 1) == pytest.approx(0.05)
    assert 1.0 - (1.0 - sidak_level(0.05, 7)) ** 7 == pytest.approx(0.05)
    assert 0.05 / 3 < sidak_level(0.05, 3) < dunnett_level(0.05, [0.5] * 3)


def test_refusals() -> None:
    for shares in ((), (0.0, 0.5), (0.5, 1.0), (float("nan"),)):
        with pytest.raises(PlanError):
            dunnett_bound(0.05, shares)
    for alpha in (0.0, 1.0):
        with pytest.raises(PlanError):
            dunnett_bound(alpha, [0.5])
        with pytest.raises(PlanError):
            sidak_level(alpha, 2)
    with pytest.raises(PlanError):
        sidak_level(0.05, 0)
    with pytest.raises(PlanError):
        many_to_one_error(1.0, [0.5], "less")  # type: ignore[arg-type]
    with pytest.raises(StatsError):
        dunnett([1.0], [0.5, 0.5])
    with pytest.raises(StatsError):
        dunnett([float("nan")], [0.5])
    assert isinstance(dunnett([None, None], [0.5, 0.5]), NoAnswer)
