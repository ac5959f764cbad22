"""The demo's report as one HTML page that needs no other file: the report kit's base and style, and `demo.html`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from evaluator.offline.render import html
from gauntlet.cli.demo import plots, text
from gauntlet.cli.demo.report_model import Report


def render(report: Report) -> str:
    """The page; the same report gives the same bytes."""
    begin, end = (f"{datetime.fromtimestamp(at, UTC):%d %B %Y}".lstrip("0") for at in (report.begin, report.end))
    context = {"report": report, "begin": begin, "end": end, "plots": plots, "text": text}
    return html.page("demo.html", context, folder=Path(__file__).parent)
