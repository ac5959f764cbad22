"""Batches of a table as they pass, without the column of times, and what they say of times and of repeated rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from evaluator.driftfile.clock import Clock
from evaluator.driftfile.moment import seconds
from evaluator.driftfile.reader import Batch
from evaluator.driftfile.repeats import Repeats


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
