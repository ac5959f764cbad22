"""The test over looks: what crosses and when, what it says, and that its state is all it needs."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from builders.statistics import evidence

from evaluator.stats import (
    Arm,
    Block,
    Boundary,
    Evidence,
    Look,
    NoAnswer,
    OrderError,
    Plan,
    PlanError,
    Side,
    SplitSums,
    State,
    advance,
    horizon_information,
    split_blocks,
)
from evaluator.stats.alpha_spending import Spending
from evaluator.stats.always_valid import AlwaysValid
from evaluator.stats.group_sequential import GroupSequential
from evaluator.stats.score_process import arms_of

YES = np.ones(1, dtype=bool)


def series(n: int, effect: float, seed: int = 1, units: int = 100) -> list[Block]:
    """Blocks of pairs with 0/1 outcomes on both sides."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        champion = (rng.random(units) < 0.7).astype(float)
        challenger = (rng.random(units) < 0.7 + effect).astype(float)
        d = challenger - champion
        arms = (Arm(units, float(y.sum()), float(y.sum())) for y in (champion, challenger))
        made.append(Block(*arms, float(d.sum()), float(units), float((d**2).sum()), units))
    return made


def run(blocks: Sequence[Block], plan: Plan, first: int = 1) -> list[Look | NoAnswer]:
    state, answers = State.start(plan), []
    for k in range(first, len(blocks) + 1):
        state, answer = advance(state, blocks[:k], plan)
        answers.append(answer)
    return answers


def merged(day: list[Block]) -> Block:
    totals = (sum(getattr(block, name) for block in day) for name in ("score", "information", "variance", "units"))
    return Block(*arms_of(day), *totals)


def stopped(answers: list[Look | NoAnswer]) -> Look:
    return next(answer for answer in answers if isinstance(answer, Look) and answer.crossed)


def test_a_better_challenger_wins_but_not_before_twenty_blocks() -> None:
    plan = Plan(horizon=4000.0)
    answers = run(series(40, 0.2), plan)
    first = stopped(answers)
    assert first.crossed == "better"
    assert first.n_blocks == 20
    assert first.lower is not None
    assert first.lower > 0.0
    assert first.z >= first.bound_win  # type: ignore[operator]
    waiting = answers[18]
    assert isinstance(waiting, Look)
    assert (waiting.lower, waiting.bound_win, waiting.p_win) == (None, None, 1.0)
    assert any("19 of at least 20 blocks" in reason for reason in waiting.reasons)
    assert waiting.upper is not None


def test_a_worse_challenger_is_out_before_that() -> None:
    first = stopped(run(series(40, -0.3), Plan(horizon=4000.0)))
    assert first.crossed == "worse"
    assert first.n_blocks < 20
    assert first.upper is not None
    assert first.upper < 0.0
    assert first.p_value <= 2 * 0.025


def test_crossing_is_the_interval_leaving_the_null_and_the_p_value_passing_the_level() -> None:
    for seed in range(12):
        for answer in run(series(30, 0.06, seed), Plan(horizon=3000.0)):
            if isinstance(answer, NoAnswer):
                continue
            better = answer.bound_win is not None and answer.z >= answer.bound_win
            assert better == (answer.bound_win is not None and answer.lower is not None and answer.lower >= 0.0)
            assert (answer.crossed is not None) == (answer.p_value <= 2 * 0.025)


@pytest.mark.parametrize("effect", [-0.12, 0.03])
def test_limits_are_those_at_the_bounds_of_their_sides(effect: float) -> None:
    plan, blocks = Plan(horizon=3000.0), series(28, effect)
    state = State.start(plan)
    for k in (20, 24, 28):
        state, answer = advance(state, blocks[:k], plan)
        assert isinstance(answer, Look)
        win = evidence(blocks[:k])
        harm = evidence(blocks[:k], most_correlation=plan.harm.most_correlation)
        assert isinstance(win, Evidence)
        assert isinstance(harm, Evidence)
        assert answer.bound_win is not None
        assert answer.bound_harm is not None
        assert answer.lower == win.lower(answer.bound_win)
        assert answer.upper == harm.upper(answer.bound_harm)
        assert (answer.upper <= 0.0) == (harm.z_harm >= answer.bound_harm)


def test_crossed_stays_and_remembers_its_look() -> None:
    answers = run(series(60, 0.15), Plan(horizon=4000.0))
    first = stopped(answers)
    last = answers[-1]
    assert isinstance(last, Look)
    assert last.crossed == "better"
    assert last.stop == first.stop
    assert last.stop is not None
    assert (last.stop.look, last.stop.effect, last.stop.lower) == (first.number, first.effect, first.lower)


