"""Where a table's rows come from: CSV, gzipped CSV, Parquet, or a frame in memory, read as Arrow batches in file order.

Invariant: only the asked columns are read, a few batches are held at a time, and no row is dropped silently.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet

from gauntlet.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

SUPPORTED = "CSV (.csv), gzipped CSV (.csv.gz) or Parquet (.parquet)"
NULLS = ("", "#N/A", "#NA", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "-nan", "-NaN")
LARGE_BLOCK_BYTES = 4 << 20  # bytes of CSV parsed at once where a row is long; a single row must fit
BLOCK_BYTES = 1 << 20  # bytes of CSV parsed at once otherwise: what stays in a processor's cache
_TAIL = 1 << 16  # bytes that are kept of the end: a last line
_BAD_COLUMN = re.compile(r"In CSV column #(\d+): .*CSV conversion error", re.DOTALL)


class TableError(BadInput):
    """A table cannot be read as asked; the message names the file, the column and the row (counted from 0).

    `column` is the column with a cell of another type than asked for, where that is the reason.
    """

    code = "bad_table"

    def __init__(self, message: str, *, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


class Source(Protocol):
    """Where rows come from. `rows` is None where only reading tells."""

    name: str
    columns: tuple[str, ...]
    rows: int | None

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        """The rows in order, with just these columns (all known), in batches of any size.

        Of `numbers` among them only the number matters: where a file holds its text it may be parsed at once, so that
        a column's type may differ from batch to batch.
        """


def open_source(source: str | Path | pd.DataFrame | pa.Table) -> Source:
    """The source behind a path or a frame; raises `TableError` when it cannot be one."""
    if isinstance(source, (str, Path)):
        opened = _file(Path(source))
    elif isinstance(source, pa.Table):
        opened = ArrowTable(source)
    elif type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "columns"):
        opened = Frame(source)
    else:
        raise TableError(f"a table is a path, a pandas.DataFrame or a pyarrow.Table, not {type(source).__name__}")
    if not opened.columns:
        raise TableError(f"{opened.name}: no columns")
    twice = sorted({column for column in opened.columns if opened.columns.count(column) > 1})
    if twice:
        raise TableError(f"{opened.name}: column {twice[0]!r} is there twice; every column needs a name of its own")
    if opened.rows == 0:
        raise TableError(f"{opened.name}: no rows")
    return opened


def _file(path: Path) -> Source:
    """The source of a file's rows: its format by content where that is telling, else by suffix."""
    name = str(path)
    if path.exists() and not path.is_file():
        raise TableError(f"{name}: not a file; what is read more than once can't be a pipe or a folder")
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise TableError(f"{name}: {error.strerror or error}") from error
    if not magic:
        raise TableError(f"{name}: the file is empty")
    if magic == b"PAR1":
        return ParquetFile(name)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        raise TableError(f"{name}: this is no Parquet file (it does not begin with PAR1)")
    if magic[:2] == b"\x1f\x8b":
        return CsvFile(name, gzipped=True)
    if ".csv" in suffixes[-2:]:
        return CsvFile(name, gzipped=False)
    raise TableError(f"{name}: only {SUPPORTED} can be read")


def delimiter_hint(columns: Sequence[str]) -> str:
    """A guess why a table has one column only; else empty."""
    if len(columns) != 1:
        return ""
    names = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
    if found := next((name for mark, name in names.items() if mark in columns[0]), None):
        return f"is {found} between its columns? only commas are read"
    return "is its first line a remark? the header must come first" if columns[0].startswith("#") else ""


