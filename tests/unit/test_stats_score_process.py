"""One look's statistics against scipy, statsmodels and formulas written out."""

import dataclasses
import math

import numpy as np
import pytest
from builders.statistics import evidence
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.tsa.stattools import acf

from evaluator.stats import Arm, Block, Evidence, NoAnswer, PairedSums, SplitSums, paired_blocks, split_blocks
from evaluator.stats.cluster_robust import MOST_CORRELATION

RNG = np.random.default_rng(20260106)


def blocks_of(scores: np.ndarray, information: float | np.ndarray = 1.0, variance: float = 1e-9) -> list[Block]:
    weights = np.broadcast_to(information, scores.shape)
    return [Block(Arm(9), Arm(1), float(s), float(i), variance, 10) for s, i in zip(scores, weights, strict=True)]


def look(scores: np.ndarray, information: float | np.ndarray = 1.0, **settings: float) -> Evidence:
    found = evidence(blocks_of(scores, information), **settings)  # type: ignore[arg-type]
    assert isinstance(found, Evidence)
    return found


def uncorrelated(n: int) -> np.ndarray:
    """Scores whose corrected lag-1 correlation is clipped to 0."""
    while True:
        scores = RNG.standard_normal(n) + 0.6
        if acf(scores, nlags=1, adjusted=True, fft=False)[1] < -2.0 / n:
            return scores


def test_t_is_students_and_z_the_uncentred_one_where_blocks_are_equal_and_uncorrelated() -> None:
    scores = uncorrelated(40)
    found = look(scores)
    assert found.widening == 1.0
    assert found.t == pytest.approx(stats.ttest_1samp(scores, 0.0).statistic, rel=1e-12)
    symmetric = dataclasses.replace(found, skewness=0.0)
    assert symmetric.z_win == pytest.approx(scores.sum() / math.sqrt((scores**2).sum()), rel=1e-12)
    assert found.skewness == pytest.approx(stats.skew(scores), rel=1e-12)


def test_correlation_is_that_of_statsmodels_corrected_for_its_bias() -> None:
    scores = np.convolve(RNG.standard_normal(60), [1.0, 0.6, 0.3], "valid")
    n = len(scores)
    raw = acf(scores, nlags=1, adjusted=True, fft=False)[1]
    found = look(scores)
    assert found.autocorrelation == pytest.approx((n * raw + 1.75) / (n - 4), rel=1e-12)
    assert found.widening == pytest.approx((1 + found.autocorrelation) / (1 - found.autocorrelation))
    centred = ((scores - scores.mean()) ** 2).sum() * n / (n - 1)
    assert found.variance == pytest.approx(found.widening * centred, rel=1e-12)


def test_z_is_that_of_as_many_independent_blocks_of_equal_information() -> None:
    """n' = (Σ i)² / Σ i² over the widening: correlated blocks, and small ones before a ramp's large ones, are fewer."""
    information = np.repeat([1.0, 5.0, 10.0], 15)
    noise = np.convolve(RNG.standard_normal(46), [1.0, 0.5], "valid")
    found = look(noise * np.sqrt(information) + 1.2 * information, information)
    n = information.sum() ** 2 / (information**2).sum() / found.widening
    assert found.widening > 1.2
    assert found.n_equal == pytest.approx(45 * 16**2 / (3 * 126))
    residual = noise * np.sqrt(information) + (1.2 - found.effect) * information
    variance = found.widening * (residual**2).sum() * 45 / 44
    assert found.t == pytest.approx(found.score / math.sqrt(variance), rel=1e-12)
    symmetric = dataclasses.replace(found, skewness=0.0)
    assert symmetric.z_win == pytest.approx(found.t * math.sqrt(n / (n - 1.0 + found.t**2)), rel=1e-12)
    raw = acf(residual, nlags=1, adjusted=True, fft=False)[1]
    assert found.autocorrelation == pytest.approx((45 * raw + 1.75) / 41, abs=0.01)


def test_correlation_is_clipped_on_both_sides() -> None:
    assert look(np.arange(30.0)).autocorrelation == MOST_CORRELATION
    assert look(np.tile([1.0, -1.0], 15)).autocorrelation == 0.0


def test_skewed_blocks_are_corrected_as_hall_does() -> None:
    scores = 1.0 - RNG.exponential(size=50)
    found = dataclasses.replace(
        look(scores), widening=1.0, variance=float(((scores - scores.mean()) ** 2).sum() * 50 / 49)
    )
    s, g, n = scores.mean() / scores.std(), stats.skew(scores), 50
    h = math.sqrt(n) * (s + g * s**2 / 3 + g**2 * s**3 / 27 + g / (6 * n))
    expected = stats.norm.isf(stats.t.sf(h * math.sqrt((n - 1) / n), n - 1))
    bounded = scores.sum() / math.sqrt((scores**2).sum())
    assert found.z_win == pytest.approx(min(expected, bounded), rel=1e-9)
    assert g < -0.5
    assert expected < bounded  # it is the correction that decides here


def test_z_is_bounded_by_the_effective_number_of_blocks() -> None:
    scores = 1.0 + 1e-3 * RNG.standard_normal(25)
    found = look(scores)
    assert found.t > 100.0
    assert found.z_win <= math.sqrt(found.n_effective)


