"""A comparison of two models as text for a terminal and as a page: the decision first, then its evidence."""

from __future__ import annotations

from evaluator.offline.comparator.result import ComparisonReport, Factor, MetricImprovement, SliceImprovement
from evaluator.offline.render import interval, interval_decimals, number, p_value, rendered, signed

_MOST_METRICS = 30  # rows of the text; JSON and page have all
_DECISIONS = {"promote": "PROMOTE the challenger", "keep": "KEEP the champion", "no_answer": "NO ANSWER"}
_COLOURS = {"promote": "good", "keep": "bad", "no_answer": "open"}
_MET = {True: "yes", False: "NO", None: "?"}


def text(report: ComparisonReport) -> str:
    """The whole report, ending with a newline."""
    return rendered("compare.txt", {"most": _MOST_METRICS, **_context(report)})


def html(report: ComparisonReport) -> str:
    """The page."""
    from evaluator.offline.render import comparator_figures as figures

    curves = report.curves
    drawn = {
        "effects": figures.effects(report),
        "slices": figures.slices(report),
        "roc": figures.roc(curves) if curves else None,
        "calibration": figures.calibration(curves, report.task) if curves else None,
    }
    settings = [(name.replace("_", " "), _spelled(one)) for name, one in report.settings.items()]
    context = {"figures": drawn, "colour": _COLOURS[report.decision], "settings": [row for row in settings if row[1]]}
    return rendered("compare.html", context | _context(report))


def _context(report: ComparisonReport) -> dict[str, object]:
    """What text and page share."""
    return {
        "report": report,
        "primary": report.metrics[report.primary],
        "decision": _DECISIONS[report.decision],
        "metric_rows": [_metric(name, one) for name, one in report.metrics.items()],
        "factor_rows": [_factor(one) for one in report.factors],
        "slice_rows": [_slice(one) for one in report.slices],
        "validity": f"Improvement: positive is better. Intervals hold at {1 - report.alpha:.0%} one by one; p of no "
        f"improvement, two-sided, over {report.blocks:,} blocks of rows.",
        "timing": _timing(report),
        "change": change,
    }


def change(before: float | None, after: float | None) -> str:
    """The relative change in percent."""
    if before is None or after is None or before == 0:
        return "–"
    return f"{100 * (after - before) / abs(before):+.1f} %".replace("-", "−")


def _metric(name: str, one: MetricImprovement) -> list[str]:
    decimals = interval_decimals(one.lower, one.upper)
    role = {"primary": f"{name} (primary)", "required": f"{name} (required)", "guardrail": f"{name} (guardrail)"}
    return [
        role.get(one.role, name),
        one.better,
        number(one.baseline, decimals),
        number(one.candidate, decimals),
        change(one.baseline, one.candidate),
        signed(one.improvement, decimals),
        interval(one.lower, one.upper, decimals),
        p_value(one.p_value),
    ]


def _slice(one: SliceImprovement) -> list[str]:
    decimals = interval_decimals(one.lower, one.upper)
    return [
        f"class {one.value}" if one.column is None else f"{one.column} = {one.value}",
        one.metric,
        f"{one.rows:,}",
        number(one.baseline, decimals),
        number(one.candidate, decimals),
        signed(one.improvement, decimals),
        interval(one.lower, one.upper, decimals),
        p_value(one.adjusted_p_value),
        "no answer" if one.harmed is None else "WORSE" if one.harmed else "not worse",
    ]


def _factor(one: Factor) -> list[str]:
    return [_MET[one.met], one.name, one.reason]


def _timing(report: ComparisonReport) -> str:
    one = report.latency
    if one is None:
        return "Latency was not measured."
    champion, challenger = (f"{1000 * seconds:.3g} ms" for seconds in (one.baseline, one.candidate))
    return (
        f"Latency of {one.rows:,} rows: {champion} → {challenger}, ratio {one.ratio:.2f} (median of {one.runs} runs in "
        f"turn, {one.ratio - 1:+.1%})."
    ).replace("-", "−")


def _spelled(value: object) -> str:
    """A setting's value as people write it; empty for one that says nothing."""
    if isinstance(value, dict):
        return " ".join(f"{name} {_spelled(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return "; ".join(map(_spelled, value))
    return "" if value is None else str(value)
