"""Reads rows from a file or a table: features, targets and times, in the model's own terms."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.clock import parse_timestamp
from gauntlet.registry.artifact import Schema
from gauntlet.registry.column_rows import ColumnRows
from gauntlet.registry.reference import MOST_ROWS, Reference
from gauntlet.spelling import likely
from gauntlet.table import Chunk, Codes, Table, TableError, open_table
from gauntlet.types import Label, Task

_LATEST = 1e11  # seconds since 1970: the year 5138
_LARGEST = 1e150  # its square is still a float64
_NONE: NDArray[np.float64] = np.empty(0)


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table in the model's terms. at: seconds since 1970. truths: class indices, or numbers.

    `at` and `truths` are empty where no column of theirs was named."""

    features: ColumnRows
    at: NDArray[np.float64]
    truths: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, part: slice) -> TableRows:
        return TableRows(self.features[part], self.at[part], self.truths[part])

    def __add__(self, more: TableRows) -> TableRows:
        """These rows and then `more` of the same columns."""
        at, truths = np.concatenate([self.at, more.at]), np.concatenate([self.truths, more.truths])
        return TableRows(self.features + more.features, at, truths)


def read_reference(
    path: str, schema: Schema, *, target: str | None, time: str | None, most_rows: int = MOST_ROWS
) -> Reference:
    """The newest rows (at most `most_rows`) of a CSV, gzipped CSV or Parquet file in time order.

    `target` and `time` name the columns with the truth (class label or number) and the row's time (seconds since 1970
    or ISO 8601). Raises `TableError` naming the file, the column and the row.
    """
    table = open_table(path, as_written=True)
    found = read_rows(table, schema, target=target, time=time, most_rows=most_rows)
    return Reference(columns=found.features.lists(), at=found.at.tolist(), truths=found.truths.tolist())


def read_rows(
    table: Table, schema: Schema, *, target: str | None, time: str | None, most_rows: int | None = None
) -> TableRows:
    """The newest rows of a table whose texts are `as_written`, or all of them. Raises `TableError`, as above."""
    numbers, texts = asked_columns(schema, target, time)
    parts: deque[TableRows] = deque()
    last = -math.inf
    for chunk in table.chunks(numbers, texts):
        reader = ChunkReader(table.name, chunk)
        at = reader.times(time, last) if time is not None else _NONE
        last = float(at[-1]) if len(at) else last
        truths = reader.truths(target, schema) if target is not None else _NONE
        parts.append(TableRows(reader.features({f.name: f.kind for f in schema.features}), at, truths))
        while most_rows is not None and sum(map(len, parts)) - len(parts[0]) >= most_rows:
            parts.popleft()
    columns = {f.name: np.concatenate([part.features.columns[f.name] for part in parts]) for f in schema.features}
    found = TableRows(
        ColumnRows(columns),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.truths for part in parts]),
    )
    return found if most_rows is None else found[-most_rows:]


def asked_columns(schema: Schema, target: str | None, time: str | None) -> tuple[list[str], list[str]]:
    """The columns that are read as numbers and those that are read as texts."""
    numbers = [f.name for f in schema.features if f.kind == "number"]
    texts = [f.name for f in schema.features if f.kind == "text"]
    if target is not None:
        (numbers if schema.task is Task.REGRESSION else texts).append(target)
    if time is not None:
        texts.append(time)
    return numbers, texts


class ChunkReader:
    """The cells of one chunk, each checked."""

    def __init__(self, name: str, chunk: Chunk) -> None:
        self._name = name
        self._chunk = chunk

    def features(self, kinds: Mapping[str, str]) -> ColumnRows:
        """The columns of these kinds, number or text."""
        return ColumnRows({n: self._texts(n) if kind == "text" else self._numbers(n) for n, kind in kinds.items()})

    def _numbers(self, column: str) -> NDArray[np.float64]:
        values = self._chunk.numbers[column]
        self._require(~np.isinf(values), column, "an infinite number")
        return values

    def _texts(self, column: str) -> NDArray[np.object_]:
        coded = self._chunk.texts[column]
        return np.array([*coded.values, None], dtype=np.object_)[coded.codes]

    def truths(self, column: str, schema: Schema) -> NDArray[np.float64]:
        """Class indices, or numbers."""
        if schema.task is Task.REGRESSION:
            values = self._chunk.numbers[column]
            self._require(np.isfinite(values), column, "the target is not a finite number")
            self._require(
                np.abs(values) <= _LARGEST, column, f"the target is beyond {_LARGEST:g}: no error has a square"
            )
        else:
            coded = self._chunk.texts[column]
            self._require(coded.codes >= 0, column, "there is no target; leave out the rows without one")
            values = _by_code(coded, [_class_index(text, schema.classes) for text in coded.values])
            bad = next((text for text, value in zip(coded.values, values, strict=False) if math.isnan(value)), "")
            alike = likely(bad, map(str, schema.classes))
            known = ", ".join(map(repr, schema.classes[:10]))
            reason = f"the target is none of the classes ({known})"
            if alike is not None:
                reason += f"; does it mean {alike!r}? It is not written so"
            self._require(np.isfinite(values), column, reason, coded)
        return values

    def instants(self, column: str) -> NDArray[np.float64]:
        """Seconds since 1970."""
        coded = self._chunk.texts[column]
        values = _by_code(coded, [_seconds(text) for text in coded.values])
        self._require(np.isfinite(values), column, "no time (seconds since 1970, or 2026-01-31T12:00:00Z)", coded)
        self._require(values <= _LATEST, column, "no time in seconds since 1970; is it in milliseconds?", coded)
        return values

    def times(self, column: str, last: float) -> NDArray[np.float64]:
        """Seconds since 1970, none before the one above it."""
        values, coded = self.instants(column), self._chunk.texts[column]
        rising = np.diff(values, prepend=last if math.isfinite(last) else values[:1]) >= 0
        self._require(rising, column, "a time before the row above it; sort the rows by time", coded)
        return values

    def _require(self, good: NDArray[np.bool_], column: str, reason: str, coded: Codes | None = None) -> None:
        if not good.all():
            row = int(np.argmin(good))
            code = -1 if coded is None else int(coded.codes[row])
            cell = "" if coded is None else f"{'' if code < 0 else coded.values[code]!r}: "
            raise TableError(
                f"{self._name}: row {self._chunk.start + row:,} of {column} (counted from 0): {cell}{reason}"
            )


def _by_code(coded: Codes, values: list[float]) -> NDArray[np.float64]:
    """Each row's value, given one for each text; NaN for a row without any."""
    return np.array([*values, math.nan])[coded.codes]


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_timestamp(text)


def _class_index(text: str, classes: tuple[Label, ...]) -> float:
    """The place of a class by how a file spells it, where true, 1 and 1.0 are the same; NaN if it is none."""
    for index, label in enumerate(classes):
        if text == str(label) or (not isinstance(label, str) and _same_number(text, label)):
            return float(index)
    return math.nan


def _same_number(text: str, label: float | int | bool) -> bool:
    if text.lower() in ("true", "false"):
        return (text.lower() == "true") == bool(label) and label in (0, 1)
    try:
        return float(text) == float(label)
    except ValueError:
        return False
