"""The exact mode on any unit at all: fair at one step, never ruined, monotone in the null, mergeable."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.stats.e_process import HARM, WIN, Bets, PairedWealth, SplitWealth

unit = st.floats(0.0, 1.0)
shares = st.floats(1e-6, 1.0 - 1e-6)
bets = st.lists(st.floats(1e-4, 0.9), min_size=1, max_size=3).map(tuple)


def one(wealth: SplitWealth, arm: bool, share: float, y: float, m: float) -> np.ndarray:
    return np.exp(wealth.add(np.array([arm]), share, np.array([y]), m).log_e)


@given(share=shares, y=unit, m=unit, bet=bets)
def test_one_step_is_fair_by_the_randomisation_alone(share: float, y: float, m: float, bet: Bets) -> None:
    start = SplitWealth.start(bets=bet)
    mean = share * one(start, True, share, y, m) + (1.0 - share) * one(start, False, share, y, m)
    assert mean == pytest.approx(np.ones((2, 1)), abs=1e-12)


@given(share=shares, m=unit, bet=bets, rate=unit, effect=st.floats(-1.0, 1.0))
def test_one_step_is_fair_at_its_own_effect(share: float, m: float, bet: Bets, rate: float, effect: float) -> None:
    effect = min(max(effect, -rate), 1.0 - rate)
    start, mean = SplitWealth.start(np.array([effect]), bet), np.zeros((2, 1))
    for arm, chance, p in ((True, share, rate + effect), (False, 1.0 - share, rate)):
        for y, likely in ((1.0, p), (0.0, 1.0 - p)):
            mean += chance * likely * one(start, arm, share, y, m)
    assert mean == pytest.approx(np.ones((2, 1)), abs=1e-12)


@given(
    share=shares,
    m=unit,
    bet=bets,
    arms=st.lists(st.booleans(), min_size=1, max_size=5),
    data=st.data(),
    nulls=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=4, unique=True),
)
def test_no_unit_ruins_a_bet_and_wealth_is_monotone_in_the_null(
    share: float, m: float, bet: Bets, arms: list[bool], data: st.DataObject, nulls: list[float]
) -> None:
    y = np.array([data.draw(unit) for _ in arms])
    wealth = SplitWealth.start(np.array(sorted(nulls)), bet).add(np.array(arms), share, y, m)
    assert np.isfinite(wealth.logs).all()
    assert (wealth.logs >= len(arms) * math.log(0.1) - 1e-9).all()
    slack = 1e-9 * (1.0 + np.abs(wealth.logs[:, :, 1:]))
    assert (np.diff(wealth.logs[WIN], axis=1) <= slack[WIN]).all()
    assert (np.diff(wealth.logs[HARM], axis=1) >= -slack[HARM]).all()


@given(data=st.data(), m=unit, first=st.integers(0, 6))
def test_parts_add_up_to_the_whole_whatever_the_order(data: st.DataObject, m: float, first: int) -> None:
    rows = data.draw(st.lists(st.tuples(st.booleans(), shares, unit), min_size=first, max_size=8))
    arm, share, y = (np.array([row[k] for row in rows]) for k in range(3))
    arm = arm.astype(bool)

    def added(*parts: slice) -> SplitWealth:
        wealth = SplitWealth.start()
        for part in parts:
            wealth = wealth.add(arm[part], share[part], y[part], m)
        return wealth

    a, b, whole = slice(None, first), slice(first, None), added(slice(None))
    assert added(a, b).logs == pytest.approx(whole.logs, rel=1e-9, abs=1e-9)
    assert added(b, a).logs == pytest.approx(whole.logs, rel=1e-9, abs=1e-9)


@given(d=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=6), null=st.floats(-1.0, 1.0), bet=bets)
def test_swapping_a_pairs_arms_and_the_null_swaps_the_sides(d: list[float], null: float, bet: Bets) -> None:
    better, worse = np.maximum(d, 0.0), np.maximum(-np.array(d), 0.0)
    one_way = PairedWealth.start(np.array([null]), bet).add(worse, better)
    other = PairedWealth.start(np.array([-null]), bet).add(better, worse)
    assert other.log_e[::-1] == pytest.approx(one_way.log_e, rel=1e-9, abs=1e-12)
