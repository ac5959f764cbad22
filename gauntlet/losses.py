"""Losses of predictions against the truth, one per row: the units in which arms are compared. Pure, vectorised.

Every loss is smaller when the prediction is better; `gain` is its negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gauntlet.types import Task

Floats = NDArray[np.float64]

PROBABILITY_FLOOR = 1e-15
"""Log loss clips here: a certain and wrong answer costs 34.5, not infinity."""

METRICS = {Task.CLASSIFICATION: ("log_loss", "brier", "accuracy"), Task.REGRESSION: ("squared_error", "absolute_error")}
"""The primary metrics of each task; the first is the default. `accuracy` as a loss is the error, 0 or 1."""


def loss(metric: str, output: Floats, truth: Floats) -> Floats:
    """The loss of each row.

    output: (n, classes) probabilities, or (n,) values. truth: (n,) class indices, or values. Returns (n,).
    Brier is the multi-class form, the squared distance to the one-hot truth (for two classes twice the binary form).
    Raises ValueError for an unknown metric.
    """
    if metric == "squared_error":
        return np.asarray((output - truth) ** 2)
    if metric == "absolute_error":
        return np.asarray(np.abs(output - truth))
    index = truth.astype(np.intp)
    rows = np.arange(len(index))
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(output[rows, index], PROBABILITY_FLOOR, 1.0)))
    if metric == "brier":
        return np.asarray((output**2).sum(axis=1) - 2 * output[rows, index] + 1)
    if metric == "accuracy":
        return np.asarray((output.argmax(axis=1) != index).astype(np.float64))
    raise ValueError(f"there is no metric {metric!r}")


def losses(task: Task, output: Floats, truth: Floats) -> dict[str, Floats]:
    """All losses of a task at once: {metric: (n,)}."""
    return {metric: loss(metric, output, truth) for metric in METRICS[task]}


def summary(task: Task, means: dict[str, float]) -> dict[str, float]:
    """Mean losses as the figures that people know: accuracy instead of error, RMSE and MAE."""
    if task is Task.CLASSIFICATION:
        return {"log_loss": means["log_loss"], "brier": means["brier"], "accuracy": 1 - means["accuracy"]}
    return {"rmse": means["squared_error"] ** 0.5, "mae": means["absolute_error"]}
