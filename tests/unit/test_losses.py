"""Losses against scikit-learn's metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from gauntlet import analyze
from gauntlet.losses import METRICS, loss, losses, summary
from gauntlet.types import Task


def probabilities(classes: int, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    return rng.dirichlet(np.ones(classes), size=n), rng.integers(0, classes, size=n).astype(float)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classification_is_scikit_learns(classes: int) -> None:
    output, truth = probabilities(classes)
    labels = list(range(classes))
    found = losses(Task.CLASSIFICATION, output, truth)
    assert list(found) == list(METRICS[Task.CLASSIFICATION])
    assert {value.shape for value in found.values()} == {(500,)}
    assert found["log_loss"].mean() == pytest.approx(metrics.log_loss(truth, output, labels=labels), rel=1e-12)
    brier = metrics.brier_score_loss(truth, output, labels=labels)  # of two classes half of the sum over classes
    assert found["brier"].mean() == pytest.approx(brier, rel=1e-12)
    assert found["accuracy"].mean() == 1 - metrics.accuracy_score(truth, output.argmax(axis=1))


@pytest.mark.parametrize("metric", ["brier", "log_loss", "mse", "mae", "accuracy"])
def test_a_margin_means_the_same_in_the_running_service_and_in_analyze(metric: str) -> None:
    output, truth = probabilities(2)
    output[:2], truth[:2] = [[0.0, 1.0], [1.0, 0.0]], 0.0  # certain: wrong and right
    given = output if metric in METRICS[Task.CLASSIFICATION] else output[:, 1]
    live = loss(metric, given, truth).mean()
    column = {
        "accuracy": ("prediction", output.argmax(axis=1)),
        "mse": ("prediction", given),
        "mae": ("prediction", given),
    }
    name, values = column.get(metric, ("score", output[:, 1]))
    frame = pd.DataFrame({"arm": ["a", "b"] * 500, name: np.repeat(values, 2), "outcome": np.repeat(truth, 2)})
    report = analyze(frame, arm="arm", champion="a", challenger="b", share=("a=0.5", "b=0.5"), metric=metric)
    for mean in report.comparisons[0].mean.values():
        assert (1 - mean if metric == "accuracy" else mean) == pytest.approx(live, rel=1e-12)


def test_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    output, truth = rng.normal(size=300), rng.normal(size=300)
    found = losses(Task.REGRESSION, output, truth)
    assert found["mse"].mean() == pytest.approx(metrics.mean_squared_error(truth, output), rel=1e-12)
    assert found["mae"].mean() == pytest.approx(metrics.mean_absolute_error(truth, output), rel=1e-12)
    shown = summary(Task.REGRESSION, {metric: float(value.mean()) for metric, value in found.items()})
    assert shown["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, output), rel=1e-12)
    assert shown["mae"] == pytest.approx(metrics.mean_absolute_error(truth, output), rel=1e-12)


def test_the_rows_stay_apart() -> None:
    output, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]), np.array([0.0, 0.0, 1.0])
    assert loss("log_loss", output, truth) == pytest.approx(-np.log([0.9, 0.2, 0.5]))
    assert loss("brier", output, truth) == pytest.approx([0.01, 0.64, 0.25])
    three = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    assert loss("brier", three, np.array([0.0, 2.0])) == pytest.approx([0.09 + 0.04 + 0.01, 0.49 + 0.04 + 0.81])
    assert loss("accuracy", output, truth).tolist() == [0, 1, 1]


def test_certain_and_wrong_is_dear_but_finite_and_certain_and_right_is_free() -> None:
    found = loss("log_loss", np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1.0, 0.0]))
    assert found == pytest.approx([-np.log(np.finfo(float).eps), 0.0])


def test_the_summary_turns_error_into_accuracy() -> None:
    shown = summary(Task.CLASSIFICATION, {"log_loss": 0.4, "brier": 0.2, "accuracy": 0.1})
    assert shown == {"log_loss": 0.4, "brier": 0.2, "accuracy": pytest.approx(0.9)}


def test_no_rows_have_no_losses_and_no_metric_is_made_up() -> None:
    assert loss("log_loss", np.empty((0, 2)), np.empty(0)).shape == (0,)
    with pytest.raises(ValueError, match="no metric 'auc'"):
        loss("auc", np.empty((0, 2)), np.empty(0))
