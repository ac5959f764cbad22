"""Counts of rows against one profile: panes, and the sliding windows of whole panes over a stream.

Counts of panes add as integers, so any split of the rows gives the same counts. A window is a difference of prefix sums
modulo 2^32: moving on costs one addition whatever its length, and memory is bounded by the longest window.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Column, batch_rows, read_numbers
from evaluator.drift.feature import ABSENT, INFINITE, MISSING, MISTYPED, SPECIALS, FeatureArrays, FeatureReference
from evaluator.drift.grid import HUGE, STRIP, Counts, Floats, Ints
from evaluator.drift.profile import OUTLIER, Profile
from evaluator.drift.state import Stateful

CHUNK = 1024
"""Rows encoded at once, so that fifty columns stay in the processor's cache."""
QUANTILES = 48
"""With so many, about one look in four must measure one feature of fifty."""


class ProfileMismatchError(ValueError):
    """Counts against different profiles were about to be added. A retry cannot help."""


@dataclass(frozen=True, slots=True)
class Pane:
    """`rows` rows counted against the profile with hash `profile`; `counts` has the layout of `FeatureArrays`.

    `extra` counts the rows of columns that the profile does not have.
    """

    profile: str
    rows: int
    counts: Ints
    extra: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_codes(cls, profile: Profile, codes: Ints) -> Pane:
        return cls(profile.hash, codes.shape[1], count_codes(profile, codes))


def count_codes(profile: Profile, codes: Ints) -> Ints:
    """The count vector of a batch of codes, shape (features, rows) to (profile.width,)."""
    counts = np.bincount((codes & (OUTLIER - 1)).ravel(), minlength=profile.width)
    wild = np.flatnonzero(codes >= OUTLIER) // codes.shape[1] if codes.size else np.empty(0, dtype=np.int64)
    counts[profile.slots + SPECIALS * len(profile.features) :] = np.bincount(wild, minlength=len(profile.features))
    return counts.astype(np.int64, copy=False)


def count(profile: Profile, columns: Mapping[str, Column]) -> Pane:
    """Count a batch; missing and extra columns and values of another type are counted, never an error.

    Raises ValueError if columns differ in length.
    """
    rows = batch_rows(columns)
    extra = {name: rows for name in columns if name not in profile.index}
    return Pane(profile.hash, rows, count_parts(profile, columns, [rows])[0], extra)


def count_parts(profile: Profile, columns: Mapping[str, Column], ends: Sequence[int]) -> Ints:
    """Count vectors of consecutive parts of a batch, shape (parts, profile.width), as if each were counted alone.

    ends: the ascending ends of the parts, the last one the rows of the batch. Raises ValueError if columns differ in
    length.
    """
    rows = batch_rows(columns)
    parts = [slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True)]
    if rows <= CHUNK:
        pieces = ({name: values[part] for name, values in columns.items()} for part in parts)
        return np.array([count_codes(profile, profile.encode(piece)) for piece in pieces])
    counts = np.zeros((len(parts), profile.width), dtype=np.int64)
    for i, name in enumerate(profile.names):
        fitted, values = profile.features[i], columns.get(name)
        clean = len(parts) > 1 and fitted.numeric and isinstance(values, np.ndarray) and values.dtype == np.float64
        if clean and isinstance(values, np.ndarray) and bool(values.min() >= -HUGE and values.max() <= HUGE):
            # Numbers find their slots once for all parts.
            slots, far = fitted.grid.slot_of(values), (values < fitted.low) | (values > fitted.high)
            for part, into in zip(parts, counts, strict=True):
                into[profile.span(i)] = np.bincount(slots[part], minlength=fitted.grid.slots)
                into[_outlier_index(profile, i)] = np.count_nonzero(far[part])
            continue
        for part, into in zip(parts, counts, strict=True):
            _count_column(profile, i, None if values is None else values[part], part.stop - part.start, into)
    return counts


def _outlier_index(profile: Profile, feature: int) -> int:
    return profile.slots + SPECIALS * len(profile.features) + feature


