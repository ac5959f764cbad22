"""Sliding windows of whole panes as differences of prefix sums: moving on costs one addition however long the window
is.

Memory is bounded by the longest window. Prefix sums wrap modulo 2^32, which leaves their differences exact.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.grid import Ints
from evaluator.drift.pane import Pane, ProfileMismatchError
from evaluator.drift.profile import SPECIALS, Profile


@dataclass(frozen=True, slots=True)
class View:
    """The counts of one window of `rows` rows: cumulative slot counts, and numbers a feature.

    cumulative: shape (slots,), counts up to and with each slot of its feature. present: rows with a slot. specials:
    shape (features, SPECIALS). outliers: rows flagged. All integers.
    """

    rows: int
    cumulative: npt.NDArray[np.integer[Any]]
    present: Ints
    specials: Ints
    outliers: Ints


def view_of(profile: Profile, rows: int, counts: Ints) -> View:
    """The view of `rows` rows counted as `counts`, shape (profile.width,)."""
    features, slots = len(profile.features), profile.slots
    cumulative = np.cumsum(counts[:slots])
    if features:
        before = np.concatenate(([0], cumulative))[profile.starts]
        cumulative = cumulative - np.repeat(before, profile.sizes)
    return View(
        rows=rows,
        cumulative=cumulative,
        present=cumulative[profile.starts + profile.sizes - 1],
        specials=counts[slots : slots + SPECIALS * features].reshape(features, SPECIALS),
        outliers=counts[slots + SPECIALS * features :],
    )


def rebased(profile: Profile, view: View) -> Profile:
    """The profile with the rows of `view` as its reference: the same grids, outlier limits and calibrations, so that
    what was counted against the one can be held against the other."""
    features = []
    for i, fitted in enumerate(profile.features):
        start = int(profile.starts[i])
        counts = np.diff(view.cumulative[start : start + int(profile.sizes[i])], prepend=0)
        missing, absent, mistyped, infinite = (int(count) for count in view.specials[i])
        specials = (missing, absent, mistyped, infinite)
        features.append(replace(fitted, counts=counts, specials=specials, outliers=int(view.outliers[i])))
    return Profile(
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
        self._prefix = np.zeros((self._capacity + 1, profile.width), dtype=np.uint32)
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
        slots, step = self._profile.slots, counts.copy()
        np.cumsum(step[:slots], out=step[:slots])
        if slots:
            ends = step[self._profile.starts + self._profile.sizes - 1]
            step[:slots] -= np.repeat(np.concatenate(([0], ends[:-1])), self._profile.sizes)
        before = self._prefix[self.panes % (self._capacity + 1)]
        self.panes += 1
        np.add(before, step.astype(np.uint32), out=self._prefix[self.panes % (self._capacity + 1)])
        self._encoded.pop(self.panes - 1 - self._capacity, None)

    def view(self, window: int) -> View | None:
        """The last `window` rows (a whole number of panes), or None while there are fewer."""
        panes = window // self._profile.pane
        if panes > min(self.panes, self._capacity):
            return None
        total = self._difference(self.panes - panes, self.panes)
        features, slots = len(self._profile.features), self._profile.slots
        ends = self._profile.starts + self._profile.sizes - 1
        rest = total[slots:].astype(np.int64)
        return View(
            rows=window,
            cumulative=total[:slots],
            present=total[ends].astype(np.int64),
            specials=rest[: SPECIALS * features].reshape(features, SPECIALS),
            outliers=rest[SPECIALS * features :],
        )

    def _difference(self, start: int, end: int) -> npt.NDArray[np.uint32]:
        ring = self._capacity + 1
        newest: npt.NDArray[np.uint32] = self._prefix[end % ring] - self._prefix[start % ring]
        return newest

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values; a pane is packed once and then only copied."""
        held = range(max(0, self.panes - self._capacity), self.panes)
        for number in held:
            if number not in self._encoded:
                self._encoded[number] = _pack(self._pane_counts(number))
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

    def _pane_counts(self, number: int) -> Ints:
        counts = self._difference(number, number + 1).astype(np.int64)
        cumulative = counts[: self._profile.slots].copy()
        counts[1 : self._profile.slots] -= cumulative[:-1]
        counts[self._profile.starts] = cumulative[self._profile.starts]
        return counts


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
