"""Every published or computed reference value: reproduced by our code, or listed with the reason why it is not ours.

`stats_reference.json` has the inputs, the expected value, the tolerance and the source of each.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from builders.statistics import two_sided_bound, two_sided_log_mixture, two_sided_rho
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import beta, norm

from evaluator.stats import AssignmentCounts, Boundary, Spending, sample_ratio
from evaluator.stats.always_valid import MixtureSPRT, best_rho, log_mixture, mixture_bound
from evaluator.stats.power import course, information_rate

Fixture = dict[str, Any]
FIXTURES: Final[list[Fixture]] = json.loads(Path(__file__).with_name("stats_reference.json").read_text())["fixtures"]
BY_ID: Final = {fixture["id"]: fixture for fixture in FIXTURES}

_OTHER_MIXTURE = "a boundary for sub-gamma or sub-Bernoulli sums; ours are the normal mixture and exact betting"
_ONE_SAMPLE = "bets on one arm's mean; ours bet on the difference of two arms with a logged propensity"
_QUANTILE = "compares two whole distributions; ours asks how often the challenger exceeds the champion's quantile"
NOT_OURS: Final[dict[str, str]] = {
    "confseq_gamma_exponential_log_mixture(10,100,100,2)": _OTHER_MIXTURE,
    "confseq_gamma_exponential_mixture_bound(100,.05,100,c=2)": _OTHER_MIXTURE,
    **{f"confseq_run_ge_v={v}_vopt=100_c=2": _OTHER_MIXTURE for v in (50, 100, 500)},
    "confseq_beta_binomial one-sided bound": _OTHER_MIXTURE,
    "confseq_bernoulli_ci(100, 200, 0.05, 1)": _OTHER_MIXTURE,
    "confseq_bernoulli_ci(5, 50, 0.05, 50)": _OTHER_MIXTURE,
    "confseq_double_stitching_bound(.5,1000,.05,100)": _QUANTILE,
    "confseq_double_stitching_bound(.9,...)": _QUANTILE,
    "confseq_empirical_process_lil_bound(1000,.05,100,.85)": _QUANTILE,
    "confseq_quantile_ab_median_shift70": _QUANTILE,
    "confseq_quantile_ab_p90_shift55": _QUANTILE,
    **{
        f"confseq_run_polystitch_v={v}_vmin=10_c=3": "stitched; the normal mixture is narrower at all of these times"
        for v in (1, 10, 50, 500)
    },
    "betting_mart_m.5_log": _ONE_SAMPLE,
    "betting_mart_m.3": _ONE_SAMPLE,
    "betting_cs": _ONE_SAMPLE,
    "predmix_empbern_twosided_cs(lcg1000,alpha=.05)[100,500,1000]": _ONE_SAMPLE,
    "predmix_hoeffding_cs(lcg1000,alpha=.05)[100,500,1000]": _ONE_SAMPLE,
    "ville_BernoulliCS(alpha=.05) on Y[:1000]": _ONE_SAMPLE,
    "gbstats_test_ttest_abs": "Welch's t has no logged propensity; our classical answer is the score z",
}


def agrees(fixture: Fixture, found: Any) -> None:
    tolerance = {fixture["tolerance_kind"]: fixture["tolerance"]}
    expected = np.asarray(fixture["expected"], dtype=np.float64)
    assert np.asarray(found, dtype=np.float64) == pytest.approx(expected, **{"abs": 0.0, "rel": 0.0, **tolerance})


# Classic designs: a constant that makes equal looks cost α ------------------------------------------------------------


def constant(shape: Sequence[float], alpha: float, *, sides: int) -> float:
    """c such that bounds c · shape at equal looks are crossed with probability alpha under no effect."""
    times = [k / len(shape) for k in range(1, len(shape) + 1)]

    def excess(c: float) -> float:
        bounds = [c * factor for factor in shape]
        found = course(times, bounds, None if sides == 1 else [-bound for bound in bounds])
        return found.above + found.below - alpha

    return float(brentq(excess, 1.0, 6.0, xtol=1e-10))


def shape(looks: int, delta: float) -> list[float]:
    """Wang & Tsiatis (1987): (k/K)^(Δ − 1/2); Pocock is Δ = 1/2, O'Brien-Fleming Δ = 0."""
    return [(k / looks) ** (delta - 0.5) for k in range(1, looks + 1)]


