"""Two more distances from the same counts: population stability index and Wasserstein's.

They are reported beside the Kolmogorov-Smirnov distance and decide nothing: neither comes with its own evidence.
"""

from __future__ import annotations

import numpy as np

from evaluator.drift.grid import BINS, Floats, Grid, Ints

GROUPS = 10
"""Groups of the population stability index: deciles of the reference, as is usual."""


def psi(reference: Ints, current: Ints, *, ordered: bool) -> float:
    """Population stability index, sum of (q - p) ln(q / p), over the reference's deciles (ordered) or the slots.

    Half a count is added to each group of both sides (Jeffreys), so that an empty group is finite. 0.0 when either
    side has no rows. By custom 0.1 is a little and 0.25 is a lot.
    """
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    if ordered:
        # A slot belongs to the decile in which the reference is when the slot ends.
        decile = np.minimum(GROUPS - 1, (np.cumsum(reference) - 1) * GROUPS // reference.sum()).clip(0)
        reference = np.bincount(decile, weights=reference, minlength=GROUPS)
        current = np.bincount(decile, weights=current, minlength=GROUPS)
    used = (reference + current) > 0
    p, q = reference[used] + 0.5, current[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def edges(grid: Grid) -> Floats:
    """Edges of the bins between the limits of a linear or asinh grid in the feature's units, shape (BINS + 1,)."""
    axis = np.linspace(grid.low, grid.high, BINS + 1)
    return grid.centre + grid.scale * np.sinh(axis) if grid.kind == "asinh" else axis


def wasserstein(grid: Grid, reference: Ints, current: Ints, deviation: float) -> float:
    """First Wasserstein distance between the limits of a numeric grid, in the reference's standard deviations.

    The area between the cumulative shares; what lies beyond the limits counts as if it were at them, so that wild
    values can't make the distance. A reference without spread gives 0.0 when nothing moved and infinity never: the
    unit is then one.
    """
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    gap = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum())
    unit = deviation or 1.0
    if grid.kind == "exact":
        widths = np.diff(np.asarray(grid.values))
        # Slots 2i and 2i+1 are the gap before the i-th value and the value: between two values both gaps count half.
        return float((widths * (gap[1:-2:2] + gap[2:-1:2]) / 2).sum() / unit)
    at = edges(grid)
    # A bin is passed with a gap that runs from that before it to that behind it.
    return float((np.diff(at) * (gap[:-2] + gap[1:-1]) / 2).sum() / unit)
