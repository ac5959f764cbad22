"""A table of an experiment's rows: CSV, Parquet or a frame, read in chunks as arrays of numbers and coded texts.

Invariant: chunks begin at multiples of the asked size, text codes mean the same in every chunk, a value is the same
whatever it is kept in (`False` of a CSV, a truth value of Parquet), and whatever cannot be read as asked raises
`TableError` naming the column and the row (counted from 0, after the header).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.spelling import canonical, did_you_mean, number_hint
from gauntlet.table.arrays import (
    beyond_doubles,
    cast,
    first_uncastable,
    floats,
    is_text,
    kind_of,
    number_type,
    plain,
    spelled,
    strings,
)
from gauntlet.table.prefetch import read_ahead
from gauntlet.table.sources import NULLS, CsvFile, Source, TableError, delimiter_hint, open_source

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Chunk", "Codes", "Table", "TableError", "open_table"]

CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Codes:
    """Texts of one column: `values[codes[i]]` is row i's, a code of −1 means that it has none. They are `canonical`.

    `values` grows from chunk to chunk, at its end only, so a code once seen keeps its meaning.
    """

    codes: NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows from row `start` on; in `numbers`, NaN means that a row has none (infinity is passed on)."""

    start: int
    rows: int
    numbers: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, Codes]


def open_table(source: str | Path | pd.DataFrame | pa.Table | Table, *, as_written: bool = False) -> Table:
    """A table over a file's path or a frame in memory (a table is itself); raises `TableError` when it cannot be one.

    as_written: texts keep the file's spelling, for a model that knows them by it.
    """
    return source if isinstance(source, Table) else Table(open_source(source), as_written=as_written)


