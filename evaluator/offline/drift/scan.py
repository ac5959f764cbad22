"""Reading a table in batches: numbers, coded texts, or lists of both where a column mixes them.

Columns are read as the reference has them, times as numbers of seconds. A cell of another type never ends the reading:
from the first one on, its column is read as texts, and each text that is a number counts as one.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluator.drift.columns import Coded, Column
from evaluator.drift.grid import Floats
from evaluator.offline.drift.data_findings import (
    TimestampStats,
    duplicate_findings,
    parse_timestamps,
    timestamp_findings,
)
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.settings import DriftRequestError
from evaluator.offline.duplicate_rows import DuplicateRows
from gauntlet.clock import parse_timestamp
from gauntlet.spelling import parse_number
from gauntlet.table import Chunk, Codes, Table, TableError

BATCH_ROWS = 16_384
"""Rows of a batch: a hundred columns of it are 13 MB."""
_TIME_OF_DAY = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?", re.ASCII)
SCHEMA_ROWS = 10_000
"""Rows by which a column's kind is judged."""


def concatenate(parts: list[Column]) -> Column:
    """Consecutive parts of one column as one; the codes of a later part extend those of the earlier ones."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    if all(isinstance(part, Coded) for part in parts):
        coded = [part for part in parts if isinstance(part, Coded)]
        return Coded(np.concatenate([part.codes for part in coded]), coded[-1].values)
    return [value for part in parts for value in part]


@dataclass(frozen=True, slots=True)
class TableBatch:
    """Consecutive rows from row `start` on; a column is an array of numbers, `Coded` texts, or a list of both."""

    start: int
    rows: int
    columns: Mapping[str, Column]
    seconds: Floats | None = None
    """Timestamps of the rows, where they are asked for."""

    def part(self, first: int, end: int) -> TableBatch:
        """Rows from `first` up to `end` of the batch."""
        if first == 0 and end == self.rows:
            return self
        columns = {name: values[first:end] for name, values in self.columns.items()}
        seconds = None if self.seconds is None else self.seconds[first:end]
        return TableBatch(self.start + first, end - first, columns, seconds)

    def without(self, *names: str | None) -> TableBatch:
        """The batch without some columns."""
        return replace(self, columns={name: values for name, values in self.columns.items() if name not in names})


class TableReader:
    """The batches of a table, with `numbers` read as numbers, `texts` as texts and `times` as seconds; columns it has
    not are left out.

    strict_texts: those of `texts` in which a number would be a cell of another type.
    """

    def __init__(
        self,
        table: Table,
        numbers: Sequence[str],
        texts: Sequence[str],
        times: Sequence[str] = (),
        *,
        strict_texts: Collection[str] = (),
        rows: int = BATCH_ROWS,
    ) -> None:
        kinds = table.kinds(SCHEMA_ROWS)
        self._table, self._rows = table, rows
        self._texts = tuple(name for name in (*texts, *times) if name in kinds)
        self._times = frozenset(times)
        self._numbers = [name for name in numbers if kinds.get(name) == "number"]
        self.mixed = {name for name in numbers if kinds.get(name) == "text"}
        """Columns of numbers that are read as texts, because not all cells are numbers."""
        self._strict = {name for name in strict_texts if kinds.get(name) == "number"}

    def __iter__(self) -> Iterator[TableBatch]:
        """Reads from the beginning. Raises TableError for a file that can't be read at all."""
        done = 0
        while True:
            texts = [*self._texts, *sorted(self.mixed)]
            try:
                for chunk in self._table.chunks(self._numbers, texts, rows=self._rows):
                    if chunk.start >= done:
                        yield self._batch(chunk)
                        done = chunk.start + chunk.rows
            except TableError as error:
                if error.column not in self._numbers:
                    raise
                self._numbers.remove(error.column)
                self.mixed.add(error.column)
            else:
                return

    def _batch(self, chunk: Chunk) -> TableBatch:
        columns: dict[str, Column] = dict(chunk.numbers)
        for name, codes in chunk.texts.items():
            if name in self._times:
                columns[name] = _seconds(codes)
            elif name in self.mixed or name in self._strict:
                columns[name] = _mixed_cells(codes, parse_number)
            else:
                columns[name] = Coded(codes.codes, codes.values)
        return TableBatch(chunk.start, chunk.rows, columns)


