"""The answer of a comparison: frozen records, the same in Python and JSON. A number without evidence is None."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from evaluator.offline.records import PlainRecord
from gauntlet.latency import Latency

Decision = Literal["promote", "keep", "no_answer"]
Better = Literal["higher", "lower"]
Role = Literal["primary", "required", "guardrail", "shown"]


@dataclass(frozen=True, slots=True)
class MetricEffect:
    """A metric of the champion (`baseline`) and of the challenger (`candidate`) on the same rows.

    improvement: positive is better, whatever the direction; lower, upper: its two-sided bounds.
    """

    baseline: float | None
    candidate: float | None
    improvement: float | None
    lower: float | None
    upper: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class MetricImprovement(MetricEffect):
    """A metric over all rows: what was asked of it, and its effect."""

    better: Better
    role: Role
    threshold: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class SliceImprovement:
    """A metric inside one slice: a value of a column, or a minority class (`column` None).

    adjusted_p_value: after Holm over all slices. harmed: significantly worse; None where there is no answer.
    """

    column: str | None
    value: str
    metric: str
    rows: int
    baseline: float | None
    candidate: float | None
    improvement: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    adjusted_p_value: float | None = None
    harmed: bool | None = None


@dataclass(frozen=True, slots=True)
class Factor:
    """One condition of a promotion; `met` is None where it can't be judged."""

    name: str
    met: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Curves:
    """Points for plots, by model: ROC (of two classes) and calibration: (predicted, observed) of equally many rows."""

    roc: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    calibration: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]


@dataclass(frozen=True, slots=True)
class ComparisonReport(PlainRecord):
    """Whether the challenger is promoted, why, and on what evidence."""

    decision: Decision
    reasons: tuple[str, ...]
    primary: str
    metrics: dict[str, MetricImprovement]
    """By name: what was asked first, then all others."""
    factors: tuple[Factor, ...]
    slices: tuple[SliceImprovement, ...]
    latency: Latency | None
    champion: str
    challenger: str
    task: str
    rows: int
    blocks: int
    alpha: float
    notes: tuple[str, ...]
    settings: dict[str, Any]
    curves: Curves | None = field(default=None, repr=False, compare=False)
