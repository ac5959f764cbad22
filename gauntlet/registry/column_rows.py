"""Rows stored by column: usable as a sequence of mappings, or as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class ColumnRows(Sequence[Mapping[str, Any]]):
    """Rows of features. A column is float64, NaN where there is no number, or objects: texts, None where there is none.

    A row is made when it is asked for, with None in the place of NaN; a slice copies nothing.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self.columns = dict(columns)

    def __len__(self) -> int:
        return max(map(len, self.columns.values()), default=0)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> ColumnRows: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | ColumnRows:
        if isinstance(at, slice):
            return ColumnRows({name: values[at] for name, values in self.columns.items()})
        place = range(len(self))[at]
        return next(iter(self[place : place + 1]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in zip(*self.lists().values(), strict=True):
            yield dict(zip(self.columns, row, strict=True))

    def __add__(self, more: ColumnRows) -> ColumnRows:
        """These rows and then `more` of the same columns."""
        return ColumnRows({name: np.concatenate([kept, more.columns[name]]) for name, kept in self.columns.items()})

    def lists(self) -> dict[str, list[Any]]:
        """Each column as Python values, None where there is none."""
        return {name: _listed(values) for name, values in self.columns.items()}


def _listed(values: NDArray[Any]) -> list[Any]:
    found: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        for row in np.flatnonzero(np.isnan(values)).tolist():
            found[row] = None
    return found
