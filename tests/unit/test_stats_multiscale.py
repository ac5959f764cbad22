"""Evidence at several scales: no bound by the number of blocks, few blocks, storms worth days, exact limits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from builders.statistics import at_most
from scipy.stats import norm, t

from evaluator.service.design import HARM_SPENDING
from evaluator.stats.cluster_robust import (
    HARM_SCALES,
    LEAST_INTRACLASS,
    WIN_SCALES,
    Scale,
    StudentisedEvidence,
    weakest,
)
from evaluator.stats.errors import NoAnswer
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.interim_analysis import Look, State, advance_at_scales
from evaluator.stats.intraclass import intraclass
from evaluator.stats.score_process import PairedSums, paired_blocks
from evaluator.stats.sequential_test import Plan

Floats = np.ndarray
HOURS = 24
A_DAY = 2000
PER_HOUR = A_DAY / HOURS
ZERO = np.zeros(1)


def scales(hours: Floats, per_hour: float = PER_HOUR) -> list[Floats]:
    """Sums of hours, shape (runs, hours), of differences with variance 1, as rows of hours, quarters and days."""
    found = []
    for length in (1, 6, HOURS):
        blocks = hours.shape[1] // length
        sums = hours[:, : blocks * length].reshape(len(hours), blocks, length).sum(axis=2)
        units = np.full_like(sums, per_hour * length)
        found.append(np.stack([sums, units, units, units], axis=2))
    return found


def begun(hours: Floats, per_hour: float = PER_HOUR) -> list[Floats]:
    """`scales`, with the day that has begun."""
    whole, over = scales(hours, per_hour), hours[:, hours.shape[1] // HOURS * HOURS :]
    if not over.size:
        return whole
    units = np.full(len(hours), per_hour * over.shape[1])
    last = np.stack([over.sum(axis=1), units, units, units], axis=1)[:, None]
    return [*whole[:2], np.concatenate([whole[2], last], axis=1)]


def independent(rng: np.random.Generator, runs: int, days: int, effect: float = 0.0) -> Floats:
    return rng.normal(effect * PER_HOUR, np.sqrt(PER_HOUR), (runs, days * HOURS))


def test_at_one_scale_it_is_students_t_test() -> None:
    """Blocks with the variance that units explain at most, no skewness: T and its law by hand."""
    hours = np.array([[3.0, 1.0, 2.0, 2.0, 1.0, 3.0]]) * 10
    rows = scales(np.repeat(hours, 4, axis=1))[0]
    rows[:, :, 2] = 1e-6
    found = StudentisedEvidence.at_scale(rows, rows, margin=ZERO, scale=Scale(5))
    sums = rows[0, :, 0]
    n, plain = len(sums), sums.std(ddof=1)
    r = found.autocorrelation[0]
    assert found.t[0] == pytest.approx(sums.mean() * np.sqrt(n) / (plain * np.sqrt((1 + r) / (1 - r))), rel=1e-4)
    assert found.z_win[0] == pytest.approx(norm.isf(t.sf(found.t[0], n - 1)), rel=1e-6)


def test_few_days_that_agree_show_a_large_effect() -> None:
    """Seven days and 14,000 pairs of .3 standard deviations; the statistic bounded by √7 could not, and far less with
    any correlation allowed for."""
    rows = scales(independent(np.random.default_rng(1), 50, 7, 0.3))
    assert (weakest(WIN_SCALES, rows, margin=np.zeros(50), sign=1.0).z_win > 7**0.5).all()


def test_a_win_waits_for_five_whole_days_and_says_so() -> None:
    rows = scales(independent(np.random.default_rng(1), 1, 3, 0.3))
    found = weakest(WIN_SCALES, rows, margin=ZERO, sign=1.0)
    assert not found.available[0]
    assert found.lacking(0) == "2 more whole blocks of the longest scale have to close"
    assert weakest(HARM_SCALES, rows, margin=ZERO, sign=-1.0).available[0]


def test_harm_waits_until_two_days_count_alike() -> None:
    """Or until there are five, if one of them has nearly all the traffic."""
    hours = independent(np.random.default_rng(1), 1, 2)
    for known, enough in ((24, False), (35, False), (36, True), (48, True)):
        found = weakest(HARM_SCALES, begun(hours[:, :known]), margin=ZERO, sign=-1.0)
        assert found.available[0] == enough, known
    assert weakest(HARM_SCALES, begun(hours[:, :24]), margin=ZERO, sign=-1.0).lacking(0) == (
        "1 more whole block of the longest scale has to close"
    )
    quiet = np.repeat(np.where(np.arange(6) == 0, 1.0, 0.001), HOURS)
    for days, enough in ((4, False), (5, True)):
        rows = [
            each * np.reshape(quiet[: days * HOURS : length], (1, -1, 1))
            for each, length in zip(scales(independent(np.random.default_rng(2), 1, days)), (1, 6, HOURS), strict=True)
        ]
        assert weakest(HARM_SCALES, rows, margin=ZERO, sign=-1.0).available[0] == enough, days


def test_days_that_differ_are_what_harm_is_judged_by() -> None:
    """Two days at -.2 and 0: worse by .1 on average, which is six standard errors of independent requests, and two
    such days say nothing. Where they are alike it is plain."""
    rng = np.random.default_rng(4)
    for shifts, plain in (((-0.2, 0.0), False), ((-0.1, -0.1), True)):
        hours = independent(rng, 20, 2) + np.repeat(shifts, HOURS) * PER_HOUR
        z = weakest(HARM_SCALES, begun(hours[:, :45]), margin=np.zeros(20), sign=-1.0).z_harm
        assert (np.median(z) > 4.0) if plain else (z.max() < 1.5)


def test_harm_of_equal_challengers_whose_days_differ() -> None:
    """By a tenth of the spread. Two days that happen to agree can't be told from two that don't differ: one in seven
    is taken out, and was one in five while the first days were not compared."""
    runs = 600
    assert harmed(day_effects(np.random.default_rng(13), runs, 10)) * runs <= at_most(runs, 0.12)


def test_more_traffic_is_no_proof_that_days_do_not_differ() -> None:
    """By a hundredth of the spread, 100,000 a day: two days that agree looked like harm in one of ten."""
    runs, more = 400, 50
    shifts = np.repeat(np.random.default_rng(15).normal(0.0, 0.01, (runs, 10)), HOURS, axis=1) * PER_HOUR * more
    hours = independent(np.random.default_rng(16), runs, 10) * more**0.5 + shifts
    assert harmed(hours, per_hour=PER_HOUR * more) * runs <= at_most(runs, 0.01)


def weekly_cycle(rng: np.random.Generator, runs: int, days: int) -> Floats:
    """By .15 of the spread in either direction, begun on any day."""
    weeks = np.arange(days * HOURS) / (7 * HOURS) + rng.random((runs, 1))
    return independent(rng, runs, days) + 0.15 * np.sin(2 * np.pi * weeks) * PER_HOUR


@pytest.mark.parametrize("world", ["day_effects", "weekly_cycle"])
def test_days_that_are_known_to_differ_make_no_harm(world: str) -> None:
    """An equal challenger in the bad days of a week, whose champion has shown such days before."""
    runs, draw = 300, {"day_effects": day_effects, "weekly_cycle": weekly_cycle}[world]
    before = draw(np.random.default_rng(17), runs, 7).reshape(runs, 7, HOURS).sum(axis=2)
    known = np.array([intraclass(np.full(7, A_DAY), days, 1.0) for days in before])
    hours = draw(np.random.default_rng(18), runs, 10)
    assert harmed(hours) * runs > at_most(runs, 0.05)
    assert harmed(hours, known=known) * runs <= at_most(runs, 0.05)


def test_days_that_are_independent_are_not_said_to_differ() -> None:
    """Too few days, empty ones and outcomes without a spread tell nothing; others what they have in common."""
    rng, units = np.random.default_rng(19), np.array([2000.0, 1000.0, 0.0, 3000.0, 2000.0, 2000.0, 2000.0])
    for shift, least, most in ((0.0, LEAST_INTRACLASS, LEAST_INTRACLASS), (0.1, 0.006, 0.014)):
        totals = rng.normal(shift * units * rng.normal(size=(200, 7)), np.sqrt(units))
        found = np.array([intraclass(units, each + 5.0 * units, 1.0) for each in totals])
        assert least <= np.median(found) <= most
    assert intraclass(units[:5], 99.0 * rng.normal(size=5) * units[:5], 1.0) == LEAST_INTRACLASS
    assert intraclass(units, units, 0.0) == LEAST_INTRACLASS


def test_limits_invert_the_score() -> None:
    """The lower limit at the score itself is the null, and so is the upper one."""
    rng = np.random.default_rng(2)
    rows = scales(independent(rng, 40, 9, 0.05) + 10 * rng.exponential(size=(40, 9 * HOURS)))
    for sign, score, limit in ((1.0, "z_win", "lower"), (-1.0, "z_harm", "upper")):
        for margin in (0.0, 0.02):
            found = weakest(WIN_SCALES, rows, margin=np.full(40, margin), sign=sign)
            inner = getattr(found, limit)(getattr(found, score))
            assert inner == pytest.approx(np.full(40, -margin), abs=1e-9)


def test_equal_outcomes_have_no_score_and_no_warning() -> None:
    rows = scales(np.zeros((1, 7 * HOURS)))
    rows = [np.concatenate([each[:, :, :2], np.zeros_like(each[:, :, :1]), each[:, :, 3:]], axis=2) for each in rows]
    assert not weakest(WIN_SCALES, rows, margin=ZERO, sign=1.0).available[0]


def storms(rng: np.random.Generator, runs: int, days: int) -> Floats:
    """5 % of half-days shift all differences by an exponential amount in either direction."""
    shape = (runs, 2 * days)
    shift = (rng.random(shape) < 0.05) * rng.exponential(0.5, shape) * rng.choice([-1.0, 1.0], shape)
    return independent(rng, runs, days) + np.repeat(shift, 12, axis=1) * PER_HOUR


def day_effects(rng: np.random.Generator, runs: int, days: int) -> Floats:
    return independent(rng, runs, days) + np.repeat(rng.normal(0.0, 0.1, (runs, days)), HOURS, axis=1) * PER_HOUR


def correlated_days(rng: np.random.Generator, runs: int, days: int) -> Floats:
    """Day effects with correlation .5 from day to day."""
    return independent(rng, runs, days) + np.repeat(_autoregressive(rng, runs, days, 0.5), HOURS, axis=1) * PER_HOUR


def correlated_hours(rng: np.random.Generator, runs: int, days: int) -> Floats:
    """Hour effects with correlation .8 from hour to hour."""
    return independent(rng, runs, days) + _autoregressive(rng, runs, days * HOURS, 0.8) * PER_HOUR


def cycle(rng: np.random.Generator, runs: int, days: int) -> Floats:
    return independent(rng, runs, days) + 0.1 * np.sin(2 * np.pi * np.arange(days * HOURS) / HOURS) * PER_HOUR


def _autoregressive(rng: np.random.Generator, runs: int, n: int, correlation: float) -> Floats:
    noise = rng.normal(0.0, np.sqrt(1 - correlation**2), (runs, n))
    values = np.empty((runs, n))
    values[:, 0] = rng.normal(size=runs)
    for k in range(1, n):
        values[:, k] = correlation * values[:, k - 1] + noise[:, k]
    return 0.1 * values


def wins(hours: Floats, alpha: float = 0.025) -> float:
    """Share of runs that cross the win boundary with a look at the end of each day from the fifth."""
    days, boundary = hours.shape[1] // HOURS, Boundary(alpha)
    won = np.zeros(len(hours), dtype=bool)
    for day in range(5, days + 1):
        bound, boundary = boundary.look(day / days)
        found = weakest(WIN_SCALES, scales(hours[:, : day * HOURS]), margin=np.zeros(len(hours)), sign=1.0)
        won |= found.available & (found.z_win >= bound)
    return float(won.mean())


@pytest.mark.parametrize("world", [independent, storms, day_effects, correlated_days, correlated_hours, cycle])
def test_the_level_holds_in_every_world(world: Callable[..., Floats]) -> None:
    runs = 1000
    assert wins(world(np.random.default_rng(11), runs, 14)) * runs <= at_most(runs, 0.025)


def test_independent_traffic_comes_close_to_the_test_of_units() -> None:
    """Power .94 at the same looks for units known to be independent; days' quantiles cost a little."""
    hours, runs = independent(np.random.default_rng(12), 600, 14, 0.03), 600
    boundary, won = Boundary(0.025), np.zeros(runs, dtype=bool)
    for day in range(5, 15):
        bound, boundary = boundary.look(day / 14)
        won |= hours[:, : day * HOURS].sum(axis=1) / np.sqrt(day * A_DAY) >= bound
    assert wins(hours) >= 0.85
    assert wins(hours) >= won.mean() - 0.12


