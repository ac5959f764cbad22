"""What the means of stretches of the reference do: how far they stray, and how many independent rows they are worth.

For everything that is a mean over rows in time order: losses, and by their influence accuracy, R² and RMSE.

What the reference says of its own windows: how far they stray, and how many independent rows they are worth.

Both come from windows of the reference in time order against the reference without them, so seasons, storms and other
dependence inside the reference raise the bar by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evaluator.drift.grid import Floats, Ints


def mean_of_stretches(parts: Floats, window: int) -> Calibration:
    """The calibration for means over `window` rows from all moving blocks of the reference (Künsch 1989).

    parts: shape (rows,), each row's part in the mean, in time order, larger is worse. The limit is how far above the
    rest of the reference its own blocks come, in the units of `parts`; at least 0, and at most a third of the way to
    the worst row, lest a total failure stays within it.
    """
    rows = len(parts)
    block = block_length(window, rows)
    variance = float(parts.var()) if rows else 0.0
    if block < 1 or variance <= 0.0:
        return INDEPENDENT
    sums = np.concatenate(([0.0], np.cumsum(parts - parts.mean())))
    # Each block against the reference without it.
    gaps = (sums[block:] - sums[:-block]) / block * (rows / (rows - block))
    raw = float((gaps**2).mean() / (variance * (1.0 / block + 1.0 / (rows - block))))
    inflation = inflation_in_use(raw, window, block, rows)
    seen = max(0.0, float(np.quantile(gaps, QUANTILE)))
    limit = min(limit_in_use(seen, inflation, window, block, rows), float(parts.max() - parts.mean()) / 3)
    return Calibration(limit, 1.0 / inflation)


T = TypeVar("T", Ints, Floats, Ints | Floats)

QUANTILE = 0.999
"""Of the reference's own window distances: a feature drifts only beyond what it did at home."""
BLOCKS = 8
"""A reference is cut into at least so many blocks; longer windows than that are judged by extrapolation."""
HEADROOM = 0.25
"""A limit seen in one stretch of time is passed in a longer one: it is raised by so much, at most halfway to one."""
_PLACES = 512
_ROWS = 500_000
_AT_ONCE = 1 << 16
"""Numbers worked on at once: half a megabyte."""
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

    def one(window: int) -> Calibration:
        block = block_length(window, len(codes))
        if _still(block, total, len(codes)):
            return INDEPENDENT
        stretches = np.lib.stride_tricks.sliding_window_view(codes, block)
        parts = _parts(_starts(len(codes), block), max(block, slots))
        counts = (_window_counts(stretches[starts], slots) for starts in parts)
        return _calibration(counts, total, len(codes), window, ordered=ordered)

    return tuple(map(one, windows))


def calibrate_share(flags: npt.NDArray[np.bool_], windows: tuple[int, ...]) -> tuple[Calibration, ...]:
    """As `calibrate` for two unordered slots, rows with a flag and rows without: sums between places are all it takes.

    flags: shape (rows,), in time order.
    """
    rows = len(flags)
    if flags.all() or not flags.any():
        return (INDEPENDENT,) * len(windows)
    below = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(flags, out=below[1:])
    total = np.array([rows - below[-1], below[-1]], dtype=np.float64)

    def one(window: int) -> Calibration:
        block = block_length(window, rows)
        if _still(block, total, rows):
            return INDEPENDENT
        starts = _starts(rows, block)
        flagged = below[starts + block] - below[starts]
        return of_stretches(np.column_stack([block - flagged, flagged]), total, rows, window, ordered=False)

    return tuple(map(one, windows))


def of_stretches(counts: Ints | Floats, total: Floats, rows: int, window: int, *, ordered: bool) -> Calibration:
    """The calibration for windows of `window` rows from stretches of a reference of `rows` rows.

    counts: shape (places, slots), each a stretch of `block_length(window, rows)` rows; total: shape (slots,), of all
    rows. Rows without a slot are in neither.
    """
    return _calibration(_parts(counts, len(total)), total, rows, window, ordered=ordered)


def _calibration(
    parts: Iterable[Ints | Floats], total: Floats, rows: int, window: int, *, ordered: bool
) -> Calibration:
    """As `of_stretches`, from stretches that come some places at a time."""
    block, present, mass = block_length(window, rows), float(total.sum()), total / max(1.0, total.sum())
    if _still(block, total, rows):
        return INDEPENDENT
    if ordered:
        below = np.cumsum(total) / present
        variance = float((mass * below * (1.0 - below)).sum())
    else:
        variance = float(1.0 - (mass**2).sum())
    found = np.concatenate([_strayed(counts, total, ordered=ordered) for counts in parts], axis=1)
    distance, squared, noise = found[:, ~np.isnan(found[0])]
    if not len(distance):
        return INDEPENDENT
    seen = float(np.quantile(distance, QUANTILE))
    if variance <= 1e-12:
        return Calibration(seen, 1.0)
    raw = float(squared.sum() / (variance * noise.sum()))
    inflation = inflation_in_use(raw, window, block, rows)
    limit = min(limit_in_use(seen, inflation, window, block, rows), (1.0 + seen) / 2)
    return Calibration(limit, 1.0 / inflation)


def _strayed(counts: Ints | Floats, total: Floats, *, ordered: bool) -> Floats:
    """Each stretch against the rows outside it, shape (3, places): distance, squared distance, and 1 / w + 1 / (n - w)
    for its w of n rows with a slot; NaN where there are none in it or none outside."""
    present = float(total.sum())
    own = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    # Whole numbers add up exactly, and several times faster than fractions.
    level, base = (np.cumsum(counts, axis=1, dtype=np.int32), np.cumsum(total)) if ordered else (counts, total)
    # The difference of the two shares times `apart`; one row of `base` will do where all stretches are as full.
    apart = own * (present - own)
    apart[apart == 0.0] = np.nan
    gap = np.multiply(level, present, dtype=np.float64)
    gap -= base * (own if own.min() < own.max() else own[:1])
    found = np.empty((3, len(counts)))
    if ordered:
        found[0] = np.maximum(gap.max(axis=1), -gap.min(axis=1))
        found[1] = np.square(gap, out=gap) @ (total / present)
    else:
        found[0] = np.abs(gap).sum(axis=1) / 2
        found[1] = np.square(gap, out=gap).sum(axis=1)
    found[2] = present
    found /= apart.T
    found[1] /= apart[:, 0]
    return found


def _parts(rows: T, width: int) -> Iterator[T]:
    """Consecutive parts of an array so small that work on so many columns stays in a processor's cache."""
    some = max(1, _AT_ONCE // width)
    return (rows[first : first + some] for first in range(0, len(rows), some))


def _still(block: int, total: Floats, rows: int) -> bool:
    """Too few rows for stretches, none with a slot, or all in one: nothing can stray."""
    return block < 2 or not total.any() or bool(total.max() == rows)


@lru_cache(maxsize=16)
def _starts(rows: int, block: int) -> Ints:
    """Where the stretches of `block` rows begin, evenly over the reference; not to be written to."""
    places = max(2, min(_PLACES, _ROWS // block, rows - block + 1))
    starts = np.unique(np.linspace(0, rows - block, places).astype(np.int64))
    starts.flags.writeable = False
    return starts


def _window_counts(rows: Ints, slots: int) -> Ints:
    """Counts of stretches, shape (places, slots); `rows` are their codes, shape (places, block), and written over."""
    rows += (np.arange(len(rows)) * (slots + 1))[:, None]
    counts = np.bincount(rows.ravel(), minlength=len(rows) * (slots + 1))
    return counts.reshape(len(rows), slots + 1)[:, :slots]