@pytest.mark.parametrize("looks", [2, 3])
def test_pocock_nominal_levels(looks: int) -> None:
    agrees(BY_ID[f"pocock_nominal_p_K{looks}"], 2.0 * norm.sf(constant(shape(looks, 0.5), 0.05, sides=2)))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize(("name", "delta"), [("poc", 0.5), ("obf", 0.0)])
def test_jennison_and_turnbulls_constants(name: str, delta: float, alpha: float) -> None:
    fixture = BY_ID["jennison_turnbull_constants"]
    for looks, expected in fixture["expected"][f"{name}|{alpha:g}"].items():
        found = constant(shape(int(looks), delta), alpha, sides=2)
        assert found == pytest.approx(expected, abs=fixture["tolerance"])


def test_wang_tsiatis_and_deming() -> None:
    agrees(BY_ID["gsdesign_WT_0.1_9"], constant(shape(9, 0.1), 0.05, sides=2))
    c = constant(shape(4, 0.0), 0.05, sides=2)
    agrees(BY_ID["gsdesign_Deming_OF_K4"], [c * factor for factor in shape(4, 0.0)])
    c = constant(shape(3, 0.0), 0.025, sides=1)
    agrees(BY_ID["rpact_OF_K3"], [c * factor for factor in shape(3, 0.0)])


def test_haybittle_peto() -> None:
    fixture = BY_ID["rpact_HaybittlePeto_K4"]
    times = fixture["inputs"]["t"]
    last = brentq(lambda c: course(times, [3.0, 3.0, 3.0, c]).above - 0.025, 1.0, 3.0, xtol=1e-10)
    agrees(fixture, [3.0, 3.0, 3.0, last])


@pytest.mark.parametrize("bounds", [shape(5, 0.5), shape(4, 0.0), shape(9, 0.1)])
def test_a_classic_design_is_a_table_of_spending(bounds: list[float]) -> None:
    """What a classic boundary costs by each look, given as a table, makes our boundary that one again."""
    c, times = constant(bounds, 0.025, sides=1), [k / len(bounds) for k in range(1, len(bounds) + 1)]
    cost = np.cumsum(course(times, [c * factor for factor in bounds]).upper) / 0.025
    points = (*zip(times[:-1], cost[:-1].tolist(), strict=True), (1.0, 1.0))
    assert bounds_of(Spending("table", points=points), 0.025, times) == pytest.approx(
        [c * factor for factor in bounds], abs=2e-6
    )


# Spending -------------------------------------------------------------------------------------------------------------


def bounds_of(spending: Spending, alpha: float, times: Sequence[float]) -> list[float]:
    boundary, found = Boundary(alpha, spending), []
    for t in times:
        bound, boundary = boundary.look(t)
        found.append(bound)
    return found


OBF, POCOCK, SQUARE = Spending("obrien-fleming"), Spending("pocock"), Spending("power", 2.0)
TWENTIETHS = [k / 20 for k in range(1, 21)]
USER = Spending("table", points=((0.25, 0.2), (0.5, 0.4), (0.75, 0.6), (1.0, 1.0)))
SPENDING: Final[dict[str, tuple[Spending, float]]] = {
    "rpact_asOF_K3": (OBF, 0.03),
    "rpact_asHSD_gamma-1": (Spending("hwang-shih-decani", -1.0), 0.07),
    "rpact_asKD_2.2": (Spending("power", 2.2), 0.03),
    "rpact_asUser": (USER, 0.05),
    "seqbounds_obf_one_K5_last": (OBF, 0.05),
    "seqbounds_pocock_two_K5_last": (POCOCK, 0.025),
    "ld_obf_two_K5": (OBF, 0.025),
    "ld_pocock_two_K5": (POCOCK, 0.025),
    "mixed_spending_K20": (Spending(), 0.025),
    "ld_pow2_K20": (SQUARE, 0.025),
}


