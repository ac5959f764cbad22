"""Columns of a table: their schema, the counters and identifiers among them, and the selection that is watched.

All is judged by the first rows, so that a column of timestamps or identifiers is never read in full. A counter or an
identifier never ends or is new in every row: its distribution says nothing of the data. Names in the settings always
win over what a column looks like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from evaluator.drift.grid import Floats
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.scan import SCHEMA_ROWS, parse_time
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from gauntlet.clock import parse_timestamp
from gauntlet.spelling import did_you_mean, folded, number_hint, parse_number, unit
from gauntlet.table import Codes, Table, TableError


class Exclusion(NamedTuple):
    """Why a column is left out: the kind of its finding, the reason, and whether the answer is none the poorer."""

    kind: str
    reason: str
    judged: bool = True


COUNTER = Exclusion("counter", "rises with the rows: a time or a counter, not a distribution")
IDENTIFIER = Exclusion("identifier", "has another whole number in every row: it names rows rather than describes them")
_TIMESTAMP = Exclusion("timestamp", "holds times, which have no distribution to keep; named, it is judged as numbers")

_FEWEST = 50  # rows below which a column of distinct or ever rising values may be chance
_STEPS = 10
"""Distinct values from which a column that never falls may be a counter: a switch that was turned once is none."""
_OFTEN = 0.2
"""Distinct values for each row of a counter whose rows share values; a sorted feature of whole numbers has fewer."""
_DENSE = 10.0  # range over number of distinct whole numbers up to which they were given out in turn
_NEW = 0.5  # share of numbers that the reference's first rows don't have from which they are new in every row
_KOLMOGOROV = 1.63
"""99 % point of Kolmogorov's distribution, for values drawn evenly from a range, as random identifiers are."""
_DISTINCT_TEXTS = 0.5  # distinct texts for each present row from which they identify rows
_MOSTLY = 0.9  # share of texts that are numbers, or times, from which the others are bad cells of such a column
_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?", re.ASCII)
_HALF = 0.5  # share of texts that are numbers from which it is told that they are judged as texts
_UNITS = 3  # units that one column's numbers are written with; 12 Oak and 7 Elm are addresses
_DIGIT = re.compile(r"\d")
_TEXTS_TRIED = 1000
_LISTED = 20
_REASONS = 3  # columns left out that a refusal names


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """Order and distinctness of the first numbers of a column; all false for few of them, or where one is missing."""

    values: Floats
    rises: bool = False
    """They never fall."""
    steps: bool = False
    """Their distinct values lie whole and equal steps apart."""
    whole: bool = False
    """They are whole numbers, many of them distinct."""
    identifies: bool = False
    """They are whole, all distinct, and fill their range or spread evenly over it."""

    @classmethod
    def of(cls, values: Floats) -> ColumnStats:
        """Statistics of a column from its first values."""
        if len(values) < _FEWEST or not np.isfinite(values).all():
            return cls(values)
        distinct = np.unique(values)
        if len(distinct) < _STEPS:
            return cls(values)
        whole = bool((distinct == np.round(distinct)).all()) and len(distinct) >= _OFTEN * len(values)
        gaps = np.diff(distinct)
        identifies = whole and len(distinct) == len(values) and (_is_dense(distinct) or _is_even(distinct))
        return cls(values, _never_falls(values), whole and bool((gaps == gaps[0]).all()), whole, identifies)

    @property
    def few(self) -> bool:
        """Whether there are too few values to judge."""
        return len(self.values) < _FEWEST

    def exclusion(self, *, ordered: bool = True) -> Exclusion | None:
        """Why a column of one table is left out, None for a feature."""
        if ordered and self.rises:
            return COUNTER
        return IDENTIFIER if self.identifies else None

    def exclusion_beside(self, now: ColumnStats | None, *, ordered: bool) -> Exclusion | None:
        """Why a column of two tables is left out, as far as their first rows tell; `now` is None where the current
        table has no such numbers."""
        few = now is None or now.few
        if ordered and self.rises and self.steps and (few or (now is not None and now.whole)):
            return COUNTER
        if not self.identifies:
            return None
        if now is not None and not few:
            new = 1 - float(np.isin(now.values, self.values).mean())
            if not (now.identifies and (new >= _NEW or (self.steps and now.steps))):
                return None
        return self.exclusion(ordered=ordered)

    def continues(self, end: float) -> bool:
        """Whether these rows begin where the reference, which rises up to `end`, ended."""
        rises = self.rises or (self.few and _never_falls(self.values))
        return (rises or self.whole) and bool(self.values.min() >= end)


