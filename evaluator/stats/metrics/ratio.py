"""Ratio metrics by the delta method: sum over sum, and precision, recall and F1 of a class.

Invariant: at equal quotients the two arms' numbers have equal means; where the denominators differ, what is left is a
product of two errors.
"""

from __future__ import annotations

import numpy as np

from evaluator.stats.metrics.base import class_of, quotient
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.metrics.delta_method import Anchor, DeltaMethod
from evaluator.stats.score_process import Bools, Floats


class RatioInfluence(DeltaMethod):
    """Y = R̂ + (N − R̂ D) / D̄, with D̄ of the row's own arm.

    N and D: of `ratio` the two columns; of precision the true positives and the predicted; of recall the true positives
    and the positives; of F1 twice the true positives, and predicted + positives.
    """

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (quotient(float(sums[1]), float(sums[2])) for sums in self._sums)
        return champion, challenger

    def _linear(self, anchor: Anchor, treated: Bools, columns: Columns) -> Floats:
        numerator, denominator, _ = self._terms(columns)
        residual = numerator - anchor.ratio * denominator
        return np.asarray(anchor.ratio + residual / np.where(treated, anchor.mean * anchor.change, anchor.mean))

    def _terms(self, columns: Columns) -> tuple[Floats, Floats, Floats]:
        numerator, denominator = self._parts(columns)
        return numerator, denominator, (denominator != 0.0).astype(np.float64)

    def _parts(self, columns: Columns) -> tuple[Floats, Floats]:
        if self.kind == "ratio":
            return columns[0], columns[1]
        predicted, actual = class_of(columns[0], self.positive), class_of(columns[1], self.positive)
        hit = (predicted & actual).astype(np.float64)
        match self.kind:
            case "precision":
                return hit, predicted.astype(np.float64)
            case "recall":
                return hit, actual.astype(np.float64)
        return 2.0 * hit, predicted.astype(np.float64) + actual
