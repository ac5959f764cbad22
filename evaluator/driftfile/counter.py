"""Columns of numbers that count or name rows, told by the order and the values of their first rows.

They go on for ever or are new with every row, so their distribution says nothing of the data. A feature by which the
file happens to be sorted looks alike at first: a counter goes on where the reference ended, or in equal whole steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluator.driftfile.reader import KIND_ROWS
from gauntlet.table import Table

Floats = npt.NDArray[np.float64]

COUNTER, IDENTIFIER = "counter", "identifier"
COUNTS = "rises with the rows: a time or a counter, not a distribution"
NAMES = "has another whole number in every row: it names rows rather than describes them"
FEWEST = 50
"""Rows below which a column of all different or ever rising values may be chance."""
_STEPS = 10
"""Distinct values from which never falling means something: a switch that was turned once is no counter."""
_OFTEN = 0.2
"""Distinct values a row of a counter whose rows share values; a sorted feature of whole numbers has fewer."""
_DENSE = 10.0
"""Range of the values over their number up to which whole numbers without a repetition were given out in turn."""
_NEW = 0.5
"""Share of numbers that the first rows of the reference have not from which they are new with every row."""
_EVEN = 1.63
"""Kolmogorov's 99 % point, of values that are drawn evenly from a range, as random identifiers are."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the first values of a column look like.

    rises: they never fall. steps: their distinct values lie whole and equal steps apart. whole: they are whole numbers,
    many of them distinct. names: they are whole, all distinct, and fill or spread evenly over their range.
    """

    rises: bool
    steps: bool
    whole: bool
    names: bool
    values: Floats

    @classmethod
    def of(cls, values: Floats) -> Traits:
        """Of the first values; all is false for less than `FEWEST` or where one is missing."""
        none = cls(False, False, False, False, values)
        if len(values) < FEWEST or not np.isfinite(values).all():
            return none
        distinct = np.unique(values)
        if len(distinct) < _STEPS:
            return none
        integers = bool((distinct == np.round(distinct)).all())
        whole = integers and len(distinct) >= _OFTEN * len(values)
        gaps = np.diff(distinct)
        names = whole and len(distinct) == len(values) and (_dense(distinct) or _evenly(distinct))
        return cls(bool((np.diff(values) >= 0).all()), whole and bool((gaps == gaps[0]).all()), whole, names, values)


def traits(table: Table, names: Sequence[str], rows: int = KIND_ROWS) -> dict[str, Traits]:
    """Of some columns of numbers of a table."""
    if not names:
        return {}
    chunk = next(iter(table.chunks(names, [], rows=rows)))
    return {name: Traits.of(chunk.numbers[name]) for name in names}


def alone(column: Traits, *, ordered: bool = True) -> tuple[str, str] | None:
    """Kind and reason where a column of one table in time order counts or names rows."""
    if ordered and column.rises:
        return COUNTER, COUNTS
    return (IDENTIFIER, NAMES) if column.names else None


def between(before: Traits, now: Traits | None, *, ordered: bool) -> tuple[str, str] | None:
    """Kind and reason where a column of two tables counts or names rows, as far as their first rows tell; `now` is None
    where the other table has no such numbers."""
    few = now is None or len(now.values) < FEWEST
    if ordered and before.rises and before.steps and (few or (now is not None and now.whole)):
        return COUNTER, COUNTS
    if not before.names:
        return None
    told = (COUNTER, COUNTS) if ordered and before.rises else (IDENTIFIER, NAMES)
    if now is None or few:
        return told
    new = 1 - float(np.isin(now.values, before.values).mean())
    return told if now.names and (new >= _NEW or (before.steps and now.steps)) else None


def goes_on(end: float, now: Traits) -> bool:
    """Whether the current rows begin where the reference, which rises up to `end`, ended."""
    rises = now.rises or (len(now.values) < FEWEST and bool((np.diff(now.values) >= 0).all()))
    return (rises or now.whole) and bool(now.values.min() >= end)


def _dense(distinct: Floats) -> bool:
    return bool(distinct[-1] - distinct[0] < _DENSE * len(distinct))


def _evenly(distinct: Floats) -> bool:
    """Whether distinct values, in order, lie as evenly as random ones do."""
    places = (distinct - distinct[0]) / (distinct[-1] - distinct[0])
    off = np.abs(places - np.linspace(0, 1, len(places))).max()
    return bool(off <= _EVEN / np.sqrt(len(places)))
