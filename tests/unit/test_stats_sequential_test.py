"""mSPRT, Wald's SPRT and the fixed horizon: their formulas against other forms of them, their bounds, their memory."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from evaluator.stats import PlanError
from evaluator.stats.always_valid import MixtureSPRT, WaldSPRT
from evaluator.stats.sequential_test import FixedHorizon

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Mode = MixtureSPRT | WaldSPRT | FixedHorizon
ALPHA, HORIZON = 0.025, 400.0

STARTS: dict[str, Callable[[int], Mode]] = {
    "msprt": lambda cells: MixtureSPRT.start(ALPHA, cells, tau=0.2, horizon=HORIZON),
    "sprt": lambda cells: WaldSPRT.start(ALPHA, cells, effect=0.2, beta=0.1, horizon=HORIZON),
    "fixed": lambda cells: FixedHorizon.start(ALPHA, cells),
}


def one(test: Mode, t: float, z: float, variance: float) -> tuple[float, Any]:
    bounds, after = test.look(np.array([t]), np.array([z]), np.array([variance]), np.array([True]))
    return float(bounds[0]), after


# The numbers of one look: t, effect, V/I.
LOOKS = [(0.05, 0.3, 0.5), (0.3, 0.21, 0.5), (1.0, -0.04, 0.5), (2.5, 0.1, 0.5)]


@pytest.mark.parametrize(("t", "effect", "ratio"), LOOKS)
def test_msprt_mixes_the_likelihood_ratio_over_the_effects_of_its_side(t: float, effect: float, ratio: float) -> None:
    """By numerical integration, from the definition: θ̂ ~ N(θ, σ²), θ half-normal with scale τ, against θ = 0."""
    information = t * HORIZON
    variance, tau = ratio * information, 0.2
    sigma = math.sqrt(variance) / information
    z = effect / sigma
    mixed, _ = quad(
        lambda theta: 2.0 * norm.pdf(theta, scale=tau) * norm.pdf(effect, theta, sigma) / norm.pdf(effect, 0.0, sigma),
        0.0,
        2.0,
        points=[max(effect, 0.01), 0.2],
        limit=200,
    )
    _, after = one(STARTS["msprt"](1), t, z, variance)
    assert after.p[0] == pytest.approx(min(1.0, 1.0 / mixed), rel=1e-7)
    # The two-sided original and the closed form in the paper, where the decision is clear.
    spread = sigma * sigma + tau * tau
    original = sigma / math.sqrt(spread) * math.exp(effect**2 * tau**2 / (2.0 * sigma**2 * spread))
    if mixed > 20.0:
        assert 2.0 * after.p[0] == pytest.approx(1.0 / original, rel=0.01)


def test_msprt_keeps_the_scale_of_its_first_look() -> None:
    _, test = one(STARTS["msprt"](1), 0.1, 0.0, 20.0)
    assert test.rho[0] == pytest.approx((20.0 / 40.0 / 0.2) ** 2)
    _, later = one(test, 0.2, 0.0, 300.0)
    assert later.rho[0] == test.rho[0]


@pytest.mark.parametrize(("t", "effect", "ratio"), LOOKS)
def test_walds_ratio_is_that_of_two_normal_densities(t: float, effect: float, ratio: float) -> None:
    information, delta = t * HORIZON, 0.2
    variance = ratio * information
    score = effect * information
    ratio_of = norm.logpdf(score, delta * information, math.sqrt(variance)) - norm.logpdf(
        score, 0.0, math.sqrt(variance)
    )
    bound, after = one(STARTS["sprt"](1), t, score / math.sqrt(variance), variance)
    assert after.p[0] == pytest.approx(min(1.0, math.exp(-ratio_of)), rel=1e-9)
    assert after.accepted[0] == (ratio_of <= math.log(0.1))
    at_bound = bound * math.sqrt(variance)
    assert norm.logpdf(at_bound, delta * information, math.sqrt(variance)) - norm.logpdf(
        at_bound, 0.0, math.sqrt(variance)
    ) == pytest.approx(math.log(1.0 / ALPHA), rel=1e-9)


def test_walds_legs_add_up_to_the_whole_while_the_variance_keeps_its_rate() -> None:
    rng, test = np.random.default_rng(1), STARTS["sprt"](1)
    score, best, refuted = 0.0, 0.0, False
    for k in range(1, 61):
        score += 10.0 * 0.05 + math.sqrt(5.0) * rng.standard_normal()
        information, variance = 10.0 * k, 5.0 * k
        ratio = 0.2 * information * score / variance - (0.2 * information) ** 2 / (2.0 * variance)
        best, refuted = max(best, ratio), refuted or ratio <= math.log(0.1)
        _, test = one(test, information / HORIZON, score / math.sqrt(variance), variance)
        assert test.p[0] == pytest.approx(math.exp(-best), rel=1e-9)
        assert test.accepted[0] == refuted
    assert refuted


def test_walds_slope_follows_the_variance_by_legs() -> None:
    """At the first look V was half of what it should have been: a slope kept from then could not win any more."""
    test = STARTS["sprt"](1)
    slopes = []
    for k, variance in ((1, 0.125), (2, 0.5), (3, 0.75), (4, 1.0), (50, 12.5), (100, 25.0)):
        bound, test = one(test, k / HORIZON, 0.0, variance)
        slopes.append(float(test.slope[0]))
    assert slopes == pytest.approx([1.6, 0.8, 0.8, 0.8, 0.8, 0.8])
    kept, proper = (math.log(40.0) / slope + slope * 25.0 / 2.0 for slope in (1.6, 0.8))
    expected = 0.2 * 100.0
    assert proper < bound * math.sqrt(25.0) < proper + 1.0 < expected < kept


def test_wald_accepts_the_null_when_the_effect_is_ruled_out_and_stays_so() -> None:
    test = STARTS["sprt"](2)
    t, variance = np.array([0.5, 0.5]), np.array([100.0, 100.0])
    _, test = test.look(t, np.array([0.0, 4.0]), variance, np.array([True, True]))
    assert test.accepted.tolist() == [True, False]
    _, test = test.look(2.0 * t, np.array([5.0, 5.0]), 2.0 * variance, np.array([True, True]))
    assert test.accepted.tolist() == [True, False]
    assert (test.p <= ALPHA).all()


def test_fixed_horizon_decides_once() -> None:
    test = STARTS["fixed"](1)
    for t in (0.2, 0.999):
        bound, test = one(test, t, 9.0, 1.0)
        assert (bound, test.p[0]) == (math.inf, 1.0)
    bound, test = one(test, 1.02, 1.5, 1.0)
    assert bound == pytest.approx(norm.isf(ALPHA), rel=1e-12)
    assert test.p[0] == pytest.approx(norm.sf(1.5), rel=1e-12)
    bound, after = one(test, 1.5, 9.0, 1.0)
    assert (bound, after.p[0]) == (math.inf, test.p[0])


@pytest.mark.parametrize("name", STARTS)
def test_p_is_at_most_the_level_exactly_when_a_bound_was_crossed(name: str) -> None:
    rng, cells = np.random.default_rng(2), 400
    test, score, crossed = STARTS[name](cells), np.zeros(cells), np.zeros(cells, dtype=bool)
    for k in range(1, 31):
        score += 0.12 * 20.0 + math.sqrt(10.0) * rng.standard_normal(cells)
        t, variance = np.full(cells, k / 20.0), np.full(cells, 10.0 * k)
        z = score / np.sqrt(variance)
        bounds, test = test.look(t, z, variance, np.ones(cells, dtype=bool))
        crossed |= z >= bounds
        assert np.array_equal(crossed, test.p <= ALPHA)
    assert 100 < crossed.sum() < 400


@pytest.mark.parametrize("name", STARTS)
def test_a_path_just_at_its_bound_crosses(name: str) -> None:
    for beyond, crosses in ((1e-9, True), (-1e-9, False)):
        bound, _ = one(STARTS[name](1), 1.0, 0.0, 200.0)
        _, after = one(STARTS[name](1), 1.0, bound + beyond, 200.0)
        assert (after.p[0] <= ALPHA) == crosses
        assert after.p[0] == pytest.approx(ALPHA, rel=1e-6)


@pytest.mark.parametrize("name", STARTS)
def test_cells_are_watched_apart_and_those_not_ready_are_left_alone(name: str) -> None:
    rng = np.random.default_rng(3)
    together, apart = STARTS[name](3), [STARTS[name](1) for _ in range(3)]
    for k in range(1, 16):
        t, variance = np.array([k / 10.0, k / 10.0, k / 7.0]), np.array([4.0, 9.0, 2.0]) * k
        z, ready = rng.standard_normal(3) + k / 5.0, rng.random(3) < 0.6
        z[~ready], variance[~ready] = np.nan, np.nan
        bounds, together = together.look(t, z, variance, ready)
        for cell in range(3):
            if ready[cell]:
                bound, apart[cell] = one(apart[cell], float(t[cell]), float(z[cell]), float(variance[cell]))
                assert bounds[cell] == bound
            else:
                assert bounds[cell] == math.inf
            assert together.p[cell] == apart[cell].p[0]
    assert together.p.min() < 1.0


@pytest.mark.parametrize("name", STARTS)
def test_snapshot_and_restore_go_on_identically(name: str) -> None:
    rng = np.random.default_rng(4)
    through = kept = STARTS[name](2)
    for k in range(1, 16):
        t, variance = np.full(2, k / 10.0), np.array([4.0, 9.0]) * k
        z, ready = rng.standard_normal(2) + k / 5.0, np.array([k > 3, True])
        kept = STARTS[name](2).restored(json.loads(json.dumps(kept.to_dict())))
        bounds, through = through.look(t, z, variance, ready)
        again, kept = kept.look(t, z, variance, ready)
        assert np.array_equal(bounds, again)
        assert np.array_equal(through.p, kept.p)
        assert through.to_dict() == kept.to_dict()


def test_settings_may_differ_between_cells() -> None:
    sizes, horizons = np.array([0.1, 0.4]), np.array([200.0, 400.0])
    both = WaldSPRT.start(ALPHA, 2, effect=sizes, beta=0.1, horizon=horizons)
    z, variance, t = np.array([2.0, 2.0]), np.array([50.0, 50.0]), np.array([0.5, 0.25])
    bounds, _ = both.look(t, z, variance, np.ones(2, dtype=bool))
    for cell in range(2):
        alone = WaldSPRT.start(ALPHA, 1, effect=float(sizes[cell]), beta=0.1, horizon=float(horizons[cell]))
        assert bounds[cell] == one(alone, float(t[cell]), 2.0, 50.0)[0]
    assert bounds[0] != bounds[1]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, np.array([0.1, 0.2, 0.3])])
def test_impossible_settings_are_refused(bad: Any) -> None:
    with pytest.raises(PlanError):
        MixtureSPRT.start(ALPHA, 2, tau=bad, horizon=1.0)
    with pytest.raises(PlanError):
        MixtureSPRT.start(ALPHA, 2, tau=0.1, horizon=bad)
    with pytest.raises(PlanError):
        WaldSPRT.start(ALPHA, 2, effect=bad, beta=0.1, horizon=1.0)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_impossible_levels_are_refused(level: float) -> None:
    for start in (
        lambda: FixedHorizon.start(level),
        lambda: MixtureSPRT.start(level, tau=0.1, horizon=1.0),
        lambda: WaldSPRT.start(level, effect=0.1, beta=0.1, horizon=1.0),
        lambda: WaldSPRT.start(ALPHA, effect=0.1, beta=level, horizon=1.0),
    ):
        with pytest.raises(PlanError):
            start()
