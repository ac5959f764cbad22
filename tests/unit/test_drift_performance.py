"""Accuracy, R² and RMSE from sums: the values are scikit-learn's, the variances those of repeated samples."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error

from evaluator.drift.cbpe import ScoreReference
from evaluator.drift.performance import (
    PerformanceReference,
    Task,
    compare_metric,
    compare_metrics,
    metric_values,
    moment_sums,
    squared_errors,
    task_of,
)
from evaluator.drift.state import from_builtins, to_builtins

LIMITS = {"accuracy": -0.05, "r2": -0.05, "rmse": 0.10}


def regression(rng: np.random.Generator, rows: int, noise: float = 0.5) -> tuple[Any, Any]:
    prediction = 100.0 + rng.normal(size=rows)
    return prediction + rng.normal(scale=noise, size=rows), prediction


def summed(task: Task, truth: Any, prediction: Any, centre: float = 0.0) -> Any:
    return moment_sums(task, centre, *squared_errors(task, truth, prediction))


def test_the_metrics_are_scikit_learns() -> None:
    truth, prediction = regression(np.random.default_rng(1), 3000)
    found = metric_values("regression", summed("regression", truth, prediction, 100.0))
    assert found["r2"][0] == pytest.approx(r2_score(truth, prediction))
    assert found["rmse"][0] == pytest.approx(root_mean_squared_error(truth, prediction))
    labels, guesses = ["a", "b", "b", "a"] * 100, ["a", "b", "a", "a"] * 100
    accuracy = metric_values("classification", summed("classification", labels, guesses))["accuracy"]
    assert accuracy[0] == pytest.approx(accuracy_score(labels, guesses))


@pytest.mark.parametrize("metric", ["r2", "rmse"])
@pytest.mark.parametrize("fanned", [False, True])
def test_the_variances_are_those_of_repeated_samples(metric: Any, fanned: bool) -> None:
    """Also where the error grows with the distance from the middle, and so with the truth's own spread."""
    rng = np.random.default_rng(2)
    values, variances = [], []
    for _ in range(600):
        truth, prediction = regression(rng, 800)
        if fanned:
            truth = prediction + 0.5 * (prediction - 100.0) * rng.normal(size=800)
        found = metric_values("regression", summed("regression", truth, prediction, 100.0))
        values.append(found[metric][0])
        variances.append(found[metric][1] / 800)
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)


def test_sums_of_pieces_add_to_the_whole() -> None:
    truth, prediction = regression(np.random.default_rng(3), 1000)
    whole = summed("regression", truth, prediction, 100.0)
    parts = summed("regression", truth[:333], prediction[:333], 100.0) + summed(
        "regression", truth[333:], prediction[333:], 100.0
    )
    assert parts == pytest.approx(whole)


@pytest.mark.parametrize(
    ("targets", "predictions", "task"),
    [
        (["a", "b"], ["a", "a"], "classification"),
        ([0, 1, 1], [0.2, 0.9, 0.4], "classification"),
        ([True, False], [1, 0], "classification"),
        (np.arange(100), np.arange(100), "regression"),
        ([0.5, 1.5], [1, 2], "regression"),
    ],
)
def test_the_task_is_told_from_the_truth(targets: Any, predictions: Any, task: str) -> None:
    assert task_of(targets, predictions) == task


def test_rows_without_truth_or_prediction_are_left_out_and_scores_are_cut_at_half() -> None:
    assert squared_errors("classification", [0, 1, None, 1], [0.2, 0.9, 0.5, None])[1].tolist()[:2] == [0.0, 0.0]
    assert np.isnan(squared_errors("classification", [0, 1, None, 1], [0.2, 0.9, 0.5, None])[1][2:]).all()
    assert squared_errors("classification", ["1", "0"], [1, 1])[1].tolist() == [0.0, 1.0]
    assert np.isnan(squared_errors("regression", [1.0, np.inf], [np.nan, 1.0])[1]).all()
    with pytest.raises(ValueError, match="2 targets with 1 predictions"):
        squared_errors("regression", [1.0, 2.0], [1.0])


def reference(rng: np.random.Generator) -> PerformanceReference:
    return PerformanceReference.fit(*regression(rng, 20_000))


