"""The exact mode: expectations by full enumeration (never by simulation), invariances, limits, refusals."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from evaluator.stats import OutcomeError, PlanError, PropensityError, StatsError
from evaluator.stats.e_process import HARM, WIN, PairedWealth, SplitWealth, effects

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Past = tuple[tuple[int, float], ...]  # arm and outcome of the units so far

SHARES = (0.5, 0.1, 0.01, 0.3, 0.9, 0.07, 0.5, 0.2)
FEW = (0.01, 0.05, 0.4)


def predicted(past: Past) -> float:
    """The champion's running mean, shrunk towards a half: it depends on which arm the units happened to get."""
    seen = [y for arm, y in past if not arm]
    return (sum(seen) + 0.5) / (len(seen) + 1.0)


def share_after(past: Past) -> float:
    """A share that ramps, and that falls after a bad outcome of the challenger: it depends on the past too."""
    return SHARES[len(past)] * (0.5 if past and past[-1][0] and past[-1][1] < 0.5 else 1.0)


def step(wealth: SplitWealth, past: Past, arm: int, y: float) -> SplitWealth:
    return wealth.add(np.array([bool(arm)]), share_after(past), np.array([y]), predicted(past))


def fixed(outcomes: tuple[float, ...]) -> Callable[[Past], Iterator[tuple[float, int, float]]]:
    """The randomisation alone: the outcomes are what they are, only arms are drawn."""

    def draws(past: Past) -> Iterator[tuple[float, int, float]]:
        share, y = share_after(past), outcomes[len(past)]
        yield from ((share, 1, y), (1.0 - share, 0, y))

    return draws


def random(rates: tuple[float, ...], effect: float) -> Callable[[Past], Iterator[tuple[float, int, float]]]:
    """Binary outcomes at these rates of the champion, and with this effect of the challenger."""

    def draws(past: Past) -> Iterator[tuple[float, int, float]]:
        share, rate = share_after(past), rates[len(past)]
        for arm, chance in ((1, share), (0, 1.0 - share)):
            p = rate + effect * arm
            yield from ((chance * p, arm, 1.0), (chance * (1.0 - p), arm, 0.0))

    return draws


def expected(
    wealth: SplitWealth,
    draws: Callable[[Past], Iterator[tuple[float, int, float]]],
    n: int,
    past: Past = (),
    *,
    stopped: bool = False,
    peak: bool = False,
) -> Floats:
    """E[E_n] over every path; `stopped`: at the best of all stopping rules (Snell's envelope); `peak`: of max E."""
    now = np.exp(wealth.peak if peak else wealth.log_e)
    if len(past) == n:
        return now
    later = sum(
        chance * expected(step(wealth, past, arm, y), draws, n, (*past, (arm, y)), stopped=stopped, peak=peak)
        for chance, arm, y in draws(past)
    )
    assert isinstance(later, np.ndarray)
    return np.maximum(now, later) if stopped else later


