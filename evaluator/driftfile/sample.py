"""A bounded sample of a table's rows, spread evenly over it, the same however the rows come in batches.

It carries grids and plots; counts and evidence come from all rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from evaluator.drift.feature import Column
from evaluator.driftfile.column import every, joined

SIZE = 16_384
"""At least so many rows (where there are so many) and fewer than twice as many are kept: a grid's limits at 0.05 % then
rest on eight rows or more."""


class Sample:
    """Every k-th row of columns as they stream by; k doubles so that between `size` and twice as many are kept."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._stride = 1
        self._parts: dict[str, list[Column]] = {}
        self.rows = 0
        self._kept = 0

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """The next `rows` rows; columns are the same in each call."""
        first = -self.rows % self._stride
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(every(values, first, self._stride))
        self.rows += rows
        self._kept += len(range(first, rows, self._stride))
        while self._kept >= 2 * self._size:
            self._parts = {name: [every(joined(parts), 0, 2)] for name, parts in self._parts.items()}
            self._stride *= 2
            self._kept = -(-self._kept // 2)

    def columns(self) -> dict[str, Column]:
        """What is kept."""
        return {name: joined(parts) for name, parts in self._parts.items()}
