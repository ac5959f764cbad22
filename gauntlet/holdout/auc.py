"""The area under the ROC curve as a quadratic form of the blocks' weights, so that a draw costs no sort.

AUC(w) = wᵀ M w / (w·positives · w·negatives), where M[c, d] counts the pairs of a positive row of block c and a
negative row of block d that are in the right order, ties half (Mann and Whitney 1947). M is exact and made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.holdout.statistics import Floats

_SEGMENT = 128
"""Rows of the score order whose pairs are looked at one by one; all farther pairs are products of counts."""


@dataclass(frozen=True, slots=True)
class AreaUnderCurve:
    """either: M + Mᵀ, (blocks, blocks), which is all that a draw needs; positives, negatives: rows of each block."""

    either: Floats
    positives: Floats
    negatives: Floats

    @classmethod
    def of(cls, score: Floats, positive: NDArray[np.bool_], block: NDArray[np.intp], blocks: int) -> AreaUnderCurve:
        """score: higher for the positive class. block: of each row, from 0 to blocks − 1."""
        pairs = concordant(score, positive, block, blocks)
        return cls(
            pairs + pairs.T,
            np.bincount(block, positive, blocks).astype(np.float64),
            np.bincount(block, ~positive, blocks).astype(np.float64),
        )

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        """See `Statistic`: NaN where a class has no weight."""
        positives, negatives = weights @ self.positives, weights @ self.negatives
        known = (positives > 0) & (negatives > 0)
        positives, negatives = np.where(known, positives, 1.0), np.where(known, negatives, 1.0)
        scale = positives * negatives
        influences = (weights @ self.either) / scale[:, None]
        area = np.einsum("dk,dk->d", influences, weights) / 2
        influences -= (area / positives)[:, None] * self.positives + (area / negatives)[:, None] * self.negatives
        return np.where(known, area, np.nan), influences


def concordant(score: Floats, positive: NDArray[np.bool_], block: NDArray[np.intp], blocks: int) -> Floats:
    """M: for each two blocks the pairs (positive of the one, negative of the other) in the right order, ties half.

    The order of the scores is cut into segments that split no tie. Pairs of two segments are products of their counts;
    those within a segment are counted one by one, unless it is one large tie. Time: rows × (segment + blocks² /
    segment); memory: rows / segment × blocks.
    """
    order = np.argsort(score, kind="stable")
    score, positive, block = score[order], positive[order], block[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))
    sizes = np.diff(np.append(starts, len(score)))
    large = sizes > _SEGMENT
    # A tie belongs to the segment in which it begins; a large one is a segment of its own behind it.
    segment = np.repeat(2 * (starts // _SEGMENT) + large, sizes)
    cuts = np.flatnonzero(np.append(True, segment[1:] != segment[:-1]))
    ends = np.append(cuts[1:], len(score))
    tied = segment[cuts] % 2 == 1
    place = np.repeat(np.arange(len(cuts)), ends - cuts) * blocks + block
    shape = (len(cuts), blocks)
    above = np.bincount(place, positive, len(cuts) * blocks).reshape(shape)
    below = np.bincount(place, ~positive, len(cuts) * blocks).reshape(shape)
    pairs: Floats = above.T @ (np.cumsum(below, axis=0) - below * np.where(tied, 0.5, 1.0)[:, None])
    flat = pairs.reshape(-1)
    for start, end in zip(cuts[~tied].tolist(), ends[~tied].tolist(), strict=True):
        own, their = positive[start:end], ~positive[start:end]
        high, low = score[start:end][own][:, None], score[start:end][their]
        cells = block[start:end][own][:, None] * blocks + block[start:end][their]
        np.add.at(flat, cells.reshape(-1), ((high > low) + 0.5 * (high == low)).reshape(-1))
    return pairs
