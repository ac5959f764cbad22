"""Findings about the data itself, beside drift: wrong cells, missing labels, duplicate rows, odd timestamps.

`TimestampStats` and `DuplicateRows` are counted while rows are read. A finding says what the current rows have more
of than the reference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

import numpy as np

from evaluator.drift.columns import Coded, Column, is_categorical, read_categories, read_numbers
from evaluator.drift.data_quality import QualityFinding
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.spelling_variants import RespeltValues
from evaluator.offline.drift.prediction_type import OutcomeCounts, PredictionType
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.settings import FEWEST_VALUES
from evaluator.offline.duplicate_rows import DuplicateRows
from gauntlet.clock import lasting, parse_timestamp
from gauntlet.spelling import apart, difference

_FEW_ROWS = 250  # rows with which only large shifts can be told from chance
_DEPENDENT = 0.1  # independent rows for each row below which a column's dependence is noted; less may be chance
_UNLABELLED = 0.05  # share of rows without a target, above the reference's, from which it is a finding
_JUDGEABLE = 30.0  # independent rows with which a shift of half the reference's rows can just be detected in a stream
_NAMED = 5
_ALARMING = {"column_gone", "type_change", "missing", "infinite", "empty"}

_BAD_TIMES = 0.001  # share of rows, above the reference's, from which unreadable or unordered timestamps are a finding
_DISORDER = 0.25
"""Share of rows earlier than the one before from which there is no order left: in random order it is a half."""
_STILL = 5.0  # times the reference's longest run of one timestamp, and at least `_RUN` rows
_RUN = 20
_GAP = 3.0  # times the reference's longest gap
_CALENDAR = (0.0, 32_503_680_000.0)  # from 1970 to 3000; a number beyond is shown as a number

_DUPLICATES = 0.05  # share of duplicate rows, beyond twice the expected, from which they are a finding
_FEWEST_HASHED = 50


def parse_timestamps(column: Column) -> Floats:
    """Seconds since 1970 (UTC), shape (rows,): numbers are seconds already, texts are ISO 8601; NaN for other cells."""
    if isinstance(column, Coded):
        used, inverse = np.unique(column.codes, return_inverse=True)
        seconds = [math.nan if code < 0 else parse_timestamp(column.values[code]) for code in used.tolist()]
        return np.array(seconds, dtype=np.float64)[inverse]
    if is_categorical(column):
        cells = read_categories(column)
        return np.array([parse_timestamp(cell) if isinstance(cell, str) else math.nan for cell in cells])
    return read_numbers(column)[0]


class TimestampStats:
    """Order, gaps and unreadable cells of a table's timestamps, in seconds; a row without one is NaN."""

    def __init__(self, not_before: float = -math.inf) -> None:
        self.rows = 0
        self.unknown = 0
        """Rows without a timestamp."""
        self.first, self.last = math.inf, -math.inf
        """Earliest and latest timestamp."""
        self.falls = 0
        """Rows that are earlier than the one before."""
        self.run = (0, 0, math.nan)
        """The longest run of rows with one timestamp: its length, its first row, the timestamp."""
        self.gap = (0.0, 0)
        """The longest step from one row to the next, and that next row."""
        self.older = 0
        """Rows earlier than `not_before`."""
        self._not_before = not_before
        self._open_run: tuple[float, int, int] | None = None
        """The last timestamp, how many rows in a row have it, and the first of them."""

    def add(self, seconds: Floats) -> None:
        """The next rows."""
        rows = np.flatnonzero(np.isfinite(seconds))
        known = seconds[rows]
        rows += self.rows
        self.rows += len(seconds)
        self.unknown += len(seconds) - len(known)
        if not len(known):
            return
        self.first, self.last = min(self.first, float(known.min())), max(self.last, float(known.max()))
        self.older += int(np.count_nonzero(known < self._not_before))
        carried = 0
        if self._open_run is not None:
            last, length, start = self._open_run
            known, rows = np.append(last, known), np.append(start, rows)
            carried = length - 1
        steps = np.diff(known)
        self.falls += int(np.count_nonzero(steps < 0))
        if len(steps) and steps.max() > self.gap[0]:
            longest = int(np.argmax(steps))
            self.gap = float(steps[longest]), int(rows[longest + 1])
        starts = np.concatenate([[0], np.flatnonzero(steps != 0) + 1])
        runs = np.diff(np.append(starts, len(known)))
        runs[0] += carried
        longest = int(np.argmax(runs))
        if runs[longest] > self.run[0]:
            self.run = int(runs[longest]), int(rows[starts[longest]]), float(known[starts[longest]])
        self._open_run = float(known[-1]), int(runs[-1]), int(rows[starts[-1]])


