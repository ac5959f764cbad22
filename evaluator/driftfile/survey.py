"""What the columns of a table are: numbers or texts, and which of them describe no distribution at all.

Judged by the first rows alone, so that a column of times or identifiers is never read in full.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evaluator.driftfile.counter import FEWEST, IDENTIFIER, Traits, traits
from evaluator.driftfile.reader import KIND_ROWS, number_in
from gauntlet.table import Codes, Table, TableError

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
