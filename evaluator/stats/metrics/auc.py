"""AUC, linearised by placement values: where a row's score lies among the past scores of the other class.

Invariant: each arm is measured against its own past, so a model whose scores are merely shifted is not thought better;
what an imperfect past leaves is a product of two independent errors, that of either class's distribution.

AUC is linear in the distribution of either class (Hanley & Hajian-Tilaki 1997; van der Vaart 1998, ch. 20.1 for the
expansion): with θ̂ the arm's AUC in its past, p̂ the share of the class, G its past distribution of the others' scores
and F that of the class's,
    Y = θ̂ + (G(s) − θ̂) / p̂ for a row of the class, θ̂ + (1 − F(s) − θ̂) / (1 − p̂) for one of the others,
has the mean θ − ∬ of (F − F now)(G − G now). The arms' pasts are weighted batch by batch alike, so that under a ramp
both speak of the same days. Histograms instead of the sorted past: they merge by adding, are bounded, and a look-up is
one gather; scores within 1.6 % count as ties, which moves an AUC by less than 1e-4.
"""

from __future__ import annotations

import math
from typing import Final, Self

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.base import Influence, Snapshot, class_of, fading, matched, numbers
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.metrics.quantile import SCORES, Histogram, Ints
from evaluator.stats.score_process import Bools, Floats

# Rows of either class in either arm before an arm's past serves as its ruler.
_FEWEST: Final = 10.0
# Probabilities that hardly differ, or hardly differ from 0, are better bucketed where they lie.
_LEAST_SPREAD: Final = 1e-6


class AucInfluence(Influence):
    """Rows of both histograms: champion's others, champion's class, challenger's others, challenger's class."""

    def __init__(self, kind: str = "auc", positive: float | None = None) -> None:
        super().__init__(kind, positive)
        # (origin, unit) of the scores' buckets, from the first batch: (0, 1) for probabilities, else where scores lie.
        self._frame: tuple[float, float] | None = None
        self._seen = Histogram(4)  # all rows learned
        self._matched = Histogram(4)  # those of batches with both arms, weighted alike, fading
        self._weight = 0.0  # rows of the rarer class that have gone into it

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        tables = self._tables()
        if tables is None:
            return np.full(treated.shape, math.nan)
        at = self._matched.positions(self._buckets(np.where(present, columns[0], 0.0)))
        rows = 2 * treated + class_of(columns[1], self.positive)
        return np.where(present, tables.ravel()[rows * tables.shape[1] + at], math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
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
            self._weight += weight

    def figures(self) -> tuple[float | None, float | None]:
        """Exact but for ties of scores in one bucket: off by at most half the share of such pairs."""
        counts = self._seen.counts
        champion, challenger = (
            _auc(counts[arm : arm + 2]) if counts[arm : arm + 2].any(axis=1).all() else None for arm in (0, 2)
        )
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        new = type(self)(self.kind, self.positive)
        new._frame = self._frame or other._frame
        seen, alike = (self._framed(histogram, other._frame) for histogram in (other._seen, other._matched))
        new._seen = self._seen.merge(seen)
        new._matched = self._matched.merge(alike, float(fading(other._weight)))
        new._weight = self._weight + other._weight
        return new

    def state(self) -> Snapshot:
        return {
            "frame": None if self._frame is None else list(self._frame),
            "seen": self._seen.state(),
            "matched": self._matched.state(),
            "weight": self._weight,
        }

    def restore(self, state: Snapshot) -> None:
        weight = numbers(state, "weight", (1,))
        frame = None if state.get("frame", 0) is None else numbers(state, "frame", (2,))
        if frame is not None and not frame[1] > 0.0:
            raise StatsError("a snapshot of this metric has a unit of its scores that is not above 0")
        self._seen.restore(state.get("seen", {}), SCORES)
        self._matched.restore(state.get("matched", {}), SCORES)
        self._weight = float(weight[0])
        self._frame = None if frame is None else (float(frame[0]), float(frame[1]))

    def _buckets(self, scores: Floats) -> Ints:
        origin, unit = self._frame or (0.0, 1.0)
        with np.errstate(over="ignore"):
            return SCORES.buckets((scores - origin) / unit)

    def _framed(self, histogram: Histogram, frame: tuple[float, float] | None) -> Histogram:
        """Another's histogram in one's own buckets: as it is, unless its first batch lay elsewhere."""
        if frame is None or self._frame is None or frame == self._frame:
            return histogram
        columns = np.arange(histogram.lowest, histogram.lowest + histogram.counts.shape[1])
        return histogram.moved(self._buckets(frame[0] + frame[1] * SCORES.middles(columns)))

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
    """Where buckets should be fine. Credit scores from 300 to 850 would tie in steps of ten without it."""
    low, middle, high = (float(score) for score in np.quantile(scores, (0.25, 0.5, 0.75)))
    probabilities = scores.min() >= 0.0 and scores.max() <= 1.0
    if probabilities and (high == low or high - low > max(_LEAST_SPREAD, 0.1 * min(middle, 1.0 - middle))):
        return 0.0, 1.0
    wide = float(scores.max()) - float(scores.min())
    return middle, (high - low) or wide or abs(middle)


def _auc(counts: Floats) -> float:
    """P(class's score > other's) + ½ P(tie) of two rows of counts: others, class."""
    others, class_ = counts
    below = others.cumsum() - 0.5 * others
    return float(below @ class_ / (others.sum() * class_.sum()))
