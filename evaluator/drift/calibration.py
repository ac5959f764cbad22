"""What the reference says of its own windows: how far they stray, and how many independent rows they are worth.

Both come from windows of the reference in time order against the reference without them, so seasons, storms and other
dependence inside the reference raise the bar by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluator.drift.grid import Floats, Ints

QUANTILE = 0.999
"""Of the reference's own window distances: a feature drifts only beyond what it did at home."""
BLOCKS = 8
"""A reference is cut into at least so many blocks; longer windows than that are judged by extrapolation."""
HEADROOM = 0.25
"""A limit seen in one stretch of time is passed in a longer one: it is raised by so much, at most halfway to one."""
_PLACES = 512
_ROWS = 500_000
_MARGIN = 0.9
"""Standard deviation of one window's squared Cramér-von Mises distance over its mean: sqrt(1/45) / (1/6)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """For one window length: the `limit` its distance keeps inside the reference, and effective rows per row."""

    limit: float
    efficiency: float


INDEPENDENT = Calibration(0.0, 1.0)
"""Rows whose order means nothing, or of which nothing can be said."""


def block_length(window: int, rows: int) -> int:
    """The length of the reference's windows that stand for windows of `window` rows."""
    return min(window, rows // BLOCKS)


def inflation_in_use(raw: float, window: int, block: int, rows: int) -> float:
    """The variance inflation to apply on windows of `window` rows, measured as `raw` on blocks of `block` rows.

    Within the estimate's own noise of one it is one. Above, it is raised by one standard error, and by the square root
    of the ratio when the blocks are shorter than the window: halfway between fading and lasting dependence.
    """
    error = _MARGIN / np.sqrt(rows / block)
    if raw <= 1.0 + 2.0 * error:
        return 1.0
    return float(raw * (1.0 + error) * np.sqrt(window / block))


def limit_in_use(seen: float, inflation: float, window: int, block: int, rows: int) -> float:
    """The limit for windows of `window` rows from the `QUANTILE` `seen` on blocks of `block` rows, with `HEADROOM`.

    Shorter blocks stray further than the window will: by the ratio of the standard errors when rows are independent, by
    its square root when they are not.
    """
    ratio = (1.0 / window + 1.0 / rows) / (1.0 / block + 1.0 / (rows - block))
    return float(seen * (1.0 + HEADROOM) * min(1.0, ratio) ** (0.5 if inflation == 1.0 else 0.25))


def calibrate(codes: Ints, slots: int, windows: tuple[int, ...], *, ordered: bool) -> tuple[Calibration, ...]:
    """One calibration a window length for a reference of slot numbers in time order.

    codes: shape (rows,), the slot of each row or `slots` where there is none. ordered: slots are ordered, the
    distance is Kolmogorov-Smirnov's; otherwise it is the total variation. Dependence is measured by the quadratic
    distance (Cramér-von Mises against the reference's mass, Euclid for categories), whose mean for independent rows
    is exactly sigma^2 (1 / w + 1 / (n - w)) for any distribution, ties included.
    """
    total = np.bincount(codes, minlength=slots + 1)[:slots].astype(np.float64)
    return tuple(_one(codes, slots, total, window, ordered) for window in windows)


def _one(codes: Ints, slots: int, total: Floats, window: int, ordered: bool) -> Calibration:
    rows = len(codes)
    block = block_length(window, rows)
    if block < 2 or total.sum() == 0 or total.max() == rows:  # too few rows, or all in one slot: nothing to stray
        return INDEPENDENT
    return of_stretches(_window_counts(codes, slots, block), total, rows, window, ordered=ordered)


def of_stretches(counts: Floats, total: Floats, rows: int, window: int, *, ordered: bool) -> Calibration:
    """The calibration for windows of `window` rows from stretches of a reference of `rows` rows.

    counts: shape (places, slots), each a stretch of `block_length(window, rows)` rows; total: shape (slots,), of all
    rows. Rows without a slot are in neither.
    """
    block, present = block_length(window, rows), total.sum()
    if block < 2 or present == 0 or total.max() == rows:
        return INDEPENDENT
    own = counts.sum(axis=1, keepdims=True)
    enough = (own[:, 0] > 0) & (own[:, 0] < present)
    if not enough.any():
        return INDEPENDENT
    counts, own = counts[enough], own[enough]
    share, rest, mass = counts / own, (total - counts) / (present - own), total / present
    if ordered:
        gap = np.abs(np.cumsum(share, axis=1) - np.cumsum(rest, axis=1))
        below = np.cumsum(mass)
        distance, squared = gap.max(axis=1), (gap**2) @ mass
        variance = float((mass * below * (1.0 - below)).sum())
    else:
        gap = np.abs(share - rest)
        distance, squared = gap.sum(axis=1) / 2, (gap**2).sum(axis=1)
        variance = float(1.0 - (mass**2).sum())
    seen = float(np.quantile(distance, QUANTILE))
    if variance <= 1e-12:
        return Calibration(seen, 1.0)
    raw = float(squared.sum() / (variance * (1.0 / own + 1.0 / (present - own)).sum()))
    inflation = inflation_in_use(raw, window, block, rows)
    limit = min(limit_in_use(seen, inflation, window, block, rows), (1.0 + seen) / 2)
    return Calibration(limit, 1.0 / inflation)


def _window_counts(codes: Ints, slots: int, block: int) -> Floats:
    """Counts of windows of `block` rows placed evenly over the reference, shape (places, slots)."""
    places = max(2, min(_PLACES, _ROWS // block, len(codes) - block + 1))
    starts = np.unique(np.linspace(0, len(codes) - block, places).astype(np.int64))
    rows = codes[starts[:, None] + np.arange(block)]
    rows += (np.arange(len(starts)) * (slots + 1))[:, None]
    counts = np.bincount(rows.ravel(), minlength=len(starts) * (slots + 1))
    return counts.reshape(len(starts), slots + 1)[:, :slots].astype(np.float64)