@pytest.mark.parametrize("name", SPENDING)
def test_boundaries(name: str) -> None:
    fixture, (spending, alpha) = BY_ID[name], SPENDING[name]
    found = bounds_of(spending, alpha, fixture["inputs"].get("t", TWENTIETHS))
    agrees(fixture, found if isinstance(fixture["expected"], list) else found[-1])


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("spotify_seqbounds")])
def test_spotifys_boundaries(name: str) -> None:
    given = BY_ID[name]["inputs"]
    agrees(BY_ID[name], bounds_of(SQUARE, given["alpha"] / given["sides"], given["t"]))


def test_level_spent() -> None:
    fixture = BY_ID["rpact_asOF_alpha_spent"]
    agrees(fixture, [OBF.spent(0.03, t) for t in fixture["inputs"]["t"]])
    fixture = BY_ID["ldbounds_rhelp_exit"]
    times = fixture["inputs"]["t"]
    bounds = bounds_of(OBF, 0.025, times)
    found = course(times, bounds, [-bound for bound in bounds])
    agrees(fixture, np.cumsum(found.upper + found.lower))


def test_spotifys_interval() -> None:
    fixture = BY_ID["spotify_test_two_sided_ci"]
    given = fixture["inputs"]
    n = given["n"]
    (first, second), variances = (given["sum1"] / n, given["sum2"] / n), 0.0
    for mean, squares in ((first, given["sumsq1"]), (second, given["sumsq2"])):
        variances += squares / n - mean * mean
    bound, _ = Boundary(given["alpha"] / 2.0, SQUARE).look(2.0 * n / given["planned"])
    reach = bound * math.sqrt(variances / n)
    agrees(fixture, [second - first - reach, second - first + reach])


# The normal mixture ---------------------------------------------------------------------------------------------------


def test_howards_values() -> None:
    rho = two_sided_rho(100.0, 0.05)
    agrees(BY_ID["howard_best_rho"], rho)
    agrees(BY_ID["howard_nm_bound"], two_sided_bound(100.0, 0.05, rho))
    agrees(BY_ID["howard_nm_logmix"], two_sided_log_mixture(10.0, 100.0, rho))
    agrees(BY_ID["confseq_one-sided normal_log_mixture(10,100,100)"], log_mixture(10.0, 100.0, best_rho(100.0, 0.05)))


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("confseq_run_nm")])
def test_confseqs_boundaries(name: str) -> None:
    found = re.fullmatch(r"confseq_run_nm_(one|two)_v=(\d+)_vopt=(\d+)", name)
    assert found
    v, v_opt = float(found[2]), float(found[3])
    if found[1] == "one":
        agrees(BY_ID[name], mixture_bound(v, 0.05, best_rho(v_opt, 0.05)))
        # The mSPRT with the τ that makes the same ρ has the same bound.
        tau = math.sqrt(1.0 / float(best_rho(v_opt, 0.05)))
        start = MixtureSPRT.start(0.05, tau=tau, horizon=v)
        bound = start.look(np.ones(1), np.zeros(1), np.array([v]), np.ones(1, dtype=np.bool_))[0]
        agrees(BY_ID[name], float(bound[0]) * math.sqrt(v))
    else:
        agrees(BY_ID[name], two_sided_bound(v, 0.05, two_sided_rho(v_opt, 0.05)))


def test_the_mixture_is_narrower_than_stitching() -> None:
    for v in (1, 10, 50, 500):
        stitched = BY_ID[f"confseq_run_polystitch_v={v}_vmin=10_c=3"]["expected"]
        assert float(two_sided_bound(v, 0.05, two_sided_rho(100.0, 0.05))) < stitched


# GrowthBook: the two-sided mixture at V = n, S = n · estimate / σ -----------------------------------------------------


def inverse_root(rho: Any) -> float:
    """Their tuning parameter: 1/√ρ, with their "tuning" our v_opt."""
    return float(1.0 / math.sqrt(float(rho)))


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("gbstats_rho")])
def test_growthbooks_tuning(name: str) -> None:
    given = BY_ID[name]["inputs"]
    rho = (two_sided_rho if given["two_sided"] else best_rho)(given["tuning"], given["alpha"])
    agrees(BY_ID[name], inverse_root(rho))


