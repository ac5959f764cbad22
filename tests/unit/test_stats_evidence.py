"""Variance and skewness of the score of independent units, against every assignment that could have been drawn."""

import itertools
import math

import numpy as np
import pytest

from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.evidence import Evidence, MomentSums, ScoreMoments


def moments_of(arm: list[bool], share: list[float], residual: list[float], two_kinds: bool = True) -> MomentSums:
    found = MomentSums()
    found.add(np.array(arm), np.array(share), np.array(residual), two_kinds)
    return found


def settled(sums: MomentSums, smaller: float = 1000.0) -> ScoreMoments:
    arrays = (
        np.array([each]) for each in (sums.robust, sums.randomisation, sums.robust_third, sums.randomisation_third)
    )
    return ScoreMoments.from_sums(*arrays, np.array([sums.binary]), np.array([smaller]))


def test_they_are_those_over_all_assignments_of_the_same_outcomes() -> None:
    rng = np.random.default_rng(1)
    share, residual = rng.uniform(0.02, 0.9, 8).tolist(), rng.normal(0.0, 1.0, 8).tolist()
    moments = np.zeros(4)
    for arms in itertools.product((False, True), repeat=8):
        chance = math.prod(p if arm else 1.0 - p for arm, p in zip(arms, share, strict=True))
        s = sum((arm - p) * r for arm, p, r in zip(arms, share, residual, strict=True))
        moments += chance * np.array([1.0, s, s * s, s**3])
    found = moments_of([True] * 8, share, residual)
    assert moments[:2] == pytest.approx([1.0, 0.0], abs=1e-12)
    assert found.randomisation == pytest.approx(moments[2])
    assert settled(found).randomisation_skewness[0] == pytest.approx(moments[3] / moments[2] ** 1.5)


def test_parts_add_up() -> None:
    rng = np.random.default_rng(2)
    arm, share, residual = rng.random(90) < 0.3, rng.uniform(0.1, 0.5, 90), rng.normal(size=90)
    whole, parts = MomentSums(), MomentSums()
    whole.add(arm, share, residual, True)
    for start in (0, 30, 60):
        cut = slice(start, start + 30)
        parts.add(arm[cut], share[cut], residual[cut], True)
    for name in ("robust", "randomisation", "robust_third", "randomisation_third"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    parts.add(arm, share, residual, False)
    assert not parts.binary


def look(s: float, law: ScoreMoments) -> Evidence:
    rows = np.array([[[s, 400.0, 1.0, 5000.0]]])
    return evidence_of(rows, margin=np.zeros(1), clustered=False, most_correlation=0.0, moments=law)


def test_of_two_kinds_the_assignment_alone_speaks_and_of_others_the_smaller_score() -> None:
    arrays = [np.array([value]) for value in (400.0, 100.0, 2400.0, 300.0)]
    two = look(30.0, ScoreMoments.from_sums(*arrays, np.array([True]), np.array([500.0])))
    many = look(30.0, ScoreMoments.from_sums(*arrays, np.array([False]), np.array([500.0])))
    assert two.variance[0] == 100.0
    assert many.variance[0] == 400.0
    z = two.z_win[0]
    assert z + 0.3 * (z * z - 1.0) / 6.0 == pytest.approx(3.0)  # S/√V = 3, skewness 300/1000
    assert many.z_win[0] == pytest.approx(1.5 + 0.3 * 1.5**2 / 3.0 + 0.3**2 * 1.5**3 / 27.0 + 0.05, abs=0.02)  # S/√R
    assert many.z_win[0] < z
    # Where the robust variance is the smaller one, the assignment's decides.
    arrays[0] = np.array([25.0])
    assert look(30.0, ScoreMoments.from_sums(*arrays, np.array([False]), np.array([500.0]))).z_win[0] == pytest.approx(
        z
    )


def test_few_units_in_the_smaller_arm_are_no_normal_law() -> None:
    arrays = [np.array([value]) for value in (100.0, 100.0, 0.0, 0.0)]
    few, many = (
        look(25.0, ScoreMoments.from_sums(*arrays, np.array([False]), np.array([n]))).z_win[0] for n in (5.0, 5000.0)
    )
    assert few == pytest.approx(1.83, abs=0.02)  # t = 2.5 with 4 degrees of freedom
    assert many == pytest.approx(2.5, abs=0.01)


@pytest.mark.parametrize("s", [-41.0, -20.0, -3.0, 8.0, 24.0, 39.0])
@pytest.mark.parametrize("two_kinds", [True, False])
def test_limits_are_where_the_scores_are_at_their_bounds(s: float, two_kinds: bool) -> None:
    law = ScoreMoments.from_sums(
        *(np.array([v]) for v in (144.0, 100.0, 500.0, 300.0)), np.array([two_kinds]), np.array([80.0])
    )
    found = look(s, law)
    if found.z_win[0] > 0.0:  # at this bound the null is just not ruled out
        assert found.lower(found.z_win)[0] == pytest.approx(0.0, abs=1e-9)
    if found.z_harm[0] > 0.0:
        assert found.upper(found.z_harm)[0] == pytest.approx(0.0, abs=1e-9)
    for bound in (2.0, 3.0):
        assert found.lower(np.array([bound]))[0] < found.upper(np.array([bound]))[0]


def test_what_cannot_be_reached_has_no_limit() -> None:
    law = ScoreMoments.from_sums(
        *(np.array([v]) for v in (100.0, 100.0, 0.0, -900.0)), np.array([True]), np.array([80.0])
    )
    assert math.isinf(look(20.0, law).lower(np.array([4.0]))[0])
    assert math.isinf(look(20.0, law).lower(np.array([math.inf]))[0])
