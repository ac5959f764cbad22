"""Results of a drift check of files: frozen records, the same in Python and JSON.

A number without evidence is None, and a note or a finding gives the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, Column, read_categories, read_numbers
from evaluator.drift.performance import MetricChange
from evaluator.offline.records import to_plain

Floats = npt.NDArray[np.float64]

_BINS = 36
_CATEGORIES = 9
_TAIL = 0.005
"""Share of the values at either end that a histogram's range may leave out."""
_FEW = 12
"""Up to so many distinct whole numbers have a bar each."""
_HUGE = 1e150
"""Beyond it the width of a bin overflows."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distributions of one column in the reference and now, as shares of the present values; for plots only.

    edges: of the bins of numbers, shape (bins + 1,), else empty. labels: of the bars of categories or of few whole
    numbers, else empty.
    """

    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]

    @classmethod
    def of(cls, reference: Column, current: Column, *, numeric: bool) -> Histogram | None:
        """From samples of both sides; None where one has no value or no bin fits between the values."""
        return cls._of_numbers(reference, current) if numeric else cls._of_categories(reference, current)

    @classmethod
    def _of_numbers(cls, reference: Column, current: Column) -> Histogram | None:
        """Over the range that holds nearly all of both; values beyond it count at its ends."""
        before, now = _finite(reference), _finite(current)
        if not len(before) or not len(now):
            return None
        ranges = [np.quantile(side, (_TAIL, 1 - _TAIL)) for side in (before, now)]
        low, high = min(float(one[0]) for one in ranges), max(float(one[1]) for one in ranges)
        distinct = np.unique(np.concatenate([np.unique(before), np.unique(now)]))
        if len(distinct) <= _FEW and bool((distinct == np.round(distinct)).all()):
            labels = tuple(f"{value:g}" for value in distinct)
            return cls((), labels, _shares_of_values(before, distinct), _shares_of_values(now, distinct))
        if not (low < high and np.isfinite(high - low)):
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        if not (np.diff(edges) > 0).all():
            return None
        return cls(tuple(edges.tolist()), (), _shares_of_bins(before, edges), _shares_of_bins(now, edges))

    @classmethod
    def _of_categories(cls, reference: Column, current: Column) -> Histogram | None:
        """Of the categories that are most frequent on either side, the rest as one."""
        before, now = _category_counts(reference), _category_counts(current)
        if not before or not now:
            return None
        share = {name: max(before[name] / before.total(), now[name] / now.total()) for name in {*before, *now}}
        names = sorted(share, key=lambda name: (-share[name], name))
        shown = names[:_CATEGORIES] if len(names) > _CATEGORIES + 1 else names
        sides = [[side[name] / side.total() for name in shown] for side in (before, now)]
        if len(shown) < len(names):
            shown = [*shown, f"{len(names) - len(shown)} others"]
            sides = [[*side, max(0.0, 1.0 - sum(side))] for side in sides]
        return cls((), tuple(shown), tuple(sides[0]), tuple(sides[1]))


def _finite(column: Column) -> Floats:
    values = read_numbers(column)[0]
    return values[np.abs(values) <= _HUGE]


def _category_counts(column: Column) -> Counter[str]:
    if isinstance(column, Coded):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values)).tolist()
        return Counter({value: count for value, count in zip(column.values, counts, strict=True) if count})
    return Counter(value for value in read_categories(column) if isinstance(value, str))


def _shares_of_bins(values: Floats, edges: Floats) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return tuple((counts / len(values)).tolist())


def _shares_of_values(values: Floats, distinct: Floats) -> tuple[float, ...]:
    return tuple((np.bincount(np.searchsorted(distinct, values), minlength=len(distinct)) / len(values)).tolist())


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
    """Of this column alone, with rows weighed by their dependence."""
    adjusted_p_value: float | None
    """After Benjamini and Hochberg (1995) over all features."""
    threshold: float | None
    """The statistic that counts as drift: the rule's, or what the column reaches inside the reference."""
    drifted: bool
    """The threshold was reached with evidence, or the column is gone or of another type."""
    psi: float | None
    """For information, as is `wasserstein` (in standard deviations of the reference)."""
    wasserstein: float | None
    missing: tuple[float, float]
    """Shares of cells without a usable value, reference and current."""
    effective_rows: float | None
    """Independent rows that the current ones are worth: the effective sample size."""
    signals: tuple[str, ...]
    """Kinds of the signals raised about the column."""
    histogram: Histogram | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about the data: its kind, the column (None: the whole table) and a sentence.

    `alarming`: a rule raised a signal about it too, or something is plainly broken; other findings are notes.
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
    """Metrics of the model on the reference and now. prediction_kind: label, probability or number."""

    task: str
    prediction_kind: str
    positive: str | None
    metrics: tuple[MetricChange, ...]


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
class DriftReport:
    """Drift of current rows against reference rows."""

    severity: str
    confidence: float
    root_cause: str
    action: str
    features: tuple[ColumnDrift, ...]
    """Every watched feature, drifted ones first."""
    quality: Quality
    performance: Performance | None
    """None without target and prediction."""
    prediction: ColumnDrift | None
    target: ColumnDrift | None
    signals: tuple[dict[str, Any], ...]
    rows: tuple[int, int]
    """Of reference and current."""
    notes: tuple[str, ...]
    """What was inferred or weighed differently, and why."""
    settings: dict[str, Any]
    steps: Sequence[DriftStep] = field(default=(), repr=False, compare=False)
    """The same judgement of consecutive slices of the current rows, for plots."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted, worst first."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, without what is only plotted."""
        values: dict[str, Any] = to_plain(self)
        return values


@dataclass(frozen=True, slots=True)
class StreamEvent:
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
    """All raised signals, as `evaluator.drift.signal.Signal`."""
    action: str
    episode: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        values: dict[str, Any] = to_plain(self)
        return values


@dataclass(frozen=True, slots=True)
class StreamReport:
    """Drift of one file in time order: every event, the worst severity and the last one."""

    severity: str
    final_severity: str
    events: tuple[StreamEvent, ...]
    rows: int
    reference_rows: int
    quality: Quality
    notes: tuple[str, ...]
    settings: dict[str, Any]
    steps: tuple[DriftStep, ...] = field(default=(), repr=False)
    histograms: dict[str, Histogram] = field(default_factory=dict, repr=False)
    """Of the columns to blame, or of those that moved most: the reference against the `last_rows`."""
    last_rows: int = field(default=0, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, without what is only plotted."""
        values: dict[str, Any] = to_plain(self)
        return values
