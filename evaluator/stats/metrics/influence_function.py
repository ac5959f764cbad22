"""From a declared metric to the object that turns its rows into numbers a score process can add up.

Invariant: every declared kind has its object here, and a snapshot comes back as the object that made it.
"""

from __future__ import annotations

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.auc import AucInfluence
from evaluator.stats.metrics.base import LOSSES, Influence, MeanInfluence, Snapshot
from evaluator.stats.metrics.declaration import Metric, MetricError
from evaluator.stats.metrics.macro_f1 import MacroF1Influence
from evaluator.stats.metrics.quantile import QuantileInfluence
from evaluator.stats.metrics.ratio import RatioInfluence
from evaluator.stats.metrics.regression import R2Influence, RmseInfluence

__all__ = ["Influence", "from_dict", "influence"]


def influence(metric: Metric, positive: float | None = None) -> Influence:
    """A fresh object for one cell of this metric.

    `positive` is the number that stands for the metric's class in the columns: needed where classes are texts, else
    the declared class is read as a number. Raises MetricError where it isn't one.
    """
    if positive is None and metric.positive is not None:
        try:
            positive = float(metric.positive)
        except ValueError as error:
            raise MetricError(
                f"metric {metric.name!r}: the class {metric.positive!r} is a text, so its number has to be given"
            ) from error
    return _fresh(metric.kind, metric.level, positive)


def from_dict(data: Snapshot) -> Influence:
    """The object whose `to_dict` this is. Raises StatsError where it can't be one."""
    kind, level, positive = data.get("kind"), data.get("level"), data.get("positive")
    if not (isinstance(kind, str) and isinstance(level, float | None) and isinstance(positive, float | None)):
        raise StatsError("this is not a snapshot of a metric")
    found = _fresh(kind, level, positive)
    found.restore(data)
    return found


def _fresh(kind: str, level: float | None, positive: float | None) -> Influence:
    if kind in LOSSES:
        return MeanInfluence(kind, positive)
    match kind:
        case "ratio" | "precision" | "recall" | "f1":
            return RatioInfluence(kind, positive)
        case "quantile" if level is not None:
            return QuantileInfluence(level)
        case "auc":
            return AucInfluence(kind, positive)
        case "macro_f1":
            return MacroF1Influence()
        case "rmse":
            return RmseInfluence()
        case "r2":
            return R2Influence()
    raise StatsError(f"there is no kind {kind!r}")