class CsvFile:
    """Comma-separated text in UTF-8 with a header, quoted as in RFC 4180; values come as text."""

    def __init__(self, name: str, *, gzipped: bool) -> None:
        self.name = name
        self.rows: int | None = None
        self._compression = "gzip" if gzipped else None
        try:
            # More than the header is decoded here; of that, only reading may complain.
            with io.TextIOWrapper(
                io.BufferedReader(self._stream()), "utf-8-sig", errors="surrogateescape", newline=""
            ) as text:
                header: list[str] = next((row for row in csv.reader(text) if row), [])
            "".join(header).encode()
        except UnicodeEncodeError:
            raise TableError(f"{name}: the header cannot be read: it is not UTF-8; save the file as UTF-8") from None
        except (OSError, csv.Error) as error:
            raise TableError(f"{name}: the header cannot be read: {error}") from error
        if any("\0" in column for column in header):
            raise TableError(f"{name}: NUL bytes in the header: not UTF-8 (UTF-16?); save the file as UTF-8")
        self.columns = tuple(header)

    def _stream(self) -> _Counted:
        return _Counted(pa.input_stream(self.name, compression=self._compression))

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        parsed, block, rows = set(numbers), min(BLOCK_BYTES, LARGE_BLOCK_BYTES), 0
        ragged: list[arrow_csv.InvalidRow] = []
        while True:
            try:
                for batch in self._read(columns, parsed, block, rows, ragged):
                    rows += batch.num_rows
                    yield batch
            except (pa.ArrowException, OSError) as error:
                # Where the quick way ends, reading goes on from the same row in a way that takes more.
                bad = _BAD_COLUMN.match(str(error))
                if bad is not None and self.columns[int(bad[1])] in parsed:
                    parsed.remove(self.columns[int(bad[1])])
                elif block < LARGE_BLOCK_BYTES and not ragged and "straddling" in str(error):
                    block = LARGE_BLOCK_BYTES
                else:
                    raise self._explained(error, ragged, rows) from error
            else:
                return

    def _read(
        self,
        columns: Sequence[str],
        numbers: Collection[str],
        block: int,
        done: int,
        ragged: list[arrow_csv.InvalidRow],
    ) -> Iterator[pa.RecordBatch]:
        """From row `done` on, with `numbers` as numbers; a row that is `ragged` is kept before the error."""

        def refuse(row: arrow_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        rows = done
        with self._stream() as stream:
            reader = arrow_csv.open_csv(
                stream,
                # One thread, because only then a ragged row knows its number; it parses as fast.
                read_options=arrow_csv.ReadOptions(block_size=block, use_threads=False, skip_rows_after_names=done),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types={name: pa.float64() if name in numbers else pa.string() for name in columns},
                    null_values=list(NULLS),
                    strings_can_be_null=True,
                ),
            )
            for batch in reader:
                self._refuse_nul(stream)
                rows += batch.num_rows
                yield batch
            self._refuse_nul(stream)
            # An opening quote that nobody closes swallows the rest of the file as one value, without any error.
            if stream.quotes % 2 and rows + 1 < stream.lines:
                raise TableError(
                    f"{self.name}: {stream.lines:,} lines but {rows:,} rows, and an odd number of quotes: "
                    f'a quote (") that is never closed swallows rows, probably from row {rows - 1:,} on'
                )
            if stream.quotes % 2 and stream.unclosed:
                raise TableError(f'{self.name}: the file ends in a quote (") that is never closed, row {rows - 1:,}')

    def _refuse_nul(self, stream: _Counted) -> None:
        if stream.nul is not None:
            raise TableError(
                f"{self.name}: a NUL byte in line {stream.nul + 1:,} (counted from 1): no text, or a damaged file"
            )

    def _explained(self, error: Exception, ragged: Sequence[arrow_csv.InvalidRow], rows: int) -> TableError:
        if ragged:
            bad = ragged[0]
            hint = delimiter_hint(self.columns)
            return TableError(
                f"{self.name}: row {bad.number - 2:,} (rows are counted from 0, after the header) has "
                f"{bad.actual_columns} values where the header has {bad.expected_columns}: {bad.text[:80]!r}"
                f"{hint and '; ' + hint}"
            )
        text = str(error)
        if "Empty CSV" in text and not rows:
            return TableError(f"{self.name}: no rows")
        if "straddling" in text:
            return TableError(
                f"{self.name}: a value of more than {LARGE_BLOCK_BYTES >> 20} MB at or soon after row {rows:,} "
                '(rows are counted from 0); is there a quote (") that is never closed?'
            )
        if "invalid UTF8" in text:
            return TableError(
                f"{self.name}: text that is not UTF-8 at or soon after row {rows:,}; save the file as UTF-8: {text}"
            )
        return TableError(f"{self.name}: cannot be read at or soon after row {rows:,} (counted from 0): {text}")


