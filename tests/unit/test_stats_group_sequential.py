"""Boundaries against published designs, other packages' output and a direct normal integral."""

import math

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.stats import multivariate_normal, norm

from evaluator.stats import Boundary, OrderError, PlanError, Spending, StatsError

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
THIRDS, FIFTHS = (1 / 3, 2 / 3, 1.0), (0.2, 0.4, 0.6, 0.8, 1.0)
TWENTIETHS = tuple(k / 20 for k in range(1, 21))
OBF, POCOCK, SQUARE = Spending("obrien-fleming"), Spending("pocock"), Spending("power", 2.0)
TABLE = Spending("table", points=((0.25, 0.2), (0.5, 0.4), (0.75, 0.6), (1.0, 1.0)))

# name: (one-sided level, spending, times, bounds, tolerance). Sources: rpact's tests (x2, x3, x5, x6), SeqBounds.jl's
# tests, the standard example of ld98 and ldbounds (Reboussin et al. 2000), Spotify's confidence 4.1.0 (its grid is
# coarse), and an independent Gauss-Legendre solver for the two with twenty looks.
PUBLISHED = {
    "rpact asOF": (0.03, OBF, THIRDS, (3.5815302, 2.417863, 1.9175839), 1e-5),
    "rpact asHSD": (0.07, Spending("hwang-shih-decani", -1.0), (0.2, 0.4, 1.0), (2.364813, 2.1928805, 1.5660474), 1e-5),
    "rpact asKD": (0.03, Spending("power", 2.2), (0.3, 0.7, 1.0), (2.8594012, 2.2435708, 1.9735737), 1e-5),
    "rpact asUser": (0.05, TABLE, (0.25, 0.5, 0.75, 1.0), (2.3263479, 2.2192994, 2.1201347, 1.8189562), 1e-5),
    "ldbounds O'Brien-Fleming": (0.025, OBF, FIFTHS, (4.8769, 3.357, 2.6803, 2.2898, 2.031), 1e-4),
    "ldbounds Pocock": (0.025, POCOCK, FIFTHS, (2.438, 2.4268, 2.4102, 2.3966, 2.386), 1e-4),
    "Spotify two-sided .01": (
        0.005,
        SQUARE,
        (0.05, 0.1, 0.2, 0.5, 1.0),
        (4.2147997, 3.9492353, 3.6024349, 3.0658140, 2.6401279),
        2e-3,
    ),
    "Spotify one-sided .05": (0.05, SQUARE, (0.01, 0.06, 0.31, 1.0), (4.417173, 3.57506, 2.600662, 1.670184), 2e-3),
    "power 2, twenty looks": (
        0.025,
        SQUARE,
        TWENTIETHS,
        (
            3.83611,
            3.5418,
            3.3675,
            3.23353,
            3.12202,
            3.02532,
            2.93926,
            2.8613,
            2.78973,
            2.72333,
            2.66123,
            2.60276,
            2.54739,
            2.4947,
            2.44437,
            2.39611,
            2.34969,
            2.30492,
            2.26163,
            2.21968,
        ),
        1e-4,
    ),
    "mixed, twenty looks": (
        0.025,
        Spending(),
        TWENTIETHS,
        (
            3.05627,
            3.23408,
            3.24599,
            3.21955,
            3.17299,
            3.11434,
            3.04863,
            2.9792,
            2.90821,
            2.83702,
            2.76643,
            2.69691,
            2.62869,
            2.56188,
            2.4965,
            2.43252,
            2.36988,
            2.30852,
            2.24834,
            2.18926,
        ),
        1e-4,
    ),
}


def bounds(alpha: float, spending: Spending, times: tuple[float, ...]) -> tuple[list[float], Boundary]:
    boundary, found = Boundary(alpha, spending), []
    for t in times:
        bound, boundary = boundary.look(t)
        found.append(bound)
    return found, boundary


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_designs(name: str) -> None:
    alpha, spending, times, expected, tolerance = PUBLISHED[name]
    assert bounds(alpha, spending, times)[0] == pytest.approx(expected, abs=tolerance)


def test_last_bounds_of_seqbounds() -> None:
    assert bounds(0.05, OBF, FIFTHS)[0][-1] == pytest.approx(1.7396610, abs=6e-5)
    assert bounds(0.025, POCOCK, FIFTHS)[0][-1] == pytest.approx(2.3859092, abs=1e-4)


def test_level_spent_by_rpact() -> None:
    expected = (0.00017079385, 0.0078650906, 0.03)
    assert [OBF.spent(0.03, t) for t in THIRDS] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("times", [(0.1, 0.5, 0.9), (0.5, 0.501, 1.0), (0.001, 0.4, 0.4005), (0.3, 0.3001, 0.3002)])
def test_each_look_spends_its_part_where_small_and_large_steps_follow_each_other(times: tuple[float, ...]) -> None:
    """Against one-dimensional integrals: between two times a Brownian motion is a bridge, so the density of the paths
    that have not crossed by the first look is known in closed form at the second."""
    found, boundary = bounds(0.05, POCOCK, times)
    t1, t2, t3 = times
    c1, c2, c3 = (bound * math.sqrt(t) for bound, t in zip(found, times, strict=True))

    def uncrossed(x: Floats) -> Floats:
        bridge = math.sqrt(t1 * (t2 - t1) / t2)
        return norm.pdf(x, scale=math.sqrt(t2)) * norm.cdf((c1 - x * t1 / t2) / bridge)

    above, below = np.linspace(c2, c2 + 6.0, 100_001), np.linspace(c2 - 6.0, c2, 100_001)
    crossing_second = simpson(uncrossed(above), x=above)
    crossing_third = simpson(uncrossed(below) * norm.sf((c3 - below) / math.sqrt(t3 - t2)), x=below)

    spent = [looked[2] for looked in boundary.looks]
    assert crossing_second == pytest.approx(spent[1] - spent[0], rel=1e-6)
    assert crossing_third == pytest.approx(spent[2] - spent[1], rel=1e-5)