def _mixed_cells(codes: Codes, parse: Callable[[str], float | None]) -> list[Any]:
    """Each text that is a number as that number, other texts as they are, None for a missing cell."""
    used, inverse = np.unique(codes.codes, return_inverse=True)
    cells: list[float | str | None] = []
    for code in used.tolist():
        number = None if code < 0 else parse(codes.values[code])
        cells.append(codes.values[code] if number is None and code >= 0 else number)
    return [cells[i] for i in inverse.tolist()]


def _seconds(codes: Codes) -> Column:
    """Times as numbers; a list where one of them is none."""
    cells = _mixed_cells(codes, parse_time)
    return cells if any(isinstance(cell, str) for cell in cells) else np.array(cells, dtype=np.float64)


def parse_time(text: str) -> float | None:
    """The seconds since 1970 of a time, or since midnight of a time of day; None for another text, as 20260131 is."""
    if text.isdecimal():
        return None
    seconds = parse_timestamp(f"1970-01-01 {text}" if _TIME_OF_DAY.fullmatch(text) else text)
    return seconds if math.isfinite(seconds) else None


class TableStats:
    """Timestamps and duplicate rows of a table, counted as its batches pass."""

    def __init__(self, time: str | None, *, ambiguous: Collection[str] = (), not_before: float = -math.inf) -> None:
        """time: the column of timestamps. ambiguous: columns that may yet prove to be counters, so that no row with
        them duplicates another. not_before: the first timestamp of the reference."""
        self.time, self._ambiguous = time, ambiguous
        self.timestamps, self.duplicates = TimestampStats(not_before), DuplicateRows()

    def add(self, batch: TableBatch) -> TableBatch:
        """Count the next rows; returns them without the column of timestamps."""
        rest = batch.without(self.time)
        if self.time is not None and self.time in batch.columns:
            seconds = parse_timestamps(batch.columns[self.time])
            self.timestamps.add(seconds)
            rest = replace(rest, seconds=seconds)
        compared = rest.without(*self._ambiguous).columns
        self.duplicates.add(compared, batch.rows if compared else 0)
        return rest

    def require_timestamps(self) -> None:
        """Raises DriftRequestError where the reference has none."""
        if self.time is not None and self.timestamps.unknown == self.timestamps.rows:
            raise DriftRequestError(
                f"time: {self.time!r} has no timestamp in the reference (seconds since 1970, or ISO 8601)"
            )

    def findings(self, reference: TableStats, first_row: int = 0) -> list[Finding]:
        """What these rows, the first of them in row `first_row` of the file, have more of than the reference."""
        findings = duplicate_findings(reference.duplicates, self.duplicates)
        if self.time is not None and self.timestamps.rows:
            findings += timestamp_findings(self.time, reference.timestamps, self.timestamps, first_row)
        return findings


class TableScan:
    """The batches of a table without its timestamps, to iterate more than once; the first pass counts `stats`.

    cached: the table is dear to parse, so its arrays are kept in a temporary file that vanishes with the `with` block.
    A column of mixed cells is no array: with one, the table is parsed again.
    """

    def __init__(self, reader: Iterable[TableBatch], stats: TableStats, *, cached: bool) -> None:
        self.stats = stats
        self._reader, self._cached, self._passed = reader, cached, False
        self._file = tempfile.TemporaryFile(prefix="gauntlet-")  # noqa: SIM115  closed by __exit__
        self._layouts: list[tuple[int, int, dict[str, tuple[str, ...] | None]]] = []
        """Start, rows and columns of each cached batch, with the texts that a column's numbers are codes of."""

    def __enter__(self) -> TableScan:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[TableBatch]:
        if not self._passed:
            return self._first_pass()
        return self._cached_pass() if self._cached else (batch.without(self.stats.time) for batch in self._reader)

    def _first_pass(self) -> Iterator[TableBatch]:
        for batch in map(self.stats.add, self._reader):
            self._cached = self._cached and not any(isinstance(column, list) for column in batch.columns.values())
            if self._cached:
                texts: dict[str, tuple[str, ...] | None] = {}
                for name, column in batch.columns.items():
                    texts[name] = column.values if isinstance(column, Coded) else None
                    np.save(self._file, column.codes if isinstance(column, Coded) else np.asarray(column))
                self._layouts.append((batch.start, batch.rows, texts))
            yield batch
        self._passed = True

    def _cached_pass(self) -> Iterator[TableBatch]:
        self._file.seek(0)
        for start, rows, texts in self._layouts:
            columns: dict[str, Column] = {}
            for name, values in texts.items():
                array = np.load(self._file)
                columns[name] = array if values is None else Coded(array, values)
            yield TableBatch(start, rows, columns)
