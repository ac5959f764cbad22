"""RMSE and R², both linear in the squared error given the past.

Invariant: the line is the same for both arms, so equal errors give equal means exactly; the past only sets the slope.
"""

from __future__ import annotations

import math

import numpy as np

from evaluator.stats.metrics.base import FEWEST_EVENTS, Influence, by_arm, fading, quotient
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.metrics.delta_method import Anchor, DeltaMethod
from evaluator.stats.score_process import Bools, Floats


class RmseInfluence(DeltaMethod):
    """Y = r̂₀ + (e² − r̂₀²) / (r̂₀ + r̂₁), the secant: r₁ − r₀ = (r₁² − r₀²) / (r₀ + r₁).

    The tangent at r̂₀ has 2 r̂₀ below the line and would exaggerate a difference by half of it. N = D = e², so that
    r̂₁ = r̂₀ √ρ̂.
    """

    def _figure(self, arm: int) -> float | None:
        n, _, squares = self._sums[arm]
        return math.sqrt(squares / n) if n else None

    def _linear(self, anchor: Anchor, treated: Bools, columns: Columns) -> Floats:
        root = math.sqrt(anchor.mean)
        slope = 1.0 / (root * (1.0 + math.sqrt(anchor.change)))
        return np.asarray(root + (np.square(columns[0] - columns[1]) - root * root) * slope)

    def _terms(self, columns: Columns) -> tuple[Floats, Floats, Floats]:
        square = np.square(columns[0] - columns[1])
        return square, square, np.ones_like(square)


class R2Influence(Influence):
    """Y = 1 − R̂ − (e² − R̂ (y − ȳ)²) / σ̂², with R̂ = Σe² / Σ(y−ȳ)² and σ̂², ȳ of the champion's past.

    Outcomes are the same quantity in both arms, so both are measured against the champion's. Where the level of the
    outcomes drifts, (y − ȳ)² grows in both arms alike.
    """

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        # n, Σe², ȳ, Σ(y−ȳ)²: centred, as outcomes may lie far from 0.
        self._sums = np.zeros((2, 4))  # by arm
        self._recent = np.zeros((1, 4))  # champion, fading

    def _numbers(self, treated: Bools, columns: Columns) -> Floats | None:
        n, squares, centre, spread = (float(total) for total in self._recent[0])
        if n < FEWEST_EVENTS or spread == 0.0:
            return None
        ratio = squares / spread
        residual = np.square(columns[0] - columns[1]) - ratio * np.square(columns[1] - centre)
        return 1.0 - ratio - residual * (n / spread)

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
        square, outcome = np.square(columns[0] - columns[1]), columns[1]
        totals = by_arm(treated, present, square, outcome)
        centres = totals[:, 2] / np.maximum(totals[:, 0], 1.0)
        spread = by_arm(treated, present, np.square(outcome - np.where(treated, centres[1], centres[0])))[:, 1]
        batch = np.stack([totals[:, 0], totals[:, 1], centres, spread], axis=1)
        kept = float(fading(batch[0, 0]))
        faded = self._recent * np.array([kept, kept, 1.0, kept])  # all but the mean fade
        self._recent = _pooled(faded, batch[:1])
        self._sums = _pooled(self._sums, batch)

    def _figure(self, arm: int) -> float | None:
        unexplained = quotient(float(self._sums[arm, 1]), float(self._sums[arm, 3]))
        return None if unexplained is None else 1.0 - unexplained


def _pooled(mine: Floats, theirs: Floats) -> Floats:
    """Counts, Σe², means and centred squares of two parts by the pairwise update of Chan, Golub & LeVeque (1983)."""
    n = mine[:, 0] + theirs[:, 0]
    share = theirs[:, 0] / np.maximum(n, 1.0)
    apart = theirs[:, 2] - mine[:, 2]
    centre = mine[:, 2] + apart * share
    spread = mine[:, 3] + theirs[:, 3] + apart * apart * share * mine[:, 0]
    return np.stack([n, mine[:, 1] + theirs[:, 1], centre, spread], axis=1)