def _never_falls(values: Floats) -> bool:
    return bool((np.diff(values) >= 0).all())


def _is_dense(distinct: Floats) -> bool:
    return bool(distinct[-1] - distinct[0] < _DENSE * len(distinct))


def _is_even(distinct: Floats) -> bool:
    """Kolmogorov's test of sorted distinct values against the uniform distribution over their range."""
    places = (distinct - distinct[0]) / (distinct[-1] - distinct[0])
    distance = np.abs(places - np.linspace(0, 1, len(places))).max()
    return bool(distance <= _KOLMOGOROV / math.sqrt(len(places)))


def column_stats(table: Table, names: Sequence[str], rows: int = SCHEMA_ROWS) -> dict[str, ColumnStats]:
    """Statistics of these columns of numbers, by name, from the first `rows` rows."""
    if not names:
        return {}
    chunk = next(iter(table.chunks(names, [], rows=rows)))
    return {name: ColumnStats.of(chunk.numbers[name]) for name in names}


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """Columns of numbers, of texts and of times in the table's order, those left out, remarks on others, and statistics
    of those that hold nothing but numbers."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    times: tuple[str, ...]
    left_out: Mapping[str, Exclusion]
    remarks: Mapping[str, str]
    stats: Mapping[str, ColumnStats]


def column_schema(table: Table, rows: int = SCHEMA_ROWS) -> ColumnSchema:
    """The columns and their types, by the first `rows` rows. Raises TableError for a table without rows."""
    kinds, huge = table.kinds(rows), table.beyond_doubles(rows)
    numbers: list[str] = []
    texts: list[str] = []
    times: list[str] = []
    left_out: dict[str, Exclusion] = {}
    remarks: dict[str, str] = {}
    first = _first_codes(table, [name for name in table.columns if kinds[name] == "text" or name in huge], rows)
    for name in table.columns:
        codes = first.get(name)
        if not name:
            left_out[name] = Exclusion("unreadable", f"{table.name}: a column has no name (an index?): give it one")
            continue
        if kinds[name] == "number" and not (name in huge and _are_names(codes)):
            numbers.append(name)
            continue
        if codes is None or isinstance(codes, TableError):
            left_out[name] = Exclusion("unreadable", str(codes))
            continue
        written = _numbers_in(codes)
        if (reason := _unreadable(codes, *written)) is not None:
            left_out[name] = Exclusion("unreadable", f"{table.name}: column {name!r} {reason}", judged=False)
            continue
        of_numbers, of_times = (name not in huge and _mostly(codes, parse) for parse in (parse_number, parse_time))
        (numbers if of_numbers else times if of_times else texts).append(name)
        exclusion = _text_exclusion(codes)
        if exclusion is not None:
            left_out[name] = exclusion
        elif name in texts and name not in huge and (remark := _as_texts(codes, *written)) is not None:
            remarks[name] = remark
    stats = column_stats(table, [name for name in table.columns if kinds[name] == "number"], rows)
    return ColumnSchema(tuple(numbers), tuple(texts), tuple(times), left_out, remarks, stats)


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


def _are_names(codes: Codes | TableError | None) -> bool:
    """Whether whole numbers above 2^53 are names: they repeat, or float64 can't tell them apart. Others are times."""
    if codes is None or isinstance(codes, TableError):
        return False
    present, distinct = int((codes.codes >= 0).sum()), len(codes.values)
    return distinct < _DISTINCT_TEXTS * present or len({parse_number(text) for text in codes.values}) < distinct


def _mostly(codes: Codes, parse: Callable[[str], float | None]) -> bool:
    present = codes.codes[codes.codes >= 0]
    parsed = np.array([parse(value) is not None for value in codes.values])
    return len(present) > 0 and bool(parsed[present].mean() >= _MOSTLY)


