"""Intraclass correlation: how much of their variance the outcomes of one day have in common. Pure."""

from __future__ import annotations

from scipy.special import chdtrc

from evaluator.stats.cluster_robust import DIFFERENT, FEWEST_BLOCKS, LEAST_INTRACLASS
from evaluator.stats.score_process import Floats


def intraclass(units: Floats, totals: Floats, variance: float) -> float:
    """The correlation of outcomes of one day, from each day's number of them and their total, shape (days,), by the
    analysis of variance (Fisher 1925). variance: of a single outcome.

    `LEAST_INTRACLASS` is the least, and the answer where the days differ by no more than independent outcomes explain
    (chi-square), or are too few to tell.
    """
    some = units > 0.0
    units, totals, free = units[some], totals[some], int(some.sum()) - 1
    if free + 1 < FEWEST_BLOCKS or not variance > 0.0:
        return LEAST_INTRACLASS
    n = units.sum()
    squares = float(((totals - totals.sum() / n * units) ** 2 / units).sum() / variance)
    if chdtrc(free, squares) >= DIFFERENT:
        return LEAST_INTRACLASS
    return max(LEAST_INTRACLASS, float((squares - free) / (n - (units**2).sum() / n)))
