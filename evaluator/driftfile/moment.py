"""When rows were: a column of numbers or texts as seconds since 1970 (UTC); a cell that is no time has none (NaN)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Column
from evaluator.drift.reading import Coded, is_categorical, read_categories, read_numbers
from gauntlet.clock import moment


def seconds(column: Column) -> npt.NDArray[np.float64]:
    """Numbers are seconds already; texts are ISO 8601, in UTC where they name no zone. Shape (rows,)."""
    if isinstance(column, Coded):
        used, inverse = np.unique(column.codes, return_inverse=True)
        each = [math.nan if code < 0 else moment(column.values[code]) for code in used.tolist()]
        return np.array(each, dtype=np.float64)[inverse]
    if is_categorical(column):
        return np.array([moment(text) if isinstance(text, str) else math.nan for text in read_categories(column)])
    return read_numbers(column)[0]