def _count_column(profile: Profile, feature: int, values: Column | None, rows: int, into: Ints) -> None:
    """Count one whole column into a count vector, as `encode` and `count_codes` do; None for an absent column.

    One column at a time stays in the processor's cache.
    """
    fitted = profile.features[feature]
    slots, start = into[profile.span(feature)], profile.special(feature, 0)
    specials = into[start : start + SPECIALS]
    if values is None:
        specials[ABSENT] = rows
        return
    if not fitted.numeric:
        codes = np.asarray(profile.encode_categories(feature, values))
        for kind in (MISSING, MISTYPED):
            specials[kind] = np.count_nonzero(codes == start + kind)
        codes = codes - profile.starts[feature]
        slots += np.bincount(codes[codes < fitted.grid.slots], minlength=fitted.grid.slots)
        return
    numbers, wrong = read_numbers(values)
    for first in range(0, rows, STRIP):
        strip = numbers[first : first + STRIP]
        mistyped = None if wrong is None else wrong[first : first + STRIP]
        if mistyped is not None or not (strip.min() >= -HUGE and strip.max() <= HUGE):  # false for NaN
            nan, finite = np.isnan(strip), np.abs(strip) <= HUGE
            wrongly = 0 if mistyped is None else np.count_nonzero(mistyped)
            specials[MISTYPED] += wrongly
            specials[MISSING] += np.count_nonzero(nan) - wrongly
            specials[INFINITE] += np.count_nonzero(~finite & ~nan)
            strip = strip[finite]
        slots += np.bincount(fitted.grid.slot_of(strip), minlength=fitted.grid.slots)
        into[_outlier_index(profile, feature)] += np.count_nonzero((strip < fitted.low) | (strip > fitted.high))


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """The counts of one window of `rows` rows, valid until the windows move on.

    By feature: present are rows with a slot, shape (features,); specials (features, SPECIALS); outliers rows flagged,
    other rows in the last slot, (features,) each. Counts by slot are those of `end` less those of `start`.
    """

    rows: int
    present: Ints
    specials: Ints
    outliers: Ints
    other: Ints
    end: Counts
    start: Counts | None = None

    @classmethod
    def of(cls, profile: Profile, rows: int, counts: Ints) -> WindowCounts:
        """Build the counts of `rows` rows from one count vector, shape (profile.width,)."""
        features, slots = len(profile.features), profile.slots
        return cls(
            rows=rows,
            present=np.add.reduceat(counts[:slots], profile.starts) if features else np.empty(0, dtype=np.int64),
            specials=counts[slots : slots + SPECIALS * features].reshape(features, SPECIALS),
            outliers=counts[slots + SPECIALS * features :],
            other=counts[profile.ends],
            end=counts,
        )

    def slots(self, at: slice | Ints) -> Ints:
        """The counts of some slots, of the shape of `at`."""
        counts = self.end[at] if self.start is None else self.end[at] - self.start[at]
        return counts.astype(np.int64)


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """Several windows without their slots: the fields of `WindowCounts` with one more axis, the windows, in front.

    quantile_counts: rows up to and with each quantile slot, shape (windows, numeric features, quantiles).
    """

    rows: Ints
    present: Ints
    specials: Ints
    outliers: Ints
    other: Ints
    quantile_counts: Ints
    end: Counts
    starts: Sequence[Counts]

    def window(self, place: int) -> WindowCounts:
        return WindowCounts(
            rows=int(self.rows[place]),
            present=self.present[place],
            specials=self.specials[place],
            outliers=self.outliers[place],
            other=self.other[place],
            end=self.end,
            start=self.starts[place],
        )


