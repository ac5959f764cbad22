"""Points for the plots: ROC curves, and predicted against observed values in bins of equally many rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluator.offline.comparator.result import Curves
from gauntlet.holdout.metrics import HoldoutRows
from gauntlet.holdout.statistics import Floats
from gauntlet.types import Task

_POINTS, _BINS = 200, 10

Line = tuple[tuple[float, ...], tuple[float, ...]]


def curves(outputs: dict[str, Floats], rows: HoldoutRows) -> Curves:
    """ROC and calibration by model: of the second of two classes; of more, the likeliest class against accuracy."""
    if rows.task is Task.REGRESSION:
        return Curves({}, {name: calibration(output, rows.truth) for name, output in outputs.items()})
    if len(rows.classes) == 2:
        positive = rows.truth == 1
        roc = {}
        if 0 < positive.sum() < len(positive):
            roc = {name: roc_curve(output[:, 1], positive) for name, output in outputs.items()}
        observed = positive.astype(np.float64)
        return Curves(roc, {name: calibration(output[:, 1], observed) for name, output in outputs.items()})
    lines = {}
    for name, output in outputs.items():
        right = (output.argmax(axis=1) == rows.truth).astype(np.float64)
        lines[name] = calibration(output.max(axis=1), right)
    return Curves({}, lines)


def roc_curve(score: Floats, positive: NDArray[np.bool_]) -> Line:
    """False and true positive rates from (0, 0) to (1, 1), thinned evenly along the curve."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # one point for each distinct score
    hits, alarms = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    fall_out, recall = np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])
    way = fall_out + recall  # rises strictly
    taken = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], _POINTS)).clip(0, len(way) - 1))
    return tuple(fall_out[taken].tolist()), tuple(recall[taken].tolist())


def calibration(predicted: Floats, observed: Floats) -> Line:
    """Means of predicted and observed in bins of equally many rows."""
    order = np.argsort(predicted, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    means = [(float(predicted[part].mean()), float(observed[part].mean())) for part in bins]
    return tuple(x for x, _ in means), tuple(y for _, y in means)