def _text_exclusion(codes: Codes) -> Exclusion | None:
    present, distinct = int((codes.codes >= 0).sum()), len(codes.values)
    if present and all(math.isfinite(parse_timestamp(value)) for value in codes.values[:_TEXTS_TRIED]):
        return _TIMESTAMP
    if present >= _FEWEST and distinct >= _DISTINCT_TEXTS * present:
        reason = f"has {distinct:,} different values in its first {present:,}: it names rows rather than describes them"
        return Exclusion(IDENTIFIER.kind, reason)
    return None


def _unreadable(codes: Codes, plain: float, written: float, hinted: Sequence[str]) -> str | None:
    """Why a column is one of numbers as people write them, which can't be read; None for others, and for the few
    values that are told apart as texts as well."""
    if not hinted or plain >= _MOSTLY or plain + written < _MOSTLY:
        return None
    if len({unit(text) for text in hinted} - {""}) > _UNITS:
        return None
    present = int((codes.codes >= 0).sum())
    few = present < _FEWEST or len(codes.values) < _DISTINCT_TEXTS * present
    if few and not all(map(_COMMA.fullmatch, codes.values)):
        return None
    return f"holds {hinted[0]!r}, which is not a number; {number_hint(hinted[0])}"


def _as_texts(codes: Codes, plain: float, written: float, hinted: Sequence[str]) -> str | None:
    """What is to know of texts that are mostly numbers; None of others, and where few values differ."""
    if plain + written < _HALF or len(codes.values) <= _STEPS or len({unit(text) for text in hinted}) > _UNITS:
        return None
    told = "is judged as texts, whose order and distances say nothing"
    if hinted:
        return f"{told}: it holds {hinted[0]!r}; {number_hint(hinted[0])}"
    other = next(text for text in codes.values if parse_number(text) is None)
    return f"{told}: {1 - plain:.1%} of its cells are no numbers, such as {other!r}; leave those without one empty"


def _numbers_in(codes: Codes) -> tuple[float, float, list[str]]:
    """The share of the present cells that are numbers, that of numbers as people write them, and the latter."""
    present = codes.codes[codes.codes >= 0]
    if not len(present):
        return 0.0, 0.0, []
    plain = np.array([parse_number(text) is not None for text in codes.values], dtype=np.bool_)
    hinted = [
        not one and _DIGIT.search(text) is not None and bool(number_hint(text))
        for text, one in zip(codes.values, plain, strict=True)
    ]
    written = [text for text, one in zip(codes.values, hinted, strict=True) if one]
    return float(plain[present].mean()), float(np.array(hinted)[present].mean()), written


