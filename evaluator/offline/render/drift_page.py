"""A drift report as one HTML file that needs nothing else; every text that comes from the data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from types import ModuleType

from evaluator.drift.performance import MetricChange
from evaluator.offline.drift.result import ColumnDrift, DriftReport, Performance, Quality, StreamReport
from evaluator.offline.drift.settings import DriftRequestError
from evaluator.offline.render import drift_phrases as phrases
from evaluator.offline.render.style import STYLE

_SHOWN = 12
"""Columns with a plot of their distributions."""


def report(found: DriftReport) -> str:
    """Two tables compared. Raises DriftRequestError without matplotlib."""
    plots = _plots()
    roles = {column.name: role for column, role in phrases.outputs(found)}
    outputs = [column for column, _ in phrases.outputs(found)]
    drifted = [column for column in found.features if column.drifted]
    shown = [c for c in [*drifted, *(c for c in outputs if c.drifted)] if c.bars is not None][:_SHOWN]
    rest = [c for c in [*outputs, *found.features] if c.bars is not None and c not in shown]
    title = "The features that drifted" if shown else "The features that moved most"
    shown = shown or rest[:4]
    figures = "\n".join(
        _figure(column, plots.distribution(column.name, column.bars, f"d{i}"))
        for i, column in enumerate(shown)
        if column.bars is not None
    )
    more = f"<p class='muted'>The first {len(shown)} of {len(drifted)}.</p>" if len(drifted) > len(shown) else ""
    action = "" if found.severity == "NONE" else f"<p><b>To do:</b> {escape(phrases.action(found.action))}.</p>"
    body = f"""
<header>
<span class="severity {found.severity}">{found.severity}</span>
<h1>{escape(phrases.verdict(found))}</h1>
{action}
<dl class="cards">
{_cards(found)}
</dl>
</header>
<section>
<h2>{title}</h2>
<p class="muted"><span class="key was">reference</span><span class="key now">current</span></p>
<div class="grid">
{figures}
</div>
{more}
</section>
{_over_time(found, plots)}
{_performance(found.performance)}
<section>
<h2>Every column</h2>
{_columns(phrases.columns(found), roles)}
{_rules(found)}
</section>
{_quality(found.quality, found.notes)}
"""
    rows = f"{found.rows[0]:,} reference rows, {found.rows[1]:,} current rows"
    return _page(f"Drift: {found.severity}", body, f"{rows}; mode {escape(str(found.settings['mode']))}.")


def _over_time(found: DriftReport, plots: ModuleType) -> str:
    steps = found.steps
    if len(steps) < 2:
        return ""
    return f"""<section>
<h2>Over the current rows</h2>
<p class="muted">The current rows in {len(steps)} consecutive slices, each judged by itself. With fewer rows less can be
told from chance: a slice may be quiet where all rows together are not.</p>
<figure>
{plots.severity(steps, found.rows[1], 0, "slice")}
</figure>
</section>"""


def _rules(found: DriftReport) -> str:
    told = (
        "The distance is Kolmogorov and Smirnov's for numbers and the total variation for categories, from 0 (the "
        "same) to 1 (nothing in common). "
    )
    if found.settings["mode"] == "simple":
        told += "A column drifts when the distance passes 0.15 OR the corrected p value is below 0.05."
    else:
        told += (
            "A column drifts when the distance reaches what it needs AND the p value, corrected for all features, is "
            f"below {found.settings['alpha']:g}. What it needs is the rule's 0.15, or more where it strays further "
            "inside the reference. Rows that depend on their neighbours weigh as the fewer rows that they are worth."
        )
    return f'<p class="muted">{told}</p>'


def stream(found: StreamReport) -> str:
    """One table watched. Raises DriftRequestError without matplotlib."""
    plots = _plots()
    opened = sum(event.event == "open" for event in found.events)
    body = f"""
<header>
<span class="severity {found.severity}">{found.severity}</span>
<h1>{escape(phrases.stream_verdict(found))}</h1>
<dl class="cards">
{_card("Worst severity", found.severity, f"at the end {found.final_severity}")}
{_card("Episodes", str(opened), f"{len(found.events)} events")}
{_card("Rows watched", f"{found.rows - found.reference_rows:,}", f"after {found.reference_rows:,} of the reference")}
{_card("Data quality", phrases.number(found.quality.score), "share of usable cells in the last window")}
</dl>
</header>
<section>
<h2>Over the rows</h2>
<figure>
{plots.severity(found.steps, found.rows, found.reference_rows, "window", found.events)}
</figure>
</section>
{_last_window(found, plots)}
<section>
<h2>Events</h2>
{_events(found)}
</section>
{_quality(found.quality, found.notes)}
"""
    return _page(f"Drift: {found.severity}", body, f"{found.rows:,} rows; mode {escape(str(found.settings['mode']))}.")


def _last_window(found: StreamReport, plots: ModuleType) -> str:
    if not found.bars:
        return ""
    figures = "\n".join(
        f"<figure><figcaption><b>{escape(name)}</b></figcaption>{plots.distribution(name, bars, f'd{i}')}</figure>"
        for i, (name, bars) in enumerate(found.bars.items())
    )
    blamed = any(event.features for event in found.events)
    season = found.settings["season"]
    held = f" Numbers are shown by their place among the reference's of the same {season}." if season else ""
    return f"""<section>
