"""Distances between a window and the reference from their counts, and the evidence that they are not chance.

Each is a pure function of counts and of effective sample sizes; nothing here knows features, windows or thresholds.

Two more distances from the same counts: population stability index and Wasserstein's.

They are reported beside the Kolmogorov-Smirnov distance and decide nothing: neither comes with its own evidence.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, chdtrc, gammaln, smirnov

from evaluator.drift.grid import BINS, Floats, Grid, Ints

Bools = npt.NDArray[np.bool_]
_EXACT_ROWS = 64
_RARE = 5
"""Rows up to which a category is rare: what is expected of it is hardly known."""
_EXPECTED = 5.0
"""Cochran's rule: cells with a smaller expected count are pooled before a chi-square limit is used."""


def ks_interval(reference: Floats, current: Floats) -> tuple[float, float]:
    """Certified interval of the two-sample Kolmogorov-Smirnov distance from cumulative shares on one grid, shape
    (bins,).

    Both cumulative functions are known at each bin's ends: the largest difference there is a lower bound. Within a bin
    each is between its ends, so the distance is at most reference end minus current start, or the reverse.
    """
    lower = float(np.max(np.abs(reference - current), initial=0.0))
    below_reference = np.concatenate(([0.0], reference[:-1]))
    below_current = np.concatenate(([0.0], current[:-1]))
    upper = float(np.max(np.maximum(reference - below_current, current - below_reference), initial=0.0))
    return lower, min(1.0, max(lower, upper))


def ks_p_value(distance: float, n: float, m: float) -> float:
    """p value (at most conservative) of a Kolmogorov-Smirnov distance between samples of effective sizes `n` and `m`.

    At the harmonic size nm / (n + m): for few effective rows twice the exact one-sided law of Birnbaum and Tingey
    (1951), which is the two-sided one from a distance of one half on; for many Massart's bound (1990), tight where it
    matters. Never below 2 / C(n + m, n), the probability of complete separation: samples that don't overlap at all
    can't say more.
    """
    if not (n > 0 and m > 0):
        return 1.0
    size = n * m / (n + m)
    tail = smirnov(max(1, math.floor(size)), distance) if size < _EXACT_ROWS else math.exp(-2.0 * size * distance**2)
    separated = math.exp(gammaln(n + 1) + gammaln(m + 1) - gammaln(n + m + 1))
    return float(min(1.0, 2.0 * max(tail, separated)))


def with_unseen(reference: Ints, current: Ints) -> tuple[Ints, Ints]:
    """Counts of categories in which the reference's rare ones and what it has not seen (the last slot) are one slot.

    Values that a finite sample has not seen, or hardly, are more than it says, and all of them lie in the same
    direction. By Good and Turing (Good 1953, equation 14) categories seen up to r times have together the probability
    of sum (s N_s, s = 1 to r + 1) / n, N_s of them having been seen s times.
    """
    kept = reference[:-1]
    pooled = np.append(kept <= _RARE, True)
    hidden = (_RARE + 1) * int((kept == _RARE + 1).sum())
    return (
        np.append(reference[~pooled], int(reference[pooled].sum()) + hidden),
        np.append(current[~pooled], int(current[pooled].sum())),
    )


def g_test(reference: Ints, current: Ints, reference_efficiency: float = 1.0, efficiency: float = 1.0) -> float:
    """p value of the two-sample G test of homogeneity over the same slots (Sokal and Rohlf 1981, ch. 17).

    Counts are scaled by the `efficiency` of their rows (effective rows per row); slots where a sample's
    expected effective count is under five are pooled into one.
    """
    table = np.vstack([reference * reference_efficiency, current * efficiency]).astype(np.float64)
    rows = table.sum(axis=1, keepdims=True)
    if not (rows > 0).all():
        return 1.0
    expected = rows * table.sum(axis=0) / table.sum()
    rare = (expected < _EXPECTED).any(axis=0)
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        expected = np.column_stack([expected[:, ~rare], expected[:, rare].sum(axis=1)])
    used = expected.min(axis=0) > 0
    table, expected = table[:, used], expected[:, used]
    if table.shape[1] < 2:
        return 1.0
    terms = table * np.log(np.where(table > 0, table / expected, 1.0))
    return float(chdtrc(table.shape[1] - 1, 2.0 * terms.sum()))


def share_p_value(count: float, rows: float, reference_count: float, reference_rows: float) -> float:
    """P(a binomial share is at least `count` / `rows`) under the reference's share; effective counts may be fractional.

    The reference's share is Laplace's (k + 1) / (n + 2), so that "never seen there" is not read as "impossible".
    """
    if count <= 0 or rows <= 0:
        return 1.0
    share = (reference_count + 1.0) / (reference_rows + 2.0)
    return float(betainc(count, max(rows - count, 0.0) + 1.0, share))


def benjamini_hochberg(p_values: Floats, alpha: float) -> Bools:
    """Which hypotheses are rejected at false-discovery rate `alpha` (Benjamini and Hochberg 1995); shape kept."""
    flat = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    passed = np.flatnonzero(flat[order] <= alpha * np.arange(1, len(flat) + 1) / max(1, len(flat)))
    rejected = np.zeros(len(flat), dtype=np.bool_)
    if len(passed):
        rejected[order[: passed[-1] + 1]] = True
    return rejected.reshape(np.shape(p_values))


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