def harmed(
    hours: Floats, alpha: float = 0.05, per_hour: float = PER_HOUR, known: Floats | float = LEAST_INTRACLASS
) -> float:
    """Share of runs that cross the harm boundary of three weeks, with looks from the end of the second day on, of whose
    labels all but three hours' have come; on the first days every third hour, then daily."""
    boundary, harmed, planned = Boundary(alpha, HARM_SPENDING), np.zeros(len(hours), dtype=bool), 21 * HOURS
    for end in [*range(45, 5 * HOURS, 3), *range(5 * HOURS, hours.shape[1] + 1, HOURS)]:
        bound, boundary = boundary.look(end / planned)
        rows = begun(hours[:, :end], per_hour)
        found = weakest(HARM_SCALES, rows, margin=np.zeros(len(hours)), sign=-1.0, intraclass=known)
        harmed |= found.available & (found.z_harm >= bound)
    return float(harmed.mean())


@pytest.mark.parametrize("world", [independent, storms, correlated_hours, cycle])
def test_harm_is_called_of_an_equal_challenger_at_its_level_at_most(world: Callable[..., Floats]) -> None:
    """Hours stand alone for the first days. Taking their correlation as it is, of noise and all, calls 9 % of those
    correlated by .8 harmful. Days that differ by more than a tenth of their requests' spread can't be known so soon."""
    runs = 600
    assert harmed(world(np.random.default_rng(13), runs, 21)) * runs <= at_most(runs, 0.05)