class Table:
    """Rows in the order of the file. Every call of `chunks` reads from the beginning."""

    def __init__(self, source: Source, *, as_written: bool = False) -> None:
        self._source, self._as_written = source, as_written
        self.name = source.name
        self.columns = source.columns
        self.rows = source.rows

    @property
    def delimiter_hint(self) -> str:
        """A guess why a table has one column only; else empty."""
        return delimiter_hint(self.columns)

    def types(self) -> dict[str, str]:
        """The type that each column is kept in, for people; empty for a file of texts."""
        if isinstance(self._source, CsvFile):
            return {}
        first = next(self._source.batches(self.columns))
        return {field.name: str(field.type) for field in first.schema}

    def kinds(self, sample: int = 1000) -> dict[str, Literal["number", "text"]]:
        """What each column holds, judged by its first `sample` rows; one without any value there is a number."""
        for piece in _pieces(self._source.batches(self.columns), sample):
            return {name: kind_of(piece[i]) for i, name in enumerate(self.columns)}
        raise TableError(f"{self.name}: no rows")

    def beyond_doubles(self, sample: int = 1000) -> frozenset[str]:
        """Columns with whole numbers above 2^53 among their first `sample` rows: as numbers, neighbours are alike."""
        piece = next(_pieces(self._source.batches(self.columns), sample))
        return frozenset(name for i, name in enumerate(self.columns) if beyond_doubles(piece[i]))

    def chunks(self, numbers: Sequence[str], texts: Sequence[str] = (), rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """The rows, `rows` at a time (fewer in the last chunk), with these columns as numbers and as texts.

        A column may be asked for as both. `true` and `false` count as 1 and 0, a length of time as its seconds. Raises
        `TableError`.
        """
        self._check([*numbers, *texts])
        coders = {name: _Coder(as_written=self._as_written) for name in texts}
        start = 0
        with closing(read_ahead(self._typed(numbers, texts, rows))) as pieces:
            for piece in pieces:
                columns = piece.columns
                yield Chunk(
                    start,
                    piece.num_rows,
                    {name: floats(columns[i]) for i, name in enumerate(numbers)},
                    {name: coders[name].coded(columns[i]) for i, name in enumerate(texts, len(numbers))},
                )
                start += piece.num_rows
        if not start:
            raise TableError(f"{self.name}: no rows")

    def _typed(self, numbers: Sequence[str], texts: Sequence[str], rows: int) -> Generator[pa.RecordBatch]:
        """The rows, `rows` at a time, with these columns in this order, whatever the types that they are kept in."""
        wanted = list(dict.fromkeys([*numbers, *texts]))
        start = 0
        # A table without any asked column still has rows to count.
        for parts in _parts(self._source.batches(wanted or self.columns[:1], set(numbers) - set(texts)), rows):
            alike = all(part.schema.equals(parts[0].schema) for part in parts[1:])
            typed: list[pa.RecordBatch] = []
            for part in [_joined(parts)] if alike else parts:
                column = dict(zip(wanted, part.columns, strict=False))
                arrays = [
                    *(self._numbers(name, column[name], start) for name in numbers),
                    *(self._text(name, column[name]) for name in texts),
                ]
                typed.append(pa.RecordBatch.from_arrays(arrays, names=[*numbers, *texts]) if wanted else part)
                start += part.num_rows
            yield _joined(typed)

    def ordered_by(self, column: str) -> Table:
        """The rows sorted by a column of numbers or ISO timestamps; rows with the same value keep their order.

        Sixteen bytes a row are held while sorting and eight after it; `chunks` of the result writes the asked columns
        to temporary files first. A table that is in order already is given back as it is.
        """
        self._check([column])
        keys, in_order = self._keys(column)
        if in_order:
            return self
        order = np.argsort(keys, kind="stable")
        return _Ordered(self._source, order, as_written=self._as_written)

    def _keys(self, column: str) -> tuple[NDArray[Any], bool]:
        """The sort keys, in a temporary file, and whether they never go down."""
        read: Callable[[pa.Array, int], NDArray[Any]] | None = None
        start = 0
        with _Spill() as spill:
            for piece in _pieces(self._source.batches([column]), CHUNK_ROWS):
                values = plain(piece[0])
                empty = np.flatnonzero(values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
                if len(empty):
                    raise self._error(start + int(empty[0]), column, " is empty; there is no order")
                read = read or self._key_reader(column, values)
                spill.write(read(values, start))
                start += len(values)
            if not start:
                raise TableError(f"{self.name}: no rows")
            keys = spill.array()
        return keys, bool(np.all(keys[1:] >= keys[:-1]))

    def _error(self, row: int, column: str, reason: str, *, cell: bool = False) -> TableError:
        message = f"{self.name}: row {row:,} of {column} (counted from 0){reason}"
        return TableError(message, column=column if cell else None)

    def _key_reader(self, column: str, first: pa.Array) -> Callable[[pa.Array, int], NDArray[Any]]:
        """Numbers, or times in nanoseconds; with a zone or without is decided by the first value."""
        if pa.types.is_temporal(first.type):
            narrow = pa.int32() if pa.types.is_date32(first.type) or pa.types.is_time32(first.type) else pa.int64()
            return lambda values, _: values.cast(narrow).to_numpy(zero_copy_only=False)
        if not is_text(first) or number_type(first[:1]):
            return lambda values, start: self._numbers(column, values, start).to_numpy(zero_copy_only=False)
        zone = pa.timestamp("ns", "UTC")
        zoned = cast(first[:1], zone) is not None
        target = zone if zoned else pa.timestamp("ns")
        hint = "with a time zone, as in row 0" if zoned else "such as 2013-01-31T12:30:00"

        def times(values: pa.Array, start: int) -> NDArray[Any]:
            typed = cast(values, target)
            if typed is None:
                bad = first_uncastable(values, target)
                reason = f": {values[bad].as_py()!r} is neither a number nor an ISO time {hint}"
                raise self._error(start + bad, column, reason)
            keys: NDArray[np.int64] = typed.cast(pa.int64()).to_numpy(zero_copy_only=False)
            return keys

        return times

    def _check(self, columns: Sequence[str]) -> None:
        for column in columns:
            if column not in self.columns:
                known = ", ".join(self.columns[:30]) + (", …" if len(self.columns) > 30 else "")
                parts = [f"{self.name}: there is no column {column!r}", did_you_mean(column, self.columns)]
                parts += [f"the columns are: {known}", self.delimiter_hint]
                raise TableError("; ".join(part for part in parts if part))

    def _numbers(self, name: str, values: pa.Array, start: int) -> pa.Array:
        """As 64-bit floats, null where there is none."""
        values = plain(values)
        if is_text(values):
            numbers = cast(values, pa.float64())
            if numbers is None and (numbers := cast(texts := spelled(values), pa.float64())) is None:
                bad = first_uncastable(texts, pa.float64())
                text = values[bad].as_py()
                hint = number_hint(text) if isinstance(text, str) else ""
                reason = f": {text!r} is not a number" + (f"; {hint}" if hint else "")
                raise self._error(start + bad, name, reason, cell=True)
            return numbers
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.uint8())
        elif not number_type(values):
            raise TableError(f"{self.name}: column {name!r} holds {values.type}, and numbers are needed", column=name)
        return values.cast(pa.float64(), safe=False)

    def _text(self, name: str, values: pa.Array) -> pa.Array:
        values = plain(values)
        if is_text(values):
            return values
        try:
            return values.cast(pa.string())
        except pa.ArrowException as error:
            raise TableError(f"{self.name}: column {name!r} holds {values.type}, which is not text") from error


class _Ordered(Table):
    """The same rows in another order; the asked columns are spilled to temporary files, then gathered."""

    def __init__(self, source: Source, order: NDArray[np.intp], *, as_written: bool) -> None:
        super().__init__(source, as_written=as_written)
        self.rows = len(order)
        self._order = order

    def chunks(self, numbers: Sequence[str], texts: Sequence[str] = (), rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        known: dict[str, pa.Array] = {}
        with ExitStack() as stack:
            number_spills = {name: stack.enter_context(_Spill()) for name in numbers}
            text_spills = {name: stack.enter_context(_Spill()) for name in texts}
            for chunk in super().chunks(numbers, texts):
                for name, array in chunk.numbers.items():
                    number_spills[name].write(array)
                for name, coded in chunk.texts.items():
                    text_spills[name].write(coded.codes)
                    known[name] = strings(coded.values)
            number_columns = {name: spill.array() for name, spill in number_spills.items()}
            text_columns = {name: spill.array() for name, spill in text_spills.items()}
        coders = {
            name: _Coder(as_written=True) for name in texts
        }  # codes go by where a text is first seen in this order
        for start in range(0, len(self._order), rows):
            taken = self._order[start : start + rows]
            yield Chunk(
                start,
                len(taken),
                {name: column[taken] for name, column in number_columns.items()},
                {
                    name: coders[name].coded(known[name].take(pa.array(column[taken], mask=column[taken] < 0)))
                    for name, column in text_columns.items()
                },
            )


class _Spill:
    """An array written once, front to back, into a nameless file; `array` maps it, and lives on after closing."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="gauntlet-")  # noqa: SIM115  closed by __exit__
        self._kind: np.dtype[Any] = np.dtype(np.float64)

    def write(self, array: NDArray[Any]) -> None:
        self._kind = array.dtype
        self._file.write(np.ascontiguousarray(array).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # a mapping keeps the bytes

    def array(self) -> NDArray[Any]:
        self._file.flush()
        return np.memmap(self._file, dtype=self._kind, mode="r")


class _Coder(dict[str | None, int]):
    """Texts to codes, given out in the order in which they are first seen; spellings of one value have one code."""

    def __init__(self, *, as_written: bool) -> None:
        super().__init__({None: -1} | dict.fromkeys(NULLS, -1))
        self._as_written = as_written
        self._fresh: list[str] = []
        self._values: tuple[str, ...] = ()

    def __missing__(self, text: str) -> int:
        spelled = text if self._as_written else canonical(text)
        if spelled != text:
            self[text] = code = self[spelled]
            return code
        code = len(self._values) + len(self._fresh)
        self._fresh.append(text)
        self[text] = code
        return code

    def coded(self, values: pa.Array) -> Codes:
        encoded = values.dictionary_encode(null_encoding="encode")
        texts = encoded.dictionary.to_pylist()
        table = np.fromiter(map(self.__getitem__, texts), np.int32, len(texts))
        if self._fresh:
            self._values += tuple(self._fresh)
            self._fresh = []
        return Codes(table[np.from_dlpack(encoded.indices)], self._values)


def _pieces(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, but for the last."""
    return map(_joined, _parts(batches, rows))


def _parts(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    """The parts of each such batch, whose types may differ."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while batch.num_rows:
            part = batch.slice(0, rows - count)
            batch = batch.slice(part.num_rows)
            held.append(part)
            count += part.num_rows
            if count == rows:
                yield held
                held, count = [], 0
    if held:
        yield held


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
