"""Parts of a column put together and taken apart, whatever its cells are: arrays of numbers, coded texts or lists.

Columns of numbers that count or name rows, told by the order and the values of their first rows.

They go on for ever or are new with every row, so their distribution says nothing of the data. A feature by which the
file happens to be sorted looks alike at first: a counter goes on where the reference ended, or in equal whole steps.

What the columns of a table are: numbers or texts, and which of them describe no distribution at all.

Judged by the first rows alone, so that a column of times or identifiers is never read in full.

Which columns are watched, and what has to be said about those that are not.

Columns are judged on the reference; explicit names always win over what a column looks like.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded
from evaluator.drift.feature import Column
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.scan import KIND_ROWS, number_in
from evaluator.offline.drift.settings import DriftRequestError, Settings
from gauntlet.table import Codes, Table, TableError


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


_IDENTIFIER = 0.5
"""Distinct texts per present row from which a column names rows rather than describes them."""
_MOSTLY = 0.9
"""Share of texts that are numbers from which the others are bad cells in a column of numbers."""
_TIME = re.compile(r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?)?\s*$")


@dataclass(frozen=True, slots=True)
class Survey:
    """Names of the columns of numbers and of texts, in the table's order, and those left out with kind and reason.

    traits: of the columns that hold nothing but numbers; whether they count rows takes more than this table to tell.
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    left_out: dict[str, tuple[str, str]]
    traits: Mapping[str, Traits] = field(default_factory=dict)


def survey(table: Table, rows: int = KIND_ROWS) -> Survey:
    """Judge the columns by the first `rows` rows. Raises TableError for a table without rows."""
    kinds = table.kinds(rows)
    numbers: list[str] = []
    texts: list[str] = []
    left_out: dict[str, tuple[str, str]] = {}
    first = _first_codes(table, [name for name in table.columns if kinds[name] == "text"], rows)
    for name in table.columns:
        if kinds[name] == "number":
            numbers.append(name)
            continue
        codes = first[name]
        if isinstance(codes, TableError):
            left_out[name] = ("unreadable", str(codes))
            continue
        (numbers if _mostly_numbers(codes) else texts).append(name)
        reason = _names_rows(codes)
        if reason is not None:
            left_out[name] = reason
    found = traits(table, [name for name in table.columns if kinds[name] == "number"], rows)
    return Survey(tuple(numbers), tuple(texts), left_out, found)


def _first_codes(table: Table, names: list[str], rows: int) -> dict[str, Codes | TableError]:
    """The first `rows` rows of columns of texts, read at once, or the error of each one that can't be read."""
    if not names:
        return {}
    try:
        return dict(next(iter(table.chunks([], names, rows=rows))).texts)
    except TableError as error:
        if len(names) == 1:
            return {names[0]: error}
    return {name: codes for one in names for name, codes in _first_codes(table, [one], rows).items()}


def _mostly_numbers(codes: Codes) -> bool:
    present = codes.codes[codes.codes >= 0]
    if not len(present):
        return False
    spelled = np.array([number_in(value) is not None for value in codes.values])
    return bool(spelled[present].mean() >= _MOSTLY)


def _names_rows(codes: Codes) -> tuple[str, str] | None:
    present = int((codes.codes >= 0).sum())
    if present and all(_TIME.match(value) for value in codes.values[:1000]):
        return "timestamp", "holds times, which have no distribution to keep"
    if present >= FEWEST and len(codes.values) >= _IDENTIFIER * present:
        share = f"{len(codes.values):,} different values in its first {present:,}"
        return IDENTIFIER, f"has {share}: it names rows rather than describes them"
    return None


_LISTED = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """features: watched columns in the table's order; numbers, texts: how they, target and prediction are read."""

    features: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    findings: tuple[Finding, ...]

    def without(self, reasons: Mapping[str, tuple[str, str]], settings: Settings, name: str) -> Selection:
        """The same without some features, for these kinds and reasons; asked features stay. Raises DriftRequestError
        when nothing is left to watch in the table `name`."""
        left = {} if settings.features is not None else {n: r for n, r in reasons.items() if n in self.features}
        features = tuple(feature for feature in self.features if feature not in left)
        if not features and settings.target is None and settings.prediction is None:
            raise DriftRequestError(f"{name}: no column is left to watch; name some with features")
        told = tuple(Finding(kind, column, f"left out: {reason}") for column, (kind, reason) in left.items())
        numbers = tuple(number for number in self.numbers if number not in left)
        return replace(self, features=features, numbers=numbers, findings=(*self.findings, *told))


def select(reference: Table, found: Survey, settings: Settings) -> Selection:
    """Raises DriftRequestError for a name that the reference has no column for, or when nothing is left to watch."""
    asked = [
        *(settings.features or ()),
        *(n for n in (settings.target, settings.prediction, settings.time) if n is not None),
    ]
    for name in asked:
        if name not in reference.columns:
            close = difflib.get_close_matches(name, reference.columns, 1, 0.6)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {_named(reference.columns)}"
            raise DriftRequestError(f"{reference.name}: there is no column {name!r}{hint}{_delimiter(reference)}")
        if name in found.left_out and found.left_out[name][0] == "unreadable":
            raise DriftRequestError(found.left_out[name][1])
    roles = {settings.target, settings.prediction, settings.time}
    findings: list[Finding] = []
    if settings.features is not None:
        features = settings.features
    else:
        candidates = [name for name in reference.columns if name not in roles]
        features = tuple(name for name in candidates if name not in found.left_out)
        for name in candidates:
            if name in found.left_out:
                kind, reason = found.left_out[name]
                findings.append(Finding(kind, name, f"left out: {reason}"))
    if not features and settings.target is None and settings.prediction is None:
        raise DriftRequestError(
            f"{reference.name}: no column is left to watch; name some with features{_delimiter(reference)}"
        )
    findings += _joined_columns(reference)
    read = {*features, *roles}
    return Selection(
        features,
        tuple(name for name in found.numbers if name in read),
        tuple(name for name in found.texts if name in read),
        tuple(findings),
    )


def compare_columns(reference: Table, current: Table, settings: Settings) -> list[Finding]:
    """Findings on columns that only one side has; of watched ones the rules themselves tell."""
    findings = _joined_columns(current)
    if settings.target is not None and settings.target not in current.columns:
        message = f"{current.name} has no column {settings.target!r}: there are no labels yet"
        findings.append(Finding("no_target", settings.target, message))
    if settings.time is not None and settings.time not in current.columns:
        message = f"{current.name} has no column {settings.time!r}: nothing is said of times"
        findings.append(Finding("column_gone", settings.time, message))
    if settings.features is None:
        extra = [name for name in current.columns if name not in reference.columns]
        findings += [
            Finding("column_extra", name, f"{reference.name} has no column {name!r}, so there is nothing to compare")
            for name in extra[:_LISTED]
        ]
        if len(extra) > _LISTED:
            findings.append(Finding("column_extra", None, f"{len(extra) - _LISTED} more columns are new"))
    return findings


def _delimiter(table: Table) -> str:
    """A guess why a table has one column only, for the end of a sentence."""
    if len(table.columns) != 1:
        return ""
    found = next((mark for mark in ";\t|" if mark in table.columns[0]), None)
    told = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
    return "" if found is None else f"; is {told[found]} between its columns? only commas are read"


def _joined_columns(table: Table) -> list[Finding]:
    guess = _delimiter(table)
    return [Finding("delimiter", None, f"{table.name} has one column, {table.columns[0]!r}{guess}")] if guess else []


def _named(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns[:_LISTED])) + (", …" if len(columns) > _LISTED else "")
