"""Metrics built on squared errors: their root (RMSE) and the share of the outcomes' variance they leave (R²).

Invariant: given the past both are one straight line in the squared error, the same for both arms, so that equal
errors give equal means exactly; the past only sets the line's slope, which puts a difference into the metric's units.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.base import (
    FEWEST_EVENTS,
    Influence,
    Snapshot,
    by_arm,
    fading,
    matched,
    numbers,
    quotient,
    shrunk,
)
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats


class RmseInfluence(Influence):
    """Y = r̂₀ + (e² − r̂₀²) / (r̂₀ + r̂₁), since r₁ − r₀ = (r₁² − r₀²) / (r₀ + r₁).

    The tangent at the champion's r̂₀ would have 2 r̂₀ below the line and exaggerate a difference by half of it. r̂₁ is r̂₀
    times the root of the arms' quotient of mean squares over the past's batches, weighted alike.
    """

    def __init__(self, kind: str = "rmse", positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._sums = np.zeros((2, 2))  # by arm: n, Σe²
        self._recent = np.zeros(3)  # champion, fading: n, Σe², Σe⁴
        self._matched = np.zeros(2)  # by arm, fading: Σe², batches weighted alike
        self._weight = 0.0  # rows that have gone into it

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        n, squares, fourths = (float(total) for total in self._recent)
        if squares * squares < FEWEST_EVENTS * fourths or squares == 0.0:
            return np.full(treated.shape, math.nan)
        change = shrunk(self._matched[0], self._matched[1], FEWEST_EVENTS * fourths / squares)
        root = math.sqrt(squares / n)
        slope = 1.0 / (root * (1.0 + math.sqrt(change)))
        line = root + (np.square(columns[0] - columns[1]) - root * root) * slope
        return np.where(present, line, math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        square = np.square(columns[0] - columns[1])
        batch = by_arm(treated, present, square, square * square)
        self._recent = self._recent * fading(batch[0, 0]) + batch[0]
        alike = matched(batch[:, 0], batch[:, :2])
        weight = float(alike[:, 0].sum())
        self._matched = self._matched * fading(weight) + alike[:, 1]
        self._weight += weight
        self._sums = self._sums + batch[:, :2]

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (math.sqrt(sums[1] / sums[0]) if sums[0] else None for sums in self._sums)
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        new = type(self)(self.kind, self.positive)
        new._sums = self._sums + other._sums
        new._recent = self._recent * fading(other._sums[0, 0]) + other._recent
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
        sums, recent = numbers(state, "sums", (2, 2)), numbers(state, "recent", (3,))
        alike, weight = numbers(state, "matched", (2,)), numbers(state, "weight", (1,))
        self._sums, self._recent, self._matched, self._weight = sums, recent, alike, float(weight[0])


class R2Influence(Influence):
    """Y = 1 − R̂ − (e² − R̂ (y − ȳ)²) / σ̂², with R̂ = Σe² / Σ(y−ȳ)² and σ̂², ȳ of the champion's past.

    Outcomes are the same quantity in both arms, so both are measured against the champion's. Where the level of the
    outcomes drifts, (y − ȳ)² grows in both arms alike.
    """

    def __init__(self, kind: str = "r2", positive: float | None = None) -> None:
        super().__init__(kind, positive)
        # n, Σe², ȳ, Σ(y−ȳ)²: centred, as outcomes may lie far from 0.
        self._sums = np.zeros((2, 4))  # by arm
        self._recent = np.zeros((1, 4))  # champion, fading

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        n, squares, centre, spread = (float(total) for total in self._recent[0])
        if n < FEWEST_EVENTS or spread == 0.0:
            return np.full(treated.shape, math.nan)
        ratio = squares / spread
        residual = np.square(columns[0] - columns[1]) - ratio * np.square(columns[1] - centre)
        return np.where(present, 1.0 - ratio - residual * (n / spread), math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        square, outcome = np.square(columns[0] - columns[1]), columns[1]
        totals = by_arm(treated, present, square, outcome)
        centres = totals[:, 2] / np.maximum(totals[:, 0], 1.0)
        spread = by_arm(treated, present, np.square(outcome - np.where(treated, centres[1], centres[0])))[:, 1]
        batch = np.stack([totals[:, 0], totals[:, 1], centres, spread], axis=1)
        self._recent = _joined(_faded(self._recent, batch[0, 0]), batch[:1])
        self._sums = _joined(self._sums, batch)

    def figures(self) -> tuple[float | None, float | None]:
        left = [quotient(float(sums[1]), float(sums[3])) for sums in self._sums]
        champion, challenger = (None if share is None else 1.0 - share for share in left)
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        new = type(self)(self.kind, self.positive)
        new._sums = _joined(self._sums, other._sums)
        new._recent = _joined(_faded(self._recent, other._sums[0, 0]), other._recent)
        return new

    def state(self) -> Snapshot:
        return {"sums": self._sums.tolist(), "recent": self._recent.tolist()}

    def restore(self, state: Snapshot) -> None:
        sums, recent = numbers(state, "sums", (2, 4)), numbers(state, "recent", (1, 4))
        if (np.concatenate([sums, recent])[:, [0, 1, 3]] < 0.0).any():
            raise StatsError("a snapshot of this metric has a negative sum of squares")
        self._sums, self._recent = sums, recent


def _faded(sums: Floats, rows: float) -> Floats:
    """Rows (n, Σe², ȳ, Σ(y−ȳ)²) after so many later rows: all but the mean fade."""
    kept = float(fading(rows))
    return np.asarray(sums * np.array([kept, kept, 1.0, kept]))


def _joined(mine: Floats, theirs: Floats) -> Floats:
    """Counts, Σe², means and centred squares of two parts by the pairwise update of Chan, Golub & LeVeque (1983)."""
    n = mine[:, 0] + theirs[:, 0]
    share = theirs[:, 0] / np.maximum(n, 1.0)
    apart = theirs[:, 2] - mine[:, 2]
    centre = mine[:, 2] + apart * share
    spread = mine[:, 3] + theirs[:, 3] + apart * apart * share * mine[:, 0]
    return np.stack([n, mine[:, 1] + theirs[:, 1], centre, spread], axis=1)