class QuantileBounds:
    """Upper bounds on the Kolmogorov-Smirnov distances from both empirical CDFs at about 48 reference quantiles.

    A feature whose bound is below its threshold skips the exact computation. Between two quantile slots neither CDF
    leaves its values there, so the bound exceeds the distance by at most the mass between two quantiles. Every feature
    has as many as the one with the most; its last one is repeated.
    """

    def __init__(self, features: Sequence[FeatureReference], chosen: Sequence[Ints] | None = None) -> None:
        """chosen: each numeric feature's slots, ascending, with the first and the last; default: its quantiles."""
        numeric = [feature for feature in features if feature.numeric]
        self._quantiles = [_quantile_slots(feature.counts) for feature in numeric] if chosen is None else chosen
        most = max(map(len, self._quantiles), default=0)
        self.shape = len(numeric), most
        """(numeric features, quantiles)"""
        sizes = np.array([len(own) for own in self._quantiles], dtype=np.int64)
        ends = np.cumsum(sizes)
        self._places = np.minimum((ends - sizes)[:, None] + np.arange(most), ends[:, None] - 1)
        # Counts are summed from behind each quantile slot up to and with the next one; the first slot stands alone.
        slots = [feature.grid.slots for feature in numeric]
        starts = np.cumsum([0, *slots])
        self._slots = int(starts[-1])
        parts = [np.append(0, own[:-1] + 1) + start for own, start in zip(self._quantiles, starts, strict=False)]
        self._behind = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        around = [_around(feature, own, most) for feature, own in zip(numeric, self._quantiles, strict=True)]
        self._before = np.array([before for before, _ in around]).reshape(self.shape)
        self._until = np.array([until for _, until in around]).reshape(self.shape)

    def against(self, features: Sequence[FeatureReference]) -> QuantileBounds:
        """The bounds for another reference on the same grids and slots, so that `cumulative_counts` hold for both."""
        return QuantileBounds(features, self._quantiles)

    def cumulative_counts(self, counts: Ints) -> Ints:
        """Rows up to and with each quantile slot, from the counts by slot, shape (slots,)."""
        if not self._slots:
            return np.zeros(self.shape, dtype=np.int64)
        rows: Ints = np.cumsum(np.add.reduceat(counts[: self._slots], self._behind))[self._places]
        rows[1:] -= rows[:-1, -1:].copy()
        return rows

    def upper_bounds(self, counted: Ints, present: Ints) -> Floats:
        """Upper bound on the distance of each numeric feature.

        counted: `cumulative_counts`, shape (..., numeric features, quantiles), of `present` rows, shape (..., numeric
        features).
        """
        if not self._slots:
            return np.zeros(present.shape)
        shares = counted * (1.0 / np.maximum(present, 1))[..., None]
        above = (shares - self._before).max(axis=-1)
        return np.asarray(np.maximum(above, np.subtract(self._until, shares, out=shares).max(axis=-1)))


@lru_cache(maxsize=8)
def bounds_of(profile: FeatureArrays) -> QuantileBounds:
    """The bounds at a reference's own quantiles."""
    return QuantileBounds(profile.features)


def _quantile_slots(counts: Ints) -> Ints:
    """Ascending slots of one feature: the first, the last, those that reach a quantile, and those just before slots
    that span several quantiles."""
    below = np.cumsum(counts)
    levels = np.arange(1, QUANTILES) * (below[-1] / QUANTILES)
    heavy = np.flatnonzero(counts * QUANTILES > below[-1])
    return np.unique([0, *np.searchsorted(below, levels), *np.maximum(heavy - 1, 0), len(counts) - 1])


def _around(feature: FeatureReference, quantiles: Ints, length: int) -> tuple[Floats, Floats]:
    """The smallest value of the reference's CDF between the previous quantile slot and this one, and the largest from
    this one to before the next; shape (length,) each, the last ones repeated."""
    share = np.cumsum(feature.counts) / max(1, feature.present)
    own, last = share[quantiles], share[quantiles[1:] - 1]
    before = np.append(own[:1], np.where(np.diff(quantiles) > 1, own[:-1], own[1:]))
    until = np.append(last, own[-1:])
    return np.pad(before, (0, length - len(own)), "edge"), np.pad(until, (0, length - len(own)), "edge")


