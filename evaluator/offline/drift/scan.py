"""Rows of a table as the drift rules take them, whatever their cells hold: numbers, coded texts, or a mix of both.

Columns are read as the reference has them. A cell of another type never ends the reading: from the first one on, its
column is read as texts and each text that is a number counts as one.

Batches of a table as they pass, without the column of times, and what they say of times and of repeated rows.

Batches read once from a file that is dear to parse, then again from a temporary file of plain arrays.

The same batches come each time; the temporary file vanishes at the end of the `with` block.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluator.drift.columns import Coded
from evaluator.drift.feature import Column
from evaluator.offline.drift.duplicate_rows import Repeats
from evaluator.offline.drift.timeliness import Clock, seconds
from gauntlet.table import Chunk, Codes, Table, TableError

ROWS = 16_384
"""Rows a batch: a hundred columns of it are 13 MB."""
KIND_ROWS = 10_000
"""Rows by which a column's kind is judged."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows from row `start` on; a column is an array of numbers, `Coded` texts, or a list of both."""

    start: int
    rows: int
    columns: Mapping[str, Column]


class Reader:
    """The batches of a table with `numbers` read as numbers and `texts` as texts; columns it has not are left out."""

    def __init__(
        self,
        table: Table,
        numbers: Sequence[str],
        texts: Sequence[str],
        *,
        words: Collection[str] = (),
        rows: int = ROWS,
    ) -> None:
        """words: those of `texts` in which a number would be a cell of another type."""
        kinds = table.kinds(KIND_ROWS)
        self.table = table
        self.numbers = tuple(name for name in numbers if name in kinds)
        self.texts = tuple(name for name in texts if name in kinds)
        self.mixed = {name for name in self.numbers if kinds[name] == "text"}
        """Columns of numbers that are read as texts, because not all cells are numbers."""
        self._strange = {name for name in words if kinds.get(name) == "number"}
        self._rows = rows

    def __iter__(self) -> Iterator[Batch]:
        """Reads from the beginning. Raises TableError for a file that can't be read at all."""
        done = 0
        while True:
            try:
                for chunk in self._chunks(done):
                    yield self._batch(chunk)
                    done = chunk.start + chunk.rows
            except TableError:
                if not self._doubt():
                    raise
            else:
                return

    def _chunks(self, start: int) -> Iterator[Chunk]:
        numbers = [name for name in self.numbers if name not in self.mixed]
        for chunk in self.table.chunks(numbers, [*self.texts, *sorted(self.mixed)], rows=self._rows):
            if chunk.start >= start:
                yield chunk

    def _doubt(self) -> bool:
        """Find a column of numbers that has a cell which is none, and read it as texts from now on."""
        suspects = [name for name in self.numbers if name not in self.mixed]
        if not suspects or not self._fails(suspects):
            return False
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if self._fails(half) else suspects[len(half) :]
        if self._fails([], suspects):
            return False
        self.mixed.add(suspects[0])
        return True

    def _fails(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> bool:
        try:
            for _ in self.table.chunks(numbers, texts, rows=self._rows):
                pass
        except TableError:
            return True
        return False

    def _batch(self, chunk: Chunk) -> Batch:
        columns: dict[str, Column] = dict(chunk.numbers)
        for name, codes in chunk.texts.items():
            strange = name in self.mixed or name in self._strange
            columns[name] = _numbers_among(codes) if strange else Coded(codes.codes, codes.values)
        return Batch(chunk.start, chunk.rows, columns)


def _numbers_among(codes: Codes) -> list[Any]:
    """Each text that is a number as that number, other texts as they are, None where there is none."""
    used, inverse = np.unique(codes.codes, return_inverse=True)
    cells = [None if code < 0 else _cell(codes.values[code]) for code in used.tolist()]
    return [cells[i] for i in inverse.tolist()]


def _cell(text: str) -> float | str:
    number = number_in(text)
    return text if number is None else number


def number_in(text: str) -> float | None:
    """The number that a text spells, or None; true and false are 1 and 0."""
    try:
        return float(text)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())


class Passing:
    """Iterate it as often as the batches themselves; noted is what the first whole reading saw."""

    def __init__(self, batches: Iterable[Batch], time: str | None, *, uncertain: Collection[str] = ()) -> None:
        """uncertain: columns that may yet turn out to count rows, so that no row with them is another's repetition."""
        self._batches, self._time, self._uncertain = batches, time, frozenset(uncertain)
        self.clock, self.repeats = Clock(), Repeats()
        self._noted = False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            columns = {name: values for name, values in batch.columns.items() if name != self._time}
            if not self._noted:
                if self._time is not None and self._time in batch.columns:
                    self.clock.add(seconds(batch.columns[self._time]))
                certain = {name: values for name, values in columns.items() if name not in self._uncertain}
                self.repeats.add(certain, batch.rows if certain else 0)
            yield replace(batch, columns=columns)
        self._noted = True


_Place = tuple[str, np.dtype[Any], tuple[str, ...] | None]
"""A column of a batch in the file: its name, how its numbers are written, and the texts that they are codes of."""


class Replay:
    """Iterate a reader more than once. Columns of mixed cells are no arrays: with one, the reader is asked again."""

    def __init__(self, reader: Iterable[Batch]) -> None:
        self._reader = reader
        self._file = tempfile.TemporaryFile(prefix="gauntlet-")  # noqa: SIM115  closed by __exit__
        self._batches: list[tuple[int, int, list[_Place]]] | None = None

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Batch]:
        return self._first() if self._batches is None else self._again(self._batches)

    def _first(self) -> Iterator[Batch]:
        written: list[tuple[int, int, list[_Place]]] | None = []
        self._file.seek(0)
        for batch in self._reader:
            if written is not None and any(isinstance(column, list) for column in batch.columns.values()):
                written = None
            if written is not None:
                written.append((batch.start, batch.rows, [self._write(*item) for item in batch.columns.items()]))
            yield batch
        self._batches = written

    def _write(self, name: str, column: Column) -> _Place:
        values = column.values if isinstance(column, Coded) else None
        array = np.ascontiguousarray(column.codes if isinstance(column, Coded) else np.asarray(column))
        self._file.write(array.data)
        return name, array.dtype, values

    def _again(self, batches: list[tuple[int, int, list[_Place]]]) -> Iterator[Batch]:
        self._file.seek(0)
        for start, rows, places in batches:
            columns: dict[str, Column] = {}
            for name, kind, values in places:
                array = np.frombuffer(self._file.read(rows * kind.itemsize), dtype=kind)
                columns[name] = array if values is None else Coded(array, values)
            yield Batch(start, rows, columns)