def test_past_the_horizon_only_the_reserve_can_cross() -> None:
    plan = Plan(horizon=2500.0)
    answers = run(series(40, 0.0, seed=3), plan)
    assert isinstance(answers[24], Look)
    assert answers[24].final
    assert any("inconclusive" in reason for reason in answers[24].reasons)
    for later in answers[25:]:
        assert isinstance(later, Look)
        assert later.bound_win is None
        assert later.bound_harm is not None
        assert later.lower == answers[24].lower
    turned = [*series(25, 0.0, seed=3), *series(40, -0.4)]
    assert stopped(run(turned, plan)).crossed == "worse"


def test_state_is_all_that_is_kept_and_looks_are_deterministic() -> None:
    plan, blocks = Plan(horizon=3000.0, win=Side(0.05, Spending("pocock"))), series(35, 0.05)
    through = run(blocks, plan)
    state, answers = State.start(plan), []
    for k in range(1, len(blocks) + 1):
        state = State.from_dict(plan, json.loads(json.dumps(state.to_dict())))
        state, answer = advance(state, blocks[:k], plan)
        answers.append(answer)
    assert answers == through
    assert repr(answers) == repr(through)


def test_looking_again_without_news_changes_nothing() -> None:
    plan, blocks = Plan(horizon=3000.0), series(25, 0.05)
    state, first = advance(State.start(plan), blocks, plan)
    again, second = advance(state, blocks, plan)
    assert isinstance(first, Look)
    assert isinstance(second, Look)
    assert (second.bound_win, second.lower, second.p_value) == (first.bound_win, first.lower, first.p_value)
    assert again.cells.win.to_dict() == state.cells.win.to_dict()


def test_bounds_are_those_of_the_boundary() -> None:
    plan, blocks = Plan(horizon=3000.0), series(25, 0.05)
    state, boundary = State.start(plan), Boundary(0.025)
    for k in (20, 22, 25):
        state, answer = advance(state, blocks[:k], plan)
        bound, boundary = boundary.look(k * 100 / 3000.0)
        assert isinstance(answer, Look)
        assert answer.bound_win == bound


def test_less_information_than_before_is_refused() -> None:
    plan, blocks = Plan(horizon=3000.0), series(25, 0.0)
    state, _ = advance(State.start(plan), blocks, plan)
    with pytest.raises(OrderError):
        advance(state, blocks[:20], plan)


def test_means_effect_and_classical_answer() -> None:
    blocks = series(20, 0.1)
    answer = run(blocks, Plan(horizon=4000.0), first=20)[0]
    assert isinstance(answer, Look)
    assert (answer.n_champion, answer.n_challenger) == (2000, 2000)
    assert answer.mean_champion is not None
    assert answer.mean_challenger is not None
    assert answer.effect == pytest.approx(answer.mean_challenger - answer.mean_champion, abs=1e-12)
    z = sum(block.score for block in blocks) / math.sqrt(sum(block.variance for block in blocks))
    assert answer.fixed_p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))