def test_harm_of_a_tenth_of_the_spread_is_shown_by_two_days_of_labels() -> None:
    hours = independent(np.random.default_rng(14), 600, 2, -0.1)[:, :45]
    assert harmed(hours) >= 0.95


def paired(values: Floats) -> list[list]:
    """Blocks of hours, quarters and days from differences, shape (hours, pairs an hour)."""
    found = []
    for length in (1, 6, HOURS):
        blocks = []
        for start in range(0, len(values) - length + 1, length):
            sums, part = PairedSums(), values[start : start + length].ravel()
            sums.add(1.0 + part % 0.7, 1.0 + part % 0.7 + part)
            blocks.append(sums)
        found.append(paired_blocks(blocks))
    return found


def test_a_look_says_how_exact_it_is_and_what_it_waits_for() -> None:
    """Two days of 2,000 equal pairs, and a fifth of them: the standard error is about that of independent pairs."""
    values = np.random.default_rng(3).normal(size=(2 * HOURS, 83))
    plan = Plan(horizon=14 * A_DAY, min_blocks_win=5, min_blocks_harm=6)
    for thinned in (1, 5):
        harm = paired(values[:, ::thinned])
        _, look = advance_at_scales(State.start(plan), [[], [], []], harm, plan)
        assert not isinstance(look, NoAnswer)
        assert look.standard_error == pytest.approx(values[:, ::thinned].size ** -0.5, rel=0.35)
        assert look.bound_win is look.detectable_win is None
        assert any("5 more whole blocks" in reason for reason in look.reasons)


