"""A drift report of two files, or of a stream, as text for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from evaluator.drift.performance import MetricChange
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import PERFORMANCE_KINDS
from evaluator.offline.drift.result import UNKNOWN, ColumnDrift, ColumnSample, DriftReport, Finding, StreamReport
from evaluator.offline.render import rendered

if TYPE_CHECKING:
    from evaluator.offline.render.plot import ColumnHistogram

_MOST_FEATURES = 15  # rows of the text; JSON and page have all
_MOST_FIGURES = 12  # columns with a plot of their distributions
_MOST_RELATIVE = 10.0  # relative change from which percents say nothing: the reference is nearly without error
_CAUSES = {
    "none": "nothing moved beyond what the reference does by itself",
    "quality": "the data is damaged: cells or columns that the model needs are missing, of another type or unusable",
    "covariate": "the inputs moved",
    "concept": "the relation between inputs and outcome changed: the errors rose and the inputs do not explain it",
    "prior": "the outcomes themselves are distributed differently",
    "regime": "the way from one state to the next changed",
    "outlier_burst": "unusually many extreme values",
    "prediction": "the model's answers are distributed differently",
}
_ACTIONS = {
    "none": "nothing to do",
    "observe": "observe; drift of the inputs alone is no reason to retrain",
    "quarantine": "quarantine these rows and mend their source; do not retrain on them",
    "retrain_recent": "retrain on recent rows; older ones teach what no longer holds",
    "retrain_full": "retrain on all rows, old and new",
}
_SIGNALS = {
    "column_gone": "gone",
    "type_change": "another type",
    "displaced": "far outside",
    "missing": "missing values",
    **dict.fromkeys(("distribution", "categories", "prediction", "prior"), "moved"),
}
_METRICS = {"r2": "R²", "rmse": "RMSE"}


def text(report: DriftReport | StreamReport) -> str:
    """The report for a terminal, ending with a newline."""
    template = "drift_stream.txt" if isinstance(report, StreamReport) else "drift.txt"
    return rendered(template, {"most_features": _MOST_FEATURES, **_context(report)})


def html(report: DriftReport | StreamReport) -> str:
    """The page."""
    from evaluator.offline.render import figures

    context, steps = _context(report), None
    if isinstance(report, StreamReport):
        histograms = _histograms(report.samples.items(), len(report.samples))
        steps = figures.severity(report.steps, report.rows, report.reference_rows, "window", report.events)
    else:
        context["shown"], histograms = _drawn_columns(report)
        if len(report.steps) > 1:
            steps = figures.severity(report.steps, report.rows[1], 0, "slice")
    context |= {"steps": steps, "threshold": DriftSettings().ks}
    context["distributions"] = {
        name: figures.distribution(name, one, f"d{place}") for place, (name, one) in enumerate(histograms.items())
    }
    return rendered("drift_stream.html" if isinstance(report, StreamReport) else "drift.html", context)


def _context(report: DriftReport | StreamReport) -> dict[str, Any]:
    """What text and page share: sentences, the columns, and functions of one number, column or metric."""
    if isinstance(report, StreamReport):
        own: dict[str, Any] = {"verdict": _stream_verdict(report)}
    else:
        own = {"verdict": _verdict(report), "columns": _columns(report), "roles": _roles(report)}
    return {
        "report": report,
        "findings": [(_one_finding(f), f.alarming) for f in report.quality.findings if f not in report.not_judged],
        **own,
        **{name.__name__.lstrip("_"): name for name in _FORMATS},
    }


def _drawn_columns(report: DriftReport) -> tuple[list[ColumnDrift], dict[str, ColumnHistogram]]:
    """Columns with a plot and their histograms: those that drifted, or else the few that moved most."""
    outputs = [column for column in (report.prediction, report.target) if column is not None]
    drifted = [column for column in (*report.features, *outputs) if column.drifted]
    for columns, most in ((drifted, _MOST_FIGURES), ([*outputs, *report.features], 4)):
        histograms = _histograms(((column.name, column.sample) for column in columns), most)
        if histograms:
            break
    return [column for column in columns if column.name in histograms], histograms


def _histograms(samples: Iterable[tuple[str, ColumnSample | None]], most: int) -> dict[str, ColumnHistogram]:
    """Histograms of the first `most` columns that have one, by name."""
    from evaluator.offline.render.plot import ColumnHistogram

    found = ((name, ColumnHistogram.of(sample)) for name, sample in samples)
    return dict(islice(((name, histogram) for name, histogram in found if histogram is not None), most))


def _verdict(report: DriftReport) -> str:
    if report.severity == "NONE":
        return f"No drift: {_CAUSES['none']}."
    if report.severity == UNKNOWN:
        return "Nothing moved in what can be judged, and not all that was asked can be."
    cause = _CAUSES.get(report.root_cause, report.root_cause.replace("_", " "))
    if report.root_cause != "concept" and any(signal["kind"] in PERFORMANCE_KINDS for signal in report.signals):
        cause += ", and the model does worse"
    return f"{cause[0].upper()}{cause[1:]}."


def _stream_verdict(report: StreamReport) -> str:
    opened = [event for event in report.events if event.event == "open"]
    watched = report.rows - report.reference_rows
    if not opened:
        what = "No drift" if report.severity != UNKNOWN else "Nothing moved in what can be judged"
        return f"{what} in {watched:,} rows after the {report.reference_rows:,} of the reference."
    closed = report.events[-1].event == "close"
    state = "the last one is over" if closed else f"the last one is still open, {report.final_severity}"
    episodes = "One episode" if len(opened) == 1 else f"{len(opened)} episodes"
    return f"{episodes} of drift in {watched:,} rows, the first from row {opened[0].row:,} on; {state}."


def _action(name: str) -> str:
    return _ACTIONS.get(name, name.replace("_", " "))


def _roles(report: DriftReport) -> dict[str, str]:
    """The columns with a role, by name: prediction and target."""
    both = ((report.prediction, "prediction"), (report.target, "target"))
    return {column.name: role for column, role in both if column is not None}


def _columns(report: DriftReport) -> list[ColumnDrift]:
    """All columns for a table: those that drifted first, and among the others prediction and target."""
    outputs = [column for column in (report.prediction, report.target) if column is not None]
    drifted = [column for column in (*report.features, *outputs) if column.drifted]
    return [*drifted, *(column for column in (*outputs, *report.features) if not column.drifted)]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _p_value(column: ColumnDrift) -> str:
    value = column.p_value if column.adjusted_p_value is None else column.adjusted_p_value
    if value is None:
        return "–"
    return "<1e-16" if value < 1e-16 else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _certified(column: ColumnDrift) -> str:
    return "–" if column.lower is None or column.upper is None else f"{column.lower:.3f} – {column.upper:.3f}"


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def _drifted(column: ColumnDrift) -> str:
    """Whether a column drifted, as the headline counts it, and what else the rules say about it."""
    kinds = [_SIGNALS.get(kind, kind.replace("_", " ")) for kind in column.signals]
    signals = ", ".join(dict.fromkeys(kinds)) or "–"
    if column.drifted is None:
        return "not judged"
    if column.drifted:
        return f"YES {signals}"
    return f"no, but {signals}" if column.signals else "no"


def _metric_name(change: MetricChange) -> str:
    return _METRICS.get(change.name, change.name) + (" (estimated, no labels)" if change.estimated else "")


def _metric_verdict(change: MetricChange, judged: bool) -> str:
    """Whether a metric got worse; neither a large change without the evidence for it nor what can't be judged is fine.

    judged: whether anything can be said of the model."""
    if change.breached:
        return "worse"
    if not judged:
        return "not judged"
    beyond = change.change <= change.limit if change.limit < 0 else change.change >= change.limit
    if beyond:
        return "perhaps worse, not certain"
    return "fine" if change.judged else "too few outcomes to judge it"


def _change(change: MetricChange, relative: float) -> str:
    """A change of a metric in percent, or in its own units where next to nothing is what it is relative to."""
    if abs(change.change) < _MOST_RELATIVE:
        return f"{relative:+.1%}"
    return f"{relative * abs(change.reference):+.3g}"


def _one_finding(finding: Finding) -> str:
    named = finding.column is not None and finding.column not in finding.message
    return f"{finding.column}: {finding.message}" if named else finding.message


_FORMATS = (
    _action,
    _certified,
    _change,
    _drifted,
    _metric_name,
    _metric_verdict,
    _number,
    _one_finding,
    _p_value,
    _share,
)
"""What the templates call, by these names."""
