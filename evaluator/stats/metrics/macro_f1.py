"""Macro F1: the mean of the classes' F1, each linearised on its own.

Invariant: only classes that the champion's past knows well enough carry evidence; the others count in the figures.
"""

from __future__ import annotations

import math
from typing import Final, Self

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.base import FEWEST_EVENTS, Influence, Snapshot, fading, matched, numbers, shrunk
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats

# A bound for the memory; a column with more labels is more likely an identifier than a class.
MOST_CLASSES: Final = 10_000


class MacroF1Influence(Influence):
    """Y = mean over classes of F̂ₖ + (Nₖ − F̂ₖ Dₖ) / D̄ₖ, Nₖ = 2·[p = y = k], Dₖ = [p = k] + [y = k].

    The classes are all that were seen as prediction or outcome in the past. D̄ₖ by arm as for a ratio.
    """

    def __init__(self, kind: str = "macro_f1", positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._classes = np.zeros(0)
        self._sums = np.zeros((4, 0))  # by class: Σ[p = y = k] and Σ D of the champion, of the challenger
        self._recent = np.zeros((3, 0))  # by class, fading: the champion's rows, Σ[p = y = k] and Σ D
        self._matched = np.zeros((3, 0))  # by class: Σ D by arm, batches weighted alike, fading; Σ D gone into it

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        rows, hits, named = self._recent
        ripe = named >= FEWEST_EVENTS
        if not ripe.any():
            return np.full(treated.shape, math.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(ripe, 2.0 * hits / named, 0.0)
            slope = np.where(ripe, rows / named, 0.0)
        # A row of no known class adds nothing: the last entry of the tables is for those.
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
        recent = np.stack([np.full(k, rows[0]), hits[0], named[0]])
        self._join(recent, named[0], np.vstack([alike, alike.sum(axis=0)]), np.stack([hits, named], axis=1))

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (_figure(*self._sums[rows : rows + 2]) for rows in (0, 2))
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        known = np.union1d(self._classes, other._classes)
        parts = []
        for part in (self, other):
            wide = type(self)(self.kind, self.positive)
            wide._classes, wide._sums = part._classes, part._sums
            wide._recent, wide._matched = part._recent, part._matched
            wide._widen(known)
            parts.append(wide)
        new, later = parts
        new._join(later._recent, later._sums[1], later._matched, later._sums)
        return new

    def state(self) -> Snapshot:
        return {
            "classes": self._classes.tolist(),
            "sums": self._sums.tolist(),
            "recent": self._recent.tolist(),
            "matched": self._matched.tolist(),
        }

    def restore(self, state: Snapshot) -> None:
        classes = numbers(state, "classes", (-1,))
        if (np.diff(classes) <= 0.0).any():
            raise StatsError("a snapshot of this metric has its classes in rising order")
        k = len(classes)
        sums, recent = numbers(state, "sums", (4, k)), numbers(state, "recent", (3, k))
        alike = numbers(state, "matched", (3, k))
        self._classes, self._sums, self._recent, self._matched = classes, sums, recent, alike

    def _join(self, recent: Floats, named: Floats, alike: Floats, sums: Floats) -> None:
        """Take in a later part with the same classes; `named` are the champion's Σ D that came with it."""
        self._recent = self._recent * fading(named) + recent
        kept = fading(alike[2])
        self._matched = self._matched * np.stack([kept, kept, np.ones_like(kept)]) + alike
        self._sums = self._sums + sums.reshape(4, -1)

    def _place(self, labels: Floats) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Index of each label among the classes; their number for one that is not among them."""
        at = np.searchsorted(self._classes, labels)
        known = self._classes[np.minimum(at, len(self._classes) - 1)] == labels if len(self._classes) else False
        return np.where(known, at, len(self._classes))

    def _widen(self, known: Floats) -> None:
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
