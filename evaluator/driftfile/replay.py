"""Batches read once from a file that is dear to parse, then again from a temporary file of plain arrays.

The same batches come each time; the temporary file vanishes at the end of the `with` block.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from evaluator.drift.feature import Column
from evaluator.drift.reading import Coded
from evaluator.driftfile.reader import Batch

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
