"""Null calibration from the reference itself, by moving blocks (Künsch 1989) of its rows in time order.

For each window length: the limit that windows of the reference keep, and its effective sample size. Both allow for
seasons and other dependence inside the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from evaluator.drift.grid import Floats, Ints

Counted = TypeVar("Counted", Ints, Floats, Ints | Floats)

QUANTILE = 0.999
"""Quantile of the distances within the reference that is the limit."""
BLOCKS = 8
"""A block is at most this fraction of the reference; longer windows are extrapolated."""
HEADROOM = 0.25
"""Share by which a limit is raised, as a longer time has larger extremes; at most halfway to one."""
_PLACES = 512
_ROWS = 500_000
_AT_ONCE = 1 << 16
"""Numbers processed at once: half a megabyte."""
_MARGIN = 0.9
"""Coefficient of variation of one window's squared Cramér-von Mises distance: sqrt(1/45) / (1/6)."""
_MEAN_MARGIN = 1.155
"""That of a mean's squared distance, which is chi-square: sqrt(2), times sqrt(2/3) as the blocks overlap."""


class Calibration(NamedTuple):
    """For one window length: the `limit` of its distance inside the reference, and effective rows per row."""

    limit: float
    efficiency: float


INDEPENDENT = Calibration(0.0, 1.0)
"""Exchangeable rows, or too few to calibrate on."""


