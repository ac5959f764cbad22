"""Values that the reference knows in another spelling: case, surrounding spaces, or Unicode form.

To a model they are new values; to a reader of a report they are the old ones. Distances count them as unseen; this
module says which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.drift.columns import Coded, Column, batch_rows
from evaluator.drift.profile import Profile
from evaluator.drift.state import Stateful

BLOCK = 1000
"""Rows of which a stream's latest one or two blocks are remembered."""
_LEAST_SHARE = 0.001
"""Of the rows, from which respelt values are told: a few are typing errors."""
_NAMED = 3
_MOST_VALUES = 1000
"""Distinct respelt values kept of a column."""
_MOST_TEXTS = 100_000
"""Distinct texts of a column whose spelling is remembered."""


@dataclass(frozen=True, slots=True)
class Respelt:
    """A column with `count` values of `rows` rows in another spelling, and some of them."""

    column: str
    count: int
    rows: int
    examples: tuple[tuple[str, str], ...]
    """Each as it is spelt and as the reference spells it, the most frequent first."""

    def __str__(self) -> str:
        said = ", ".join(f"{value!r} for {known!r}" for value, known in self.examples)
        return (
            f"{self.count:,} of {self.rows:,} values of {self.column} are the reference's in another spelling: {said}"
        )


class RespeltValues(Stateful):
    """Counts respelt values by column: over all rows, or with `latest` over the latest one or two of a stream."""

    def __init__(self, profile: Profile, form: Callable[[str], str], *, latest: bool = False) -> None:
        """form: what all spellings of a value have in common."""
        self._form, self._latest = form, latest
        self._known = {
            feature.name: dict.fromkeys(feature.grid.categories)
            for feature in profile.features
            if feature.grid.kind == "categories"
        }
        self._respelt: dict[str, dict[str, str]] = {}
        """By column, the reference's values by what their spellings have in common."""
        self._texts: dict[str, dict[str, str | None]] = {name: {} for name in self._known}
        """By column, what the reference calls each text that it doesn't know; None where it has no such value."""
        self._before, self._now = _Block(), _Block()

    def add(self, columns: Mapping[str, Column]) -> None:
        """The next rows."""
        rows, first = batch_rows(columns) if self._known else 0, 0
        while first < rows:
            end = min(rows, first + BLOCK - self._now.rows) if self._latest else rows
            self._now.rows += end - first
            for name in self._known:
                if name in columns:
                    self._count(name, columns[name][first:end])
            if self._latest and self._now.rows == BLOCK:
                self._before, self._now = self._now, _Block()
            first = end

    def _count(self, name: str, values: Column) -> None:
        known, into = self._known[name], self._now.counts.setdefault(name, {})
        for text, count in _texts(values).items():
            if text in known or self._name_of(name, text) is None:
                continue
            if text in into or len(into) < _MOST_VALUES:
                into[text] = into.get(text, 0) + count

    def _name_of(self, column: str, text: str) -> str | None:
        texts = self._texts[column]
        if text not in texts:
            if column not in self._respelt:
                self._respelt[column] = {self._form(name): name for name in reversed(list(self._known[column]))}
            if len(texts) >= _MOST_TEXTS:
                texts.clear()
            texts[text] = self._respelt[column].get(self._form(text))
        return texts[text]

    def found(self) -> list[Respelt]:
        """The columns with more than a few, in the reference's order."""
        rows, found = self._before.rows + self._now.rows, []
        for name in self._known:
            counts = dict(self._before.counts.get(name, {}))
            for text, count in self._now.counts.get(name, {}).items():
                counts[text] = counts.get(text, 0) + count
            total = sum(counts.values())
            if total > _LEAST_SHARE * rows:
                most = sorted(counts, key=lambda text: (-counts[text], text))[:_NAMED]
                examples = tuple((text, str(self._name_of(name, text))) for text in most)
                found.append(Respelt(name, total, rows, examples))
        return found

    def snapshot(self) -> Any:
        return [[block.rows, block.counts] for block in (self._before, self._now)]

    def restore(self, raw: Any) -> None:
        self._before, self._now = (
            _Block(rows, {name: dict(counts) for name, counts in by_column.items()}) for rows, by_column in raw
        )


class _Block:
    def __init__(self, rows: int = 0, counts: dict[str, dict[str, int]] | None = None) -> None:
        self.rows, self.counts = rows, counts or {}


def _texts(values: Column) -> dict[str, int]:
    """How often each text occurs."""
    if isinstance(values, Coded):
        used, counts = np.unique(values.codes[values.codes >= 0], return_counts=True)
        return {values.values[code]: count for code, count in zip(used.tolist(), counts.tolist(), strict=True)}
    found: dict[str, int] = {}
    for value in list(values):
        if isinstance(value, str):
            found[value] = found.get(value, 0) + 1
    return found
