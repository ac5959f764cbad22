"""The holdout's gate on numbers that can be checked by hand, and its answers where there is no answer."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from gauntlet.losses import loss
from gauntlet.types import Rule, Task
from retrainer.jobs.holdout_gate import GateAnswer, compare, improvement, metrics

DAY = 86_400.0


def days(count: int, a_day: int) -> NDArray[np.float64]:
    return np.repeat(np.arange(count), a_day) * DAY + np.tile(np.linspace(0, DAY - 1, a_day), count)


def classified(champion: float, challenger: float, count: int = 14, **settings: object) -> GateAnswer:
    """Both models give this probability to the truth, with a little noise that they share by day."""
    rng = np.random.default_rng(3)
    times = days(count, 30)
    noise = np.repeat(rng.normal(scale=0.01, size=count), 30) + rng.normal(scale=0.02, size=len(times))
    ours, theirs = np.clip(challenger + noise, 0.01, 0.99), np.full(len(times), champion)
    known = {"rule": Rule.PROVE, "margin": 0.05, "min_improvement": 0.01, "confidence": 0.95, **settings}
    return compare(
        "log_loss",
        np.column_stack([1 - theirs, theirs]),
        np.column_stack([1 - ours, ours]),
        np.ones(len(times)),
        times,
        task=Task.CLASSIFICATION,
        block=DAY,
        repetitions=500,
        seed=1,
        **known,  # type: ignore[arg-type]
    )


def test_a_clear_improvement_is_accepted_with_its_numbers() -> None:
    found = classified(0.6, 0.7)
    assert found.accepted
    assert found.improvement == pytest.approx(np.log(0.7 / 0.6), abs=0.01)
    assert found.lower is not None
    assert 0 < found.lower < found.improvement
    assert (found.rows, found.blocks) == (420, 14)
    assert found.champion["accuracy"] == found.challenger["accuracy"] == 1.0
    assert "at least the 0.01 asked for" in found.reasons[0]
    assert "above 0" in found.reasons[1]


def test_a_loss_is_called_one() -> None:
    found = classified(0.7, 0.6)
    assert not found.accepted
    assert found.reasons[0].startswith("log_loss gets worse by 0.1")
    assert found.reasons[0].endswith(" a row on 420 held-out rows, where an improvement by 0.01 is asked for")


def test_a_sure_but_small_improvement_is_refused() -> None:
    found = classified(0.6, 0.61, min_improvement=0.05)
    assert not found.accepted
    assert found.lower is not None
    assert found.lower > 0
    assert "less than the 0.05" in found.reasons[0]


@pytest.mark.parametrize(
    ("champion", "challenger", "count", "accepted"),
    [(0.6, 0.7, 14, True), (0.6, 0.599, 14, True), (0.6, 0.59, 14, True), (0.6, 0.5, 14, False), (0.6, 0.5, 3, True)],
    ids=["better", "hardly worse", "surely worse, within the margin", "clearly worse", "too few blocks to say"],
)
def test_a_refresh_is_kept_from_live_traffic_only_where_it_has_no_hope(
    champion: float, challenger: float, count: int, accepted: bool
) -> None:
    found = classified(champion, challenger, count, rule=Rule.REFRESH)
    assert found.accepted == accepted
    assert ("worse by at least" in found.reasons[1]) != accepted  # by a difference that all days share


def by_days(differences: list[float], a_day: list[int]) -> GateAnswer:
    """A refresh whose loss is above the champion's by so much on each day."""
    day = np.repeat(np.arange(len(a_day)), a_day)
    champion = np.full(len(day), 0.4)
    challenger = champion * np.exp(-np.repeat(differences, a_day))
    return compare(
        "log_loss",
        np.column_stack([1 - champion, champion]),
        np.column_stack([1 - challenger, challenger]),
        np.ones(len(day)),
        (day + 0.5) * DAY,
        task=Task.CLASSIFICATION,
        block=DAY,
        rule=Rule.REFRESH,
        margin=0.05,
        min_improvement=0.01,
        confidence=0.95,
        repetitions=500,
        seed=1,
    )


@pytest.mark.parametrize("first", [4, 7])
def test_a_change_within_the_held_out_days_keeps_no_refresh_from_live_traffic(first: int) -> None:
    """Two models that were alike are both wrong then, and one more so by chance. What will serve is fitted on the days
    since the change, too: a refusal would be a week of waiting."""
    after = (0.6 + 0.2 * np.sin(np.arange(first, 14) ** 2)).tolist()
    found = by_days([0.0] * first + after, [30] * 14)
    assert found.accepted
    assert "worse by at least" in found.reasons[1]
    assert "not in each of them" in found.reasons[1]


def test_a_refresh_that_is_worse_on_all_whole_days_is_refused() -> None:
    """A few rows before the first whole day don't speak for it."""
    worse = (0.15 + 0.05 * np.sin(np.arange(14) ** 2)).tolist()
    assert not by_days(worse, [30] * 14).accepted
    assert not by_days([0.04, *worse], [6] + [30] * 14).accepted
    assert by_days([0.04, *worse], [30] * 15).accepted


