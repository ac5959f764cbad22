"""Scores summed within clusters (a unit's rows, a day, a customer), as they come, in any order.

Invariant: the sums of a cluster are exact whenever its rows came; the second moments over clusters follow every change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluator.stats.sums import Floats

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