def test_limits_invert_the_deciding_statistic_exactly() -> None:
    for _ in range(50):
        n = int(RNG.integers(6, 60))
        information = RNG.integers(1, 100, n).astype(float)
        scores = RNG.gamma(1.0, 1.0, n) * np.sqrt(information) - 0.5
        found = look(scores, information)
        for bound in (0.3, 1.7, 2.3):
            lower, upper = found.lower(bound), found.upper(bound)
            assert lower < found.effect < upper
            if math.isfinite(lower):
                assert dataclasses.replace(found, margin=-lower).z_win == pytest.approx(bound, abs=1e-7)
            if math.isfinite(upper):
                assert dataclasses.replace(found, margin=-upper).z_harm == pytest.approx(bound, abs=1e-7)
            assert (found.z_win > bound) == (lower > 0.0)
            assert (found.z_harm > bound) == (upper < 0.0)


def test_a_bound_that_z_can_not_reach_leaves_that_side_open() -> None:
    found = look(RNG.standard_normal(8))
    assert found.lower(4.0) == -math.inf
    assert found.upper(4.0) == math.inf


def test_swapping_arms_flips_the_sign() -> None:
    scores = RNG.gamma(2.0, 1.0, 30) - 1.5
    one, other = look(scores), look(-scores)
    assert other.effect == -one.effect
    assert (other.z_win, other.z_harm) == (one.z_harm, one.z_win)
    assert other.lower(2.0) == -one.upper(2.0)


def test_a_margin_moves_the_null_and_not_the_effect() -> None:
    scores, information = RNG.standard_normal(30) * 5, np.full(30, 10.0)
    plain, shifted = look(scores, information), look(scores, information, margin=0.2)
    assert shifted.effect == plain.effect
    assert shifted.lower(2.0) == plain.lower(2.0)
    assert shifted.t == pytest.approx((plain.score + 0.2 * plain.information) / math.sqrt(plain.variance))


def test_the_variance_is_at_least_that_of_independent_units() -> None:
    """Blocks that agree by chance more than independent units could."""
    scores = 1.0 + 0.01 * RNG.standard_normal(30)
    found = evidence(blocks_of(scores, 100.0, variance=200.0))
    assert isinstance(found, Evidence)
    assert found.variance == pytest.approx(30 * 200.0 - scores.sum() ** 2 / 300)
    assert found.widening * ((scores - scores.mean()) ** 2).sum() < 1.0


def test_units_declared_independent_give_the_two_proportion_test() -> None:
    """At the realised share and the pooled mean the score is n₁n₀/n times the difference, and its randomisation
    variance the pooled one."""
    n0, n1, x0, x1 = 900, 100, 720, 88
    sums = SplitSums()
    arm = np.repeat([False, True], [n0, n1])
    y = np.concatenate([np.arange(n0) < x0, np.arange(n1) < x1]).astype(float)
    sums.add(arm, np.full(1000, 0.1), y)
    mean = (x0 + x1) / 1000
    found = evidence(split_blocks([sums], prior_mean=mean), clustered=False)
    assert isinstance(found, Evidence)
    z, _ = proportions_ztest([x1, x0], [n1, n0])
    assert found.effect == pytest.approx(x1 / n1 - x0 / n0, rel=1e-12)
    assert found.score / math.sqrt(sums.randomisation_variance(mean)) == pytest.approx(z, rel=1e-9)
    assert found.variance == max(sums.variance(mean), sums.randomisation_variance(mean))
    assert (found.z_win if found.t > 0.0 else -found.z_harm) == pytest.approx(found.score / math.sqrt(found.variance))
    assert found.lower(1.96) == pytest.approx(found.effect - 1.96 * math.sqrt(found.variance) / found.information)


def test_a_block_is_scored_at_the_champions_mean_of_earlier_blocks_only() -> None:
    parts = []
    for level in (0.2, 0.9, 0.5):
        sums = SplitSums()
        sums.add(np.array([False, False, True]), np.full(3, 0.3), np.array([level, level + 0.2, 5.0]))
        parts.append(sums)
    made = split_blocks(parts)
    assert made[0].information == 0.0  # no prediction yet: counted, not scored
    assert made[0].champion.n == 2
    assert made[1].score == pytest.approx(parts[1].score(0.3))
    assert made[2].score == pytest.approx(parts[2].score((0.2 + 0.4 + 0.9 + 1.1) / 4))
    assert split_blocks(parts, prior_mean=0.25)[0].score == pytest.approx(parts[0].score(0.25))
    changed = [*parts[:2], SplitSums()]
    changed[2].add(np.array([False]), np.full(1, 0.3), np.array([99.0]))
    assert split_blocks(changed)[:2] == made[:2]


def test_pairs_need_no_prediction() -> None:
    sums = PairedSums()
    sums.add(np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.5]))
    (block,) = paired_blocks([sums])
    assert (block.score, block.information, block.variance, block.units) == (0.5, 3.0, 1.25, 3)
    assert block.challenger.mean == pytest.approx(2.5 / 3)


def test_no_answer_says_why() -> None:
    for blocks, reason in (
        ([], "no block"),
        (blocks_of(RNG.standard_normal(4)), "4 of at least 5 blocks"),
        (blocks_of(np.zeros(9), 1.0, 0.0), "alike throughout"),
    ):
        found = evidence(blocks)
        assert isinstance(found, NoAnswer)
        assert reason in found.reason
        assert found.n_challenger == len(blocks)


def test_a_difference_without_any_noise_is_still_judged_with_care() -> None:
    """Champion always right, challenger always wrong, on every request of every block."""
    found = evidence([Block(Arm(50, 50, 50), Arm(50, 0, 0), -50.0, 50.0, 50.0, 50)] * 30)
    assert isinstance(found, Evidence)
    assert math.sqrt(30 / 2) - 1e-9 < found.z_harm < math.sqrt(30)
    assert -2.0 < found.lower(2.5) < -1.0 < found.upper(2.5) < 0.0
