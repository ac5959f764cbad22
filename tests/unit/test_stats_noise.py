"""Variance and skewness of the score of independent units, against every assignment that could have been drawn."""

import itertools
import math

import numpy as np
import pytest

from evaluator.stats.noise import UnitNoise
from evaluator.stats.statistic import evidence_of


def noise(arm: list[bool], share: list[float], residual: list[float], two_kinds: bool = True) -> UnitNoise:
    found = UnitNoise()
    found.add(np.array(arm), np.array(share), np.array(residual), two_kinds)
    return found


def test_they_are_those_over_all_assignments_of_the_same_outcomes() -> None:
    rng = np.random.default_rng(1)
    share, residual = rng.uniform(0.02, 0.9, 8).tolist(), rng.normal(0.0, 1.0, 8).tolist()
    moments = np.zeros(4)
    for arms in itertools.product((False, True), repeat=8):
        chance = math.prod(p if arm else 1.0 - p for arm, p in zip(arms, share, strict=True))
        s = sum((arm - p) * r for arm, p, r in zip(arms, share, residual, strict=True))
        moments += chance * np.array([1.0, s, s * s, s**3])
    found = noise([True] * 8, share, residual)
    assert moments[:2] == pytest.approx([1.0, 0.0], abs=1e-12)
    assert found.variance == pytest.approx(moments[2])
    assert found.skewness == pytest.approx(moments[3] / moments[2] ** 1.5)


def test_parts_add_up() -> None:
    rng = np.random.default_rng(2)
    arm, share, residual = rng.random(90) < 0.3, rng.uniform(0.1, 0.5, 90), rng.normal(size=90)
    whole, parts = UnitNoise(), UnitNoise()
    whole.add(arm, share, residual, True)
    for start in (0, 30, 60):
        cut = slice(start, start + 30)
        parts.add(arm[cut], share[cut], residual[cut], True)
    for name in ("robust", "drawn", "third", "fourth"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    parts.add(arm, share, residual, False)
    assert not parts.two_kinds


@pytest.mark.parametrize(("ratio", "which"), [(0.2, "robust"), (1.0, "larger"), (4.0, "robust")])
def test_outcomes_of_many_kinds_may_vary_differently_by_arm(ratio: float, which: str) -> None:
    rng = np.random.default_rng(3)
    arm = rng.random(20_000) < 0.1
    residual = rng.normal(size=20_000) * np.where(arm, math.sqrt(ratio), 1.0)
    found = UnitNoise()
    found.add(arm, np.full(20_000, 0.1), residual, False)
    assert found.skewness == 0.0
    assert found.variance == (found.robust if which == "robust" else max(found.robust, found.drawn))
    true = 20_000 * (0.1 * 0.81 * ratio + 0.9 * 0.01)  # E (A−π)² r²
    assert found.variance == pytest.approx(true, rel=0.05)


def test_z_takes_the_skewness_out_and_limits_give_it_back() -> None:
    """Rare failures at a small share: on the side of the long tail z falls, on the other it rises."""
    for t in (-2.0, -0.3, 0.8, 2.4):
        rows = np.array([[[t * 10.0, 400.0, 100.0, 5000.0]]])
        given = {"margin": np.zeros(1), "clustered": False, "most_correlation": 0.0}
        plain, skewed = evidence_of(rows, **given), evidence_of(rows, **given, skewness=np.array([0.3]))
        assert plain.z_win[0] == pytest.approx(t)
        z = skewed.z_win[0]
        assert z + 0.3 * (z * z - 1.0) / 6.0 == pytest.approx(t)
        assert (z < t) == (abs(z) > 1.0)
        if z > 0.0:  # at this bound the null is just not ruled out
            assert skewed.lower(skewed.z_win)[0] == pytest.approx(0.0, abs=1e-12)
    assert math.isinf(evidence_of(rows, **given, skewness=np.array([-0.9])).lower(np.array([4.0]))[0])
