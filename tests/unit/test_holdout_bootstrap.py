"""The comparator's bootstrap against a loop that resamples rows, refits nothing and shares no code with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gauntlet.holdout.bootstrap import Interval, blocks_of, draws, intervals
from gauntlet.holdout.metrics import HoldoutRows, statistic
from gauntlet.holdout.statistics import Improvement, Ratio
from gauntlet.types import Task

BLOCKS, DRAWS = 15, 200


def pair(shift: float = 1.0) -> tuple[HoldoutRows, Any, Any]:
    rng = np.random.default_rng(4)
    signal = rng.normal(size=300)
    truth = (signal + rng.logistic(size=300) > 0) * 1.0
    scores = [1 / (1 + np.exp(-signal - rng.normal(scale=s, size=300))) for s in (1.0 + shift, 1.0)]
    rows = HoldoutRows(Task.CLASSIFICATION, ["no", "yes"], truth, np.repeat(np.arange(BLOCKS), 20), BLOCKS)
    return rows, *(np.column_stack([1 - p, p]) for p in scores)


def interval(statistics: Any, blocks: int = BLOCKS, **settings: Any) -> Interval:
    known = {"least": 5, "alpha": 0.1, "repetitions": DRAWS, "seed": 3} | settings
    return intervals({"it": statistics}, blocks, **known)["it"]


def test_it_is_the_loop_over_scikit_learn() -> None:
    """Bootstrap-t over whole blocks: rows are copied, the error is a jackknife by finite differences, all in loops."""
    rows, champion, challenger = pair()

    def gain(weights: Any) -> float:
        w = np.asarray(weights, dtype=float)[rows.block]
        areas = [roc_auc_score(rows.truth, one[:, 1], sample_weight=w) for one in (champion, challenger)]
        return float(areas[1] - areas[0])

    def error(weights: Any) -> float:
        steps = np.eye(BLOCKS) * 1e-6
        slopes = np.array([(gain(weights + step) - gain(weights)) / 1e-6 for step in steps])
        return float(np.sqrt(BLOCKS / (BLOCKS - 1) * (weights * slopes**2).sum()))

    ones = np.ones(BLOCKS)
    estimate, spread = gain(ones), error(ones)
    rng, t = np.random.default_rng(3), []
    for _ in range(DRAWS):
        weights = np.bincount(rng.integers(0, BLOCKS, BLOCKS), minlength=BLOCKS).astype(float)
        t.append((gain(weights) - estimate) / error(weights))
    t.sort()
    student = stats.t.ppf(0.95, BLOCKS - 1)
    place = int(np.ceil(0.95 * (DRAWS + 1)))
    low, high = max(t[place - 1], student), max(-t[DRAWS - place], student)
    tails = [sum(one >= estimate / spread for one in t), sum(one <= estimate / spread for one in t)]
    p_value = 2 * max((1 + min(tails)) / (DRAWS + 1), stats.t.sf(abs(estimate / spread), BLOCKS - 1))

    areas = [statistic("auc", one, rows) for one in (champion, challenger)]
    found = interval(Improvement(areas[0], areas[1], True))
    assert found.estimate == pytest.approx(estimate, abs=1e-12)
    assert found.error == pytest.approx(spread, rel=1e-4)
    assert found.lower == pytest.approx(estimate - low * spread, abs=1e-5)
    assert found.upper == pytest.approx(estimate + high * spread, abs=1e-5)
    assert found.p_value == pytest.approx(p_value, abs=1e-5)


def test_loss_and_score_improve_in_opposite_directions() -> None:
    rows, champion, challenger = pair()
    before, after = (statistic("log_loss", one, rows) for one in (champion, challenger))
    loss, score = (interval(Improvement(before, after, higher)) for higher in (False, True))
    assert loss.estimate == pytest.approx(-(score.estimate or 0))
    assert loss.estimate is not None
    assert loss.estimate > 0
    assert loss.p_value == pytest.approx(score.p_value)


def test_the_bound_and_the_p_value_agree() -> None:
    """The interval leaves 0 out exactly where p is at most alpha."""
    rows, champion, challenger = pair(0.3)
    gain = Improvement(statistic("brier", champion, rows), statistic("brier", challenger, rows), False)
    for alpha in np.linspace(0.02, 0.6, 30):
        found = interval(gain, alpha=float(alpha))
        assert found.p_value is not None
        assert found.lower is not None
        assert found.upper is not None
        assert (found.lower > 0 or found.upper < 0) == (found.p_value <= alpha), alpha


def test_too_few_blocks_and_undefined_statistics_have_no_interval() -> None:
    few = interval(Ratio(np.arange(4.0), np.ones(4)), blocks=4)
    assert (few.estimate, few.lower, few.upper, few.p_value) == (1.5, None, None, None)
    undefined = interval(Ratio(np.zeros(9), np.zeros(9)), blocks=9)
    assert undefined == Interval(None, None, None, None, None, 9)
    assert interval(Ratio(np.ones(1), np.ones(1)), blocks=1).error is None


def test_a_statistic_that_many_draws_do_not_define_has_no_bound() -> None:
    """All of a class in one block: more than a third of the draws have no row of it."""
    weights = np.where(np.arange(9) == 0, 5.0, 0.0)
    found = interval(Ratio(weights * 0.8, weights), blocks=9)
    assert found.estimate == 0.8
    spread = interval(
        Ratio(np.where(np.arange(9) < 2, [3.0, 4.0] + [0.0] * 7, 0.0), np.where(np.arange(9) < 2, 5.0, 0.0)), blocks=9
    )
    assert (spread.lower, spread.upper) == (None, None)
    assert spread.p_value is not None
    assert spread.p_value > 0.1


def test_an_undefined_draw_counts_as_extreme_on_both_sides() -> None:
    """A third of the draws lack block 0; without them the rest alone would look sure."""

    class Partly:
        def evaluate(self, weights: Any) -> Any:
            values, influences = Ratio(np.arange(9.0), np.ones(9)).evaluate(weights)
            return np.where(weights[:, 0] > 0, values, np.nan), influences

    found = interval(Partly(), blocks=9)
    assert (found.estimate, found.lower, found.upper) == (4.0, None, None)


def test_no_interval_is_narrower_than_students() -> None:
    """Heavy tails make draws look alike."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        found = interval(Ratio(rng.standard_cauchy(8), np.ones(8)), blocks=8)
        assert found.estimate is not None
        assert found.error is not None
        reach = stats.t.ppf(0.95, 7) * found.error - 1e-9
        assert found.lower is None or found.estimate - found.lower >= reach
        assert found.upper is None or found.upper - found.estimate >= reach


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.25, 2 / (DRAWS + 1))])
def test_blocks_that_are_all_alike_are_their_own_bound(value: float, p: float) -> None:
    found = interval(Ratio(np.full(9, value), np.ones(9)), blocks=9)
    assert (found.estimate, found.lower, found.upper, found.p_value) == (value, value, value, p)


