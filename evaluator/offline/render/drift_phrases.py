"""The answer in sentences: what was found, why it is thought so, and what to do; shared by the text and the page."""

from __future__ import annotations

from evaluator.drift.performance import MetricChange
from evaluator.drift.signal import BREACHES
from evaluator.offline.drift.result import ColumnDrift, DriftReport, StreamReport

CAUSES = {
    "none": "nothing moved beyond what the reference does by itself",
    "quality": "the data is damaged: cells or columns that the model needs are missing, of another type or unusable",
    "covariate": "the inputs moved",
    "concept": "the relation between inputs and outcome changed: the errors rose and the inputs do not explain it",
    "prior": "the outcomes themselves are distributed differently",
    "regime": "the way from one state to the next changed",
    "outlier_burst": "unusually many extreme values",
    "prediction": "the model's answers are distributed differently",
}
ACTIONS = {
    "none": "nothing to do",
    "observe": "observe; drift of the inputs alone is no reason to retrain",
    "quarantine": "quarantine these rows and mend their source; do not retrain on them",
    "retrain_recent": "retrain on recent rows; older ones teach what no longer holds",
    "retrain_full": "retrain on all rows, old and new",
}
_ABSURD = 10.0
"""Relative change from which it says nothing any more: the reference is nearly without error."""
_METRICS = {"accuracy": "accuracy", "r2": "R²", "rmse": "RMSE"}


def cause(name: str) -> str:
    """A root cause as a sentence's end."""
    return CAUSES.get(name, name.replace("_", " "))


def action(name: str) -> str:
    """A recommended action as a sentence's end."""
    return ACTIONS.get(name, name.replace("_", " "))


def metric(change: MetricChange) -> str:
    """A metric's name."""
    return _METRICS.get(change.name, change.name) + (" (estimated, no labels)" if change.estimated else "")


def judged(change: MetricChange) -> str:
    """Whether a metric got worse, in words; a large change without the evidence for it is not called fine."""
    if change.breached:
        return "worse"
    beyond = change.change <= change.limit if change.limit < 0 else change.change >= change.limit
    return "perhaps worse, not certain" if beyond else "fine"


def moved(change: MetricChange, relative: float) -> str:
    """A change of a metric in percent, or in its own units where next to nothing is what it is relative to."""
    if abs(change.change) < _ABSURD:
        return f"{relative:+.1%}"
    return f"{relative * abs(change.reference):+.3g}"


def verdict(report: DriftReport) -> str:
    """The judgement in one sentence."""
    if report.severity == "NONE":
        return f"No drift: {cause('none')}."
    told = cause(report.root_cause)
    worse = any(signal["kind"] in BREACHES for signal in report.signals)
    if worse and report.root_cause != "concept":
        told += ", and the model does worse"
    return f"{told[0].upper()}{told[1:]}."


def stream_verdict(report: StreamReport) -> str:
    """The judgement over the whole stream in one sentence."""
    opened = [event for event in report.events if event.event == "open"]
    watched = report.rows - report.reference_rows
    if not opened:
        return f"No drift in {watched:,} rows after the {report.reference_rows:,} of the reference."
    last = report.events[-1]
    state = "the last one is over" if last.event == "close" else f"the last one is still open, {report.final_severity}"
    episodes = "One episode" if len(opened) == 1 else f"{len(opened)} episodes"
    return f"{episodes} of drift in {watched:,} rows, the first from row {opened[0].row:,} on; {state}."


def outputs(report: DriftReport) -> list[tuple[ColumnDrift, str]]:
    """The columns that are no features, with what they are."""
    both = ((report.prediction, "prediction"), (report.target, "target"))
    return [(column, role) for column, role in both if column is not None]


def columns(report: DriftReport) -> list[ColumnDrift]:
    """All columns for a table: those that drifted first, and among the others prediction and target."""
    every = [*report.features, *(column for column, _ in outputs(report))]
    drifted = [column for column in every if column.drifted]
    still = [column for column, _ in outputs(report) if not column.drifted]
    return [*drifted, *still, *(column for column in report.features if not column.drifted)]


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """A p value for a table."""
    if value is None:
        return "–"
    return "<1e-16" if value < 1e-16 else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def share(value: float) -> str:
    """A share in percent."""
    return f"{value:.1%}".replace("%", " %")


def said(column: ColumnDrift) -> str:
    """What the rules say about a column, in a word or two."""
    told = {
        "column_gone": "gone",
        "type_change": "another type",
        "displaced": "far outside",
        "outliers": "outliers",
        "missing": "missing values",
        "distribution": "moved",
        "categories": "moved",
        "prediction": "moved",
        "prior": "moved",
        "regime": "regime",
    }
    return ", ".join(dict.fromkeys(told.get(kind, kind.replace("_", " ")) for kind in column.signals)) or "–"


def drift(column: ColumnDrift) -> str:
    """Whether a column drifted, as the headline counts it, and what else the rules say about it."""
    if column.drifted:
        return f"YES {said(column)}"
    return f"no, but {said(column)}" if column.signals else "no"