OUTCOMES = {
    "binary": (1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0),
    "all succeed": (1.0,) * 8,
    "all fail": (0.0,) * 8,
    "continuous": (0.31, 0.99, 0.02, 0.5, 0.77, 0.0, 1.0, 0.46),
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_wealth_is_one_on_average_by_the_randomisation_alone(kind: str) -> None:
    found = expected(SplitWealth.start(bets=FEW), fixed(OUTCOMES[kind]), 8)
    assert found == pytest.approx(np.ones((2, 1)), abs=1e-12)


def test_wealth_is_one_on_average_where_outcomes_are_drawn_at_rates_that_drift() -> None:
    found = expected(SplitWealth.start(), random((0.8, 0.1, 0.5, 0.99, 0.3), 0.0), 5)
    assert found == pytest.approx(np.ones((2, 1)), abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_no_stopping_rule_gains_on_average(kind: str) -> None:
    found = expected(SplitWealth.start(bets=FEW), fixed(OUTCOMES[kind]), 8, stopped=True)
    assert found == pytest.approx(np.ones((2, 1)), abs=1e-12)


def test_at_its_own_effect_wealth_is_one_on_average_and_less_where_the_effect_is_not_beyond_the_null() -> None:
    nulls = np.array([-0.2, 0.1, 0.3])
    found = expected(SplitWealth.start(nulls, FEW), random((0.5, 0.3, 0.6, 0.4), 0.1), 4)
    assert found[:, 1] == pytest.approx([1.0, 1.0], abs=1e-12)
    assert found[WIN, 2] < 1.0 < found[WIN, 0]
    assert found[HARM, 0] < 1.0 < found[HARM, 2]
    harmed = expected(SplitWealth.start(bets=FEW), random((0.5, 0.3, 0.6, 0.4), -0.1), 4, stopped=True)
    assert harmed[WIN, 0] == pytest.approx(1.0, abs=1e-12)  # stopping at once is all that is left
    assert harmed[HARM, 0] > 1.0


def test_non_inferiority_moves_the_null() -> None:
    at_the_margin = expected(SplitWealth.start(np.array([-0.1]), FEW), random((0.5, 0.3, 0.6, 0.4), -0.1), 4)
    assert at_the_margin == pytest.approx(np.ones((2, 1)), abs=1e-12)


def test_pairs_are_worth_one_on_average_under_no_effect() -> None:
    laws = {-1.0: 0.05, 0.0: 0.87, 1.0: 0.05, 0.6: 0.02, -0.4: 0.01}
    laws[-0.8] = 0.01
    laws = {d: chance / sum(laws.values()) for d, chance in laws.items()}
    mean = sum(d * chance for d, chance in laws.items())
    for nulls in (np.array([mean]), np.array([mean - 0.2, mean, mean + 0.2])):
        total = np.zeros((2, len(nulls)))

        def follow(wealth: PairedWealth, chance: float, left: int, total: Floats = total) -> None:
            if not left:
                total += chance * np.exp(wealth.log_e)
                return
            for d, p in laws.items():
                pair = (np.array([max(0.0, -d)]), np.array([max(0.0, d)]))
                follow(wealth.add(*pair), chance * p, left - 1)

        # On a grid outcomes between the steps count a little less than they are worth, never more.
        follow(PairedWealth.start(nulls), 1.0, 3)
        middle = len(nulls) // 2
        if len(nulls) == 1:
            assert total == pytest.approx(np.ones((2, 1)), abs=1e-12)
        else:
            assert (total[:, middle] <= 1.0 + 1e-12).all()
            assert (total[:, middle] > 0.999).all()
            assert total[WIN, 2] < total[WIN, 1] < total[WIN, 0]


def test_the_running_peak_is_no_e_value_and_p_takes_it() -> None:
    assert expected(SplitWealth.start(bets=FEW), fixed(OUTCOMES["binary"]), 6, peak=True).min() > 1.01


def units(n: int, seed: int, effect: float = 0.0) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    share = np.where(np.arange(n) < n // 2, 0.1, 0.3)
    arm = rng.random(n) < share
    return arm, share, (rng.random(n) < 0.7 + effect * arm).astype(float)


def test_the_factor_of_a_binary_unit_is_the_likelihood_ratio_of_its_effect() -> None:
    m, share, size = 0.8, 0.25, 0.1
    d = size * 2.0 * math.sqrt(m * (1.0 - m))
    treated, other = m + d * (1.0 - share), m - d * share
    for arm, y, ratio in (
        (True, 1.0, treated / m),
        (True, 0.0, (1.0 - treated) / (1.0 - m)),
        (False, 1.0, other / m),
        (False, 0.0, (1.0 - other) / (1.0 - m)),
    ):
        wealth = SplitWealth.start(bets=(size,)).add(np.array([arm]), share, np.array([y]), m)
        assert wealth.log_e[WIN, 0] == pytest.approx(math.log(ratio), abs=1e-14)
        assert wealth.log_e[HARM, 0] == pytest.approx(math.log(2.0 - ratio), abs=1e-14)


@pytest.mark.parametrize("nulls", [None, np.linspace(-0.2, 0.2, 5)])
@pytest.mark.parametrize("binary", [True, False])
def test_a_batch_is_its_units_one_by_one_in_any_order(nulls: Floats | None, binary: bool) -> None:
    arm, share, y = units(60, 1)
    if not binary:
        y = np.random.default_rng(2).random(60)
    whole = SplitWealth.start(nulls).add(arm, share, y, 0.65)
    single = SplitWealth.start(nulls)
    for index in np.random.default_rng(3).permutation(60):
        single = single.add(arm[[index]], share[[index]], y[[index]], 0.65)
    assert single.logs == pytest.approx(whole.logs, abs=1e-11)


def test_swapping_the_arms_swaps_the_sides() -> None:
    arm, share, y = units(200, 4, 0.2)
    one = SplitWealth.start().add(arm, share, y, 0.7)
    for other in (
        SplitWealth.start().add(~arm, 1.0 - share, y, 0.7),
        SplitWealth.start().add(arm, share, 1.0 - y, 1.0 - 0.7),
    ):
        assert other.log_e[::-1] == pytest.approx(one.log_e, abs=1e-10)
    assert one.log_e[WIN, 0] > one.log_e[HARM, 0]


def test_p_is_the_inverse_of_the_largest_wealth_so_far() -> None:
    arm, share = np.array([True] * 6), np.full(6, 0.5)
    wealth = SplitWealth.start(bets=(0.3,))
    assert wealth.p == pytest.approx(np.ones((2, 1)))
    up = wealth.add(arm, share, np.ones(6), 0.5)
    down = up.add(arm, share, np.zeros(6), 0.5)
    best = up.log_e[WIN, 0]
    assert best == pytest.approx(6 * math.log1p(0.3))
    assert down.log_e[WIN, 0] < best
    assert down.p[WIN, 0] == pytest.approx(math.exp(-best))
    assert down.p[HARM, 0] == 1.0 if down.log_e[HARM, 0] <= 0.0 else down.p[HARM, 0] < 1.0


SMALL = (0.004, 0.02)  # too small for any cap to matter, so that wealths of one null and of many agree


def test_wealth_on_a_grid_is_never_larger_than_the_exact_one() -> None:
    rng = np.random.default_rng(6)
    n, m, nulls = 3000, 0.4, np.array([-0.1, -0.02, 0.0, 0.05])
    continuous, binary = rng.beta(2.0, 3.0, n), (rng.random(n) < 0.4).astype(float)
    for share, y, close in (
        (np.full(n, 0.2), binary, 1e-9),
        (np.full(n, 0.2), continuous, 0.05),
        (rng.uniform(0.1, 0.4, n), continuous, 0.5),
        (rng.uniform(0.1, 0.4, n), binary, 0.5),
    ):
        arm = rng.random(n) < share
        grid = SplitWealth.start(nulls, SMALL).add(arm, share, y, m)
        exact = np.concatenate(
            [SplitWealth.start(np.array([null]), SMALL).add(arm, share, y, m).logs for null in nulls], axis=2
        )
        assert (grid.logs <= exact + 1e-9).all()
        assert (grid.logs >= exact - close - 0.1 * np.abs(exact)).all()


def test_the_bound_from_sums_is_the_quadratic_one_unit_by_unit() -> None:
    rng, n, m, size = np.random.default_rng(10), 300, 0.3, 0.1
    share, y, nulls = rng.uniform(0.1, 0.6, n), rng.random(n), np.array([-0.4, 0.0, 0.2])
    arm = rng.random(n) < share
    found = SplitWealth.start(nulls, (size,)).add(arm, share, y, m).logs
    for side, sign, worst in ((WIN, 1.0, 0.7 + 0.2 * 0.25), (HARM, -1.0, 0.7 + 0.4 * 0.25)):
        stake = min(size * 2.0 / math.sqrt(m * (1.0 - m)), 0.5 / worst)
        c = stake * worst
        psi = (-math.log(1.0 - c) - c) / c**2
        for null, effect in enumerate(nulls):
            gains = sign * stake * ((arm - share) * (y - m) - effect * share * (1.0 - share))
            assert (np.log1p(gains) >= gains - psi * gains**2 - 1e-12).all()
            assert found[side, 0, null] == pytest.approx((gains - psi * gains**2).sum(), rel=1e-9)


def test_wealth_falls_as_its_null_moves_away_from_the_data() -> None:
    arm, share, y = units(400, 7, 0.1)
    logs = SplitWealth.start(effects()).add(arm, share, y, 0.7).logs
    assert (np.diff(logs[WIN], axis=1) <= 1e-12).all()
    assert (np.diff(logs[HARM], axis=1) >= -1e-12).all()


def test_limits_enclose_the_effect_narrow_and_never_widen() -> None:
    rng, wealth, width = np.random.default_rng(8), SplitWealth.start(effects()), math.inf
    assert wealth.limits(0.025) == (-math.inf, math.inf)
    before = (-math.inf, math.inf)
    for _ in range(10):
        arm = rng.random(4000) < 0.5
        wealth = wealth.add(arm, 0.5, (rng.random(4000) < 0.6 + 0.05 * arm).astype(float), 0.6)
        low, high = wealth.limits(0.025)
        assert before[0] <= low <= 0.05 <= high <= before[1]
        before, width = (low, high), high - low
    # A fixed-horizon interval of 40,000 units is 0.019 wide.
    assert 0.019 < width < 0.035
    wide = wealth.limits(0.001)
    assert wide[0] <= before[0] <= before[1] <= wide[1]


def test_limits_are_at_most_a_step_outside_those_between_the_steps() -> None:
    arm, share, y = units(20_000, 9, 0.05)
    low, high = SplitWealth.start(effects()).add(arm, share, y, 0.7).limits(0.025)

    def rejected(null: float) -> Floats:
        # The same caps as on the grid: its ends are there too.
        return SplitWealth.start(np.array([-1.0, null, 1.0])).add(arm, share, y, 0.7).peak[:, 1] >= math.log(40.0)

    steps = effects()
    assert rejected(low)[WIN]
    assert not rejected(float(steps[steps > low][0]))[WIN]
    assert rejected(high)[HARM]
    assert not rejected(float(steps[steps < high][-1]))[HARM]


def test_the_grid_of_effects() -> None:
    grid = effects()
    assert (grid[0], grid[-1], len(grid) % 2) == (-1.0, 1.0, 1)
    assert (np.diff(grid) <= np.maximum(0.001, 0.0301 * np.abs(grid[1:])) + 1e-12)[len(grid) // 2 :].all()
    assert grid == pytest.approx(-grid[::-1], abs=0.0)
    assert (np.diff(grid) > 0.0).all()


def test_extreme_units_leave_wealth_finite() -> None:
    for share, m, y in ((1e-9, 0.0, 1.0), (1.0 - 1e-9, 1.0, 0.0), (0.5, 0.0, 1.0), (1e-9, 0.5, 1.0)):
        for arm in (True, False):
            for nulls in (None, effects()):
                wealth = SplitWealth.start(nulls).add(np.array([arm] * 9), share, np.full(9, y), m)
                assert np.isfinite(wealth.logs).all()
                assert (wealth.p > 0.0).all()
    assert np.isfinite(PairedWealth.start(effects()).add(np.zeros(50), np.ones(50)).logs).all()


def test_nothing_added_changes_nothing() -> None:
    empty = np.zeros(0)
    assert SplitWealth.start().add(empty.astype(bool), 0.1, empty, 0.5).p.tolist() == [[1.0], [1.0]]
    assert SplitWealth.start().add(empty.astype(bool), empty, empty, 0.5).log_e == pytest.approx(np.zeros((2, 1)))
    assert PairedWealth.start().add(empty, empty).log_e == pytest.approx(np.zeros((2, 1)))


def test_impossible_units_are_refused() -> None:
    start, one, true = SplitWealth.start(), np.array([1.0]), np.array([True])
    for y in (np.array([1.5]), np.array([-0.1]), np.array([math.nan]), np.array([[0.5]])):
        with pytest.raises(OutcomeError):
            start.add(np.broadcast_to(true, y.shape), 0.5, y, 0.5)
        with pytest.raises(OutcomeError):
            PairedWealth.start().add(y, y)
    for share in (0.0, 1.0, -0.1, math.nan, np.array([math.inf])):
        with pytest.raises(PropensityError):
            start.add(true, share, one, 0.5)
    for m in (-0.1, 1.1, math.nan):
        with pytest.raises(OutcomeError, match="prediction"):
            start.add(true, 0.5, one, m)
    with pytest.raises(StatsError):
        start.add(np.array([True, False]), 0.5, one, 0.5)
    with pytest.raises(StatsError):
        start.add(true, np.array([0.5, 0.5]), one, 0.5)
    with pytest.raises(StatsError):
        PairedWealth.start().add(one, np.array([1.0, 0.0]))


def test_impossible_settings_are_refused() -> None:
    sizes: tuple[float, ...]
    for sizes in ((), (0.0,), (math.nan,)):
        with pytest.raises(PlanError):
            SplitWealth.start(bets=sizes)
    for nulls in (np.zeros(0), np.array([0.1, 0.0]), np.array([1.5]), np.array([math.nan])):
        with pytest.raises(PlanError):
            SplitWealth.start(nulls)
    with pytest.raises(PlanError):
        SplitWealth.start().limits(0.0)