def timestamp_findings(column: str, before: TimestampStats, now: TimestampStats, offset: int = 0) -> list[Finding]:
    """On the current rows' timestamps; `offset` is the number of the first current row."""
    findings: list[Finding] = []
    rows, known = max(1, now.rows), max(1, now.rows - now.unknown)

    def add(kind: str, message: str, alarming: bool = False) -> None:
        findings.append(Finding(kind, column, message, alarming))

    if now.unknown / rows > before.unknown / max(1, before.rows) + _BAD_TIMES:
        add("time_unknown", f"{now.unknown:,} of {rows:,} rows have no time that can be read in {column}")
    disorder, usual = now.falls / known, before.falls / max(1, before.rows - before.unknown)
    if disorder > usual + _BAD_TIMES:
        message = f"{disorder:.1%} of rows are earlier than the row before by {column}, {usual:.1%} in the reference"
        add("time_disorder", message, disorder >= _DISORDER > usual and known >= _RUN)
    length, first, at = now.run
    if length > max(_RUN - 1, _STILL * before.run[0]) and before.last > before.first:
        message = (
            f"{column} stands still at {_date(at)} for {length:,} rows from row {first + offset:,} on; at most "
            f"{before.run[0]:,} in the reference"
        )
        add("time_still", message, length == known)
    gap, after = now.gap
    if 0 < _GAP * before.gap[0] < gap:
        message = (
            f"{lasting(gap)} without a row before row {after + offset:,} by {column}; at most "
            f"{lasting(before.gap[0])} in the reference"
        )
        add("time_gap", message)
    if now.older:
        message = (
            f"{now.older:,} of {rows:,} rows are older by {column} than all of the reference, which begins at "
            f"{_date(before.first)}"
        )
        add("time_old", message)
    return findings


def _date(seconds: float) -> str:
    if not _CALENDAR[0] <= seconds <= _CALENDAR[1]:
        return f"{seconds:g}"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duplicate_findings(before: DuplicateRows, now: DuplicateRows) -> list[Finding]:
    """Far more duplicates in the current rows than the reference would have in as many: few values repeat by nature."""
    if now.rows < _FEWEST_HASHED or before.rows < _FEWEST_HASHED:
        return []
    share = now.share(now.rows)
    if share <= _DUPLICATES:
        return []
    # The chance that a row is an old one grows at most as fast as the number of those there are.
    expected = before.share(min(before.rows, now.rows)) * max(1.0, now.rows / before.rows)
    if share <= 2 * expected + _DUPLICATES:
        return []
    message = f"{share:.1%} of rows repeat an earlier one exactly, {min(1.0, expected):.1%} would as in the reference"
    return [Finding("repeated_rows", None, message)]


def unlabelled_findings(target: str, share: float, usual: float) -> list[Finding]:
    """Shares of rows without a target, now and in the reference; never alarming, for labels may still come."""
    if share <= usual + _UNLABELLED:
        return []
    message = (
        f"{share:.1%} of rows have no value of {target}, {usual:.1%} in the reference: what is said of the model "
        "is about the others"
    )
    return [Finding("missing_target", target, message)]


def rule_findings(
    findings: Iterable[QualityFinding], sample: Mapping[str, Column], signalled: Collection[str], replaced: str | None
) -> list[Finding]:
    """Findings of the drift rules on two tables. signalled: columns with a raised signal. replaced: a column whose
    change of type has a finding of its own."""
    return [
        Finding(f.kind, f.feature or None, f.text, f.kind in _ALARMING and f.feature in signalled, f.kind != "few_rows")
        for f in findings
        if (f.feature or f.kind == "few_rows")
        and (f.kind != "constant" or _is_constant(sample.get(f.feature)))
        and not (f.kind == "type_change" and f.feature == replaced)
    ]


def _is_constant(values: Column | None) -> bool:
    """Whether all sampled values are equal: those beyond the reference's range share one slot of its grid."""
    return values is not None and len({v for v in list(values) if v is not None and v == v}) <= 1


