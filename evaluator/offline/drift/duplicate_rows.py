"""Rows that are an earlier row of the same table once more, counted by a hash of each row's cells.

Tables of few values repeat by nature: what counts is more than the reference does on as many rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded
from evaluator.drift.feature import Column
from evaluator.offline.drift.result import Finding

_Hashes = npt.NDArray[np.uint64]

MOST = 1 << 19
"""Rows of a table that are looked at, its first: 4 MB of hashes."""
_ODD = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio (Knuth 1998, 6.4); odd, as its powers are, so that multiplying by them loses nothing."""
_WORD = 1 << 64
_LOW = np.uint64(20)
"""Bits of a number that are let go, the last of its 52 digits: a product carries upwards only, and whole numbers have
their digits at the upper end."""
_WORTH_A_WORD = 0.05
"""Share of repeated rows, beyond twice those to be expected, that is worth a word."""
_FEWEST = 50


class Repeats:
    """Hashes of a table's first rows."""

    def __init__(self) -> None:
        self.rows = 0
        self._hashes: list[_Hashes] = []

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """The next `rows` rows; columns are the same in each call."""
        rows = min(rows, MOST - self.rows)
        if rows <= 0:
            return
        total, each = np.zeros(rows, dtype=np.uint64), np.empty(rows, dtype=np.uint64)
        odd = 1
        for values in columns.values():
            odd = odd * _ODD % _WORD
            np.multiply(_digits(values[:rows], each), np.uint64(odd), out=each)
            total += each
        self.rows += rows
        self._hashes.append(total)

    def share(self, rows: int) -> float:
        """Of the first `rows` rows, those that are an earlier one once more."""
        if not rows:
            return 0.0
        hashes = np.sort(np.concatenate(self._hashes)[:rows])
        return int(np.count_nonzero(hashes[1:] == hashes[:-1])) / rows


def finding(before: Repeats, now: Repeats) -> list[Finding]:
    """Whether far more current rows repeat an earlier one than would in the reference, had it as many."""
    if now.rows < _FEWEST or before.rows < _FEWEST:
        return []
    share = now.share(now.rows)
    if share <= _WORTH_A_WORD:
        return []
    # The chance that a row is an old one grows at most as fast as the number of those there are.
    expected = before.share(min(before.rows, now.rows)) * max(1.0, now.rows / before.rows)
    if share <= 2 * expected + _WORTH_A_WORD:
        return []
    message = f"{share:.1%} of rows repeat an earlier one exactly, {min(1.0, expected):.1%} would as in the reference"
    return [Finding("repeated_rows", None, message)]


def _digits(values: Column, room: _Hashes) -> _Hashes:
    """A number for each cell, the same for the same cell; in `room` where it has to be made."""
    if isinstance(values, Coded):
        room[:] = values.codes
        return room
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return np.right_shift(np.ascontiguousarray(values).view(np.uint64), _LOW, out=room)
    cells = [0 if cell is None or cell != cell else hash(cell) for cell in list(values)]
    return np.array(cells, dtype=np.int64).view(np.uint64)
