"""The drift reference of a model version: rows in time order, with outputs and losses where they are known."""

from __future__ import annotations

from typing import Any

import msgspec

MOST_ROWS = 100_000
"""Rows kept: the newest, without gaps, because their autocorrelation is estimated too."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in time order; every list has one entry a row, or none at all where nothing of its kind is known.

    columns: the features. at: seconds since 1970. outputs, truths (class indices, or numbers) and losses (of the
    primary metric) are None where the model was trained on the row, gave no valid answer, or the truth is unknown.
    """

    columns: dict[str, list[Any]]
    at: list[float] = []
    outputs: list[list[float] | float | None] = []
    truths: list[float | None] = []
    losses: list[float | None] = []

    @property
    def rows(self) -> int:
        return max(map(len, self.columns.values()), default=0)

    @property
    def honest(self) -> list[int]:
        """Places of the rows with an out-of-sample output, a truth and a loss."""
        known = zip(self.outputs, self.truths, self.losses, strict=True)
        return [row for row, facts in enumerate(known) if None not in facts]