def test_no_crossing_probability_is_the_normal_integral() -> None:
    times = (0.1, 0.35, 0.6, 1.0)
    found, boundary = bounds(0.05, Spending(), times)
    correlation = [[math.sqrt(min(s, t) / max(s, t)) for s in times] for t in times]
    inside = multivariate_normal.cdf(found, cov=correlation, abseps=1e-7, releps=1e-7, rng=1)
    assert 1.0 - inside == pytest.approx(Spending().spent(0.05, times[-1]), abs=2e-6)
    assert boundary.spent == pytest.approx(Spending().spent(0.05, times[-1]))


def test_one_look_is_a_normal_quantile() -> None:
    assert bounds(0.025, OBF, (1.0,))[0] == pytest.approx([norm.isf(0.025)], abs=1e-12)


def test_hundreds_of_looks_spend_the_level_and_no_more() -> None:
    """The grid of the integration is chosen look by look; a fine one must not lose any of the level."""
    fine = Boundary(0.025)
    for k in range(1, 401):
        _, fine = fine.look(k / 400)
    assert len(fine.looks) == 400
    assert fine.spent == pytest.approx(0.025)
    assert 2.25 < fine.looks[-1][1] < 2.30


def test_tiny_steps_between_large_ones_change_nothing_much() -> None:
    plain, _ = bounds(0.025, SQUARE, (0.25, 0.5, 0.75, 1.0))
    crowded, _ = bounds(0.025, SQUARE, (0.25, 0.5, 0.50002, 0.50004, 0.75, 1.0))
    assert crowded[-1] == pytest.approx(plain[-1], abs=1e-3)


def test_equal_time_gives_the_same_bound_and_spends_nothing() -> None:
    _, boundary = bounds(0.025, Spending(), (0.2, 0.5))
    again, after = boundary.look(0.5)
    assert again == boundary.looks[-1][1]
    assert after is boundary


def test_a_step_too_small_to_resolve_is_no_look() -> None:
    _, boundary = bounds(0.025, Spending(), (0.5,))
    bound, after = boundary.look(0.5 + 1e-7)
    assert math.isinf(bound)
    assert after is boundary


def test_past_the_horizon_the_rest_is_spent_once() -> None:
    found, boundary = bounds(0.025, Spending(), (0.5, 0.9, 1.3, 1.6))
    assert math.isfinite(found[2])
    assert math.isinf(found[3])
    assert boundary.spent == pytest.approx(0.025)


def test_a_reserve_is_spent_past_the_horizon_and_never_exceeded() -> None:
    spending = Spending(reserve=0.2)
    assert spending.spent(0.025, 1.0) == pytest.approx(0.02)
    found, boundary = bounds(0.025, spending, (0.5, 1.0, 2.0, 4.0, 8.0))
    assert all(math.isfinite(bound) for bound in found)
    assert boundary.spent == pytest.approx(0.025 * (1 - 0.2 / 8))


def test_a_level_too_small_to_resolve_is_kept_for_later() -> None:
    found, boundary = bounds(0.025, OBF, (0.02, 1.0))
    assert math.isinf(found[0])
    assert boundary.looks[0][2] == 0.0
    assert found[1] == pytest.approx(norm.isf(0.025), abs=1e-6)


def test_snapshot_and_restore_give_identical_bounds() -> None:
    times = (0.07, 0.11, 0.4, 0.41, 0.9, 1.2)
    through, _ = bounds(0.025, Spending(reserve=0.1), times)
    boundary, found = Boundary(0.025, Spending(reserve=0.1)), []
    for t in times:
        boundary = Boundary.from_list(0.025, Spending(reserve=0.1), boundary.to_list())
        bound, boundary = boundary.look(t)
        found.append(bound)
    assert found == through


def test_impossible_looks_and_settings_are_refused() -> None:
    _, boundary = bounds(0.025, Spending(), (0.5,))
    for t in (0.4, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(OrderError):
            boundary.look(t)
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(PlanError):
            Boundary(alpha)
    for make in (
        lambda: Spending("haybittle"),  # type: ignore[arg-type]
        lambda: Spending("power"),
        lambda: Spending("power", -1.0),
        lambda: Spending("mixed", 1.5),
        lambda: Spending("hwang-shih-decani"),
        lambda: Spending("table"),
        lambda: Spending("table", points=((0.5, 0.7), (1.0, 0.6))),
        lambda: Spending("table", points=((0.5, 0.7), (0.4, 0.8), (1.0, 1.0))),
        lambda: Spending(reserve=1.0),
        lambda: Spending("mixed", float("nan")),
    ):
        with pytest.raises(PlanError):
            make()
    with pytest.raises(StatsError):
        Boundary.from_list(0.025, Spending(), [[0.5, 3.0]])
