"""Reading a table in batches: numbers, coded texts, or lists of both where a column mixes them.

Columns are read as the reference has them. A cell of another type never ends the reading: from the first one on, its
column is read as texts, and each text that is a number counts as one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluator.drift.columns import Coded, Column
from evaluator.drift.grid import Floats
from evaluator.offline.drift.data_findings import (
    DuplicateRows,
    TimestampStats,
    duplicate_findings,
    parse_timestamps,
    timestamp_findings,
)
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.settings import DriftRequestError
from gauntlet.table import Chunk, Codes, Table, TableError

BATCH_ROWS = 16_384
"""Rows of a batch: a hundred columns of it are 13 MB."""
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
class Batch:
    """Consecutive rows from row `start` on; a column is an array of numbers, `Coded` texts, or a list of both."""

    start: int
    rows: int
    columns: Mapping[str, Column]
    seconds: Floats | None = None
    """Timestamps of the rows, where they are asked for."""

    def part(self, first: int, end: int) -> Batch:
        """Rows from `first` up to `end` of the batch."""
        if first == 0 and end == self.rows:
            return self
        columns = {name: values[first:end] for name, values in self.columns.items()}
        seconds = None if self.seconds is None else self.seconds[first:end]
        return Batch(self.start + first, end - first, columns, seconds)

    def without(self, *names: str | None) -> Batch:
        """The batch without some columns."""
        return replace(self, columns={name: values for name, values in self.columns.items() if name not in names})


class TableReader:
    """The batches of a table, with `numbers` read as numbers and `texts` as texts; columns it has not are left out.

    strict_texts: those of `texts` in which a number would be a cell of another type.
    """

    def __init__(
        self,
        table: Table,
        numbers: Sequence[str],
        texts: Sequence[str],
        *,
        strict_texts: Collection[str] = (),
        rows: int = BATCH_ROWS,
    ) -> None:
        kinds = table.kinds(SCHEMA_ROWS)
        self._table, self._rows = table, rows
        self._texts = tuple(name for name in texts if name in kinds)
        self._numbers = [name for name in numbers if kinds.get(name) == "number"]
        self.mixed = {name for name in numbers if kinds.get(name) == "text"}
        """Columns of numbers that are read as texts, because not all cells are numbers."""
        self._strict = {name for name in strict_texts if kinds.get(name) == "number"}

    def __iter__(self) -> Iterator[Batch]:
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

    def _batch(self, chunk: Chunk) -> Batch:
        columns: dict[str, Column] = dict(chunk.numbers)
        for name, codes in chunk.texts.items():
            mixed = name in self.mixed or name in self._strict
            columns[name] = _mixed_cells(codes) if mixed else Coded(codes.codes, codes.values)
        return Batch(chunk.start, chunk.rows, columns)


def _mixed_cells(codes: Codes) -> list[Any]:
    """Each text that is a number as that number, other texts as they are, None for a missing cell."""
    used, inverse = np.unique(codes.codes, return_inverse=True)
    cells: list[float | str | None] = []
    for code in used.tolist():
        number = None if code < 0 else parse_number(codes.values[code])
        cells.append(codes.values[code] if number is None and code >= 0 else number)
    return [cells[i] for i in inverse.tolist()]


def parse_number(text: str) -> float | None:
    """The number that a text spells, or None; true and false are 1 and 0."""
    try:
        return float(text)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())


class TableStats:
    """Timestamps and duplicate rows of a table, counted as its batches pass."""

    def __init__(self, time: str | None, *, ambiguous: Collection[str] = (), not_before: float = -math.inf) -> None:
        """time: the column of timestamps. ambiguous: columns that may yet prove to be counters, so that no row with
        them duplicates another. not_before: the first timestamp of the reference."""
        self._time, self._ambiguous = time, ambiguous
        self.timestamps, self.duplicates = TimestampStats(not_before), DuplicateRows()

    def add(self, batch: Batch) -> Batch:
        """Count the next rows; returns them without the column of timestamps."""
        rest = batch.without(self._time)
        if self._time is not None and self._time in batch.columns:
            seconds = parse_timestamps(batch.columns[self._time])
            self.timestamps.add(seconds)
            rest = replace(rest, seconds=seconds)
        compared = rest.without(*self._ambiguous).columns
        self.duplicates.add(compared, batch.rows if compared else 0)
        return rest

    def require_timestamps(self) -> None:
        """Raises DriftRequestError where the reference has none."""
        if self._time is not None and self.timestamps.unknown == self.timestamps.rows:
            raise DriftRequestError(
                f"time: {self._time!r} has no timestamp in the reference (seconds since 1970, or ISO 8601)"
            )

    def findings(self, reference: TableStats, first_row: int = 0) -> list[Finding]:
        """What these rows, the first of them in row `first_row` of the file, have more of than the reference."""
        findings = duplicate_findings(reference.duplicates, self.duplicates)
        if self._time is not None and self.timestamps.rows:
            findings += timestamp_findings(self._time, reference.timestamps, self.timestamps, first_row)
        return findings


class TableScan:
    """The batches of a table without its timestamps; the first complete pass counts `stats`."""

    def __init__(self, batches: Iterable[Batch], stats: TableStats, time: str | None) -> None:
        self.stats = stats
        self._batches, self._time = batches, time
        self._counted = False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            yield batch.without(self._time) if self._counted else self.stats.add(batch)
        self._counted = True


class BatchCache:
    """Batches that are dear to parse, kept as arrays in a temporary file, to iterate more than once.

    With a column of mixed cells, which is no array, they are parsed again. The file vanishes with the `with` block.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._source = batches
        self._file = tempfile.TemporaryFile(prefix="gauntlet-")  # noqa: SIM115  closed by __exit__
        self._cached: list[tuple[int, int, dict[str, tuple[str, ...] | None]]] | None = None
        """Start, rows and columns of each batch, with the texts that a column's numbers are codes of."""

    def __enter__(self) -> BatchCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Batch]:
        self._file.seek(0)
        return self._first_pass() if self._cached is None else self._later_pass(self._cached)

    def _first_pass(self) -> Iterator[Batch]:
        cached: list[tuple[int, int, dict[str, tuple[str, ...] | None]]] = []
        arrays_only = True
        for batch in self._source:
            arrays_only = arrays_only and not any(isinstance(column, list) for column in batch.columns.values())
            if arrays_only:
                texts: dict[str, tuple[str, ...] | None] = {}
                for name, column in batch.columns.items():
                    texts[name] = column.values if isinstance(column, Coded) else None
                    np.save(self._file, column.codes if isinstance(column, Coded) else np.asarray(column))
                cached.append((batch.start, batch.rows, texts))
            yield batch
        self._cached = cached if arrays_only else None

    def _later_pass(self, cached: list[tuple[int, int, dict[str, tuple[str, ...] | None]]]) -> Iterator[Batch]:
        for start, rows, texts in cached:
            columns: dict[str, Column] = {}
            for name, values in texts.items():
                array = np.load(self._file)
                columns[name] = array if values is None else Coded(array, values)
            yield Batch(start, rows, columns)
