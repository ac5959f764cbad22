"""The last blocks of a stream as vectors of sums: windows of whole blocks are their sums.

Memory is bounded by the longest window; whole numbers add exactly, other sums in the order of the blocks.

Sliding windows of whole panes as differences of prefix sums: moving on costs one addition however long the window
is.

Memory is bounded by the longest window. Prefix sums wrap modulo 2^32, which leaves their differences exact.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Feature
from evaluator.drift.grid import Counts, Floats, Ints
from evaluator.drift.pane import Pane, ProfileMismatchError
from evaluator.drift.profile import SPECIALS, Profile


class Ring:
    """Vectors of `width` numbers, the newest `capacity` of them. Whole numbers are exact up to 2^53."""

    def __init__(self, capacity: int, width: int) -> None:
        self._blocks = np.zeros((0, width))
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._blocks)

    def push(self, block: Floats) -> None:
        """Take in the next block's vector, shape (width,)."""
        self._blocks = np.concatenate([self._blocks, block[None]])[-self._capacity :]

    def total(self, blocks: int) -> Floats | None:
        """The sum of the last `blocks` vectors, or None while there are fewer."""
        if blocks > len(self._blocks):
            return None
        total: Floats = self._blocks[len(self._blocks) - blocks :].sum(axis=0)
        return total

    def keep(self, blocks: int) -> None:
        """Drop all but the newest `blocks` vectors."""
        self._blocks = self._blocks[max(0, len(self._blocks) - blocks) :]

    def snapshot(self) -> list[list[float]]:
        """The whole state as JSON-able values."""
        return [list(block) for block in self._blocks.tolist()]

    def restore(self, raw: list[Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._blocks = np.array(raw, dtype=np.float64).reshape(-1, self._blocks.shape[1])


@dataclass(frozen=True, slots=True)
class View:
    """The counts of one window of `rows` rows, valid until the windows move on.

    Numbers a feature: present are rows with a slot, shape (features,); specials (features, SPECIALS); outliers rows
    flagged, other rows in the last slot, (features,) each. Counts of slots are those in `end` less those in `start`.
    """

    rows: int
    present: Ints
    specials: Ints
    outliers: Ints
    other: Ints
    end: Counts
    start: Counts | None = None

    def slots(self, at: slice | Ints) -> Ints:
        """The counts of some slots, of the shape of `at`."""
        counts = self.end[at] if self.start is None else self.end[at] - self.start[at]
        return counts.astype(np.int64)


def view_of(profile: Profile, rows: int, counts: Ints) -> View:
    """The view of `rows` rows counted as `counts`, shape (profile.width,)."""
    features, slots = len(profile.features), profile.slots
    return View(
        rows=rows,
        present=np.add.reduceat(counts[:slots], profile.starts) if features else np.empty(0, dtype=np.int64),
        specials=counts[slots : slots + SPECIALS * features].reshape(features, SPECIALS),
        outliers=counts[slots + SPECIALS * features :],
        other=counts[profile.ends],
        end=counts,
    )


@dataclass(frozen=True, slots=True)
class Glance:
    """What can be known of several windows without their slots: as `View` has it, with one axis more, the windows, in
    front, and a `start` each.

    marked: rows up to and with each of the profile's marks, shape (windows, numeric features, marks).
    """

    rows: Ints
    present: Ints
    specials: Ints
    outliers: Ints
    other: Ints
    marked: Ints
    end: Counts
    starts: Sequence[Counts]

    def view(self, window: int) -> View:
        """One of the windows, by its place among them."""
        return View(
            rows=int(self.rows[window]),
            present=self.present[window],
            specials=self.specials[window],
            outliers=self.outliers[window],
            other=self.other[window],
            end=self.end,
            start=self.starts[window],
        )


def rebased(profile: Profile, view: View) -> Profile:
    """The profile with the rows of `view` as its reference: the same grids, outlier limits and calibrations, so that
    what was counted against the one can be held against the other."""
    features: list[Feature] = []
    for i, fitted in enumerate(profile.features):
        missing, absent, mistyped, infinite = (int(count) for count in view.specials[i])
        specials = (missing, absent, mistyped, infinite)
        counts, outliers = view.slots(profile.span(i)), int(view.outliers[i])
        features.append(replace(fitted, counts=counts, specials=specials, outliers=outliers))
    other = Profile(
        profile.reference_id,
        view.rows,
        profile.pane,
        profile.windows,
        tuple(features),
        profile.errors,
        profile.truth,
        profile.regimes,
        profile.given,
        profile.prediction,
        profile.score,
    )
    other.marks = profile.marks.against(features)
    return other


def snapshot_of(accepted: Profile) -> dict[str, Any]:
    """What `restored` needs beside the frozen profile, as JSON-able values."""
    slots = [feature.counts for feature in accepted.features]
    specials = [np.array(feature.specials) for feature in accepted.features]
    outliers = np.array([feature.outliers for feature in accepted.features], dtype=np.int64)
    return {"rows": accepted.rows, "counts": _pack(np.concatenate([*slots, *specials, outliers]).astype(np.int64))}


def restored(profile: Profile, raw: dict[str, Any]) -> Profile:
    """The accepted reference of a `snapshot_of`."""
    return rebased(profile, view_of(profile, int(raw["rows"]), _unpack(raw["counts"], profile.width)))


class Windows:
    """The last panes of a stream against one profile."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._capacity = profile.windows[-1] // profile.pane
        # A pane's counts, and what can be read off them once for all windows that will hold it.
        width = profile.width + len(profile.features) + math.prod(profile.marks.shape)
        self._prefix = np.zeros((self._capacity + 1, width), dtype=np.uint32)
        self._encoded: dict[int, str] = {}
        self.panes = 0

    @property
    def rows(self) -> int:
        """Rows of all panes so far, also of those no longer held."""
        return self.panes * self._profile.pane

    def push(self, pane: Pane) -> None:
        """Move on by a full pane. Raises ProfileMismatchError for another profile's, ValueError for another length."""
        if pane.profile != self._profile.hash:
            raise ProfileMismatchError(f"pane of profile {pane.profile[:12]}, windows of {self._profile.hash[:12]}")
        if pane.rows != self._profile.pane:
            raise ValueError(f"windows move by {self._profile.pane} rows, got {pane.rows}")
        self._push(pane.counts)

    def _push(self, counts: Ints) -> None:
        profile = self._profile
        marked = profile.marks.counted(counts[: profile.slots])
        step = np.concatenate([counts, counts[profile.ends], marked.ravel()], dtype=np.uint32, casting="unsafe")
        before = self._row(self.panes)
        self.panes += 1
        np.add(before, step, out=self._row(self.panes))
        self._encoded.pop(self.panes - 1 - self._capacity, None)

    def full(self, window: int) -> bool:
        """Whether there are as many rows."""
        return window <= min(self.panes, self._capacity) * self._profile.pane

    def view(self, window: int) -> View | None:
        """The last `window` rows (a whole number of panes), or None while there are fewer."""
        if not self.full(window):
            return None
        return self.glance((window,)).view(0)

    def glance(self, windows: Sequence[int]) -> Glance:
        """Windows that are full, in rows."""
        profile = self._profile
        features, slots = len(profile.features), profile.slots
        end, starts = self._row(self.panes), [self._row(self.panes - window // profile.pane) for window in windows]
        total = (end[slots:] - np.array([start[slots:] for start in starts])).astype(np.int64)
        specials = total[:, : SPECIALS * features].reshape(len(windows), features, SPECIALS)
        outliers, other = total[:, SPECIALS * features :][:, : 2 * features].reshape(len(windows), 2, -1).swapaxes(0, 1)
        rows = np.array(windows, dtype=np.int64)
        return Glance(
            rows=rows,
            present=rows[:, None] - specials.sum(axis=2),
            specials=specials,
            outliers=outliers,
            other=other,
            marked=total[:, (SPECIALS + 2) * features :].reshape(len(windows), *profile.marks.shape),
            end=end,
            starts=starts,
        )

    def _row(self, number: int) -> npt.NDArray[np.uint32]:
        row: npt.NDArray[np.uint32] = self._prefix[number % (self._capacity + 1)]
        return row

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values; a pane is packed once and then only copied."""
        held = range(max(0, self.panes - self._capacity), self.panes)
        for number in held:
            if number not in self._encoded:
                pane = self._row(number + 1) - self._row(number)
                self._encoded[number] = _pack(pane[: self._profile.width].astype(np.int64))
        return {"panes": self.panes, "counts": [self._encoded[number] for number in held]}

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot` taken against the same profile."""
        packed = list(raw["counts"])
        self.panes = int(raw["panes"]) - len(packed)
        self._prefix[:] = 0
        self._encoded = {}
        for text in packed:
            self._push(_unpack(text, self._profile.width))
            self._encoded[self.panes - 1] = text


def _pack(counts: Ints) -> str:
    used = np.flatnonzero(counts)
    sparse = np.concatenate([np.diff(used, prepend=0), counts[used]]).astype("<u4")
    return base64.b64encode(zlib.compress(sparse.tobytes(), 1)).decode("ascii")


def _unpack(text: str, width: int) -> Ints:
    sparse = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u4").astype(np.int64)
    half = len(sparse) // 2
    counts = np.zeros(width, dtype=np.int64)
    counts[np.cumsum(sparse[:half])] = sparse[half:]
    return counts
