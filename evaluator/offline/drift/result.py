"""Results of a drift check of files: frozen records, the same in Python and JSON.

A number without evidence is None, and a note or a finding gives the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluator.drift.columns import Column
from evaluator.drift.performance import MetricChange
from evaluator.offline.records import PlainRecord

UNKNOWN = "UNKNOWN"
"""Severity of an answer in which nothing was found, and not all that was asked could be judged."""


@dataclass(frozen=True, slots=True)
class ColumnSample:
    """Rows of one column on both sides, for a histogram."""

    reference: Column
    current: Column
    numeric: bool


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column of the current rows against the reference."""

    name: str
    kind: str
    """numeric or categorical."""
    statistic: float | None
    """Kolmogorov-Smirnov distance of numbers, total variation of categories, from 0 to 1."""
    lower: float | None
    """Certified bounds on the statistic, which counts on a grid leave open."""
    upper: float | None
    p_value: float | None
    """p value of this column alone, with rows weighed by their dependence."""
    adjusted_p_value: float | None
    """After Benjamini and Hochberg (1995) over all features."""
    threshold: float | None
    """The statistic that counts as drift: the rule's, or what the column reaches inside the reference."""
    drifted: bool | None
    """The threshold was reached with evidence, or the column is gone or of another type; None where it can't
    be judged."""
    psi: float | None
    """For information, as is `wasserstein` (in standard deviations of the reference)."""
    wasserstein: float | None
    missing: tuple[float, float]
    """Shares of cells without a usable value, reference and current."""
    effective_rows: float | None
    """Independent rows that the current ones are worth: the effective sample size."""
    signals: tuple[str, ...]
    """Kinds of the signals raised about the column."""
    sample: ColumnSample | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about the data: its kind, the column (None: the whole table, or the model) and a sentence.

    `alarming`: a rule raised a signal about it too, or something is plainly broken; other findings are notes. `judged`:
    False where, for this reason, the column, the table or the model can't be judged.
    """

    kind: str
    column: str | None
    message: str
    alarming: bool = False
    judged: bool = True


@dataclass(frozen=True, slots=True)
class DataQuality:
    """Share of usable cells relative to the reference, from 0 to 1 (None before a window is full), and findings."""

    score: float | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Performance:
    """Metrics of the model on the reference and now. prediction_kind: label, probability or number. judged: False where
    they say nothing, for a reason that a finding gives."""

    task: str
    prediction_kind: str
    positive: str | None
    metrics: tuple[MetricChange, ...]
    judged: bool = True


@dataclass(frozen=True, slots=True)
class DriftStep:
    """Drift at one place of the rows, for plots: distances by feature, relative rise of the mean loss, quality.

    row: of a stream the last row seen, of two tables the first row of the slice.
    """

    row: int
    severity: str
    scores: dict[str, float]
    error_rise: float | None
    quality: float | None


@dataclass(frozen=True, slots=True)
class DriftReport(PlainRecord):
    """Drift of current rows against reference rows.

    `severity` is UNKNOWN, without a confidence, where nothing was found and something that was asked can't be judged.
    """

    severity: str
    confidence: float | None
    root_cause: str
    action: str
    features: tuple[ColumnDrift, ...]
    """Every watched feature, drifted ones first."""
    quality: DataQuality
    performance: Performance | None
    """None without target and prediction."""
    prediction: ColumnDrift | None
    target: ColumnDrift | None
    not_judged: tuple[Finding, ...]
    """The findings that say what can't be judged, and why."""
    signals: tuple[dict[str, Any], ...]
    rows: tuple[int, int]
    """Number of rows in reference and current."""
    notes: tuple[str, ...]
    """What was inferred or weighed differently, and why."""
    settings: dict[str, Any]
    steps: Sequence[DriftStep] = field(default=(), repr=False, compare=False)
    """The same judgement of consecutive slices of the current rows, for plots."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted, worst first."""
        return tuple(feature.name for feature in self.features if feature.drifted)


@dataclass(frozen=True, slots=True)
class StreamEvent(PlainRecord):
    """The opening, escalation or close of a drift episode in a stream."""

    row: int
    """The row (from 0) whose arrival made it known."""
    event: str
    severity: str
    confidence: float
    root_cause: str
    features: tuple[dict[str, Any], ...]
    """The top five to blame: name, statistic, lower, upper, p_value, threshold, kind."""
    signals: tuple[dict[str, Any], ...]
    """All raised signals, as `evaluator.drift.signals.Signal`."""
    action: str
    episode: str


@dataclass(frozen=True, slots=True)
class StreamReport(PlainRecord):
    """Drift of one file in time order: every event, the worst severity and the last one; both are UNKNOWN where nothing
    was found and something that was asked can't be judged."""

    severity: str
    final_severity: str
    events: tuple[StreamEvent, ...]
    not_judged: tuple[Finding, ...]
    rows: int
    reference_rows: int
    quality: DataQuality
    notes: tuple[str, ...]
    settings: dict[str, Any]
    steps: tuple[DriftStep, ...] = field(default=(), repr=False)
    samples: dict[str, ColumnSample] = field(default_factory=dict, repr=False, compare=False)
    """Values of the columns to blame, or of those that moved most: the reference against the `last_rows`."""
    last_rows: int = field(default=0, repr=False)