def few_rows_findings(reference_rows: int, rows: int) -> list[Finding]:
    """Tables whose rows are few and yet enough to be judged."""
    return [
        Finding("few_rows", None, f"{count} {side} rows: only large shifts can be told from chance")
        for side, count in (("reference", reference_rows), ("current", rows))
        if FEWEST_VALUES <= count < _FEW_ROWS
    ]


def outcome_findings(
    before: PredictionType, now: OutcomeCounts, rows: int, signalled: Collection[str], known: Collection[str | None]
) -> list[Finding]:
    """Cells of target and prediction that can be neither, and targets that are missing, in the `rows` of a table;
    `known` are columns of which another finding says so."""
    findings: list[Finding] = []
    target = before.settings.target
    for name, unusable in now.unusable.items():
        kind = "labels in another spelling than the reference's" if before.labels else "not as in the reference"
        if before.scored:
            kind = "not of the reference's classes" if name == target else "not a number from 0 to 1"
        if name == before.settings.prediction and now.mismatched:
            unusable, kind = now.mismatched, before.mismatch
        sample = now.samples.get(name, frozenset())
        respelt = difference(sample, before.written)
        if respelt:
            kind += f" ({apart(sample, before.written)})"
        if unusable and (respelt or name not in known):
            message = f"{unusable} of {rows} values of {name} are {kind}: nothing is judged by them"
            findings.append(Finding("type_change", name, message, name in signalled))
    if target is not None and target in now.unusable:
        if not now.targets:
            message = f"no row has a value of {target!r}: there are no labels yet"
            findings.append(Finding("no_target", target, message))
        elif before.unlabelled is not None:
            findings += unlabelled_findings(target, 1 - now.targets / rows, before.unlabelled)
    return findings


def stream_outcome_findings(before: PredictionType, now: OutcomeCounts) -> list[Finding]:
    """Cells of target and prediction in a stream that can be neither; without both columns only mismatched ones."""
    findings: list[Finding] = []
    roles = {before.settings.target: "target", before.settings.prediction: "prediction"}
    for name, unusable in now.unusable.items():
        kind = f"none that a {roles[name]} can have" + (", or in another spelling" if before.labels else "")
        mismatched = name == before.settings.prediction and now.mismatched > 0
        if mismatched:
            unusable, kind = now.mismatched, before.mismatch
        if unusable and (mismatched or before.kind is not None):
            message = f"{unusable:,} values of {name} are {kind}: left out"
            findings.append(Finding("type_change", name, message, alarming=True))
    return findings


def respelt_findings(respelt: RespeltValues, outcomes: OutcomeCounts, signalled: Collection[str]) -> list[Finding]:
    """On values that the reference spells otherwise; of labels that nothing is judged by another finding says so."""
    return [
        Finding("respelt_values", one.column, str(one), one.column in signalled)
        for one in respelt.found()
        if not outcomes.unusable.get(one.column)
    ]


def dependence_notes(profile: Profile) -> list[str]:
    """On features of two tables whose neighbouring rows add little information to each other."""
    dependent = [f.name for f in profile.features if f.present and f.shape[0].efficiency < _DEPENDENT]
    if not dependent:
        return []
    names = ", ".join(dependent[:_NAMED]) + (", …" if len(dependent) > _NAMED else "")
    return [
        f"neighbouring rows of the reference depend on each other in {len(dependent)} columns ({names}): "
        "rows are weighed accordingly; if the order of rows means nothing, say so (unordered)"
    ]


def weak_window_notes(profile: Profile) -> list[str]:
    """On features of a stream whose windows, however long, are worth next to no independent rows."""
    worth = {
        f.name: max(window * one.efficiency for window, one in zip(profile.windows, f.shape, strict=True))
        for f in profile.features
        if f.present
    }
    weak = sorted((rows, name) for name, rows in worth.items() if rows < _JUDGEABLE)
    if not weak:
        return []
    names = ", ".join(f"{name}: {max(1, round(rows))}" for rows, name in weak[:_NAMED])
    return [
        f"neighbouring rows of the reference depend on each other so much in {len(weak)} columns that even the "
        f"{profile.windows[-1]:,} rows of the longest window are worth few independent ones "
        f"({names}{', …' if weak[_NAMED:] else ''}): there only what is far outside will be told; a season, or fewer "
        "rows with more time between them, may say more"
    ]