def test_finer_blocks_for_harm_find_it_sooner() -> None:
    plan = Plan(horizon=4000.0)
    fine = series(200, -0.25, units=20)
    coarse = [merged(fine[start : start + 10]) for start in range(0, 200, 10)]
    slow = stopped(run(coarse, plan))
    state = State.start(plan)
    for k in range(1, 201):
        state, answer = advance(state, coarse[: k // 10], plan, harm_blocks=fine[:k])
        if isinstance(answer, Look) and answer.crossed:
            break
    assert answer.crossed == "worse"  # type: ignore[union-attr]
    assert answer.n_champion < slow.n_champion / 2


def test_too_few_outcomes_are_no_answer() -> None:
    few = run([Block(Arm(1, 1, 1), Arm(1, 0, 0), -1.0, 1.0, 1.0, 1)] * 6, Plan(horizon=1000.0))[-1]
    assert isinstance(few, NoAnswer)
    assert "6 matured outcomes" in few.reason


def test_an_arm_without_any_failure_wins_by_its_pairs_and_by_its_blocks() -> None:
    blocks = [
        Block(Arm(20, 14.0 + k % 3, 14.0 + k % 3), Arm(20, 20, 20), 6.0 - k % 3, 20.0, 6.0 - k % 3, 20)
        for k in range(30)
    ]
    answer = stopped(run(blocks, Plan(horizon=600.0)))
    assert answer.crossed == "better"
    assert answer.n_blocks == 20
    assert answer.lower is not None
    assert 0.0 <= answer.lower < answer.effect


def test_an_arm_that_only_fails_is_thrown_out() -> None:
    blocks = [Block(Arm(20, 14, 14), Arm(20, 0, 0), -14.0, 20.0, 14.0, 20) for k in range(30)]
    assert stopped(run(blocks, Plan(horizon=600.0))).crossed == "worse"


def test_independent_units_need_no_blocks() -> None:
    plan = Plan(horizon=horizon_information(1000, 0.5), clustered=False)
    rng, sums = np.random.default_rng(5), SplitSums()
    arm = rng.random(1000) < 0.5
    sums.add(arm, np.full(1000, 0.5), (rng.random(1000) < np.where(arm, 0.85, 0.7)).astype(float))
    _, answer = advance(State.start(plan), split_blocks([sums], prior_mean=0.7), plan)
    assert isinstance(answer, Look)
    assert answer.crossed == "better"
    assert answer.n_blocks == 1


def test_a_margin_turns_the_question_into_not_worse_by_more_than_that() -> None:
    answer = run(series(30, 0.0, seed=3), Plan(horizon=3000.0, margin=0.1), first=30)[0]
    assert isinstance(answer, Look)
    assert answer.crossed == "better"
    assert answer.lower is not None
    assert -0.1 < answer.lower < 0.0


def test_anytime_mode_needs_no_horizon_and_never_ends() -> None:
    plan = Plan(horizon=1000.0, mode="anytime")
    answers = run(series(80, 0.08), plan)
    first = stopped(answers)
    assert first.crossed == "better"
    assert first.p_value <= 2 * 0.025
    assert first.information_fraction > 1.0
    assert not first.final
    restored = State.from_dict(
        plan, json.loads(json.dumps(advance(State.start(plan), series(25, 0.1), plan)[0].to_dict()))
    )
    assert restored.to_dict() == advance(State.start(plan), series(25, 0.1), plan)[0].to_dict()


def test_horizon_information() -> None:
    assert horizon_information(5000, 0.1) == 4500.0
    assert horizon_information(5000, None) == 5000.0
    for samples, share in ((0, 0.1), (-1, None), (10, 0.0), (10, 1.0)):
        with pytest.raises(PlanError):
            horizon_information(samples, share)


def test_impossible_plans_are_refused() -> None:
    for make in (
        lambda: Plan(0.0),
        lambda: Plan(float("inf")),
        lambda: Plan(1.0, margin=-1.0),
        lambda: Plan(1.0, mode="bayes"),  # type: ignore[arg-type]
        lambda: Plan(1.0, min_blocks_win=-1),
        lambda: Side(0.0),
        lambda: Side(0.5),
    ):
        with pytest.raises(PlanError):
            make()


def test_a_billion_samples_are_a_plan_like_any_other() -> None:
    plan = Plan(horizon_information(10**9, 0.1))
    answer = run(series(30, 0.1), plan, first=30)[0]
    assert isinstance(answer, Look)
    assert answer.information_fraction < 1e-5
    assert answer.bound_win is not None


def test_p_stays_above_the_level_as_long_as_nothing_is_crossed() -> None:
    """Always just under the bound, on looks denser than those that p is computed at."""
    test, boundary = GroupSequential.start(0.025, Spending("pocock")), Boundary(0.025, Spending("pocock"))
    for k in range(1, 101):
        bound, boundary = boundary.look(k / 100)
        _, test = test.look(np.array([k / 100]), np.array([bound - 1e-6]), np.array([k / 100]), YES)
        assert test.p[0] > 0.025
    _, test = test.look(np.ones(1), np.array([bound]), np.ones(1), YES)
    assert test.p[0] <= 0.025


def test_harm_after_a_win_takes_the_win_back_and_a_win_after_harm_does_not() -> None:
    rng = np.random.default_rng(3)

    def blocks(mean: float, n: int) -> list[Block]:
        side = Arm(1000, 0.0, 1000.0)
        return [Block(side, side, float(s), 1000.0, 1000.0, 1000) for s in rng.normal(mean, 30.0, n)]

    plan = Plan(horizon=100_000.0)
    good, bad = blocks(60.0, 40), blocks(-400.0, 60)
    state, look = advance(State.start(plan), good, plan)
    assert isinstance(look, Look)
    assert look.crossed == "better"
    _, look = advance(state, good + bad, plan)
    assert isinstance(look, Look)
    assert look.crossed == "worse"
    assert look.stop is not None
    assert look.stop.crossed == "worse"
    state, look = advance(State.start(plan), bad[:40], plan)
    assert isinstance(look, Look)
    assert look.crossed == "worse"
    _, look = advance(state, bad[:40] + blocks(2000.0, 50), plan)
    assert isinstance(look, Look)
    assert look.crossed == "worse"


@pytest.mark.parametrize("test", [GroupSequential.start(0.025, Spending()), AlwaysValid.start(0.025)])
def test_p_never_rises_again(test: GroupSequential | AlwaysValid) -> None:
    _, high = test.look(np.array([0.4]), np.array([3.5]), np.array([0.4]), YES)
    _, low = high.look(np.array([0.8]), np.array([0.0]), np.array([0.8]), YES)
    assert high.p[0] < 0.025
    assert low.p[0] == high.p[0]
