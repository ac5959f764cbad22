"""What the reference's own stretches say of rows that depend on their neighbours, from counts at places of the file.

The counts up to a few hundred places are kept; their differences are overlapping stretches of any part of the file, so
that one pass without rows in memory gives what `evaluator.drift.calibration` gives from all rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import INDEPENDENT, Calibration, block_length, of_stretches

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACES = 128
"""Stretches of the reference that are compared with the rest of it."""


class Stretches:
    """Stretches of a file of `rows` rows that stand for `window` rows, cut as the counts go by."""

    def __init__(self, rows: int, window: int) -> None:
        self.rows, self.window = rows, window
        self.block = block_length(window, rows)
        if self.block < 2:
            self.starts = np.empty(0, dtype=np.int64)
        else:
            last = rows - self.block
            self.starts = np.unique(np.linspace(0, last, min(PLACES, last + 1)).astype(np.int64))
        self.cuts = np.unique(np.concatenate([self.starts, self.starts + self.block]))
        self._wanted = frozenset(self.cuts.tolist())
        self._at: dict[int, npt.NDArray[np.uint32]] = {}

    def cuts_within(self, done: int, rows: int) -> list[int]:
        """Where the next `rows` rows, after `done` ones, are to be cut; the last one is `rows`."""
        cuts = self.cuts - done
        return sorted({*cuts[(cuts > 0) & (cuts < rows)].tolist(), rows}) if rows else []

    def keep(self, place: int, counts: Ints) -> None:
        """The count vector of the first `place` rows; kept where a stretch begins or ends."""
        if place in self._wanted:
            self._at[place] = counts.astype(np.uint32)

    def counts(self, part: slice) -> Floats:
        """Counts of each stretch in a part of the count vector, shape (places, slots)."""
        at = self._at
        upper = [at[start + self.block][part] for start in self.starts.tolist()]
        lower = [at[start][part] for start in self.starts.tolist()]
        if not upper:
            return np.empty((0, part.stop - part.start))
        return (np.array(upper) - np.array(lower)).astype(np.float64)

    def calibrate(self, counts: Floats, total: Floats, *, ordered: bool) -> Calibration:
        """Limit and efficiency of a column from its stretches' `counts` (places, slots) and the file's `total`."""
        if not len(self.starts):
            return INDEPENDENT
        return of_stretches(counts, total, self.rows, self.window, ordered=ordered)
