"""Metrics that are a quotient of two means: ratios, precision, recall and F1 of a class.

Invariant: at equal quotients the two arms' numbers have equal means, whatever the past had to say; a past that is off
only costs variance, and where the denominators differ, a product of two errors.

With R̂ and D̄ of the champion's past the linearisation (delta method: Deng et al. 2018, "Applying the delta method in
metric analytics") is Y = R̂ + (N − R̂ D) / D̄. An arm with more events to the row (a challenger that predicts the class
twice as often) would show its difference that many times too large. So its D̄ is times ρ̂, the quotient of the arms'
mean denominators by Mantel and Haenszel over the past's batches: a ramp with drift can't tilt it.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from evaluator.stats.metrics.base import (
    FEWEST_EVENTS,
    Influence,
    Snapshot,
    by_arm,
    class_of,
    fading,
    matched,
    numbers,
    quotient,
    shrunk,
)
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats


class RatioInfluence(Influence):
    """ratio, precision (TP of those predicted), recall (TP of those there), F1 (2 TP of predicted + there)."""

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._sums = np.zeros((2, 4))  # by arm: n, ΣN, ΣD, rows with an event (D ≠ 0)
        self._recent = np.zeros(4)  # champion, fading: n, ΣN, ΣD, ΣD²
        self._matched = np.zeros(2)  # by arm, fading: ΣD, batches weighted alike
        self._weight = 0.0  # events that have gone into it

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        n, numerators, denominators, squares = (float(total) for total in self._recent)
        if denominators * denominators < FEWEST_EVENTS * squares or denominators == 0.0:
            return np.full(treated.shape, math.nan)
        ratio, mean = numerators / denominators, denominators / n
        own = mean * shrunk(self._matched[0], self._matched[1], FEWEST_EVENTS * squares / denominators)
        numerator, denominator = self._terms(columns)
        residual = np.where(present, numerator - ratio * denominator, math.nan)
        return ratio + residual / np.where(treated, own, mean)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        numerator, denominator = self._terms(columns)
        events = (denominator != 0.0).astype(np.float64)
        batch = by_arm(treated, present, numerator, denominator, events, denominator * denominator)
        self._recent = self._recent * fading(batch[0, 3]) + batch[0, [0, 1, 2, 4]]
        alike = matched(batch[:, 0], batch[:, 2:4])
        weight = float(alike[:, 1].sum())
        self._matched = self._matched * fading(weight) + alike[:, 0]
        self._weight += weight
        self._sums = self._sums + batch[:, :4]

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (quotient(float(sums[1]), float(sums[2])) for sums in self._sums)
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        new = type(self)(self.kind, self.positive)
        new._sums = self._sums + other._sums
        new._recent = self._recent * fading(other._sums[0, 3]) + other._recent
        new._matched = self._matched * fading(other._weight) + other._matched
        new._weight = self._weight + other._weight
        return new

    def state(self) -> Snapshot:
        return {
            "sums": self._sums.tolist(),
            "recent": self._recent.tolist(),
            "matched": self._matched.tolist(),
            "weight": self._weight,
        }

    def restore(self, state: Snapshot) -> None:
        sums, recent = numbers(state, "sums", (2, 4)), numbers(state, "recent", (4,))
        alike, weight = numbers(state, "matched", (2,)), numbers(state, "weight", (1,))
        self._sums, self._recent, self._matched, self._weight = sums, recent, alike, float(weight[0])

    def _terms(self, columns: Columns) -> tuple[Floats, Floats]:
        """Numerator and denominator of each row."""
        if self.kind == "ratio":
            return columns[0], columns[1]
        predicted, there = class_of(columns[0], self.positive), class_of(columns[1], self.positive)
        hit = (predicted & there).astype(np.float64)
        match self.kind:
            case "precision":
                return hit, predicted.astype(np.float64)
            case "recall":
                return hit, there.astype(np.float64)
        return 2.0 * hit, predicted.astype(np.float64) + there
