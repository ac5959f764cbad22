"""Quality of a job's rows before anything is trained on them: a score by what is worse than in the reference.

The evaluator watches the requests as they come; this looks at the very rows that a model would learn. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from gauntlet.registry import Reference
from gauntlet.registry.artifact import Feature, Schema
from retrainer.jobs.dataset import JobRows

GONE = 0.5
"""The best score while a feature that the reference has is unusable in every row."""


class RowQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The score, and the feature that lowers it most with the share of its unusable values; "" where none does."""

    score: float
    worst: str = ""
    share: float = 0.0

    def __str__(self) -> str:
        where = f": {self.worst} is unusable in {self.share:.0%} of them" if self.worst else ""
        return f"the rows' quality is {self.score:.4g}{where}"


def quality(rows: JobRows, schema: Schema, reference: Reference | None, unusable: int = 0) -> RowQuality:
    """One less the mean share of unusable values that the reference does not have: absent, of another type, not finite.

    unusable: rows that were left out because their outcome is unusable. They count like a column of their own, and the
    score is at most the share of the others: however many features there are, rows without labels teach nothing.
    Without a reference a feature that may be absent is expected to be. 1.0 without rows.
    """
    total = len(rows) + unusable
    if not len(rows):
        return RowQuality(score=0.0, worst="the outcome", share=1.0) if unusable else RowQuality(score=1.0)
    rises = {"the outcome": unusable / total}
    gone = False
    for feature in schema.features:
        values = [row.get(feature.name) for row in rows.features]
        bad, before = _bad(feature, values), _before(feature, values, reference)
        rises[feature.name] = max(0.0, bad - before)
        gone = gone or (bad == 1.0 and before < 1.0)
    score = round(1.0 - max(sum(rises.values()) / len(rises), rises["the outcome"]), 12)
    worst = max(rises, key=lambda name: rises[name])
    return RowQuality(
        score=min(score, GONE) if gone else score, worst=worst if rises[worst] > 0 else "", share=rises[worst]
    )


def _before(feature: Feature, values: Sequence[Any], reference: Reference | None) -> float:
    known = None if reference is None else reference.columns.get(feature.name)
    if known:
        return _bad(feature, known)
    return 0.0 if feature.required else sum(value is None for value in values) / len(values)


def _bad(feature: Feature, values: Sequence[Any]) -> float:
    """The share of values that a model can't use as they are."""
    kinds = set(map(type, values))
    if feature.kind != "number":
        usable = len(values) if kinds == {str} else sum(isinstance(value, str) for value in values)
    elif kinds <= {float, NoneType}:  # what nearly all columns are
        usable = int(np.isfinite(np.array(values, dtype=np.float64)).sum())  # None becomes NaN
    else:
        usable = sum(isinstance(value, int | float) and abs(value) < float("inf") for value in values)
    return 1.0 - usable / len(values)
