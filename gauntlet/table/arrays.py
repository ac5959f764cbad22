"""Arrow arrays as numbers and texts: their kinds, their one spelling, and their way into numpy."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gauntlet.spelling import canonical
from gauntlet.table.sources import NULLS

_TRUTHS = {"true": "1", "false": "0"}
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def plain(values: pa.Array) -> pa.Array:
    """The array without dictionary encoding; lengths of time become seconds."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_duration(values.type):
        return pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), _PER_SECOND[values.type.unit])
    return values


def is_text(values: pa.Array) -> bool:
    kind = values.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def number_type(values: pa.Array) -> bool:
    kind = values.type
    if is_text(values):
        return cast(values, pa.float64()) is not None
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def kind_of(values: pa.Array) -> Literal["number", "text"]:
    values = plain(values)
    if pa.types.is_boolean(values.type) or number_type(values):
        return "number"
    return "number" if is_text(values) and number_type(spelled(values)) else "text"


def spelled(values: pa.Array) -> pa.Array:
    """Texts as numbers are written: no spaces around them, truth values as 1 and 0, lengths of time as seconds, null
    for what stands for none."""
    coded = values.dictionary_encode()
    texts = ("" if text is None else canonical(text.strip()) for text in coded.dictionary.to_pylist())
    known = [_TRUTHS.get(text, None if text in NULLS else text) for text in texts]
    return strings(known).take(coded.indices)


_LARGEST_EXACT = 2**53
_MANY_DIGITS = re.compile(r"[+-]?[1-9]\d{15,}", re.ASCII)


def beyond_doubles(values: pa.Array) -> bool:
    """Whether whole numbers are so large that float64 takes neighbours for one number, as identifiers often are."""
    values = plain(values)
    if pa.types.is_integer(values.type):
        return cast(values, pa.float64()) is None
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.string())
    texts = values.dictionary_encode().dictionary.to_pylist() if is_text(values) else ()
    return any(text and _MANY_DIGITS.fullmatch(text) and abs(int(text)) > _LARGEST_EXACT for text in texts)


# `pa.array`, `pa.scalar` and `to_numpy` import pandas, half a second, to see whether they were given anything of it.


def strings(values: Sequence[str | None]) -> pa.Array:
    """As `pa.array`."""
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


@functools.cache
def _nan() -> pa.Scalar:
    return pc.cast(strings(["nan"]), pa.float64())[0]


def floats(values: pa.Array) -> NDArray[np.float64]:
    """As `to_numpy`: NaN where there is no number."""
    return np.asarray(np.from_dlpack(pc.fill_null(values, _nan()) if values.null_count else values), dtype=np.float64)


def cast(values: pa.Array, target: pa.DataType) -> pa.Array | None:
    """None where a value cannot be cast."""
    try:
        return pc.cast(values, target)
    except pa.ArrowInvalid:
        return None


def first_uncastable(values: pa.Array, target: pa.DataType) -> int:
    """The index of the first value that cannot be cast, given that one cannot; by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        if cast(values[low:middle], target) is not None:
            low = middle
        else:
            high = middle
    return low