class Windows(Stateful):
    """The last panes of a stream against one profile; `bounds` are at the quantiles of its features."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._capacity = profile.windows[-1] // profile.pane
        self.bounds = bounds_of(profile)
        # A pane's counts, and what is derived from them once for all windows that will hold it.
        width = profile.width + len(profile.features) + math.prod(self.bounds.shape)
        self._prefix = np.zeros((self._capacity + 1, width), dtype=np.uint32)
        self._encoded: dict[int, str] = {}
        self.panes = 0

    @property
    def rows(self) -> int:
        """Number of rows in all panes so far."""
        return self.panes * self._profile.pane

    def push(self, pane: Pane) -> None:
        """Move on by a full pane. Raises ProfileMismatchError for another profile, ValueError for another length."""
        if pane.profile != self._profile.hash:
            raise ProfileMismatchError(f"pane of profile {pane.profile[:12]}, windows of {self._profile.hash[:12]}")
        if pane.rows != self._profile.pane:
            raise ValueError(f"a pane has {self._profile.pane} rows, this one {pane.rows}")
        self._push(pane.counts)

    def _push(self, counts: Ints) -> None:
        profile = self._profile
        cumulative = self.bounds.cumulative_counts(counts[: profile.slots])
        step = np.concatenate([counts, counts[profile.ends], cumulative.ravel()], dtype=np.uint32, casting="unsafe")
        before = self._row(self.panes)
        self.panes += 1
        np.add(before, step, out=self._row(self.panes))
        self._encoded.pop(self.panes - 1 - self._capacity, None)

    def full(self, window: int) -> bool:
        return window <= min(self.panes, self._capacity) * self._profile.pane

    def window(self, rows: int) -> WindowCounts | None:
        """The last `rows` rows (a whole number of panes), or None while there are fewer."""
        return self.summary((rows,)).window(0) if self.full(rows) else None

    def summary(self, windows: Sequence[int]) -> WindowSummary:
        """Full windows of so many rows."""
        profile = self._profile
        features, slots = len(profile.features), profile.slots
        end, starts = self._row(self.panes), [self._row(self.panes - window // profile.pane) for window in windows]
        total = (end[slots:] - np.array([start[slots:] for start in starts])).astype(np.int64)
        specials = total[:, : SPECIALS * features].reshape(len(windows), features, SPECIALS)
        outliers, other = total[:, SPECIALS * features :][:, : 2 * features].reshape(len(windows), 2, -1).swapaxes(0, 1)
        rows = np.array(windows, dtype=np.int64)
        return WindowSummary(
            rows=rows,
            present=rows[:, None] - specials.sum(axis=2),
            specials=specials,
            outliers=outliers,
            other=other,
            quantile_counts=total[:, (SPECIALS + 2) * features :].reshape(len(windows), *self.bounds.shape),
            end=end,
            starts=starts,
        )

    def _row(self, number: int) -> npt.NDArray[np.uint32]:
        row: npt.NDArray[np.uint32] = self._prefix[number % (self._capacity + 1)]
        return row

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values; each pane is packed once."""
        held = range(max(0, self.panes - self._capacity), self.panes)
        for number in held:
            if number not in self._encoded:
                pane = self._row(number + 1) - self._row(number)
                self._encoded[number] = pack_counts(pane[: self._profile.width].astype(np.int64))
        return {"panes": self.panes, "counts": [self._encoded[number] for number in held]}

    def restore(self, raw: Any) -> None:
        """Replace the state by a `snapshot` taken against the same profile."""
        packed = list(raw["counts"])
        self.panes = int(raw["panes"]) - len(packed)
        self._prefix[:] = 0
        self._encoded = {}
        for text in packed:
            self._push(unpack_counts(text, self._profile.width))
            self._encoded[self.panes - 1] = text


def pack_counts(counts: Ints) -> str:
    """A count vector as compressed text."""
    used = np.flatnonzero(counts)
    sparse = np.concatenate([np.diff(used, prepend=0), counts[used]]).astype("<u4")
    return base64.b64encode(zlib.compress(sparse.tobytes(), 1)).decode("ascii")


def unpack_counts(text: str, width: int) -> Ints:
    """The inverse of `pack_counts` for a vector of `width` numbers."""
    sparse = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u4").astype(np.int64)
    half = len(sparse) // 2
    counts = np.zeros(width, dtype=np.int64)
    counts[np.cumsum(sparse[:half])] = sparse[half:]
    return counts
