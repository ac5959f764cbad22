"""Which columns are watched, and what has to be said about those that are not.

Columns are judged on the reference; explicit names always win over what a column looks like.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluator.driftfile.result import Finding
from evaluator.driftfile.settings import DriftRequestError, Settings
from evaluator.driftfile.survey import Survey
from gauntlet.table import Table

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
