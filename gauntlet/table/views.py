"""Sources built on another source: its columns in memory, with an extra column, or without its first rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from gauntlet.table.sources import Source


class InMemory:
    """A source of which some columns are parsed once and kept; others are read from the source.

    `numbers` among the kept ones are kept as numbers. Where they are not numbers throughout, nothing is kept.
    """

    def __init__(self, source: Source, columns: Sequence[str], numbers: Collection[str]) -> None:
        self._source = source
        self.name, self.columns, self.rows = source.name, source.columns, source.rows
        kept = [name for name in source.columns if name in columns]
        batches = [*source.batches(kept, {*numbers} & {*kept})] if kept else []
        alike = all(batch.schema.equals(batches[0].schema) for batch in batches)
        self._batches = batches if alike else []

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        if self._batches and {*columns} <= {*self._batches[0].schema.names}:
            return (batch.select(columns) for batch in self._batches)
        return self._source.batches(columns, numbers)


class WithColumn:
    """A source with one more column, held in memory."""

    def __init__(self, source: Source, name: str, values: pa.Array) -> None:
        self._source, self._values, self._name = source, values, name
        self.name, self.rows = source.name, source.rows
        self.columns = (*source.columns, name)

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        inner = [one for one in columns if one != self._name]
        start = 0
        for batch in self._source.batches(inner or self._source.columns[:1], {*numbers} & {*inner}):
            found = dict(zip(inner, batch.columns, strict=False))
            found[self._name] = self._values.slice(start, batch.num_rows)
            start += batch.num_rows
            yield pa.RecordBatch.from_arrays([found[one] for one in columns], names=list(columns))


class Tail:
    """The rows of a source from number `first` on."""

    def __init__(self, source: Source, first: int) -> None:
        self._source, self._first = source, first
        self.name, self.columns = source.name, source.columns
        self.rows = None if source.rows is None else source.rows - first

    def batches(self, columns: Sequence[str], numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in self._source.batches(columns, numbers):
            skipped = min(max(self._first - start, 0), batch.num_rows)
            start += batch.num_rows
            if skipped < batch.num_rows:
                yield batch.slice(skipped)