def one_sided_closed(n: float, alpha: float, rho: float) -> float:
    """GrowthBook's one-sided half-width for σ = 1, a closed form in place of the exact mixture's root."""
    w = n + rho
    return math.sqrt(2.0 * w * math.log(1.0 + math.sqrt(w / rho) / (2.0 * alpha))) / n


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("gbstats_halfwidth")])
def test_growthbooks_half_widths(name: str) -> None:
    given = BY_ID[name]["inputs"]
    n, alpha = given["n"], given["alpha"]
    two = float(two_sided_bound(n, alpha, two_sided_rho(given["tuning"], alpha))) / n
    rho = float(best_rho(given["tuning"], alpha))
    agrees(BY_ID[name], [two, one_sided_closed(n, alpha, rho)])
    # Ours is the exact root; theirs covers it.
    exact = float(mixture_bound(n, alpha, rho)) / n
    assert exact <= one_sided_closed(n, alpha, rho) < 1.02 * exact


class Sample:
    """One arm's mean, variance and count."""

    def __init__(self, n: float, total: float, squares: float | None = None) -> None:
        self.n, self.mean = n, total / n
        if squares is None:
            self.variance = self.mean * (1.0 - self.mean)
        else:
            self.variance = (squares - total * total / n) / (n - 1.0)


def difference(a: Sample, b: Sample, *, relative: bool) -> tuple[float, float]:
    """Estimate and standard error of b − a, or of (b − a)/a by the delta method."""
    if not relative:
        return b.mean - a.mean, math.sqrt(a.variance / a.n + b.variance / b.n)
    variance = b.variance / (b.n * a.mean**2) + a.variance * b.mean**2 / (a.n * a.mean**4)
    return b.mean / a.mean - 1.0, math.sqrt(variance)


def asymptotic(estimate: float, error: float, n: float, tuning: float, alpha: float) -> tuple[float, float]:
    """The asymptotic confidence sequence: a bound for z from our mixture at V = n."""
    reach = float(two_sided_bound(n, alpha, two_sided_rho(tuning, alpha))) / math.sqrt(n) * error
    return estimate - reach, estimate + reach


PROPORTIONS = [name for name in BY_ID if name.startswith("gbstats_seq_prop")]


@pytest.mark.parametrize("name", PROPORTIONS)
def test_growthbooks_proportions(name: str) -> None:
    given = BY_ID[name]["inputs"]
    a, b = Sample(given["n_a"], given["sum_a"]), Sample(given["n_b"], given["sum_b"])
    estimate, error = difference(a, b, relative=given["difference_type"] == "relative")
    n, tuning, alpha = a.n + b.n, given["tuning"], given["alpha"]
    if name.startswith("gbstats_seq_prop_p"):
        evidence = two_sided_log_mixture(estimate / error * math.sqrt(n), n, two_sided_rho(tuning, alpha))
        agrees(BY_ID[name], min(1.0, math.exp(-float(evidence))))
    else:
        agrees(BY_ID[name], asymptotic(estimate, error, n, tuning, alpha))


def test_growthbooks_own_tests() -> None:
    fixture = BY_ID["gbstats_test_seq_runs"]
    given = fixture["inputs"]
    a = Sample(given["n_a"], given["sum_a"], given["sumsq_a"])
    b = Sample(given["n_b"], given["sum_b"], given["sumsq_b"])
    estimate, error = difference(a, b, relative=True)
    agrees(fixture, [estimate, *asymptotic(estimate, error, a.n + b.n, 1000, 0.05), error])

    fixture = BY_ID["gbstats_test_seq1_abs"]
    estimate, error = difference(a, b, relative=False)
    n = a.n + b.n
    reach = one_sided_closed(n, 0.05, float(best_rho(5000.0, 0.05))) * math.sqrt(n) * error
    agrees(fixture, [estimate - reach, estimate + reach])

    fixture = BY_ID["gbstats_test_seq_prop"]
    given = fixture["inputs"]
    a, b = Sample(given["n_a"], given["sum_a"]), Sample(given["n_b"], given["sum_b"])
    estimate, error = difference(a, b, relative=True)
    agrees(fixture, [estimate, *asymptotic(estimate, error, a.n + b.n, 5000, 0.05), error])


