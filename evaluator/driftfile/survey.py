"""What the columns of a table are: numbers or texts, and which of them describe no distribution at all.

Judged by the first rows alone, so that a column of times or identifiers is never read in full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from evaluator.driftfile.reader import KIND_ROWS, number_in
from gauntlet.table import Codes, Table, TableError

COUNTER = "counter"
FEWEST = 50
"""Rows below which a column of all different or ever rising values may be chance."""
_IDENTIFIER = 0.5
"""Distinct texts per present row from which a column names rows rather than describes them."""
_MOSTLY = 0.9
"""Share of texts that are numbers from which the others are bad cells in a column of numbers."""
_TIME = re.compile(r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?)?\s*$")


@dataclass(frozen=True, slots=True)
class Survey:
    """Names of the columns of numbers and of texts, in the table's order, and those left out with kind and reason."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    left_out: dict[str, tuple[str, str]]


def survey(table: Table, rows: int = KIND_ROWS) -> Survey:
    """Judge the columns by the first `rows` rows. Raises TableError for a table without rows."""
    kinds = table.kinds(rows)
    numbers: list[str] = []
    texts: list[str] = []
    left_out: dict[str, tuple[str, str]] = {}
    always_rising = rising(table, [name for name in table.columns if kinds[name] == "number"], rows)
    for name in table.columns:
        if kinds[name] == "number":
            numbers.append(name)
            if name in always_rising:
                left_out[name] = (COUNTER, "rises with every row: a time or a counter, not a distribution")
            continue
        try:
            codes = next(iter(table.chunks([], [name], rows=rows))).texts[name]
        except TableError as error:
            left_out[name] = ("unreadable", str(error))
            continue
        (numbers if _mostly_numbers(codes) else texts).append(name)
        reason = _names_rows(codes)
        if reason is not None:
            left_out[name] = reason
    return Survey(tuple(numbers), tuple(texts), left_out)


def rising(table: Table, names: list[str], rows: int = KIND_ROWS) -> set[str]:
    """Those of the columns of numbers that rise from each of the first rows to the next."""
    if not names:
        return set()
    chunk = next(iter(table.chunks(names, [], rows=rows)))
    if chunk.rows < FEWEST:
        return set()
    columns = {name: chunk.numbers[name] for name in names}
    return {name for name, values in columns.items() if bool((values[1:] > values[:-1]).all())}


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
        return "identifier", f"has {share}: it names rows rather than describes them"
    return None
