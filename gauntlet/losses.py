"""Losses of predictions against the truth, one per row: the vocabulary in which arms are compared, live and from files.

Definitions are scikit-learn's (`log_loss`, `brier_score_loss`, `mean_squared_error`, `mean_absolute_error`), so that a
margin means the same in the configuration and in `gauntlet analyze`. A smaller loss is better. Pure, vectorised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gauntlet.types import Task

Floats = NDArray[np.float64]

METRICS = {Task.CLASSIFICATION: ("log_loss", "brier", "accuracy"), Task.REGRESSION: ("mse", "mae")}
"""The losses of each task; the first is the default. `accuracy` as a loss is the error, 0 or 1."""

_FLOOR = float(np.finfo(np.float64).eps)  # log loss clips probabilities to [eps, 1 - eps]: certain and wrong costs 36


def loss(metric: str, output: Floats, truth: Floats) -> Floats:
    """The loss of each row, shape (n,).

    output: (n, classes) probabilities, or (n,) values. truth: (n,) class indices, or values.
    Brier (1950) is the sum over classes of (p - y)², in [0, 2]; of two classes half of it, (p - y)² of the second one.
    Raises ValueError for an unknown metric.
    """
    if metric == "mse":
        return np.asarray((output - truth) ** 2)
    if metric == "mae":
        return np.asarray(np.abs(output - truth))
    index = truth.astype(np.intp)
    given = output[np.arange(len(index)), index]
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(given, _FLOOR, 1.0 - _FLOOR)))
    if metric == "brier" and output.shape[1] == 2:
        return np.asarray((output[:, 1] - index) ** 2)
    if metric == "brier":
        return np.asarray((output**2).sum(axis=1) - 2 * given + 1)
    if metric == "accuracy":
        return np.asarray((output.argmax(axis=1) != index).astype(np.float64))
    raise ValueError(f"there is no metric {metric!r}")


def losses(task: Task, output: Floats, truth: Floats) -> dict[str, Floats]:
    """All losses of a task at once: {metric: (n,)}."""
    return {metric: loss(metric, output, truth) for metric in METRICS[task]}


def summary(task: Task, means: dict[str, float]) -> dict[str, float]:
    """Mean losses as figures for people: accuracy instead of error, RMSE instead of MSE."""
    if task is Task.CLASSIFICATION:
        return {"log_loss": means["log_loss"], "brier": means["brier"], "accuracy": 1 - means["accuracy"]}
    return {"rmse": means["mse"] ** 0.5, "mae": means["mae"]}
