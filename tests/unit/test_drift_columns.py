"""A column is read as its cells are, one by one: a column of one type has a way of its own that must not show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluator.drift.columns import NO_STRING, NO_VALUE, encode_strings, is_categorical, read_categories, read_numbers

NUMBERS = [1, -2, 2**80, 10**400, 1.5, math.nan, math.inf, True]
TEXTS = ["a", "b", "", "nan"]
OTHERS = [b"x", [1], np.float64(2.5), np.datetime64("NaT")]


@given(
    st.one_of(
        *(st.lists(st.sampled_from([*cells, None]), max_size=6) for cells in (NUMBERS, TEXTS, NUMBERS + TEXTS + OTHERS))
    )
)
def test_a_column_is_read_as_its_cells_are(values: list[Any]) -> None:
    numbers, wrong = read_numbers(values)
    alone = [read_numbers([value]) for value in values]
    assert np.array_equal(numbers, [number[0] for number, _ in alone], equal_nan=True)
    marked = [False] * len(values) if wrong is None else wrong.tolist()
    assert marked == [mask is not None for _, mask in alone]
    cells = [read_categories([value])[0] for value in values]
    assert read_categories(values) == cells
    coded = encode_strings(values)
    special = {NO_VALUE: None, NO_STRING: False}
    assert [coded.values[code] if code >= 0 else special[code] for code in coded.codes.tolist()] == cells
    assert is_categorical(values) == (2 * sum(isinstance(c, str) for c in cells) > sum(c is not None for c in cells))
