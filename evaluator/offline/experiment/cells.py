"""Sums of one cell (a challenger against the champion, one metric, one segment) over a file's rows.

Invariant: a row's score uses predictions made from earlier batches only; what a look needs is in the sums, no row is
kept. Outcomes are oriented, so that larger is better, before anything is added. Rows of a cluster may come in any
order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluator.stats.e_process import PairedWealth, SplitWealth, effects
from evaluator.stats.evidence import MomentSums
from evaluator.stats.metrics import Influence, influence
from evaluator.stats.metrics.cuped import CupedAdjustment
from evaluator.stats.metrics.declaration import Metric
from evaluator.stats.score_process import Bools, Floats
from evaluator.stats.tails import PowerSums

# With more clusters than this the safeguards for few, skewed and correlated ones have nothing left to correct, and the
# clusters' second moments say all. Up to it every cluster is a block of the engine.
MOST_BLOCKS = 1000


class ClusterSums:
    """S, I, unit variance and units of each cluster, in order of first appearance."""

    def __init__(self) -> None:
        self._sums = np.zeros((4, 64))
        self._order: list[int] = []
        self._seen = np.zeros(64, dtype=np.bool_)
        self._moments = np.zeros(3)  # Σ s², Σ s·i, Σ i²

    def __len__(self) -> int:
        return len(self._order)

    def add(self, codes: NDArray[np.int64], score: Floats, information: Floats, variance: Floats) -> None:
        """Rows of clusters with these codes, arrays of shape (n,)."""
        if not len(codes):
            return
        touched, first, of = np.unique(codes, return_index=True, return_inverse=True)
        self._grow(int(touched[-1]) + 1)
        before = self._sums[:2, touched]
        for row, part in enumerate((score, information, variance, np.ones(len(codes)))):
            self._sums[row, touched] += np.bincount(of, part, len(touched))
        after = self._sums[:2, touched]
        self._moments += [
            float((after[j] * after[k] - before[j] * before[k]).sum()) for j, k in ((0, 0), (0, 1), (1, 1))
        ]
        fresh = ~self._seen[touched]
        if fresh.any():
            self._order += touched[fresh][np.argsort(first[fresh], kind="stable")].tolist()
            self._seen[touched] = True

    def _grow(self, codes: int) -> None:
        size = len(self._seen)
        if codes > size:
            more = max(codes, 2 * size) - size
            self._sums = np.pad(self._sums, ((0, 0), (0, more)))
            self._seen = np.pad(self._seen, (0, more))

    def rows(self) -> Floats:
        """The clusters as the engine's blocks, shape (clusters, 4), in order of first appearance."""
        return np.ascontiguousarray(self._sums[:, self._order].T)

    def variance(self, score: float, information: float) -> float:
        """Σ (s − e·i)² over clusters at the effect e = S/I, with the usual n/(n−1)."""
        n = len(self)
        if n < 2 or not information:
            return 0.0
        effect = score / information
        ss, si, ii = self._moments.tolist()
        return max(0.0, ss - 2.0 * effect * si + effect * effect * ii) * n / (n - 1)


Codes = np.ndarray[tuple[int], np.dtype[np.int64]]


# Metrics over the rows of one class alone.
_ONE_CLASS = ("auc", "precision", "recall", "f1")


class CellRows(NamedTuple):
    """Rows of one batch that belong to a cell, arrays of shape (n,).

    Split form: `treated`, `propensity` and the metric's `columns`. Paired form: `columns` are the champion's and
    `other` the challenger's on the same rows. `clusters` are codes from 0 on.
    """

    treated: Bools
    propensity: Floats
    columns: tuple[Floats, ...]
    other: tuple[Floats, ...] | None
    clusters: Codes | None
    covariates: tuple[Floats, ...]


class Counts(NamedTuple):
    """What a look reports: S, I, variance of S as drawn, scored units, and both arms' (n, Σ Y, Σ Y²)."""

    score: float
    information: float
    variance: float
    units: int
    champion: Floats
    challenger: Floats