def test_growthbooks_ratio_metric() -> None:
    fixture = BY_ID["gbstats_ratio_seq_abs"]
    means, variances, total = [], 0.0, 0
    for arm in (fixture["inputs"]["A"], fixture["inputs"]["B"]):
        n, top, bottom = arm["n"], arm["m"] / arm["n"], arm["d"] / arm["n"]
        within = n - 1.0
        var_top = (arm["m2"] - n * top * top) / within
        var_bottom = (arm["d2"] - n * bottom * bottom) / within
        both = (arm["md"] - n * top * bottom) / within
        ratio = top / bottom
        means.append(ratio)
        variances += (var_top - 2.0 * ratio * both + ratio * ratio * var_bottom) / (bottom * bottom * n)
        total += n
    agrees(fixture, asymptotic(means[1] - means[0], math.sqrt(variances), total, 5000, 0.05))


# Sample ratio ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("SRM")])
def test_lindon_and_maleks_bayes_factor_and_ours_see_the_same_mismatch(name: str) -> None:
    """Theirs mixes over shares from a Beta around the planned one; ours over log odds around each logged propensity."""
    fixture = BY_ID[name]
    (theta, _), k, (first, second) = (fixture["inputs"][key] for key in ("theta0", "k", "counts"))
    a, b = k * theta, k * (1.0 - theta)
    null = first * math.log(theta) + second * math.log(1.0 - theta)
    closed = betaln(a + first, b + second) - betaln(a, b) - null
    agrees(fixture, closed)
    mixed, _ = quad(
        lambda q: beta.pdf(q, a, b) * math.exp(first * math.log(q) + second * math.log(1.0 - q) - null),
        max(0.01, theta - 0.2),
        min(0.99, theta + 0.2),
        points=[theta, first / (first + second)],
        limit=500,
    )
    assert math.log(mixed) == pytest.approx(closed, abs=1e-6)
    counts = AssignmentCounts()
    counts.add(False, 1.0 - theta, first)
    counts.add(True, 1.0 - theta, second)
    ours = sample_ratio(counts)
    assert (ours.p_value < 0.05) == (closed > math.log(20.0) - 1.0)  # type: ignore[union-attr]


# What a unit can tell -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BY_ID if name.startswith("info_rate")])
def test_information_rates(name: str) -> None:
    given = BY_ID[name]["inputs"]
    agrees(BY_ID[name], information_rate(given["pi"], given["p0"], given["p1"]))


# Nothing is left out --------------------------------------------------------------------------------------------------

PARAMETRISED: Final = ("spotify_seqbounds", "confseq_run_nm", "gbstats_rho", "gbstats_halfwidth", "SRM", "info_rate")
ONE_BY_ONE: Final = {
    "pocock_nominal_p_K2",
    "pocock_nominal_p_K3",
    "jennison_turnbull_constants",
    "gsdesign_WT_0.1_9",
    "gsdesign_Deming_OF_K4",
    "rpact_OF_K3",
    "rpact_HaybittlePeto_K4",
    "rpact_asOF_alpha_spent",
    "ldbounds_rhelp_exit",
    "spotify_test_two_sided_ci",
    "howard_best_rho",
    "howard_nm_bound",
    "howard_nm_logmix",
    "confseq_one-sided normal_log_mixture(10,100,100)",
    "gbstats_test_seq_runs",
    "gbstats_test_seq1_abs",
    "gbstats_test_seq_prop",
    "gbstats_ratio_seq_abs",
}


def test_every_reference_value_is_checked_or_has_a_reason_not_to_be() -> None:
    assert len(BY_ID) == len(FIXTURES) >= 100
    assert set(NOT_OURS) <= set(BY_ID)
    checked = {name for name in BY_ID if name.startswith(PARAMETRISED)} | ONE_BY_ONE | set(SPENDING) | set(PROPORTIONS)
    assert checked | set(NOT_OURS) == set(BY_ID)
    assert not checked & set(NOT_OURS)
    assert all(fixture["source"] for fixture in FIXTURES)
    assert len(NOT_OURS) < 0.2 * len(FIXTURES)