class _Counted(io.RawIOBase):
    """A byte stream that counts what passes, so that swallowed rows are noticed.

    Arrow reads ahead in a thread of its own. Closing waits for that read: the file's descriptor may be given to the
    next file opened, and a read under way would then take bytes out of that one.
    """

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._reading = threading.Lock()
        self.quotes = 0
        self.lines = 0
        self.nul: int | None = None
        """Lines before the first NUL byte."""
        self._end = b""
        self._tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._reading:
            block = b"" if self._stream.closed else self._stream.read(len(buffer))
        buffer[: len(block)] = block
        if self.nul is None and b"\0" in block:
            self.nul = self.lines + block.count(b"\n", 0, block.index(b"\0"))
        self.quotes += block.count(b'"')
        self.lines += block.count(b"\n")
        if block:
            self._end = block[-1:]
            self._tail = (self._tail + block)[-_TAIL:] if len(block) < _TAIL else block[-_TAIL:]
        elif self._end not in (b"", b"\n"):  # a last line without an end
            self.lines += 1
            self._end = b""
        return len(block)

    @property
    def unclosed(self) -> bool:
        """Whether the last line opens a quote and ends before it is closed."""
        last = self._tail.rstrip(b"\r\n").rsplit(b"\n", 1)[-1].decode("utf-8", "replace")
        try:
            list(csv.reader([last], strict=True))
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False

    def close(self) -> None:
        with self._reading:
            self._stream.close()
        super().close()


class ParquetFile:
    """A Parquet file, read row group by row group."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            with arrow_parquet.ParquetFile(name) as file:
                self.columns: tuple[str, ...] = tuple(file.schema_arrow.names)
                self.rows: int | None = file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{name}: this Parquet file cannot be read: {error}") from error

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            # Otherwise a whole row group of bytes would be held; and larger batches leave a processor's cache.
            with arrow_parquet.ParquetFile(self.name, buffer_size=1 << 16, pre_buffer=False) as file:
                for group in range(file.num_row_groups):  # all groups in one call would stay in memory to the end
                    for batch in file.iter_batches(
                        16_384, row_groups=[group], columns=list(columns), use_threads=False
                    ):
                        rows += batch.num_rows
                        yield batch
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{self.name}: cannot be read at or soon after row {rows:,}: {error}") from error


class ArrowTable:
    """A table already in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.name = "the table"
        self._table = table
        self.columns: tuple[str, ...] = tuple(table.column_names)
        self.rows: int | None = table.num_rows

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(list(columns)).to_batches(max_chunksize=65_536)


class Frame:
    """A pandas frame; only the asked columns are turned into Arrow's, a slice at a time."""

    _SLICE = 65_536

    def __init__(self, frame: pd.DataFrame) -> None:
        self.name = "the frame"
        self._frame = frame
        self.columns: tuple[str, ...] = tuple(str(column) for column in frame.columns)
        self.rows: int | None = len(frame)

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(self._frame), self._SLICE):
            part = self._frame.iloc[start : start + self._SLICE]
            arrays: Mapping[str, pa.Array] = {
                column: _array(part.iloc[:, self.columns.index(column)]) for column in columns
            }
            yield pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _array(values: pd.Series[Any]) -> pa.Array:
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # an object column of mixed types: what each value is called decides
        array = pa.array([None if gone else str(value) for value, gone in zip(values, values.isna(), strict=True)])
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
