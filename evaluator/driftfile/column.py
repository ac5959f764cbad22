"""Parts of a column put together and taken apart, whatever its cells are: arrays of numbers, coded texts or lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Column
from evaluator.drift.reading import Coded


def joined(parts: list[Column]) -> Column:
    """Consecutive parts of one column as one; codes of a later part go on from those of the earlier ones."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    if all(isinstance(part, Coded) for part in parts):
        coded = [part for part in parts if isinstance(part, Coded)]
        return Coded(np.concatenate([part.codes for part in coded]), coded[-1].values)
    return [value for part in parts for value in part]


def every(column: Column, first: int, step: int) -> Column:
    """Each `step`-th row from `first` on, without holding on to the others."""
    if isinstance(column, Coded):
        return Coded(column.codes[first::step].copy(), column.values)
    if isinstance(column, np.ndarray):
        return np.array(column[first::step])
    return list(column[first::step])


def taken(column: Column, order: npt.NDArray[np.int64]) -> Column:
    """The column's rows in another order."""
    if isinstance(column, Coded):
        return Coded(column.codes[order], column.values)
    if isinstance(column, np.ndarray):
        return np.asarray(column[order])
    return [column[i] for i in order.tolist()]
