"""A drift report as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from evaluator.offline.drift.result import ColumnDrift, DriftReport, Finding, Performance, Quality, StreamReport
from evaluator.offline.render import drift_phrases as phrases

_ROWS = 15
_NAME = 28


def report(found: DriftReport) -> str:
    """Two tables compared."""
    lines = [
        *_head(found),
        f"{found.rows[0]:,} reference rows, {found.rows[1]:,} current rows; {len(found.drifted)} of "
        f"{len(found.features)} features drifted ({found.settings['mode']})",
        "",
    ]
    outputs, columns = phrases.outputs(found), phrases.columns(found)
    shown = columns[: _ROWS + len(outputs)]
    lines += _columns(shown, {c.name: r for c, r in outputs})
    if len(columns) > len(shown):
        lines.append(f"… and {len(columns) - len(shown)} more features, none of them worse")
    lines += _performance(found.performance)
    lines += _quality(found.quality)
    lines += [f"Note: {note}" for note in found.notes]
    return "\n".join(lines)


def _head(found: DriftReport) -> list[str]:
    if found.severity == "NONE":
        return [f"NONE  {phrases.verdict(found)}"]
    return [
        f"{found.severity}  confidence {found.confidence:.2f}, root cause {found.root_cause}: {phrases.verdict(found)}",
        f"To do: {phrases.action(found.action)}.",
    ]


def stream(found: StreamReport) -> str:
    """One table watched, after its last row."""
    lines = [f"{found.severity}  {phrases.stream_verdict(found)}"]
    lines += [
        f"  row {event.row:>10,}  {event.event:9} {event.severity:9} {event.root_cause:14} "
        f"{', '.join(feature['name'] for feature in event.features[:3])}"
        for event in found.events
    ]
    lines += _quality(found.quality)
    lines += [f"Note: {note}" for note in found.notes]
    return "\n".join(lines)


def _columns(columns: Sequence[ColumnDrift], roles: dict[str, str]) -> list[str]:
    if not columns:
        return []
    names = [f"{c.name} ({roles[c.name]})" if c.name in roles else c.name for c in columns]
    width = min(_NAME, max(map(len, names)))
    head = f"{'column':{width}}  {'distance':>8}  {'certified':>13}  {'needs':>5}  {'adj. p':>8}  {'missing':>7}  drift"
    lines = [head]
    for name, column in zip(names, columns, strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        sides = "–" if column.lower is None else f"{column.lower:.3f} – {column.upper:.3f}"
        p_value = column.p_value if column.adjusted_p_value is None else column.adjusted_p_value
        lines.append(
            f"{short:{width}}  {phrases.number(column.statistic):>8}  {sides:>13}  "
            f"{phrases.number(column.threshold, 2):>5}  {phrases.p_value(p_value):>8}  {column.missing[1]:>7.1%}  "
            f"{phrases.drift(column)}"
        )
    return lines


def _performance(performance: Performance | None) -> list[str]:
    if performance is None:
        return []
    lines = ["", "Performance"]
    for change in performance.metrics:
        mark = phrases.judged(change)
        mark = mark.upper() if change.breached else mark
        by, bound = phrases.moved(change, change.change), phrases.moved(change, change.bound)
        lines.append(
            f"  {phrases.metric(change)}: {change.reference:.4g} → {change.current:.4g} ({by}; "
            f"matters from {change.limit:+.0%}, 99 % bound {bound}, {change.rows:,} rows): {mark}"
        )
    return lines


def _quality(quality: Quality) -> list[str]:
    score = "not known yet" if quality.score is None else f"{quality.score:.3f}"
    lines = ["", f"Data quality {score}"]
    return lines + [_finding(finding) for finding in quality.findings]


def _finding(finding: Finding) -> str:
    where = f"{finding.column}: " if finding.column is not None and finding.column not in finding.message else ""
    return f"  {'! ' if finding.alarming else '  '}{where}{finding.message}"
