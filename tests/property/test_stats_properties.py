"""What must hold for any data: merging, order, swapping arms, snapshots, monotone spending."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from builders.statistics import evidence
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.stats import (
    AssignmentCounts,
    Block,
    Boundary,
    Evidence,
    Look,
    PairedSums,
    Plan,
    Spending,
    SplitSums,
    State,
    advance,
    paired_blocks,
    split_blocks,
)

outcome = st.floats(-1e6, 1e6) | st.floats(-1e-6, 1e-6) | st.sampled_from([0.0, 1.0, -1.0])
unit = st.tuples(st.booleans(), st.floats(1e-4, 1.0 - 1e-4), outcome)
units = st.lists(unit, max_size=60)


def summed(rows: list[tuple[bool, float, float]]) -> SplitSums:
    sums = SplitSums()
    arms, shares, outcomes = zip(*rows, strict=True) if rows else ((), (), ())
    sums.add(np.array(arms, dtype=bool), np.array(shares, dtype=float), np.array(outcomes, dtype=float))
    return sums


@given(units, units, units)
def test_merge_is_associative_commutative_and_one_pass(
    a: list[tuple[bool, float, float]], b: list[tuple[bool, float, float]], c: list[tuple[bool, float, float]]
) -> None:
    x, y, z = summed(a), summed(b), summed(c)
    assert x.merge(y).merge(z) == x.merge(y.merge(z)) == z.merge(x).merge(y) == summed(a + b + c)
    assert x == summed(a)  # merging leaves its operands alone


@given(units, st.randoms(use_true_random=False))
def test_order_and_batching_change_no_bit(rows: list[tuple[bool, float, float]], random: np.random.Generator) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one_by_one = SplitSums()
    for row in shuffled:
        one_by_one.add(*row)
    assert one_by_one.to_list() == summed(rows).to_list()


@given(st.lists(st.tuples(outcome, outcome), max_size=60), st.integers(0, 60))
def test_pairs_merge_batch_and_restore(rows: list[tuple[float, float]], cut: int) -> None:
    def of(part: list[tuple[float, float]]) -> PairedSums:
        sums = PairedSums()
        sums.add(np.array([row[0] for row in part], dtype=float), np.array([row[1] for row in part], dtype=float))
        return sums

    whole, one_by_one = of(rows), PairedSums()
    for row in rows:
        one_by_one.add(*row)
    assert of(rows[:cut]).merge(of(rows[cut:])) == of(rows[cut:]).merge(of(rows[:cut])) == whole == one_by_one
    assert PairedSums.from_list(json.loads(json.dumps(whole.to_list()))) == whole


@given(units)
def test_snapshot_of_sums(rows: list[tuple[bool, float, float]]) -> None:
    sums = summed(rows)
    assert SplitSums.from_list(json.loads(json.dumps(sums.to_list()))) == sums


@given(units, st.floats(-100.0, 100.0))
def test_variances_are_never_negative(rows: list[tuple[bool, float, float]], m: float) -> None:
    sums = summed(rows)
    assert sums.variance(m) >= 0.0
    assert sums.randomisation_variance(m) >= 0.0


@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0)), min_size=2, max_size=8), min_size=6, max_size=25)
)
def test_swapping_arms_flips_the_effect(days: list[list[tuple[bool, float]]]) -> None:
    """At a share of one half and a prediction known beforehand, so that nothing else tells the arms apart."""
    one, other = [], []
    for day in days:
        mine, theirs = SplitSums(), SplitSums()
        arms, y = np.array([arm for arm, _ in day]), np.array([outcome for _, outcome in day])
        mine.add(arms, 0.5, y)
        theirs.add(~arms, 0.5, y)
        # Series of one day each, so that no champion's mean of earlier days serves as the prediction.
        one += split_blocks([mine], prior_mean=0.5)
        other += split_blocks([theirs], prior_mean=0.5)
    first, second = evidence(one), evidence(other)
    assert isinstance(first, Evidence) == isinstance(second, Evidence)
    if isinstance(first, Evidence) and isinstance(second, Evidence):
        assert second.effect == -first.effect
        assert second.variance == first.variance
        assert (second.z_win, second.z_harm) == pytest.approx((first.z_harm, first.z_win), rel=1e-9, abs=1e-9)


finite = st.floats(-50.0, 50.0)


@given(st.lists(st.tuples(finite, st.integers(1, 50)), min_size=6, max_size=40), st.floats(0.1, 4.0))
def test_evidence_is_finite_and_limits_hold_the_effect(rows: list[tuple[float, int]], bound: float) -> None:
    found = evidence([Block(*_ARMS, s, float(i), abs(s) / 10 + 1e-6, i) for s, i in rows])
    assert isinstance(found, Evidence)
    assert all(map(math.isfinite, (found.effect, found.variance, found.z_win, found.z_harm, found.widening)))
    assert found.variance > 0.0
    assert found.lower(bound) <= found.effect <= found.upper(bound) or found.variance < 1e-12
    if bound > 1.0:  # under a look's smallest bound, Hall's shift can put both limits on one side
        assert (found.z_win >= bound) == (found.lower(bound) >= -1e-9) or abs(found.z_win - bound) < 1e-6


_ARMS = (paired_blocks([PairedSums()])[0].champion,) * 2

spendings = st.one_of(
    st.builds(Spending, st.just("mixed"), st.floats(0.0, 1.0), reserve=st.floats(0.0, 0.5)),
    st.builds(Spending, st.sampled_from(["obrien-fleming", "pocock"]), reserve=st.floats(0.0, 0.5)),
    st.builds(Spending, st.just("power"), st.floats(0.2, 5.0)),
    st.builds(Spending, st.just("hwang-shih-decani"), st.floats(-8.0, 8.0)),
)


@given(spendings, st.floats(1e-4, 0.4), st.lists(st.floats(0.0, 5.0), min_size=2, max_size=20))
def test_spending_rises_and_stays_within_the_level(spending: Spending, alpha: float, times: list[float]) -> None:
    spent = [spending.spent(alpha, t) for t in sorted(times)]
    assert spending.spent(alpha, 0.0) == 0.0
    assert all(0.0 <= value <= alpha * (1 + 1e-12) for value in spent)
    assert all(before <= after + 1e-15 for before, after in pairwise(spent))


@settings(max_examples=40, deadline=None)
@given(spendings, st.sets(st.integers(1, 140), min_size=1, max_size=8), st.integers(0, 8))
def test_a_restored_boundary_goes_on_as_if_nothing_had_been(spending: Spending, ticks: set[int], cut: int) -> None:
    times = [tick / 100 for tick in sorted(ticks)]
    through, restored = Boundary(0.025, spending), Boundary(0.025, spending)
    for index, t in enumerate(times):
        if index == cut:
            restored = Boundary.from_list(0.025, spending, json.loads(json.dumps(restored.to_list())))
        first, through = through.look(t)
        second, restored = restored.look(t)
        assert first == second
    assert through.spent <= 0.025 * (1 + 1e-12)
    assert through == restored


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(5, 40), min_size=1, max_size=6), st.floats(-0.3, 0.3))
def test_looks_at_any_times_are_pure_and_resumable(seed: int, looks: set[int], effect: float) -> None:
    rng = np.random.default_rng(seed)
    sums = []
    for _ in range(40):
        pair = PairedSums()
        pair.add(rng.random(30), rng.random(30) + effect)
        sums.append(pair)
    blocks, plan = paired_blocks(sums), Plan(horizon=900.0)
    state = State.start(plan)
    for k in sorted(looks):
        again = State.from_dict(plan, json.loads(json.dumps(state.to_dict())))
        result, repeated = advance(state, blocks[:k], plan), advance(again, blocks[:k], plan)
        assert repr(result[1]) == repr(repeated[1])
        assert result[0].to_dict() == repeated[0].to_dict()
        state, look = result
        assert isinstance(look, Look)
        assert 0.0 < look.p_value <= 1.0
        assert look.upper is None or look.lower is None or look.lower < look.upper


@given(st.lists(st.tuples(st.sampled_from([0.01, 0.05, 0.1]), st.booleans()), max_size=50), st.integers(0, 50))
def test_assignment_counts_merge_and_restore(rows: list[tuple[float, bool]], cut: int) -> None:
    def of(part: list[tuple[float, bool]]) -> AssignmentCounts:
        counts = AssignmentCounts()
        for share, arm in part:
            counts.add(arm, share)
        return counts

    whole = of(rows)
    assert of(rows[:cut]).merge(of(rows[cut:])).to_list() == whole.to_list()
    assert AssignmentCounts.from_list(json.loads(json.dumps(whole.to_list()))).to_list() == whole.to_list()


def test_properties_can_fail() -> None:
    """The comparison that the others rest on tells different sums apart."""
    assert summed([(True, 0.5, 1.0)]) != summed([(False, 0.5, 1.0)])
    with pytest.raises(AssertionError):
        assert summed([(True, 0.5, 1.0)]) == summed([(True, 0.5, 1.0 + 1e-15)])