def block_length(window: int, rows: int) -> int:
    """Rows of the reference's blocks that stand for windows of `window` rows."""
    return min(window, rows // BLOCKS)


def variance_inflation(raw: float, window: int, block: int, rows: int, margin: float = _MARGIN) -> float:
    """The variance inflation of windows of `window` rows, estimated as `raw` on blocks of `block` rows.

    One if `raw` is within two of its own errors of one; `margin` is that of a single block. Otherwise raised by one
    error and, for blocks shorter than the window, by the square root of their ratio: halfway between short-range and
    long-range dependence.
    """
    error = margin / np.sqrt(rows / block)
    if raw <= 1.0 + 2.0 * error:
        return 1.0
    return float(raw * (1.0 + error) * np.sqrt(window / block))


def null_limit(seen: float, inflation: float, window: int, block: int, rows: int) -> float:
    """The limit for windows of `window` rows from the `QUANTILE` `seen` on blocks of `block` rows, with `HEADROOM`.

    Shorter blocks vary more than the window: by the ratio of the standard errors if rows are independent, by its square
    root if they are not.
    """
    ratio = (1.0 / window + 1.0 / rows) / (1.0 / block + 1.0 / (rows - block))
    return float(seen * (1.0 + HEADROOM) * min(1.0, ratio) ** (0.5 if inflation == 1.0 else 0.25))


def calibrate(codes: Ints, slots: int, windows: tuple[int, ...], *, ordered: bool) -> tuple[Calibration, ...]:
    """A calibration for each window length, from the slots of a reference in time order.

    codes: shape (rows,), the slot of each row or `slots` where there is none. ordered: the distance is the
    Kolmogorov-Smirnov distance, otherwise the total variation. Dependence is estimated by the quadratic distance
    (Cramér-von Mises, or Euclidean for categories), whose mean for independent rows is sigma^2 (1 / w + 1 / (n - w)).
    """
    total = np.bincount(codes, minlength=slots + 1)[:slots].astype(np.float64)

    def counts(window: int) -> Iterator[Ints]:
        block = block_length(window, len(codes))
        blocks = np.lib.stride_tricks.sliding_window_view(codes, block)
        for starts in _chunks(_block_starts(len(codes), block), max(block, slots)):
            yield _block_counts(blocks[starts], slots)

    return tuple(_calibration(counts(window), total, len(codes), window, ordered=ordered) for window in windows)


def calibrate_share(flags: npt.NDArray[np.bool_], windows: tuple[int, ...]) -> tuple[Calibration, ...]:
    """As `calibrate` for the two unordered slots of `flags`, shape (rows,), in time order."""
    rows = len(flags)
    below = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(flags, out=below[1:])
    total = np.array([rows - below[-1], below[-1]], dtype=np.float64)

    def counts(window: int) -> Iterator[Ints]:
        block = block_length(window, rows)
        starts = _block_starts(rows, block)
        flagged = below[starts + block] - below[starts]
        yield np.column_stack([block - flagged, flagged])

    return tuple(_calibration(counts(window), total, rows, window, ordered=False) for window in windows)


def calibrate_mean(parts: Floats, window: int) -> Calibration:
    """The calibration of a mean over `window` rows from all moving blocks of the reference.

    parts: shape (rows,), each row's part in the mean, in time order, larger is worse. The limit is the excess of blocks
    over the rest of the reference, in the units of `parts`; at most a third of the way to the worst row, so that a
    total failure is beyond it.
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
    inflation = variance_inflation(raw, window, block, rows, _MEAN_MARGIN)
    seen = max(0.0, float(np.quantile(gaps, QUANTILE)))
    limit = min(null_limit(seen, inflation, window, block, rows), float(parts.max() - parts.mean()) / 3)
    return Calibration(limit, 1.0 / inflation)


def calibrate_blocks(counts: Ints | Floats, total: Floats, rows: int, window: int, *, ordered: bool) -> Calibration:
    """The calibration for windows of `window` rows from blocks of a reference of `rows` rows.

    counts: shape (blocks, slots), each block of `block_length(window, rows)` rows; total: shape (slots,), of all rows.
    Rows without a slot are in neither.
    """
    return _calibration(_chunks(counts, len(total)), total, rows, window, ordered=ordered)


def _calibration(
    parts: Iterable[Ints | Floats], total: Floats, rows: int, window: int, *, ordered: bool
) -> Calibration:
    """As `calibrate_blocks`, from blocks that come some at a time; none is asked for where nothing varies."""
    block, present, mass = block_length(window, rows), float(total.sum()), total / max(1.0, total.sum())
    if _has_no_variation(block, total, rows):
        return INDEPENDENT
    if ordered:
        below = np.cumsum(total) / present
        variance = float((mass * below * (1.0 - below)).sum())
    else:
        variance = float(1.0 - (mass**2).sum())
    found = np.concatenate([_block_distances(counts, total, ordered=ordered) for counts in parts], axis=1)
    distance, squared, noise = found[:, ~np.isnan(found[0])]
    if not len(distance):
        return INDEPENDENT
    seen = float(np.quantile(distance, QUANTILE))
    if variance <= 1e-12:
        return Calibration(seen, 1.0)
    raw = float(squared.sum() / (variance * noise.sum()))
    inflation = variance_inflation(raw, window, block, rows)
    limit = min(null_limit(seen, inflation, window, block, rows), (1.0 + seen) / 2)
    return Calibration(limit, 1.0 / inflation)


def _block_distances(counts: Ints | Floats, total: Floats, *, ordered: bool) -> Floats:
    """Each block against the rows outside it, shape (3, blocks): distance, squared distance, and 1 / w + 1 / (n - w)
    for its w of n rows with a slot; NaN where there are none inside or none outside."""
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


def _chunks(rows: Counted, width: int) -> Iterator[Counted]:
    """Consecutive parts of an array whose work on `width` columns stays in the processor's cache."""
    some = max(1, _AT_ONCE // width)
    return (rows[first : first + some] for first in range(0, len(rows), some))


def _has_no_variation(block: int, total: Floats, rows: int) -> bool:
    """Whether rows are too few for blocks, none has a slot, or all share one."""
    return block < 2 or not total.any() or bool(total.max() == rows)


@lru_cache(maxsize=16)
def _block_starts(rows: int, block: int) -> Ints:
    """First rows of the blocks, evenly over the reference; read-only."""
    places = max(2, min(_PLACES, _ROWS // block, rows - block + 1))
    starts = np.unique(np.linspace(0, rows - block, places).astype(np.int64))
    starts.flags.writeable = False
    return starts


def _block_counts(rows: Ints, slots: int) -> Ints:
    """Counts of blocks, shape (blocks, slots), from their codes, shape (blocks, block), which are overwritten."""
    rows += (np.arange(len(rows)) * (slots + 1))[:, None]
    counts = np.bincount(rows.ravel(), minlength=len(rows) * (slots + 1))
    return counts.reshape(len(rows), slots + 1)[:, :slots]
