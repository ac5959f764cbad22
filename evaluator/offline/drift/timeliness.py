"""When rows were: a column of numbers or texts as seconds since 1970 (UTC); a cell that is no time has none (NaN).

How fresh rows are, by the column that says when they were: times that are none, out of order, still, or with a gap.

Everything is kept as the rows go by; what is odd is only what the reference itself has not.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, is_categorical, read_categories, read_numbers
from evaluator.drift.feature import Column
from evaluator.offline.drift.result import Finding
from gauntlet.clock import moment


def seconds(column: Column) -> npt.NDArray[np.float64]:
    """Numbers are seconds already; texts are ISO 8601, in UTC where they name no zone. Shape (rows,)."""
    if isinstance(column, Coded):
        used, inverse = np.unique(column.codes, return_inverse=True)
        each = [math.nan if code < 0 else moment(column.values[code]) for code in used.tolist()]
        return np.array(each, dtype=np.float64)[inverse]
    if is_categorical(column):
        return np.array([moment(text) if isinstance(text, str) else math.nan for text in read_categories(column)])
    return read_numbers(column)[0]


Floats = npt.NDArray[np.float64]

NO_TIMES = "{!r}: no times in the reference (seconds since 1970, or ISO 8601)"
_WORTH_A_WORD = 0.001
"""Share of rows, more than in the reference, from which times that are none or out of order are told."""
_DISORDER = 0.25
"""Share of rows earlier than the one before from which there is no order left: at random it is a half."""
_STILL = 5.0
"""Times the longest stay at one time of the reference, and at least `_STAY` rows."""
_STAY = 20
_GAP = 3.0
"""Times the longest gap of the reference."""
_SPAN = (0.0, 32_503_680_000.0)
"""From 1970 to 3000: other numbers are told as they are."""


class Clock:
    """The times of a table's rows, in seconds; a row without one is NaN."""

    def __init__(self) -> None:
        self.rows = 0
        self.unknown = 0
        """Rows without a time."""
        self.first, self.last = math.inf, -math.inf
        """Earliest and latest time."""
        self.falls = 0
        """Rows that are earlier than the one before."""
        self.stay = (0, 0, math.nan)
        """Rows of the longest stay at one time, its first row and the time."""
        self.gap = (0.0, 0)
        """The longest way from one row to the next, and that next row."""
        self.older = 0
        """Rows earlier than `since`."""
        self.since = -math.inf
        self._now: tuple[float, int, int] | None = None
        """The last time, how many rows have it in a row, and the first of them."""

    def add(self, at: Floats) -> None:
        """The next rows."""
        rows = np.flatnonzero(np.isfinite(at))
        known = at[rows]
        rows += self.rows
        self.rows += len(at)
        self.unknown += len(at) - len(known)
        if not len(known):
            return
        self.first, self.last = min(self.first, float(known.min())), max(self.last, float(known.max()))
        self.older += int(np.count_nonzero(known < self.since))
        before = 0
        if self._now is not None:
            known, rows = np.append(self._now[0], known), np.append(self._now[2], rows)
            before = self._now[1] - 1
        steps = np.diff(known)
        self.falls += int(np.count_nonzero(steps < 0))
        if len(steps) and steps.max() > self.gap[0]:
            longest = int(np.argmax(steps))
            self.gap = float(steps[longest]), int(rows[longest + 1])
        starts = np.concatenate([[0], np.flatnonzero(steps != 0) + 1])
        stays = np.diff(np.append(starts, len(known)))
        stays[0] += before
        longest = int(np.argmax(stays))
        if stays[longest] > self.stay[0]:
            self.stay = int(stays[longest]), int(rows[starts[longest]]), float(known[starts[longest]])
        self._now = float(known[-1]), int(stays[-1]), int(rows[starts[-1]])


def findings(name: str, before: Clock, now: Clock, offset: int = 0) -> list[Finding]:
    """What is odd about the current rows' times; `offset` is the number of the first of them."""
    found: list[Finding] = []
    rows, there = max(1, now.rows), max(1, now.rows - now.unknown)

    def tell(kind: str, message: str, alarming: bool = False) -> None:
        found.append(Finding(kind, name, message, alarming))

    if now.unknown / rows > before.unknown / max(1, before.rows) + _WORTH_A_WORD:
        tell("time_unknown", f"{now.unknown:,} of {rows:,} rows have no time that can be read in {name}")
    disorder, was = now.falls / there, before.falls / max(1, before.rows - before.unknown)
    if disorder > was + _WORTH_A_WORD:
        message = f"{disorder:.1%} of rows are earlier than the row before by {name}, {was:.1%} in the reference"
        tell("time_disorder", message, disorder >= _DISORDER > was and there >= _STAY)
    stay, first, time = now.stay
    moved = before.last > before.first
    if stay > max(_STAY - 1, _STILL * before.stay[0]) and moved:
        message = (
            f"{name} stands still at {_told(time)} for {stay:,} rows from row {first + offset:,} on; at most "
            f"{before.stay[0]:,} in the reference"
        )
        tell("time_still", message, stay == there)
    gap, after = now.gap
    if 0 < _GAP * before.gap[0] < gap:
        message = (
            f"{_length(gap)} without a row before row {after + offset:,} by {name}; at most "
            f"{_length(before.gap[0])} in the reference"
        )
        tell("time_gap", message)
    if now.older:
        message = (
            f"{now.older:,} of {rows:,} rows are older by {name} than all of the reference, which begins at "
            f"{_told(before.first)}"
        )
        tell("time_old", message)
    return found


def _told(time: float) -> str:
    if not _SPAN[0] <= time <= _SPAN[1]:
        return f"{time:g}"
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _length(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"
