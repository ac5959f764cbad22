"""The demo's report as one HTML page (`report.html` over the report kit) and as text for a terminal (`report.txt`)."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluator.offline.render import html
from evaluator.offline.render.text import count
from gauntlet.cli.demo import phrases, plots
from gauntlet.cli.demo.report_model import Report

_HERE = Path(__file__).parent
_WIDTH = 100


def to_html(report: Report) -> str:
    """The page, which needs no other file; the same report gives the same bytes."""
    begin, end = (f"{datetime.fromtimestamp(at, UTC):%d %B %Y}".lstrip("0") for at in (report.begin, report.end))
    context = {"report": report, "begin": begin, "end": end, "plots": plots, "text": phrases}
    return html.page("report.html", context, folder=_HERE)


def to_text(report: Report) -> str:
    """The report in at most 100 columns."""
    environment = Environment(  # noqa: S701  plain text has nothing to escape
        loader=FileSystemLoader(_HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": count, "day": phrases.day, "wrapped": _wrapped, "shortened": _shortened}
    return environment.get_template("report.txt").render(report=report, text=phrases)


def _wrapped(text: str, lead: str, indent: int) -> str:
    """The text behind `lead`, its further lines indented."""
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=lead, subsequent_indent=" " * indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return "\n".join(wrapper.wrap(text))


def _shortened(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" …")
