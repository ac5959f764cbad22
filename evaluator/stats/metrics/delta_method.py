"""The delta method: ratios, precision, recall, F1, macro F1, RMSE and R², linearised at the champion's recent past.

Source: Deng, Knoblich & Lu (2018), "Applying the delta method in metric analytics". Invariant: the anchor comes from
earlier batches only, so an anchor that is off costs variance but no bias of first order. The challenger's mean
denominator is the champion's times ρ̂, the quotient of both arms' denominators weighted alike (see `base.matched`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.base import FEWEST_EVENTS, Influence, by_arm, class_of, fading, matched, quotient, shrunk
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import Bools, Floats

# A bound for the memory; a column with more labels is more likely an identifier than a class.
MOST_CLASSES: Final = 10_000


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

    def _numbers(self, treated: Bools, columns: Columns) -> Floats | None:
        anchor = self._anchor()
        return None if anchor is None else self._linear(anchor, treated, columns)

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
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


class RatioInfluence(DeltaMethod):
    """Y = R̂ + (N − R̂ D) / D̄, with D̄ of the row's own arm.

    N and D: of `ratio` the two columns; of precision the true positives and the predicted; of recall the true positives
    and the positives; of F1 twice the true positives, and predicted + positives.
    """

    def _figure(self, arm: int) -> float | None:
        return quotient(float(self._sums[arm, 1]), float(self._sums[arm, 2]))

    def _numbers(self, treated: Bools, columns: Columns) -> Floats | None:
        """None while the challenger has rows and no denominator: it has no ratio then, and nothing to be better at."""
        n, _, denominators = self._sums[1]
        return None if n and not denominators else super()._numbers(treated, columns)

    def _linear(self, anchor: Anchor, treated: Bools, columns: Columns) -> Floats:
        numerator, denominator, _ = self._terms(columns)
        residual = numerator - anchor.ratio * denominator
        return np.asarray(anchor.ratio + residual / np.where(treated, anchor.mean * anchor.change, anchor.mean))

    def _terms(self, columns: Columns) -> tuple[Floats, Floats, Floats]:
        numerator, denominator = columns
        if self.kind != "ratio":
            predicted, actual = (class_of(labels, self.positive) * 1.0 for labels in columns)
            hit = predicted * actual
            parts = {"precision": (hit, predicted), "recall": (hit, actual), "f1": (2.0 * hit, predicted + actual)}
            numerator, denominator = parts[self.kind]
        return numerator, denominator, (denominator != 0.0).astype(np.float64)


class MacroF1Influence(Influence):
    """Macro F1, the mean of the classes' F1.

    Y = mean over classes of F̂ₖ + (Nₖ − F̂ₖ Dₖ) / D̄ₖ, Nₖ = 2·[p = y = k], Dₖ = [p = k] + [y = k].

    The classes are all labels seen as prediction or outcome in the past. D̄ₖ is that of the row's arm, as for a ratio.
    """

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._classes = np.zeros(0)
        self._sums = np.zeros((4, 0))  # by class: Σ[p = y = k] and Σ D of the champion, of the challenger
        self._recent = np.zeros((3, 0))  # by class, fading: the champion's rows, Σ[p = y = k] and Σ D
        self._matched = np.zeros((2, 0))  # by class, fading: Σ D by arm, batches weighted alike

    def _numbers(self, treated: Bools, columns: Columns) -> Floats | None:
        rows, hits, named = self._recent
        ripe = named >= FEWEST_EVENTS
        if not ripe.any():
            return None
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
        return np.asarray((f1.sum() + residual) / np.count_nonzero(ripe))

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
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

    def _figure(self, arm: int) -> float | None:
        hits, named = self._sums[2 * arm : 2 * arm + 2]
        there = named > 0.0
        return float(np.mean(2.0 * hits[there] / named[there])) if there.any() else None

    def _place(self, labels: Floats) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Index of each label among the classes; for an unknown label the number of classes."""
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


# RMSE and R²: linear in the squared error given the past ------------------------------------------------------------


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
