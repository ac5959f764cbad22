"""Metrics as influence functions: one number for each row that a score process can sum.

`influence` is the registry: it maps each declared kind to its class. Invariant: every kind of `declaration.KINDS` has
one. These are the metrics of files; live rollouts are judged by the losses of `gauntlet.losses`.
"""

from __future__ import annotations

from evaluator.stats.metrics.auc import AucInfluence
from evaluator.stats.metrics.base import Influence, MeanInfluence
from evaluator.stats.metrics.declaration import Metric, MetricError
from evaluator.stats.metrics.delta_method import MacroF1Influence, R2Influence, RatioInfluence, RmseInfluence
from evaluator.stats.metrics.quantile import QuantileInfluence

__all__ = ["Influence", "influence"]

_CLASSES: dict[str, type[Influence]] = {
    **dict.fromkeys(("ratio", "precision", "recall", "f1"), RatioInfluence),
    "auc": AucInfluence,
    "macro_f1": MacroF1Influence,
    "rmse": RmseInfluence,
    "r2": R2Influence,
}
"""Kinds that are not the mean of a value a row; a quantile also needs its level."""


def influence(metric: Metric, positive: float | None = None) -> Influence:
    """A new influence function of this metric, for one comparison.

    `positive` is the number that stands for the metric's class in the columns. It is needed where classes are texts;
    otherwise the declared class is read as a number. Raises MetricError where it is not one.
    """
    if positive is None and metric.positive is not None:
        try:
            positive = float(metric.positive)
        except ValueError as error:
            raise MetricError(
                f"metric {metric.name!r}: the class {metric.positive!r} is a text, so its number has to be given"
            ) from error
    if metric.kind == "quantile" and metric.level is not None:
        return QuantileInfluence(metric.level)
    return _CLASSES.get(metric.kind, MeanInfluence)(metric.kind, positive)
