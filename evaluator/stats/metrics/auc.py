"""AUC by placement values: where a row's score lies among the past scores of the other class.

Sources: Hanley & Hajian-Tilaki (1997); van der Vaart (1998), ch. 20.1. With θ̂ the arm's past AUC, p̂ the share of the
class, G the past distribution of the others' scores and F that of the class's,
    Y = θ̂ + (G(s) − θ̂) / p̂ for a row of the class, θ̂ + (1 − F(s) − θ̂) / (1 − p̂) for one of the others.

Invariant: each arm is measured against its own past. Scores within 1.6 % count as ties: an AUC moves by under 1e-4.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from evaluator.stats.metrics.base import Influence, class_of, fading, matched
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.metrics.quantile import SCORES, Histogram
from evaluator.stats.score_process import Bools, Floats, Ints

# Rows of either class in either arm before an arm's past is used.
_FEWEST: Final = 10.0
# Probabilities that hardly differ, or hardly differ from 0, are better bucketed where they lie.
_LEAST_SPREAD: Final = 1e-6


class AucInfluence(Influence):
    """Rows of both histograms: champion's others, champion's class, challenger's others, challenger's class."""

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        # (origin, unit) of the scores' buckets, from the first batch: (0, 1) for probabilities, else where scores lie.
        self._frame: tuple[float, float] | None = None
        self._seen = Histogram(4)  # all rows learned
        self._matched = Histogram(4)  # those of batches with both arms, weighted alike, fading

    def _numbers(self, treated: Bools, columns: Columns) -> Floats | None:
        tables = self._tables()
        if tables is None:
            return None
        at = self._matched.positions(self._buckets(np.nan_to_num(columns[0])))
        rows = 2 * treated + class_of(columns[1], self.positive)
        return np.asarray(tables.ravel()[rows * tables.shape[1] + at])

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
        rows = (2 * treated + class_of(columns[1], self.positive))[present]
        scores = columns[0][present]
        if self._frame is None and len(scores):
            self._frame = _frame(scores)
        batch = Histogram(4)
        batch.add(rows, self._buckets(scores))
        arms = batch.counts.sum(axis=1).reshape(2, 2).sum(axis=1)
        self._seen.add_counts(batch.lowest, batch.counts)
        if arms.all():
            alike = matched(arms, batch.counts.reshape(2, -1)).reshape(batch.counts.shape)
            weight = float(alike.sum(axis=1).reshape(2, 2).sum(axis=0).min())
            self._matched.counts *= fading(weight)
            self._matched.add_counts(batch.lowest, alike)

    def _figure(self, arm: int) -> float | None:
        """Exact but for ties of scores in one bucket: off by at most half the share of such pairs."""
        counts = self._seen.counts[2 * arm : 2 * arm + 2]
        return _auc(counts) if counts.any(axis=1).all() else None

    def _buckets(self, scores: Floats) -> Ints:
        origin, unit = self._frame or (0.0, 1.0)
        with np.errstate(over="ignore"):
            return SCORES.buckets((scores - origin) / unit)

    def _tables(self) -> Floats | None:
        """Y by row of the histograms and position, (4, width + 2)."""
        weights = self._matched.counts.sum(axis=1)
        if self._seen.counts.sum(axis=1).min() < _FEWEST or not weights.all():
            return None
        share = float(weights[1] + weights[3]) / float(weights.sum())
        ranks = self._matched.ranks()
        tables = np.empty_like(ranks)
        for arm in (0, 2):
            auc = _auc(self._matched.counts[arm : arm + 2])
            tables[arm] = auc + (1.0 - ranks[arm + 1] - auc) / (1.0 - share)
            tables[arm + 1] = auc + (ranks[arm] - auc) / share
        return tables


def _frame(scores: Floats) -> tuple[float, float]:
    """Origin and unit that put the scores where buckets are fine: credit scores of 300 to 850 would tie otherwise."""
    low, middle, high = (float(score) for score in np.quantile(scores, (0.25, 0.5, 0.75)))
    probabilities = scores.min() >= 0.0 and scores.max() <= 1.0
    if probabilities and (high == low or high - low > max(_LEAST_SPREAD, 0.1 * min(middle, 1.0 - middle))):
        return 0.0, 1.0
    wide = float(scores.max()) - float(scores.min())
    return middle, (high - low) or wide or abs(middle)


def _auc(counts: Floats) -> float:
    """P(class's score > other's) + ½ P(tie) of two rows of counts: others, class."""
    others, positives = counts
    below = others.cumsum() - 0.5 * others
    return float(below @ positives / (others.sum() * positives.sum()))