def test_a_change_is_size_and_bound_and_rows() -> None:
    rng = np.random.default_rng(4)
    fitted = reference(rng)
    again = from_builtins(to_builtins(fitted), PerformanceReference)
    assert again == fitted

    def found(noise: float, rows: int, z: float = 2.326) -> dict[str, Any]:
        sums = summed("regression", *regression(rng, rows, noise), fitted.centre)
        return {change.name: change for change in compare_metrics(fitted, sums, LIMITS, z=z)}

    worse = found(0.6, 5000)
    assert worse["rmse"].breached
    assert not worse["rmse"].critical
    assert 0.10 < worse["rmse"].bound < worse["rmse"].change
    assert found(0.7, 5000)["rmse"].critical
    assert not found(0.53, 5000)["rmse"].breached  # certain and small
    assert not found(0.7, 400)["rmse"].breached  # large on too few rows
    assert found(0.7, 400, z=0.0)["rmse"].breached  # the bare threshold
    assert not found(0.5, 5000)["r2"].breached


def test_a_weak_fit_needs_more_rows_for_r2() -> None:
    rng = np.random.default_rng(5)
    weak = PerformanceReference.fit(*regression(rng, 20_000, 1.2))
    for rows, breached in ((3000, False), (6000, True)):
        sums = summed("regression", *regression(rng, rows, 1.6), weak.centre)
        change = next(one for one in compare_metrics(weak, sums, LIMITS, z=2.326) if one.name == "r2")
        assert change.breached is breached


def test_bounds_miss_no_more_than_they_say_and_inflation_widens_them() -> None:
    rng = np.random.default_rng(6)
    fitted = reference(rng)
    false = 0
    for _ in range(1000):
        sums = summed("regression", *regression(rng, 500), fitted.centre)
        rmse = next(one for one in compare_metrics(fitted, sums, LIMITS, z=2.326) if one.name == "rmse")
        false += rmse.bound > 0
    assert 2 <= false <= 22  # one in a hundred
    plain = compare_metric("accuracy", (0.9, 0.09, 1e4), (0.8, 0.16, 1000.0), limit=-0.05, z=2.326)
    wide = compare_metric("accuracy", (0.9, 0.09, 1e4), (0.8, 0.16, 1000.0), limit=-0.05, z=2.326, inflation=30.0)
    assert plain.breached
    assert not wide.breached


def test_a_perfect_reference_and_too_few_rows_crash_nothing() -> None:
    perfect = PerformanceReference.fit([1.0, 2.5] * 50, [1.0, 2.5] * 50)
    compare_metrics(perfect, summed("regression", [1.0, 2.5], [1.0, 3.0], perfect.centre), LIMITS, z=2.326)
    constant = PerformanceReference.fit([1.5] * 50, [1.0, 2.0] * 25, "regression")
    assert "r2" not in metric_values("regression", np.asarray(constant.sums))
    with pytest.raises(ValueError, match="at least 30"):
        PerformanceReference.fit([1.0] * 29, [1.0] * 29)


def scored(rng: np.random.Generator, rows: int, spread: float, bent: float = 1.0) -> tuple[Any, Any]:
    """Scores that are too sure by the power `bent`, with their outcomes."""
    probability = 1 / (1 + np.exp(-spread * rng.normal(size=rows)))
    odds = (probability / (1 - probability)) ** bent
    return odds / (1 + odds), (rng.random(rows) < probability) * 1


def test_the_estimate_is_the_accuracy_also_of_scores_that_are_too_sure() -> None:
    rng = np.random.default_rng(7)
    fitted = ScoreReference.fit(*scored(rng, 40_000, 2.0, bent=2.0))
    assert fitted is not None
    assert from_builtins(to_builtins(fitted), ScoreReference) == fitted
    scores, truth = scored(rng, 20_000, 0.7, bent=2.0)
    change = fitted.estimated_change(fitted.sums_of(fitted.expected_hits(scores)), limit=-0.05, z=2.326)
    assert change is not None
    assert change.current == pytest.approx(np.mean((scores >= 0.5) == truth), abs=0.01)
    assert change.breached
    assert change.estimated
    parts = fitted.sums_of(fitted.expected_hits(scores[:777])) + fitted.sums_of(fitted.expected_hits(scores[777:]))
    assert parts.tolist() == fitted.sums_of(fitted.expected_hits(scores)).tolist()