def test_a_look_says_which_effect_it_would_show_with_80_percent() -> None:
    """At seven days of 1,992 pairs: (bound + .84) standard errors, and more for the few days."""
    values = np.random.default_rng(5).normal(size=(7 * HOURS, 83))
    plan = Plan(horizon=14 * A_DAY, min_blocks_win=5, min_blocks_harm=6)
    blocks = paired(values)
    _, look = advance_at_scales(State.start(plan), blocks, blocks, plan)
    assert not isinstance(look, NoAnswer)
    assert look.bound_win is not None
    assert look.detectable_win is not None
    about = (look.bound_win + 0.84) / values.size**0.5
    assert about < look.detectable_win < 2.5 * about


def test_looks_at_scales_survive_a_snapshot_and_end_in_a_win() -> None:
    values = np.random.default_rng(4).normal(0.3, 1.0, (7 * HOURS, 40))
    plan = Plan(horizon=14 * 40 * HOURS, min_blocks_win=5, min_blocks_harm=6)
    state, crossed = State.start(plan), None
    for day in range(1, 8):
        blocks = paired(values[: day * HOURS])
        if day == 1:
            assert isinstance(advance_at_scales(state, blocks, blocks, plan)[1], NoAnswer)  # harm waits for two days
            continue
        state, look = advance_at_scales(State.from_dict(plan, state.to_dict()), blocks, blocks, plan)
        assert not isinstance(look, NoAnswer)
        crossed = crossed or (day if look.crossed == "better" else None)
    assert crossed == 5


def test_harm_that_can_wait_waits_for_whole_days() -> None:
    """By its hours two days look like harm; how much days differ is known after five."""
    values = np.random.default_rng(4).normal(-0.3, 1.0, (6 * HOURS, 40))
    crossed: dict[bool, int | None] = {}
    for waits in (False, True):
        plan = Plan(horizon=14 * 40 * HOURS, min_blocks_win=5, min_blocks_harm=5, harm_waits=waits)
        state, first = State.start(plan), None
        for day in range(1, 7):
            blocks = paired(values[: day * HOURS])
            state, look = advance_at_scales(state, blocks, blocks, plan)
            if first is None and isinstance(look, Look) and look.crossed == "worse":
                first = day
        crossed[waits] = first
    assert crossed[False] is not None
    assert crossed[False] < 3
    assert crossed[True] is not None
    assert crossed[True] >= 5
