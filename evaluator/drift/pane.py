"""Counts of a number of rows against one profile: the smallest unit of drift state.

Merging panes is integer addition, so any split of the rows over partitions gives the same counts, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evaluator.drift.grid import Ints
from evaluator.drift.profile import OUTLIER, SPECIALS, Column, Profile, batch_rows

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

    def __add__(self, other: Pane) -> Pane:
        """The pane of both panes' rows. Raises ProfileMismatchError when they were counted against other profiles."""
        if self.profile != other.profile:
            raise ProfileMismatchError(f"counts of profile {self.profile[:12]} and {other.profile[:12]} don't add")
        extra = {name: self.extra.get(name, 0) + other.extra.get(name, 0) for name in {*self.extra, *other.extra}}
        return Pane(self.profile, self.rows + other.rows, self.counts + other.counts, extra)


def count_codes(profile: Profile, codes: Ints) -> Ints:
    """The count vector of a batch of codes, shape (features, rows) to (profile.width,)."""
    counts = np.bincount((codes & (OUTLIER - 1)).ravel(), minlength=profile.width)
    counts[profile.slots + SPECIALS * len(profile.features) :] = np.count_nonzero(codes & OUTLIER, axis=1)
    return counts.astype(np.int64, copy=False)


def count(profile: Profile, columns: Mapping[str, Column]) -> Pane:
    """Count a batch. Missing and extra columns and values of another type are counted, never an error.

    Raises ValueError when columns differ in length.
    """
    rows = batch_rows(columns)
    extra = {name: rows for name in columns if name not in profile.index}
    counts = np.zeros(profile.width, dtype=np.int64)
    for start in range(0, rows, CHUNK):
        chunk = {name: values[start : start + CHUNK] for name, values in columns.items()}
        counts += count_codes(profile, profile.encode(chunk))
    return Pane(profile.hash, rows, counts, extra)