@dataclass(frozen=True, slots=True)
class ColumnSelection:
    """features: watched columns in the table's order; numbers, texts, times: how they and other roles are read."""

    features: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    times: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def read_as(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Columns to read as numbers, as texts and as times."""
        return self.numbers, self.texts, self.times

    def excluding(
        self, exclusions: Mapping[str, Exclusion], settings: DriftFileSettings, table: str
    ) -> ColumnSelection:
        """The selection without some features; those that the settings name stay. Raises DriftRequestError when none is
        left."""
        if settings.features is not None:
            return self
        left_out = {name: exclusion for name, exclusion in exclusions.items() if name in self.features}
        features = tuple(name for name in self.features if name not in left_out)
        _require_columns(features, settings, table, left_out)
        numbers = tuple(name for name in self.numbers if name not in left_out)
        findings = (*self.findings, *_left_out_findings(left_out))
        return replace(self, features=features, numbers=numbers, findings=findings)


def select_columns(reference: Table, schema: ColumnSchema, settings: DriftFileSettings) -> ColumnSelection:
    """Choose the columns that are read: the asked features, else all that can be watched, and those with a role.

    Raises DriftRequestError for a name that the reference has no column for, or when nothing is left to watch.
    """
    roles = [name for name in (settings.target, settings.prediction, settings.time) if name is not None]
    for name in (*(settings.features or ()), *roles):
        if name not in reference.columns:
            hint = did_you_mean(name, reference.columns) or f"it has {_listed(reference.columns)}"
            parts = [f"{reference.name}: there is no column {name!r}", hint, reference.delimiter_hint]
            raise DriftRequestError("; ".join(part for part in parts if part))
        if name in schema.left_out and schema.left_out[name].kind == "unreadable":
            raise DriftRequestError(schema.left_out[name].reason)
    findings: tuple[Finding, ...] = ()
    features = settings.features
    if features is None:
        candidates = [name for name in reference.columns if name not in roles]
        features = tuple(name for name in candidates if name not in schema.left_out)
        findings = _left_out_findings({n: schema.left_out[n] for n in candidates if n in schema.left_out})
    _require_columns(features, settings, reference.name, schema.left_out, reference.delimiter_hint)
    remarks = (Finding("judged_as_texts", n, f"{n} {schema.remarks[n]}") for n in features if n in schema.remarks)
    read, times = {*features, *roles}, {*schema.times} - {settings.time}
    texts = {*schema.texts, settings.time} - {*schema.numbers}
    return ColumnSelection(
        features,
        tuple(name for name in schema.numbers if name in read),
        tuple(name for name in reference.columns if name in read & texts),
        tuple(name for name in reference.columns if name in read & times),
        (*findings, *remarks, *_delimiter_findings(reference)),
    )


def _require_columns(
    features: Sequence[str], settings: DriftFileSettings, table: str, left_out: Mapping[str, Exclusion], hint: str = ""
) -> None:
    if not features and settings.target is None and settings.prediction is None:
        reasons = [f"{name}: {one.reason}" if name else one.reason for name, one in list(left_out.items())[:_REASONS]]
        more = [f"and {len(left_out) - _REASONS} more"] if len(left_out) > _REASONS else []
        parts = ["no column is left to watch; name some with features", hint, *reasons, *more]
        raise DriftRequestError(f"{table}: {'; '.join(part for part in parts if part)}")


def _left_out_findings(left_out: Mapping[str, Exclusion]) -> tuple[Finding, ...]:
    return tuple(
        Finding(one.kind, name or None, f"left out: {one.reason}", judged=one.judged) for name, one in left_out.items()
    )


def column_findings(reference: Table, current: Table, settings: DriftFileSettings) -> list[Finding]:
    """On columns that only one side has; on missing features the drift rules raise signals."""
    findings = _delimiter_findings(current)
    if settings.target is not None and settings.target not in current.columns:
        message = f"{current.name} has no column {settings.target!r}: there are no labels yet"
        findings.append(Finding("no_target", settings.target, message))
    if settings.time is not None and settings.time not in current.columns:
        message = f"{current.name} has no column {settings.time!r}: nothing is said of times"
        findings.append(Finding("column_gone", settings.time, message))
    gone = {_bare(name): name for name in reference.columns if name not in current.columns}
    asked = {*(settings.features or ()), settings.target, settings.prediction, settings.time}
    extra = [name for name in current.columns if name not in reference.columns]
    if settings.features is not None:
        extra = [name for name in extra if gone.get(_bare(name)) in asked - {None}]
    findings += [_extra(reference.name, name, gone.get(_bare(name))) for name in extra[:_LISTED]]
    if len(extra) > _LISTED:
        findings.append(Finding("column_extra", None, f"{len(extra) - _LISTED} more columns are new"))
    return findings


def _extra(table: str, name: str, twin: str | None) -> Finding:
    """On a column that the reference does not have, or has as its `twin` in another spelling."""
    if name and twin:
        message = f"{table} spells it {twin!r}: if it is the same, rename it, or the model finds none"
        return Finding("respelt_column", name, f"column {name!r} is new, and {message}")
    return Finding("column_extra", name or None, f"{table} has no column {name!r}, so there is nothing to compare")


def _bare(name: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", folded(name))


def type_notes(reference: Table, current: Table, selection: ColumnSelection) -> list[str]:
    """On columns that the two tables keep as other types of numbers or times, which change no value."""
    before, now = reference.types(), current.types()
    changed = [
        f"{name} ({before[name]}, now {now[name]})"
        for name in (*selection.numbers, *selection.times)
        if name in before and name in now and before[name] != now[name] and "null" not in (before[name], now[name])
    ]
    more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
    parts = f"{', '.join(changed[:_LISTED])}{more}"
    note = (
        "of another type than in the reference, and compared by value, at the precision that both have; times without"
    )
    return [f"{parts}: {note} a zone are taken as UTC"] if changed else []


def _delimiter_findings(table: Table) -> list[Finding]:
    hint = table.delimiter_hint
    return [Finding("delimiter", None, f"{table.name} has one column, {table.columns[0]!r}; {hint}")] if hint else []


def _listed(columns: Iterable[str]) -> str:
    names = [repr(name) for name in columns]
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