<h2>{"The columns to blame" if blamed else "The features that moved most"}</h2>
<p class="muted"><span class="key was">reference</span><span class="key now">the last {found.last:,} rows</span></p>
<p class="muted">{"What drifted earlier may be over by now." if blamed else ""}{held}</p>
<div class="grid">
{figures}
</div>
</section>"""


def _plots() -> ModuleType:
    try:
        from evaluator.offline.render import drift_plots as plots
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        raise DriftRequestError("the page needs matplotlib: pip install 'gauntlet-ml[demo]'") from error
    return plots


def _page(title: str, body: str, footer: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>{body}"
        f"<footer>{footer}</footer>\n</main>\n</body>\n</html>\n"
    )


def _cards(found: DriftReport) -> str:
    cards = [
        _card("Confidence", f"{found.confidence:.0%}".replace("%", " %"), f"root cause: {found.root_cause}"),
        _card("Features drifted", f"{len(found.drifted)} of {len(found.features)}", ", ".join(found.drifted[:4])),
        _card("Data quality", phrases.number(found.quality.score), "share of usable cells, as the reference has them"),
    ]
    if found.performance is not None and found.performance.metrics:
        first = found.performance.metrics[0]
        cards.append(
            _card(phrases.metric(first).capitalize(), f"{first.current:.4g}", f"{first.reference:.4g} in the reference")
        )
    return "\n".join(cards)


def _card(name: str, value: str, note: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"


def _figure(column: ColumnDrift, plot: str) -> str:
    told = f"distance {phrases.number(column.statistic)}, needs {phrases.number(column.threshold, 2)}"
    p_value = column.p_value if column.adjusted_p_value is None else column.adjusted_p_value
    return (
        f"<figure><figcaption><b>{escape(column.name)}</b> {told}, p {escape(phrases.p_value(p_value))}</figcaption>"
        f"{plot}</figure>"
    )


def _columns(columns: Sequence[ColumnDrift], roles: dict[str, str]) -> str:
    rows = []
    for c in columns:
        p_value = c.p_value if c.adjusted_p_value is None else c.adjusted_p_value
        told = phrases.drift(c)
        bar = f'<span class="bar{" bad" if c.drifted else ""}" style="width:{70 * (c.statistic or 0.0):.0f}px"></span>'
        kind = f"{c.kind}, the {roles[c.name]}" if c.name in roles else c.kind
        sides = "–" if c.lower is None or c.upper is None else f"{c.lower:.3f} – {c.upper:.3f}"
        rows.append(
            [
                f"{escape(c.name)}<small>{escape(kind)}</small>",
                bar,
                phrases.number(c.statistic),
                sides,
                phrases.number(c.threshold, 2),
                escape(phrases.p_value(p_value)),
                phrases.number(c.psi),
                f"{phrases.share(c.missing[0])} → {phrases.share(c.missing[1])}",
                "–" if c.rows_worth is None else f"{c.rows_worth:,.0f}",
                f'<span class="bad">{escape(told)}</span>' if c.drifted else "–" if told == "no" else escape(told),
            ]
        )
    head = ["Column", "", "Distance", "Certified", "Needs", "p, corrected", "PSI", "Missing", "Rows worth", "Drift"]
    return _table(head, rows, ["", "", "n", "n", "n", "n", "n", "n", "n", ""], "No feature was watched.")


def _performance(performance: Performance | None) -> str:
    if performance is None:
        return ""
    rows = [
        [
            escape(phrases.metric(m)),
            f"{m.reference:.4g}",
            f"{m.current:.4g}",
            phrases.moved(m, m.change),
            f"{m.limit:+.0%}",
            phrases.moved(m, m.bound),
            f"{m.rows:,}",
            f'<span class="{_colour(m)}">{phrases.judged(m)}</span>',
        ]
        for m in performance.metrics
    ]
    head = ["Metric", "Reference", "Current", "Change", "Matters from", "99 % bound", "Rows", ""]
    table = _table(head, rows, ["", "n", "n", "n", "n", "n", "n", ""], "No row has both prediction and target.")
    return f"<section>\n<h2>Performance</h2>\n{table}\n</section>"


def _colour(change: MetricChange) -> str:
    return {"worse": "bad", "fine": "good"}.get(phrases.judged(change), "muted")


def _events(found: StreamReport) -> str:
    rows = [
        [
            f"{event.row:,}",
            escape(event.event),
            f'<span class="pill {event.severity}">{event.severity}</span>',
            "–" if event.event == "close" else f"{event.confidence:.2f}",
            "–" if event.event == "close" else escape(event.root_cause.replace("_", " ")),
            escape(", ".join(feature["name"] for feature in event.features)) or "–",
            "over" if event.event == "close" else escape(phrases.action(event.action)),
        ]
        for event in found.events
    ]
    head = ["Row", "Event", "Severity", "Confidence", "Root cause", "Features", "To do"]
    return _table(head, rows, ["n", "t", "", "n", "t", "", ""], "Nothing happened.")


def _quality(quality: Quality, notes: Iterable[str]) -> str:
    items = [
        f"<li{' class=bad' if finding.alarming else ''}>"
        f"{escape(f'{finding.column}: ') if finding.column and finding.column not in finding.message else ''}"
        f"{escape(finding.message)}</li>"
        for finding in quality.findings
    ]
    items += [f"<li>{escape(note)}</li>" for note in notes]
    told = "\n".join(items) or "<li>Nothing to remark.</li>"
    return f"<section>\n<h2>Remarks on the data</h2>\n<ul>\n{told}\n</ul>\n</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str], empty: str) -> str:
    """A table of cells that are HTML already; `empty` is said when there are no rows."""
    if not rows:
        return f'<p class="muted">{empty}</p>'
    titles = "".join(f'<th scope="col" class="{c}">{h}</th>' for h, c in zip(head, classes, strict=True))
    cells = (map(lambda c, k: f'<td class="{k}">{c}</td>', row, classes) for row in rows)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
