"""Counts of a number of rows against one profile: the smallest unit of drift state.

Merging panes is integer addition, so any split of the rows over partitions gives the same counts, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluator.drift.columns import batch_rows, read_numbers
from evaluator.drift.feature import Column
from evaluator.drift.grid import HUGE, STRIP, Ints
from evaluator.drift.profile import ABSENT, INFINITE, MISSING, MISTYPED, OUTLIER, SPECIALS, Profile

CHUNK = 1024
"""Rows encoded at once: what keeps fifty columns in a processor's cache."""


class ProfileMismatchError(ValueError):
    """Counts against different references were about to be added. Retrying can't help."""


@dataclass(frozen=True, slots=True)
class Pane:
    """`rows` rows counted against the profile with hash `profile`; `counts` is laid out as `Profile` says.

    `extra` counts the rows of columns the profile does not know.
    """

    profile: str
    rows: int
    counts: Ints
    extra: Mapping[str, int] = field(default_factory=dict)


def count_codes(profile: Profile, codes: Ints) -> Ints:
    """The count vector of a batch of codes, shape (features, rows) to (profile.width,)."""
    counts = np.bincount((codes & (OUTLIER - 1)).ravel(), minlength=profile.width)
    wild = np.flatnonzero(codes >= OUTLIER) // codes.shape[1] if codes.size else np.empty(0, dtype=np.int64)
    counts[profile.slots + SPECIALS * len(profile.features) :] = np.bincount(wild, minlength=len(profile.features))
    return counts.astype(np.int64, copy=False)


def count(profile: Profile, columns: Mapping[str, Column]) -> Pane:
    """Count a batch. Missing and extra columns and values of another type are counted, never an error.

    Raises ValueError when columns differ in length.
    """
    rows = batch_rows(columns)
    extra = {name: rows for name in columns if name not in profile.index}
    if rows > CHUNK:
        return Pane(profile.hash, rows, _count_columns(profile, columns, rows), extra)
    return Pane(profile.hash, rows, count_codes(profile, profile.encode(columns)), extra)


def count_parts(profile: Profile, columns: Mapping[str, Column], ends: Sequence[int]) -> Ints:
    """Count vectors of consecutive parts of a batch, shape (parts, profile.width).

    ends: where each part ends, rising; the last one is the batch's rows. As counting each part, but that numbers find
    their slots once. Raises ValueError when columns differ in length.
    """
    rows = batch_rows(columns)
    parts = [slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True)]
    if len(parts) == 1 or rows <= CHUNK:
        return np.array([count(profile, {n: v[part] for n, v in columns.items()}).counts for part in parts])
    counts = np.zeros((len(parts), profile.width), dtype=np.int64)
    wild = profile.slots + SPECIALS * len(profile.features)
    for i, name in enumerate(profile.names):
        fitted, values = profile.features[i], columns.get(name)
        start, special = int(profile.starts[i]), profile.slots + SPECIALS * i
        stop = start + fitted.grid.slots
        clean = fitted.numeric and isinstance(values, np.ndarray) and values.dtype == np.float64
        if clean and isinstance(values, np.ndarray) and bool(values.min() >= -HUGE and values.max() <= HUGE):
            slots, far = fitted.grid.slot_of(values), (values < fitted.low) | (values > fitted.high)
            for part, into in zip(parts, counts, strict=True):
                into[start:stop] = np.bincount(slots[part], minlength=fitted.grid.slots)
                into[wild + i] = np.count_nonzero(far[part])
            continue
        for part, into in zip(parts, counts, strict=True):
            some = None if values is None else values[part]
            into[start:stop], into[special : special + SPECIALS], into[wild + i] = _count_column(
                profile, i, some, part.stop - part.start
            )
    return counts


def _count_columns(profile: Profile, columns: Mapping[str, Column], rows: int) -> Ints:
    counts = np.zeros(profile.width, dtype=np.int64)
    wild = profile.slots + SPECIALS * len(profile.features)
    for i, name in enumerate(profile.names):
        slots, specials, outliers = _count_column(profile, i, columns.get(name), rows)
        start, special = int(profile.starts[i]), profile.slots + SPECIALS * i
        counts[start : start + len(slots)] = slots
        counts[special : special + SPECIALS] = specials
        counts[wild + i] = outliers
    return counts


def _count_column(profile: Profile, feature: int, values: Column | None, rows: int) -> tuple[Ints, list[int], int]:
    """Slot counts, special cells and outliers of one whole column: what `encode` and counting its codes give.

    `values` is None for a column that is absent. One column at a time stays in a processor's cache.
    """
    fitted = profile.features[feature]
    counts = np.zeros(fitted.grid.slots, dtype=np.int64)
    specials = [0] * SPECIALS
    if values is None:
        specials[ABSENT] = rows
        return counts, specials, 0
    if not fitted.numeric:
        codes = np.asarray(profile.encode_categories(feature, values)) - profile.starts[feature]
        known = codes < fitted.grid.slots
        counts += np.bincount(codes[known & (codes >= 0)], minlength=fitted.grid.slots)
        for kind in (MISSING, MISTYPED):
            special = profile.special(feature, kind) - int(profile.starts[feature])
            specials[kind] = int(np.count_nonzero(codes == special))
        return counts, specials, 0
    numbers, wrong = read_numbers(values)
    outliers = 0
    for start in range(0, rows, STRIP):
        strip = numbers[start : start + STRIP]
        mistyped = None if wrong is None else wrong[start : start + STRIP]
        if mistyped is not None or not (strip.min() >= -HUGE and strip.max() <= HUGE):  # false for NaN
            bad = np.isnan(strip)
            if mistyped is not None:
                specials[MISTYPED] += int(np.count_nonzero(mistyped))
                bad &= ~mistyped
            specials[MISSING] += int(np.count_nonzero(bad))
            finite = np.abs(strip) <= HUGE
            infinite = ~finite & ~np.isnan(strip)
            specials[INFINITE] += int(np.count_nonzero(infinite))
            strip = strip[finite]
        counts += np.bincount(fitted.grid.slot_of(strip), minlength=fitted.grid.slots)
        outliers += int(np.count_nonzero(strip < fitted.low)) + int(np.count_nonzero(strip > fitted.high))
    return counts, specials, outliers
