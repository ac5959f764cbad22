"""The delta method: metrics that are smooth functions of means, linearised at the champion's recent past.

Source: Deng, Knoblich & Lu (2018), "Applying the delta method in metric analytics". The anchor comes from earlier
batches only, so an anchor that is off costs variance but no bias of first order. The arms may differ in the mean of
the denominator; the challenger's is the champion's times ρ̂, the quotient of both arms' denominators weighted alike over
batches, so that a ramp with drift can't tilt it (see `base.matched`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from evaluator.stats.metrics.base import FEWEST_EVENTS, Influence, by_arm, fading, matched, shrunk
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a metric is linearised: the champion's faded mean denominator D̄ and N̄/D̄, and ρ̂ of the challenger."""

    ratio: float
    mean: float
    change: float


class DeltaMethod(Influence):
    """Keeps what the linearisation needs of numerators N and denominators D: plain sums by arm for the figures, and
    fading sums of the champion for the anchor."""

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._sums = np.zeros((2, 3))  # by arm: n, ΣN, ΣD
        self._recent = np.zeros(4)  # champion, fading: n, ΣN, ΣD, ΣD²
        self._matched = np.zeros(2)  # by arm, fading: ΣD, batches weighted alike

    @abstractmethod
    def _terms(self, columns: Columns) -> tuple[Floats, Floats, Floats]:
        """N, D and whether the row is an event (1 or 0) of each row."""

    @abstractmethod
    def _linear(self, anchor: Anchor, treated: Bools, columns: Columns) -> Floats:
        """The linearised metric of each row."""

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        anchor = self._anchor()
        if anchor is None:
            return np.full(treated.shape, math.nan)
        return np.where(present, self._linear(anchor, treated, columns), math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        numerator, denominator, event = self._terms(columns)
        batch = by_arm(treated, present, numerator, denominator, denominator * denominator, event)
        self._recent = self._recent * fading(batch[0, 4]) + batch[0, :4]
        alike = matched(batch[:, 0], batch[:, [2, 4]])
        self._matched = self._matched * fading(float(alike[:, 1].sum())) + alike[:, 0]
        self._sums = self._sums + batch[:, :3]

    def _anchor(self) -> Anchor | None:
        """None while the champion's past holds too few effective events, (ΣD)² / ΣD²."""
        n, numerators, denominators, squares = (float(total) for total in self._recent)
        if denominators * denominators < FEWEST_EVENTS * squares or denominators == 0.0:
            return None
        change = shrunk(self._matched[0], self._matched[1], FEWEST_EVENTS * squares / denominators)
        return Anchor(numerators / denominators, denominators / n, float(change))