def test_equal_models_have_no_effect_at_all() -> None:
    rows, champion, _ = pair()
    area = statistic("auc", champion, rows)
    assert interval(Improvement(area, area, True)) == Interval(0.0, 0.0, 0.0, 0.0, 1.0, BLOCKS)


def test_draws_take_each_block_once_on_average_and_as_many_as_there_are() -> None:
    weights = np.concatenate(list(draws(400, 700, 1)))
    assert weights.shape == (700, 400)
    assert (weights.sum(axis=1) == 400).all()
    assert weights.var() == pytest.approx(1.0, abs=0.02)
    assert not np.array_equal(weights, np.concatenate(list(draws(400, 700, 2))))


def test_units_beyond_the_most_are_dealt_evenly_and_kept_whole() -> None:
    unit = np.repeat(np.arange(1000), 3)
    block, blocks = blocks_of(unit, 1, most=50)
    assert blocks == 50
    assert (np.bincount(block) == 60).all()
    assert (block.reshape(-1, 3) == block.reshape(-1, 3)[:, :1]).all(), "rows of a unit stay together"
    few, count = blocks_of(np.array([7, 7, 3]), 1)
    assert (few.tolist(), count) == ([1, 1, 0], 2)


def test_blocks_put_together_tell_the_same_error() -> None:
    values = np.random.default_rng(8).normal(size=20_000)
    block, blocks = blocks_of(np.arange(20_000), 0)
    found = interval(Ratio(np.bincount(block, values), np.bincount(block).astype(float)), blocks=blocks)
    assert found.error == pytest.approx(values.std() / np.sqrt(20_000), rel=0.1)
