"""The sums against formulas written out in floats and fractions, and their refusals."""

from fractions import Fraction

import numpy as np
import pytest

from evaluator.stats import OutcomeError, PairedSums, PropensityError, SplitSums, StatsError, TailSums

RNG = np.random.default_rng(20260105)
N = 500
ARM = RNG.random(N) < 0.3
PI = RNG.choice([0.01, 0.05, 0.1, 0.5], N)
Y = RNG.lognormal(0.0, 1.0, N)
OTHER = RNG.lognormal(0.1, 1.0, N)


def split() -> SplitSums:
    sums = SplitSums()
    for arm, pi, y in zip(ARM, PI, Y, strict=True):
        sums.add(bool(arm), float(pi), float(y))
    return sums


@pytest.mark.parametrize("m", [0.0, 0.8, -3.5])
def test_score_variance_and_information_are_the_formulas(m: float) -> None:
    sums, a = split(), ARM - PI
    assert sums.score(m) == pytest.approx(float((a * (Y - m)).sum()), rel=1e-12, abs=1e-10)
    assert sums.variance(m) == pytest.approx(float((a**2 * (Y - m) ** 2).sum()), rel=1e-12)
    assert sums.randomisation_variance(m) == pytest.approx(float((PI * (1 - PI) * (Y - m) ** 2).sum()), rel=1e-12)
    assert sums.information == pytest.approx(float((PI * (1 - PI)).sum()), rel=1e-14)


def test_arm_sums_are_exact_to_the_resolution() -> None:
    sums = split()
    assert (sums.n_champion, sums.n_challenger) == (int((~ARM).sum()), int(ARM.sum()))
    exact = sum((Fraction(float(y)) for y in Y[ARM]), Fraction(0))
    assert abs(Fraction(sums.y_challenger, 2**60) - exact) <= Fraction(N, 2**61)
    assert sums.yy_champion / 2**60 == pytest.approx(float((Y[~ARM] ** 2).sum()), rel=1e-12)


def test_pairs_are_the_formulas() -> None:
    sums = PairedSums()
    for y0, y1 in zip(Y, OTHER, strict=True):
        sums.add(float(y0), float(y1))
    d = OTHER - Y
    assert sums.score() == pytest.approx(float(d.sum()), rel=1e-12)
    assert sums.variance() == pytest.approx(float((d**2).sum()), rel=1e-12)
    assert sums.score(0.1) == pytest.approx(float((d - 0.1).sum()), rel=1e-12)
    assert sums.variance(0.1) == pytest.approx(float(((d - 0.1) ** 2).sum()), rel=1e-12)
    assert sums.information == N
    assert sums.y_champion / 2**60 == pytest.approx(float(Y.sum()), rel=1e-12)
    assert sums.yy_challenger / 2**60 == pytest.approx(float((OTHER**2).sum()), rel=1e-12)


def test_squares_of_tiny_outcomes_do_not_vanish() -> None:
    """Squared errors of returns: Y near 1e-8, Y² near 1e-16."""
    sums, y = SplitSums(), -RNG.exponential(1e-8, 400)
    sums.add(ARM[:400], PI[:400], y)
    assert sums.variance(0.0) == pytest.approx(float(((ARM - PI)[:400] ** 2 * y**2).sum()), rel=0.01)


def test_large_outcomes_and_many_limbs_agree_with_one_by_one() -> None:
    one, many = SplitSums(), SplitSums()
    y = np.array([1e30, -1e45, 3.0, 1e-20, -0.0])
    arm = np.array([True, False, True, False, True])
    pi = np.full(5, 0.25)
    for index in range(5):
        one.add(bool(arm[index]), 0.25, float(y[index]))
    many.add(arm, pi, y)
    assert one.to_list() == many.to_list()


@pytest.mark.parametrize("y", [float("nan"), float("inf"), -float("inf"), 1e200])
def test_outcomes_that_are_no_numbers_are_refused_and_nothing_is_counted(y: float) -> None:
    sums, pairs = SplitSums(), PairedSums()
    for call in (
        lambda: sums.add(True, 0.1, y),
        lambda: sums.add(np.array([True, False]), np.array([0.1, 0.1]), np.array([0.5, y])),
        lambda: pairs.add(0.0, y),
        lambda: pairs.add(y, 0.0),
        lambda: pairs.add(np.array([0.0, 1.0]), np.array([y, 1.0])),
    ):
        with pytest.raises(OutcomeError):
            call()
    assert sums == SplitSums()
    assert pairs == PairedSums()


@pytest.mark.parametrize("pi", [0.0, 1.0, -0.1, 1.1, float("nan")])
def test_impossible_propensities_are_refused_and_nothing_is_counted(pi: float) -> None:
    sums = SplitSums()
    with pytest.raises(PropensityError):
        sums.add(True, pi, 1.0)
    with pytest.raises(PropensityError, match="position 1"):
        sums.add(np.array([True, True]), np.array([0.5, pi]), np.array([1.0, 1.0]))
    assert sums == SplitSums()


def test_shapes_and_snapshots_that_do_not_fit_are_refused() -> None:
    with pytest.raises(StatsError, match="shape"):
        SplitSums().add(np.array([True]), np.full(2, 0.5), np.array([1.0, 2.0]))
    with pytest.raises(StatsError, match="pairs"):
        PairedSums().add(np.zeros(2), np.zeros(3))
    for wrong in ([1, 2], [1.0] * 14, ["1"] * 14):
        with pytest.raises(StatsError, match="14 integers"):
            SplitSums.from_list(wrong)
    with pytest.raises(StatsError, match="7 integers"):
        PairedSums.from_list([0] * 14)
    with pytest.raises(OutcomeError):
        split().variance(float("nan"))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e30])
def test_tail_sums_have_the_moments_of_their_outcomes_however_they_are_cut(scale: float) -> None:
    y = scale * RNG.lognormal(0.0, 1.0, 400)
    whole, parts = TailSums(), TailSums()
    whole.add(y)
    for part in np.array_split(RNG.permutation(y), 7):
        one = TailSums()
        one.add(part)
        parts = parts.merge(one)
    assert parts == whole
    found = whole.moments
    assert found[0] == 400
    assert found[1] == pytest.approx(y.mean())
    for power, moment in enumerate(found[2:], start=2):
        assert moment == pytest.approx(float(((y - y.mean()) ** power).mean()), rel=1e-6)


def test_what_rounding_would_make_of_a_small_spread_on_a_large_mean_is_not_taken_for_a_tail() -> None:
    sums = TailSums()
    sums.add(1e6 + RNG.standard_normal(500))
    _, mean, second, third, fourth = sums.moments
    assert (mean, second) == (pytest.approx(1e6), pytest.approx(1.0, rel=0.2))
    assert (third, fourth) == (0.0, 3.0 * second**2)
    assert TailSums().moments == (0.0, 0.0, 0.0, 0.0, 0.0)
    sums.add(np.array([1e99]))
    assert all(np.isfinite(sums.moments))
