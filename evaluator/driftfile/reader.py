"""Rows of a table as the drift rules take them, whatever their cells hold: numbers, coded texts, or a mix of both.

Columns are read as the reference has them. A cell of another type never ends the reading: from the first one on, its
column is read as texts and each text that is a number counts as one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.drift.feature import Column
from evaluator.drift.reading import Coded
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
