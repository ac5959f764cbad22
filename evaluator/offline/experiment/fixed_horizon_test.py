"""The classical answer on all rows, to stand beside the sequential one: one look, independent units, pooled over time.

Invariant: nothing is decided by it.
"""

from __future__ import annotations

import math

from scipy.special import ndtr

from evaluator.offline.experiment.cells import Cell
from evaluator.offline.experiment.result import Fixed

# A p value of exactly nothing is a limit of floating point, not of the data.
_LEAST = 1e-300


def fixed(cell: Cell) -> Fixed:
    """Two proportions: the pooled z test. Other means: unpooled (Welch). Pairs: the paired test. Other metrics: the
    score test of all rows without clusters. None where nothing varies."""
    if cell.paired:
        n, total, squares = cell.difference.tolist()
        z = _mean_z(total / n, (squares - total * total / n) / (n - 1.0) / n) if n > 1.0 else None
    elif cell.metric.plain:
        z = _two_means(cell)
    else:
        counts = cell.counts
        z = counts.score / math.sqrt(counts.variance) if counts.variance > 0.0 else None
    if z is None:
        return Fixed(None, None)
    return Fixed(cell.sign * z, max(float(2.0 * ndtr(-abs(z))), _LEAST))


def _two_means(cell: Cell) -> float | None:
    (n0, s0, q0), (n1, s1, q1) = cell.arms.tolist()
    if min(n0, n1) < 2.0:
        return None
    difference = s1 / n1 - s0 / n0
    if q0 == abs(s0) and q1 == abs(s1):
        p = abs(s0 + s1) / (n0 + n1)
        return _mean_z(difference, p * (1.0 - p) * (1.0 / n0 + 1.0 / n1))
    spread = (q0 - s0 * s0 / n0) / (n0 - 1.0) / n0 + (q1 - s1 * s1 / n1) / (n1 - 1.0) / n1
    return _mean_z(difference, spread)


def _mean_z(mean: float, variance: float) -> float | None:
    return mean / math.sqrt(variance) if variance > 0.0 else None
