"""What a drift check of files answers: frozen records, the same in Python, JSON, text and HTML.

A number that there is no evidence for is None, and a note or a finding says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluator.drift.performance import MetricChange
from evaluator.offline.records import to_plain

SEVERITIES = ("NONE", "LOW", "MEDIUM", "HIGH", "CRITICAL")
"""In worst-of order."""


def at_least(severity: str, limit: str) -> bool:
    """Whether a severity is `limit` or worse. Raises ValueError for a name that is none."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(limit)


@dataclass(frozen=True, slots=True)
class Bars:
    """The two distributions of one column for a plot: shares of the present values, reference and current.

    edges: shape (bins + 1,) for numbers, else empty; labels: one a bar for categories, else empty.
    """

    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column of the current rows against the reference.

    kind: distribution (numbers) or categories. statistic: Kolmogorov-Smirnov distance or total variation, from 0 to 1,
    certified to be from `lower` to `upper` where counts on a grid leave it open. p_value: of this column alone, rows
    weighed by their dependence; adjusted_p_value: after Benjamini and Hochberg over all features. threshold: what the
    statistic has to reach: the rule's, or what the column reaches inside the reference. drifted: it did, with evidence,
    or a fact about the column (gone, of another type) says so. psi, wasserstein: for information. missing: share of
    cells without a usable value, reference and current. rows_worth: independent rows that the current ones are worth.
    signals: kinds of all rules that spoke about the column.
    """

    name: str
    kind: str
    statistic: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    adjusted_p_value: float | None
    threshold: float | None
    drifted: bool
    psi: float | None
    wasserstein: float | None
    missing: tuple[float, float]
    rows_worth: float | None
    signals: tuple[str, ...]
    bars: Bars | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the data that a person should know: its kind, the column (None: the whole table), a sentence.

    `alarming`: a rule spoke of it too, or something is plainly broken; the others are notes.
    """

    kind: str
    column: str | None
    message: str
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """Share of usable cells relative to the reference, from 0 to 1 (None before a window is full), and findings."""

    score: float | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Performance:
    """How the model does on the reference and now. says: what its prediction is (label, probability, number)."""

    task: str
    says: str
    positive: str | None
    metrics: tuple[MetricChange, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamStep:
    """The state of the watch after a row, or that of the rows from one on, for plots: scores by feature, relative rise
    of the mean loss, quality."""

    row: int
    severity: str
    scores: dict[str, float]
    rise: float | None
    quality: float | None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The whole answer for reference and current rows.

    features: every watched feature, drifted ones first; prediction, target: the same for these columns where both
    sides have them. performance: None without labels or an estimate; notes say what was inferred, left out, and why.
    rows: of reference and current. steps: for the plots, the same judgement of consecutive parts of the current rows.
    """

    severity: str
    confidence: float
    root_cause: str
    action: str
    features: tuple[ColumnDrift, ...]
    quality: Quality
    performance: Performance | None
    prediction: ColumnDrift | None
    target: ColumnDrift | None
    signals: tuple[dict[str, Any], ...]
    rows: tuple[int, int]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    steps: Sequence[StreamStep] = field(default=(), repr=False, compare=False)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted, worst first."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON: no NaN, no infinity; the plots' bars are left out."""
        fitted: dict[str, Any] = to_plain(self)
        return fitted


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One thing said about a drift episode of a stream. `row`: the row (from 0) whose arrival made it known.

    features: the top five to blame, each with name, statistic, lower, upper, p_value, threshold and kind; signals: all
    that is raised, as `evaluator.drift.feature_signals.Signal` with its feature's name or an empty one.
    """

    row: int
    event: str
    severity: str
    confidence: float
    root_cause: str
    features: tuple[dict[str, Any], ...]
    signals: tuple[dict[str, Any], ...]
    action: str
    episode: str

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        fitted: dict[str, Any] = to_plain(self)
        return fitted


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The whole answer for one file in time order: every event, the worst severity and the last one.

    bars: for the plots, the columns to blame (or those that moved most) in the reference and in the `last` rows.
    """

    severity: str
    final_severity: str
    events: tuple[StreamEvent, ...]
    rows: int
    reference_rows: int
    quality: Quality
    notes: tuple[str, ...]
    settings: dict[str, Any]
    steps: tuple[StreamStep, ...] = field(default=(), repr=False)
    bars: dict[str, Bars] = field(default_factory=dict, repr=False)
    last: int = field(default=0, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON; what is only drawn is left out."""
        fitted: dict[str, Any] = to_plain(self)
        return fitted
