"""Reads a reference from a file of rows: features, targets and times, in the model's own terms."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.clock import parse_timestamp
from gauntlet.registry.artifact import Schema
from gauntlet.registry.reference import MOST_ROWS, Reference
from gauntlet.spelling import folded
from gauntlet.table import Chunk, Codes, TableError, open_table
from gauntlet.types import Label, Task

_LATEST = 1e11  # seconds since 1970: the year 5138


def read_reference(
    path: str, schema: Schema, *, target: str | None, time: str | None, most_rows: int = MOST_ROWS
) -> Reference:
    """The newest rows (at most `most_rows`) of a CSV, gzipped CSV or Parquet file in time order.

    `target` and `time` name the columns with the truth (class label or number) and the row's time (seconds since 1970
    or ISO 8601). Raises `TableError` naming the file, the column and the row.
    """
    table = open_table(path, as_written=True)
    numbers = [f.name for f in schema.features if f.kind == "number"]
    texts = [f.name for f in schema.features if f.kind == "text"]
    if target is not None:
        (numbers if schema.task is Task.REGRESSION else texts).append(target)
    if time is not None:
        texts.append(time)

    def newest(parts: list[list[Any]]) -> list[Any]:
        return [value for part in parts for value in part][-most_rows:]

    parts: deque[Reference] = deque()
    last = -math.inf
    for chunk in table.chunks(numbers, texts):
        reader = ChunkReader(table.name, chunk)
        at = reader.times(time, last) if time is not None else []
        last = at[-1] if at else last
        parts.append(
            Reference(
                columns={
                    f.name: reader.texts(f.name) if f.kind == "text" else reader.numbers(f.name)
                    for f in schema.features
                },
                at=at,
                truths=reader.truths(target, schema) if target is not None else [],
            )
        )
        while sum(part.rows for part in parts) - parts[0].rows >= most_rows:
            parts.popleft()
    return Reference(
        columns={f.name: newest([part.columns[f.name] for part in parts]) for f in schema.features},
        at=newest([part.at for part in parts]),
        truths=newest([part.truths for part in parts]),
    )


class ChunkReader:
    """The cells of one chunk as Python values, each checked."""

    def __init__(self, name: str, chunk: Chunk) -> None:
        self._name = name
        self._chunk = chunk

    def numbers(self, column: str) -> list[float | None]:
        values = self._chunk.numbers[column]
        self._require(~np.isinf(values), column, "an infinite number")
        found: list[float | None] = values.tolist()
        for row in np.flatnonzero(np.isnan(values)).tolist():
            found[row] = None
        return found

    def texts(self, column: str) -> list[str | None]:
        coded = self._chunk.texts[column]
        return [None if code < 0 else coded.values[code] for code in coded.codes.tolist()]

    def truths(self, column: str, schema: Schema) -> list[float | None]:
        """Class indices, or numbers."""
        if schema.task is Task.REGRESSION:
            values = self._chunk.numbers[column]
            self._require(np.isfinite(values), column, "the target is no finite number")
        else:
            coded = self._chunk.texts[column]
            values = _by_code(coded, [_class_index(text, schema.classes) for text in coded.values])
            bad = next((text for text, value in zip(coded.values, values, strict=False) if math.isnan(value)), "")
            alike = next((label for label in schema.classes if folded(str(label)) == folded(bad)), None)
            known = ", ".join(map(repr, schema.classes[:10]))
            reason = f"the target is none of the classes ({known})"
            if alike is not None:
                reason += f"; it is not written like {alike!r}"
            self._require(np.isfinite(values), column, reason, coded)
        return [*values.tolist()]

    def instants(self, column: str) -> NDArray[np.float64]:
        """Seconds since 1970."""
        coded = self._chunk.texts[column]
        values = _by_code(coded, [_seconds(text) for text in coded.values])
        self._require(np.isfinite(values), column, "no time (seconds since 1970, or 2026-01-31T12:00:00Z)", coded)
        self._require(values <= _LATEST, column, "no time in seconds since 1970; is it in milliseconds?", coded)
        return values

    def times(self, column: str, last: float) -> list[float]:
        """Seconds since 1970, none before the one above it."""
        values, coded = self.instants(column), self._chunk.texts[column]
        rising = np.diff(values, prepend=last if math.isfinite(last) else values[:1]) >= 0
        self._require(rising, column, "a time before the row above it; sort the rows by time", coded)
        found: list[float] = values.tolist()
        return found

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
