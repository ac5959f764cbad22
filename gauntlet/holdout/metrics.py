"""The metrics that two models are compared by, as statistics of blocks of rows.

Names and definitions are scikit-learn's. Of two classes `precision`, `recall`, `f1` and `auc` are those of the second;
of more, `auc` is the mean of each class against the rest. `macro_…` is the mean over the classes that occur in the
truth, and `…@class` one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.holdout.auc import AreaUnderCurve
from gauntlet.holdout.statistics import Determination, Floats, Mean, Ratio, Statistic
from gauntlet.losses import loss
from gauntlet.types import Task

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae"})
_PER_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class HoldoutRows:
    """The truth of the rows, and where each belongs.

    truth: class indices or values (n,). block: of each row, 0 to blocks − 1.
    """

    task: Task
    classes: Sequence[str]
    truth: Floats
    block: NDArray[np.intp]
    blocks: int

    @property
    def occurring(self) -> list[int]:
        """The classes that the truth has."""
        return sorted({int(index) for index in np.unique(self.truth)})

    def part(self, chosen: NDArray[np.bool_]) -> HoldoutRows:
        """Some of the rows, with the blocks that have any of them."""
        kept, block = np.unique(self.block[chosen], return_inverse=True)
        return HoldoutRows(self.task, self.classes, self.truth[chosen], block, len(kept))

    def sums(self, values: Floats | NDArray[np.bool_]) -> Floats:
        """One value a row, added up by block."""
        return np.bincount(self.block, values, self.blocks).astype(np.float64)


def names(task: Task, classes: Sequence[str]) -> list[str]:
    """Names of a task's metrics, the usual primary one first."""
    if task is Task.REGRESSION:
        return ["rmse", "mae", "r2"]
    plain = ["auc", "accuracy"] + (list(_PER_CLASS) if len(classes) == 2 else [])
    macro = [f"macro_{name}" for name in _PER_CLASS]
    return [*plain, *macro, "log_loss", "brier", *(f"{name}@{one}" for one in classes for name in _PER_CLASS)]


def statistic(name: str, output: Floats, rows: HoldoutRows) -> Statistic:
    """The metric `name` of one model. output: (n, classes) probabilities, or values (n,). Raises KeyError."""
    if rows.task is Task.REGRESSION:
        return _of_numbers(name, output, rows)
    if name in ("log_loss", "brier"):
        return _mean(loss(name, output, rows.truth), rows)
    if name == "accuracy":
        return _mean(1.0 - loss(name, output, rows.truth), rows)
    if name == "auc":
        return _auc(output, rows)
    measure, _, one = name.partition("@")
    predicted = output.argmax(axis=1)
    if one:
        return _of_class(measure, predicted, list(rows.classes).index(one), rows)
    if measure.startswith("macro_"):
        measure = measure.removeprefix("macro_")
        return Mean([_of_class(measure, predicted, index, rows) for index in rows.occurring])
    return _of_class(measure, predicted, 1, rows)


def _mean(values: Floats, rows: HoldoutRows) -> Ratio:
    return Ratio(rows.sums(values), rows.sums(np.ones(len(values))))


def _of_numbers(name: str, output: Floats, rows: HoldoutRows) -> Statistic:
    if name == "mae":
        return _mean(loss("mae", output, rows.truth), rows)
    squares, count = rows.sums(loss("mse", output, rows.truth)), rows.sums(np.ones(len(output)))
    if name == "rmse":
        return Ratio(squares, count, root=True)
    if name == "r2":
        centred = rows.truth - rows.truth.mean()
        return Determination(squares, rows.sums(centred), rows.sums(centred**2), count)
    raise KeyError(name)


def _auc(output: Floats, rows: HoldoutRows) -> Statistic:
    """Not defined, as NaN, where the truth has one class only."""
    over = [1] if len(rows.classes) == 2 else rows.occurring
    areas = [AreaUnderCurve.of(output[:, i], rows.truth == i, rows.block, rows.blocks) for i in over]
    return areas[0] if len(areas) == 1 else Mean(areas)


def _of_class(measure: str, predicted: NDArray[np.intp], index: int, rows: HoldoutRows) -> Ratio:
    """Precision and F1 of a class that is never predicted are 0; recall of one that never occurs is not defined."""
    called, true = predicted == index, rows.truth == index
    hits = rows.sums(called & true)
    if measure == "precision":
        return Ratio(hits, rows.sums(called), empty=0.0)
    if measure == "recall":
        return Ratio(hits, rows.sums(true))
    if measure == "f1":
        return Ratio(2.0 * hits, rows.sums(called) + rows.sums(true), empty=0.0)
    raise KeyError(measure)