def test_at_its_limit_an_improvement_is_enough_and_none_at_all_is_not() -> None:
    exact = classified(0.6, 0.7).improvement
    assert classified(0.6, 0.7, min_improvement=exact).accepted
    assert not classified(0.6, 0.7, min_improvement=float(np.nextafter(exact, 1))).accepted
    alike = np.full((420, 2), 0.5)
    same = compare(
        "log_loss",
        alike,
        alike,
        np.ones(420),
        days(14, 30),
        task=Task.CLASSIFICATION,
        block=DAY,
        rule=Rule.PROVE,
        margin=0.05,
        min_improvement=0.0,
        confidence=0.95,
        repetitions=300,
        seed=1,
    )
    assert (same.accepted, same.lower) == (False, 0.0)


def test_a_worse_challenger_is_refused() -> None:
    found = classified(0.7, 0.6)
    assert not found.accepted
    assert found.improvement < 0


def test_a_large_but_unsure_improvement_is_refused() -> None:
    """One lucky day of fourteen makes the whole mean: row by row it would look certain."""
    times = days(14, 30)
    difference = np.where(times < DAY, 3.0, -0.05)
    found = improvement(difference, times, DAY, confidence=0.95, repetitions=500, seed=1)
    assert found.estimate > 0.1
    assert found.lower is None or found.lower < 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_blocks_are_no_answer(count: int) -> None:
    found = classified(0.6, 0.9, count=count)
    assert (found.accepted, found.lower) == (False, None)
    assert "too few" in found.reasons[1]


def test_blocks_may_begin_off_midnight() -> None:
    times = np.array([0.0, 3.0, 5.0, 12.0, 15.0, 22.0])
    counts = {
        offset: improvement(np.ones(6), times, 10.0, offset=offset, confidence=0.95, repetitions=200, seed=1).blocks
        for offset in (0.0, 4.0)
    }
    assert counts == {0.0: 3, 4.0: 3}
    assert improvement(np.ones(6), times, 10.0, offset=2.0, confidence=0.95, repetitions=200, seed=1).blocks == 4


def test_every_block_alike_is_its_own_bound() -> None:
    found = improvement(np.full(140, 0.25), days(14, 10), DAY, confidence=0.95, repetitions=200, seed=1)
    assert (found.estimate, found.lower) == (0.25, 0.25)


def test_the_bound_is_wider_than_rows_would_have_it_and_grows_with_confidence() -> None:
    rng = np.random.default_rng(5)
    times = days(14, 100)
    difference = np.repeat(rng.normal(0.5, 1.0, size=14), 100) + rng.normal(size=1400)
    by_day = [
        improvement(difference, times, DAY, confidence=c, repetitions=2000, seed=1).lower for c in (0.8, 0.95, 0.99)
    ]
    by_row = improvement(difference, np.arange(1400.0), 1.0, confidence=0.95, repetitions=2000, seed=1).lower
    assert all(bound is not None for bound in by_day)
    assert by_day[0] > by_day[1] > by_day[2]  # type: ignore[operator]
    assert by_row is not None
    assert by_row > by_day[1]  # type: ignore[operator]


def test_a_row_with_a_weight_counts_like_as_many_rows() -> None:
    rng = np.random.default_rng(5)
    times, truth = days(14, 30), (rng.random(420) < 0.4).astype(float)
    weights = rng.integers(1, 4, size=420)
    ours, theirs = (np.column_stack([1 - p, p]) for p in rng.uniform(0.2, 0.8, size=(2, 420)))

    def judged(rows: NDArray[np.int64], weights: NDArray[np.float64] | None) -> GateAnswer:
        return compare(
            "log_loss",
            theirs[rows],
            ours[rows],
            truth[rows],
            times[rows],
            task=Task.CLASSIFICATION,
            block=DAY,
            rule=Rule.PROVE,
            margin=0.05,
            min_improvement=0.01,
            confidence=0.95,
            repetitions=300,
            seed=1,
            weights=weights,
        )

    weighted, repeated = judged(np.arange(420), weights.astype(float)), judged(np.repeat(np.arange(420), weights), None)
    assert weighted.improvement == pytest.approx(repeated.improvement)
    assert weighted.lower == pytest.approx(repeated.lower)
    assert weighted.champion == pytest.approx(repeated.champion)
    assert weighted.improvement != pytest.approx(judged(np.arange(420), None).improvement)
    values = rng.normal(size=420)
    alike = metrics(Task.REGRESSION, values, truth, weights.astype(float))
    assert alike == pytest.approx(metrics(Task.REGRESSION, np.repeat(values, weights), np.repeat(truth, weights)))


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    times = days(10, 20)
    difference = rng.normal(0.1, 1, size=200)
    order = rng.permutation(200)
    one = improvement(difference, times, DAY, confidence=0.9, repetitions=300, seed=2)
    other = improvement(difference[order], times[order], DAY, confidence=0.9, repetitions=300, seed=2)
    assert one.lower == pytest.approx(other.lower, abs=1e-12)


def test_metrics_of_a_regression_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    truth, output = rng.normal(size=200), rng.normal(size=200)
    found = metrics(Task.REGRESSION, output, truth)
    assert found["r2"] == pytest.approx(r2_score(truth, output))
    assert found["rmse"] ** 2 == pytest.approx(loss("mse", output, truth).mean())
    assert "r2" not in metrics(Task.REGRESSION, output, np.ones(200)), "without spread there is nothing to explain"
