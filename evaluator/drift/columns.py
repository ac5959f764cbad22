"""Input columns (lists, arrays, anything array-like) as numbers or categories.

Each element is read by itself, so that results do not depend on how rows are cut into batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from evaluator.drift.grid import Bools, Floats

Column = Sequence[Any] | npt.NDArray[Any]
_MISSING_TYPES = ("NAType", "NaTType")
_NUMBERS, _STRINGS = {float, int, bool, NoneType}, {str, NoneType}
"""Types of columns that need no look at each element."""
NO_VALUE, NO_STRING = -1, -2
"""Codes of a missing cell, and of one that is not a string."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded(Sequence[str | None]):
    """A dictionary-encoded column of strings: integer codes into the distinct `values`, -1 for missing."""

    codes: npt.NDArray[np.integer[Any]]
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, at: int) -> str | None: ...
    @overload
    def __getitem__(self, at: slice) -> Coded: ...
    def __getitem__(self, at: int | slice) -> str | Coded | None:
        if isinstance(at, slice):
            return Coded(self.codes[at], self.values)
        code = int(self.codes[at])
        return self.values[code] if code >= 0 else None

    def __iter__(self) -> Iterator[str | None]:
        known: tuple[str | None, ...] = (*self.values, None)
        return (known[code] for code in self.codes.tolist())


def _to_list(values: Column) -> list[Any]:
    tolist = getattr(values, "tolist", None)
    return list(tolist()) if tolist is not None else list(values)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def _number(value: Any) -> float | None:
    """The number in `value`; NaN when missing, None when it is something else."""
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        try:
            return float(value)
        except OverflowError:  # an integer beyond every float
            return np.inf if value > 0 else -np.inf
    return np.nan if _is_missing(value) else None


def _types(values: Column) -> set[type]:
    """The types of the elements, of a column of objects; of others, which are looked at in other ways, `object`."""
    return set(map(type, values)) if getattr(values, "dtype", np.object_) == np.object_ else {object}


def read_numbers(values: Column) -> tuple[Floats, Bools | None]:
    """Numbers, NaN where missing, and a mask of the elements of another type, or None when there are none."""
    if _types(values) <= _NUMBERS:
        with contextlib.suppress(OverflowError):  # an integer beyond every float
            return np.array(values, dtype=np.float64), None  # None becomes NaN
    try:
        array = (
            values if isinstance(values, np.ndarray) else np.asarray(values, dtype=None if len(values) else np.float64)
        )
    except ValueError:  # elements that are lists of different lengths: no numbers
        array = np.empty(0, dtype=np.object_)
    if array.ndim == 1 and array.dtype.kind in "fiub":
        return array.astype(np.float64, copy=False), None
    read = [_number(value) for value in _to_list(values)]
    mistyped = np.array([number is None for number in read], dtype=np.bool_)
    numbers = np.array([np.nan if number is None else number for number in read], dtype=np.float64)
    return numbers, mistyped if mistyped.any() else None


def read_categories(values: Column) -> list[str | bool | None]:
    """Strings as they are, None where missing, False for another type."""
    if _types(values) <= _STRINGS:
        return list(values)
    return [value if isinstance(value, str) else (None if _is_missing(value) else False) for value in _to_list(values)]


def encode_strings(values: Column) -> Coded:
    """Strings as codes in order of first occurrence, `NO_VALUE` or `NO_STRING` for other cells."""
    read = read_categories(values)
    found = tuple(value for value in dict.fromkeys(read) if isinstance(value, str))
    codes: dict[str | bool | None, int] = {None: NO_VALUE, False: NO_STRING}
    codes |= {value: code for code, value in enumerate(found)}
    return Coded(np.array([*map(codes.__getitem__, read)], dtype=np.int64), found)


def is_categorical(values: Column) -> bool:
    """Whether most of the present values are strings."""
    if isinstance(values, Coded):
        return True
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return False
    types = _types(values)
    if types <= _NUMBERS or types <= _STRINGS:
        return str in types
    read = read_categories(values)
    present = sum(value is not None for value in read)
    return present > 0 and 2 * sum(isinstance(value, str) for value in read) > present


def batch_rows(columns: Mapping[str, Column]) -> int:
    """Rows of a batch. Raises ValueError when its columns differ in length."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns differ in length: { {name: len(values) for name, values in columns.items()} }")
    return lengths.pop() if lengths else 0