def test_scores_without_use_estimate_nothing() -> None:
    assert ScoreReference.fit([0.5] * 99, [1] * 99) is None
    assert ScoreReference.fit([0.5] * 200, [3] * 200) is None
    fitted = ScoreReference.fit([0.2, 0.8] * 100, [0, 1] * 100)
    assert fitted is not None
    assert fitted.expected_hits([0.9, None, float("nan"), 7.0, -3.0]).tolist()[1:3] == [-1, -1]
    assert fitted.estimated_change(fitted.sums_of(fitted.expected_hits([None])), limit=-0.05, z=1.0) is None


@pytest.mark.parametrize("wild", [1e3, 1e5, 1e9])
def test_one_wild_label_is_no_loss_and_hides_none(wild: float) -> None:
    rng = np.random.default_rng(21)
    x = rng.normal(size=12_000)
    truth, prediction = 2 * x + rng.normal(size=12_000), 2 * x
    now, before = truth[5000:].copy(), truth[:5000].copy()
    now[5] = wild
    clean = PerformanceReference.fit(before, prediction[:5000], "regression")
    before[5] = wild
    dirty = PerformanceReference.fit(before, prediction[:5000], "regression")
    worse = truth[5000:] + 2.5 * rng.normal(size=7000)
    worse[7] = wild  # among rows that are worse in earnest it hides nothing either
    for fitted in (clean, dirty):
        found = compare_metrics(
            fitted, fitted.sums_of(*squared_errors("regression", now, prediction[5000:])), LIMITS, z=2.326
        )
        assert [change.name for change in found if change.breached] == []
        found = compare_metrics(
            fitted, fitted.sums_of(*squared_errors("regression", worse, prediction[5000:])), LIMITS, z=2.326
        )
        assert {change.name for change in found if change.critical} == {"rmse", "r2"}


def test_a_few_rows_that_make_all_moments_leave_no_certainty() -> None:
    """One row far out on both axes makes truth and error the same number: their ratio has no variance of its own."""
    rng = np.random.default_rng(22)
    x = rng.normal(size=6000)
    truth, prediction = 2 * x + rng.standard_t(3, size=6000), 2 * x
    fitted = PerformanceReference.fit(truth[:1000], prediction[:1000], "regression")
    for start in range(1000, 6000, 512):
        window = slice(start, start + 512)
        found = compare_metrics(
            fitted, fitted.sums_of(*squared_errors("regression", truth[window], prediction[window])), LIMITS, z=4.0
        )
        assert [change.name for change in found if change.breached] == []


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_the_reference_does_by_itself_is_no_fall(task: Task) -> None:
    """Good and bad spells of a thousand rows: a window of 512 is often five per cent worse, and that is usual."""
    rng = np.random.default_rng(23)

    def stretch(rows: int, extra: float = 0.0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        spell = np.repeat(rng.random(rows // 1000), 1000)
        if task == "classification":
            truth = rng.integers(0, 2, rows).astype(float)
            return truth, np.where(rng.random(rows) < 0.65 + 0.25 * spell - extra, truth, 1 - truth)
        prediction = rng.normal(size=rows)
        return prediction + (0.5 + 0.5 * spell + 3 * extra) * rng.normal(size=rows), prediction

    fitted = PerformanceReference.fit(*stretch(20_000), task)
    name = "accuracy" if task == "classification" else "rmse"
    limit, efficiency = fitted.calibration(name, 512).limit, fitted.calibration(name, 512).efficiency
    assert 0.05 < limit < 0.6
    assert efficiency < 0.5
    independent = PerformanceReference.fit(*(side[rng.permutation(20_000)] for side in stretch(20_000)), task)
    assert independent.calibration(name, 512).efficiency == 1.0
    assert independent.calibration(name, 512).limit < limit
    truth, prediction = stretch(20_000)
    breached = 0
    for start in range(0, 20_000, 512):
        sums = fitted.sums_of(*squared_errors(task, truth[start : start + 512], prediction[start : start + 512]))
        breached += any(change.breached for change in compare_metrics(fitted, sums, LIMITS, z=4.0))
    assert breached == 0
    far = fitted.sums_of(*squared_errors(task, *stretch(8000, 0.3)))
    assert any(change.breached for change in compare_metrics(fitted, far, LIMITS, z=4.0))
    assert from_builtins(json.loads(json.dumps(to_builtins(fitted))), PerformanceReference) == fitted
