"""The ramp-aware sample-ratio test: exact expectation, what it finds, what it must not find."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluator.stats import AssignmentCounts, NoAnswer, PropensityError, SampleRatio, StatsError, sample_ratio
from evaluator.stats.sample_ratio_mismatch import RatioEvidence


@pytest.mark.parametrize("shares", [(0.5,) * 6, (0.01, 0.05, 0.1, 0.1), (0.01, 0.01, 0.05, 0.05, 0.1, 0.1, 0.99, 0.5)])
def test_expectation_under_the_logged_propensities_is_one(shares: tuple[float, ...]) -> None:
    """Every outcome of up to eight assignments, so no sampling error."""
    total = 0.0
    for arms in itertools.product((False, True), repeat=len(shares)):
        counts = AssignmentCounts()
        for share, arm in zip(shares, arms, strict=True):
            counts.add(arm, share)
        probability = math.prod(share if arm else 1.0 - share for share, arm in zip(shares, arms, strict=True))
        total += probability * math.exp(RatioEvidence.from_counts(counts).log_e)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_evidence_is_the_mean_likelihood_ratio() -> None:
    counts = {0.1: [880, 120], 0.01: [990, 10]}
    ratios = []
    for size in 0.002 * 1.15 ** np.arange(55):
        for shift in (-size, size):
            log = 0.0
            for share, (champion, challenger) in counts.items():
                shifted = 1.0 / (1.0 + (1.0 - share) / share * math.exp(-shift))
                log += challenger * math.log(shifted / share) + champion * math.log((1.0 - shifted) / (1.0 - share))
            ratios.append(math.exp(log))
    assert RatioEvidence.from_counts(AssignmentCounts(counts)).log_e == pytest.approx(
        math.log(np.mean(ratios)), abs=1e-10
    )


def found(*rows: tuple[float, int, int], **settings: float) -> SampleRatio:
    answer = sample_ratio(AssignmentCounts.from_list(rows), **settings)
    assert isinstance(answer, SampleRatio)
    return answer


def test_a_ramp_kept_is_no_mismatch_though_the_pooled_share_fits_no_stage() -> None:
    answer = found((0.01, 9900, 100), (0.05, 9500, 500), (0.1, 9000, 1000))
    assert not answer.mismatch
    assert answer.p_value == 1.0
    assert (answer.observed, answer.expected, answer.units) == (1600, pytest.approx(1600.0), 30000)
    assert "fits" in answer.reason


def test_a_few_lost_units_of_the_challenger_are_found() -> None:
    answer = found((0.05, 95000, 5000), (0.1, 90000, 8900))
    assert answer.mismatch
    assert answer.p_value < 0.001
    assert "does not fit" in answer.reason


def test_mismatches_at_two_stages_that_cancel_in_the_total_are_left_to_the_fixed_look() -> None:
    """The alternative is one shift of the log odds; opposite ones cancel by design, and nothing is claimed."""
    assert not found((0.1, 9100, 900), (0.1000001, 8900, 1100)).mismatch


def test_found_once_stays_found() -> None:
    assert found((0.1, 9000, 1000), smallest_p=0.0004).mismatch
    assert found((0.1, 9000, 1000), smallest_p=0.0004).p_value == 0.0004


def test_single_look_is_a_binomial_z_test() -> None:
    assert found((0.1, 9100, 900)).fixed_p == pytest.approx(math.erfc(100 / 30 / math.sqrt(2)))
    assert found((0.1, 9100, 900)).fixed_p == pytest.approx(binomtest(900, 10000, 0.1).pvalue, rel=0.15)


def test_bad_input() -> None:
    answer = sample_ratio(AssignmentCounts())
    assert isinstance(answer, NoAnswer)
    for pi in (0.0, 1.0, float("nan")):
        with pytest.raises(PropensityError):
            AssignmentCounts().add(True, pi)
    with pytest.raises(StatsError):
        AssignmentCounts().add(True, 0.5, -1)
    with pytest.raises(StatsError):
        found((0.1, 9, 1), alpha=0.0)


def test_counting_units_or_counts_is_the_same() -> None:
    rng = np.random.default_rng(4)
    share = rng.choice([0.01, 0.05, 0.1], 5000)
    arm, counts = rng.random(5000) < share, AssignmentCounts()
    streamed = RatioEvidence()
    for start in range(0, 5000, 700):
        streamed.add(arm[start : start + 700], share[start : start + 700])
    for treated, propensity in zip(arm.tolist(), share.tolist(), strict=True):
        counts.add(treated, propensity)
    at_once = RatioEvidence.from_counts(counts)
    assert (streamed.units, streamed.observed) == (at_once.units, at_once.observed)
    assert streamed.log_e == pytest.approx(at_once.log_e, rel=1e-10)
    assert streamed.fixed_p == pytest.approx(at_once.fixed_p, rel=1e-10)
    with pytest.raises(PropensityError):
        streamed.add(np.array([True]), np.array([1.0]))
