"""What comparing two tables found: every number behind the severity, as values that are JSON.

A report is made once and never changed; reading it needs neither the tables nor their profile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from evaluator.drift.performance import MetricChange, Task
from evaluator.drift.settings import Mode
from evaluator.drift.severity import Action, RootCause
from evaluator.drift.signal import Signal

FindingKind = Literal[
    "column_gone",
    "column_extra",
    "type_change",
    "missing",
    "infinite",
    "empty",
    "constant",
    "unseen_values",
    "few_rows",
]


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """One column: its distance with a certified interval, the evidence, and two more distances from the same counts.

    `statistic` is the Kolmogorov-Smirnov distance of numbers (a lower bound on it) or the total variation of
    categories; `drifted` says that a rule passed. `wasserstein` is in the reference's standard deviations and None for
    categories.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    statistic: float
    lower: float
    upper: float
    p_value: float
    threshold: float
    drifted: bool
    psi: float
    wasserstein: float | None
    importance: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the data's quality: the `share` of rows it is about, and a sentence."""

    kind: FindingKind
    feature: str
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The score from 0 to 1 and what lowered it, or what is odd without lowering it."""

    score: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """How the model did against the reference; `estimated` metrics come from scores alone."""

    task: Task
    metrics: tuple[MetricChange, ...]


@dataclass(frozen=True, slots=True)
class RegimeReport:
    """A column's transitions: the largest change of a transition probability and the chains' spectral gaps."""

    feature: str
    change: float
    limit: float
    p_value: float
    transitions: int
    spectral_gap_before: float
    spectral_gap_now: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement over two tables and everything it rests on.

    `features` are the inputs in the reference's order; `outputs` the prediction, the score and the truth; `blamed` the
    signals of the five features that matter most, by drift times importance.
    """

    severity: str
    confidence: float
    root_cause: RootCause
    action: Action
    mode: Mode
    reference_rows: int
    current_rows: int
    features: tuple[FeatureReport, ...]
    outputs: tuple[FeatureReport, ...]
    quality: QualityReport
    performance: PerformanceReport | None
    regimes: tuple[RegimeReport, ...]
    signals: tuple[Signal, ...]
    blamed: tuple[Signal, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)
