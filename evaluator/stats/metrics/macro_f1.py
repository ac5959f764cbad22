"""Macro F1, the mean of the classes' F1, each linearised on its own by the delta method (see `delta_method`).

Invariant: only classes with enough of the champion's past carry evidence; the others count in the figures.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.base import FEWEST_EVENTS, Influence, fading, matched, shrunk
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats

# A bound for the memory; a column with more labels is more likely an identifier than a class.
MOST_CLASSES: Final = 10_000


class MacroF1Influence(Influence):
    """Y = mean over classes of F̂ₖ + (Nₖ − F̂ₖ Dₖ) / D̄ₖ, Nₖ = 2·[p = y = k], Dₖ = [p = k] + [y = k].

    The classes are all labels seen as prediction or outcome in the past. D̄ₖ is that of the row's arm, as for a ratio.
    """

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._classes = np.zeros(0)
        self._sums = np.zeros((4, 0))  # by class: Σ[p = y = k] and Σ D of the champion, of the challenger
        self._recent = np.zeros((3, 0))  # by class, fading: the champion's rows, Σ[p = y = k] and Σ D
        self._matched = np.zeros((2, 0))  # by class, fading: Σ D by arm, batches weighted alike

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        rows, hits, named = self._recent
        ripe = named >= FEWEST_EVENTS
        if not ripe.any():
            return np.full(treated.shape, math.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(ripe, 2.0 * hits / named, 0.0)
            slope = np.where(ripe, rows / named, 0.0)
        # The tables' last entry is for rows of no known class, which add nothing.
        own = slope / shrunk(self._matched[0], self._matched[1], FEWEST_EVENTS)
        slopes = np.pad(np.stack([slope, own]), ((0, 0), (0, 1)))
        steps = slopes * np.append(f1, 0.0)
        arm = treated.astype(np.intp)
        predicted, there = self._place(columns[0]), self._place(columns[1])
        hit = columns[0] == columns[1]
        residual = 2.0 * hit * slopes[arm, there] - steps[arm, predicted] - steps[arm, there]
        return np.where(present, (f1.sum() + residual) / np.count_nonzero(ripe), math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        arm = treated[present].astype(np.intp)
        predicted, there = columns[0][present], columns[1][present]
        known = np.union1d(self._classes, np.union1d(np.unique(predicted), np.unique(there)))
        if len(known) > MOST_CLASSES:
            raise StatsError(f"{len(known)} classes are more than the {MOST_CLASSES} that macro F1 keeps")
        self._widen(known)
        k = len(known)
        at_predicted, at_there = self._place(predicted) + arm * k, self._place(there) + arm * k
        hits = np.bincount(at_there[predicted == there], minlength=2 * k).reshape(2, k)
        named = (np.bincount(at_predicted, minlength=2 * k) + np.bincount(at_there, minlength=2 * k)).reshape(2, k)
        rows = np.bincount(arm, minlength=2).astype(np.float64)
        alike = matched(rows, named.astype(np.float64))
        self._recent = self._recent * fading(named[0]) + np.stack([np.full(k, rows[0]), hits[0], named[0]])
        self._matched = self._matched * fading(alike.sum(axis=0)) + alike
        self._sums = self._sums + np.stack([hits, named], axis=1).reshape(4, -1)

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (_figure(*self._sums[rows : rows + 2]) for rows in (0, 2))
        return champion, challenger

    def _place(self, labels: Floats) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Index of each label among the classes; for an unknown label the number of classes."""
        at = np.searchsorted(self._classes, labels)
        known = self._classes[np.minimum(at, len(self._classes) - 1)] == labels if len(self._classes) else False
        return np.where(known, at, len(self._classes))

    def _widen(self, known: Floats) -> None:
        """Add the classes that are new among `known`."""
        at = np.searchsorted(known, self._classes)
        for name in ("_sums", "_recent", "_matched"):
            old = getattr(self, name)
            wide = np.zeros((len(old), len(known)))
            wide[:, at] = old
            setattr(self, name, wide)
        self._classes = known


def _figure(hits: Floats, named: Floats) -> float | None:
    there = named > 0.0
    return float(np.mean(2.0 * hits[there] / named[there])) if there.any() else None
