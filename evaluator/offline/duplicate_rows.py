"""Rows of a table that equal an earlier one, found by a hash of their cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, Column

Hashes = npt.NDArray[np.uint64]

_HASHED = 1 << 19  # rows that are hashed at most, the first of a table: 4 MB
_MULTIPLIER = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio (Knuth 1998, 6.4); odd, so that multiplying by its powers loses no bit."""
_WORD = 1 << 64
_LOW_BITS = np.uint64(20)
"""Bits of a float's fraction that are dropped: a product carries upwards only, and whole numbers use the upper bits."""


class DuplicateRows:
    """Rows that equal an earlier row of the same table, by a hash of each row's cells; of a table's first rows."""

    def __init__(self) -> None:
        self.rows = 0
        self._hashes: list[Hashes] = []

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """The next `rows` rows; columns are the same in each call."""
        rows = min(rows, _HASHED - self.rows)
        if rows <= 0:
            return
        total, term = np.zeros(rows, dtype=np.uint64), np.empty(rows, dtype=np.uint64)
        factor = 1
        for values in columns.values():
            factor = factor * _MULTIPLIER % _WORD
            np.multiply(_cell_hashes(values[:rows], term), np.uint64(factor), out=term)
            total += term
        self.rows += rows
        self._hashes.append(total)

    def count(self, rows: int) -> int:
        """How many of the first `rows` rows equal an earlier one."""
        if not rows:
            return 0
        hashes = np.sort(np.concatenate(self._hashes)[:rows])
        return int(np.count_nonzero(hashes[1:] == hashes[:-1]))

    def share(self, rows: int) -> float:
        """The share of them."""
        return self.count(rows) / max(1, rows)


def _cell_hashes(values: Column, out: Hashes) -> Hashes:
    """A number for each cell, the same for equal cells; written to `out` where it has to be computed."""
    if isinstance(values, Coded):
        out[:] = values.codes
        return out
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return np.right_shift(np.ascontiguousarray(values).view(np.uint64), _LOW_BITS, out=out)
    cells = [0 if cell is None or cell != cell else hash(cell) for cell in list(values)]
    return np.array(cells, dtype=np.int64).view(np.uint64)