class Cell:
    """Running sums of one comparison. Batches must be added in the order of the file."""

    def __init__(
        self,
        metric: Metric,
        *,
        positive: float | None = None,
        paired: bool = False,
        exact: bool = False,
        covariates: int = 0,
        whole: Cell | None = None,
    ) -> None:
        """`whole`: the cell over all segments; None: this one is."""
        self.metric = metric
        self.whole = self if whole is None else whole
        self.paired = paired
        self.sign = 1.0 if metric.higher_is_better else -1.0
        self.influence: Influence = influence(metric, positive)
        self.n = [0, 0]  # rows that have what the metric needs
        self.arms = np.zeros((2, 3))  # (n, Σ Y, Σ Y²) of those that gave a value
        self._positive = 1.0 if positive is None else positive
        self._of_class = np.zeros(2)
        self.difference = np.zeros(3)  # paired: n, Σ D, Σ D²
        self.expected = 0.0  # Σ π of scored units: challengers that were planned
        self.drawn = np.zeros(2)  # Σ π and Σ π Y of all that gave a value
        self._sums = np.zeros(3)  # S, I, and its variance as drawn (paired: Σ D²)
        self.powers = PowerSums()
        self.moments = MomentSums()  # of the same rows, where they are independent and not paired
        self._units = 0
        self.clusters = ClusterSums()
        self._adjustment = CupedAdjustment(covariates) if covariates and not paired else None
        nulls = np.unique(np.append(effects(), -metric.margin))
        self._wealth = (PairedWealth if paired else SplitWealth).start(nulls) if exact else None
        self._null = int(np.searchsorted(nulls, -metric.margin))

    @property
    def margin(self) -> float:
        """The metric's margin in the units of the scores, at least 0."""
        return abs(self.influence.of_units(-self.sign * self.metric.margin))

    def in_units(self, effect: float) -> float:
        """An effect of the scores (larger is better), or a limit of one, in the metric's own units and sign, and within
        what a difference of the metric can be."""
        found, most = self.influence.in_units(self.sign * effect), self.metric.largest_difference
        return max(-most, min(most, found)) if math.isfinite(found) else found

    def effect_in_units(self, effect: float) -> float:
        """As `in_units`; beyond all of the challenger's rows the difference of the two figures."""
        found = self.in_units(effect)
        champion, challenger = self.influence.figures()
        if math.isfinite(found) or not math.isfinite(effect) or champion is None or challenger is None:
            return found
        return challenger - champion

    @property
    def discordant(self) -> float:
        """Σ D² of pairs; NaN for split traffic."""
        return float(self.difference[2]) if self.paired else math.nan

    @property
    def exact(self) -> bool:
        return self._wealth is not None

    @property
    def events(self) -> float:
        """Rows of the metric's class in the arm with fewer of them; infinite for metrics that are not about one."""
        return float(self._of_class.min()) if self.metric.kind in _ONE_CLASS and not self.paired else math.inf

    def add(self, rows: CellRows) -> None:
        """Score a batch with predictions of earlier batches, then learn from it. Raises ColumnError for a bad value."""
        if rows.other is not None:
            self._add_pairs(rows)
            return
        values = self.influence.values(rows.treated, rows.columns)
        self.influence.learn(rows.treated, rows.columns)
        there = ~np.isnan(values)
        present = self._present(rows.columns)
        self.n[0] += int((present & ~rows.treated).sum())
        self.n[1] += int((present & rows.treated).sum())
        if self.metric.kind in _ONE_CLASS:
            rare = present & (rows.columns[1] == self._positive)
            self._of_class += [int((rare & ~rows.treated).sum()), int((rare & rows.treated).sum())]
        y, treated, share = self.sign * values[there], rows.treated[there], rows.propensity[there]
        self.drawn += [float(share.sum()), float((share * y).sum())]
        m = self._predicted(rows, there)
        scored = ~np.isnan(m)
        if scored.any():
            treated, share, residual = treated[scored], share[scored], (y - m)[scored]
            w = share * (1.0 - share)
            self._count(rows.clusters, there, scored, (treated - share) * residual, w, w * residual * residual)
            self.moments.add(treated, share, residual, _is_binary(y[scored]))
            self.expected += float(share.sum())
            self._bet(treated, share, values[there][scored])
        for arm, part in enumerate((y[~rows.treated[there]], y[rows.treated[there]])):
            self._add_arm(arm, part)
        if self._adjustment is not None:
            self._adjustment.learn(tuple(column[there] for column in rows.covariates), y)

    def _add_pairs(self, rows: CellRows) -> None:
        assert rows.other is not None, "pairs have both arms' columns"
        champion, challenger = self.influence.paired_values(rows.columns, rows.other)
        self.influence.learn_paired(rows.columns, rows.other)
        there = ~np.isnan(champion)
        both = int((self._present(rows.columns) & self._present(rows.other)).sum())
        self.n = [self.n[0] + both, self.n[1] + both]
        d = self.sign * (challenger - champion)[there]
        one = np.ones(len(d))
        self.powers.add(1, d)
        self._count(rows.clusters, there, one > 0.0, d, one, d * d)
        self.difference += [len(d), float(d.sum()), float(np.square(d).sum())]
        self.expected += len(d)
        self._bet_pairs(champion[there], challenger[there])
        for arm, part in enumerate((champion[there], challenger[there])):
            self._add_arm(arm, self.sign * part)

    def _present(self, columns: tuple[Floats, ...]) -> Bools:
        if self.metric.kind == "coverage":
            return np.ones(len(columns[0]), dtype=np.bool_)
        return np.asarray(~np.isnan(columns).any(axis=0))

    def _predicted(self, rows: CellRows, there: Bools) -> Floats:
        """Predicted outcome m of each row: from covariates, or the champion's mean so far; NaN before there is one."""
        mean = float(self.powers.means[0])
        if self._adjustment is None or math.isnan(mean):
            return np.full(int(there.sum()), mean)
        return self._adjustment.predict(tuple(column[there] for column in rows.covariates))

    def _count(
        self, clusters: Codes | None, there: Bools, scored: Bools, score: Floats, w: Floats, variance: Floats
    ) -> None:
        """Add scores, information and variances (as independent units) of the scored rows."""
        self._sums += [float(score.sum()), float(w.sum()), float(variance.sum())]
        self._units += len(score)
        if clusters is not None:
            self.clusters.add(clusters[there][scored], score, w, variance)

    def _add_arm(self, arm: int, y: Floats) -> None:
        if not self.paired:
            self.powers.add(arm, y)
        self.arms[arm] += [len(y), float(y.sum()), float(np.square(y).sum())]

    def _bet(self, treated: Bools, share: Floats, values: Floats) -> None:
        if isinstance(self._wealth, SplitWealth):
            n, total, _ = self.arms[0]
            m = float(np.clip(self._oriented(np.array([self.sign * total / n]))[0], 0.0, 1.0))
            self._wealth = self._wealth.add(treated, share, self._oriented(values), m)

    def _bet_pairs(self, champion: Floats, challenger: Floats) -> None:
        if isinstance(self._wealth, PairedWealth):
            self._wealth = self._wealth.add(self._oriented(champion), self._oriented(challenger))

    def _oriented(self, values: Floats) -> Floats:
        """Values in [0, 1], oriented so that larger is better."""
        return values if self.sign > 0.0 else 1.0 - values

    @property
    def counts(self) -> Counts:
        score, information, variance = self._sums.tolist()
        return Counts(score, information, variance, self._units, self.arms[0].copy(), self.arms[1].copy())

    def bets(self, alpha: float) -> tuple[float, float, float, float]:
        """Exact mode: p of the win and of the harm side, and limits at level alpha each; ±inf where there is none."""
        assert self._wealth is not None, "only exact mode bets"
        p_win, p_harm = self._wealth.p[:, self._null].tolist()
        return p_win, p_harm, *self._wealth.limits(alpha)


def _is_binary(y: Floats) -> bool:
    """True if all values are 0 and 1, or all are 0 and −1."""
    first = float(np.abs(y).max(initial=0.0))
    return first in (0.0, 1.0) and bool(np.all((y == 0.0) | (y == 1.0)) or np.all((y == 0.0) | (y == -1.0)))
