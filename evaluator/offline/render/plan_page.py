"""A plan as one HTML page that needs nothing else, the same bytes for the same plan.

Invariant: every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

from evaluator.offline.planning.result import PlanReport
from evaluator.offline.render import plan_plots, plan_text
from evaluator.offline.render.style import STYLE


def render(report: PlanReport) -> str:
    """The whole page."""
    form = report.form
    cards = [
        ("min_samples", f"{form.min_samples:,}", "pairs" if form.form == "paired" else "challenger's outcomes"),
        ("to the horizon", f"{plan_text.whole(form.days)} days", f"{plan_text.whole(form.outcomes)} outcomes"),
        ("on average", f"{plan_text.whole(form.expected_days)} days", "if the effect is there"),
        ("power", plan_text.percent(form.power), plan_text.found(report)),
    ]
    head = ["True effect", "", "Better", "Worse", "One look", "Days", "Half by", "90 % by", "Outcomes", "Challenger's"]
    return _PAGE.substitute(
        style=STYLE,
        lead=escape(plan_text.question(report.question)),
        cards="".join(
            f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cards
        ),
        plots=plan_plots.svg(report),
        expected=_table(head, plan_text.expected_rows(report)),
        yardsticks=_table(["", "Outcomes", "Challenger's", "Days"], plan_text.yardstick_rows(report)),
        forms=_table(plan_text.FORM_HEAD, plan_text.form_rows(report)),
        saving=escape(plan_text.saving(report)),
        notes="".join(f"<li>{escape(note)}</li>" for note in [*plan_text.clusters(report), *report.notes]),
        settings=_table(["", ""], [[name, str(value)] for name, value in report.question.items() if value is not None]),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["t", *("n" for _ in cells[1:])]
        return "<tr>" + "".join(f'<{tag} class="{k}">{escape(c)}</{tag}>' for c, k in zip(cells, kinds, strict=True))

    body = "".join(row(cells, "td") + "</tr>" for cells in rows)
    return f'<div class="wide"><table><thead>{row(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plan of a test</title>
<style>$style</style>
</head>
<body>
<main>
<h1>Plan of a test</h1>
<p class="lead">$lead</p>
<dl class="cards">$cards</dl>
<figure style="margin-top:1.6rem">$plots</figure>
<h2>What to expect, by the true effect</h2>
<p class="muted">Days and outcomes are means at the end; "one look" is the classical test at the same horizon.</p>
$expected
<h2>What others need for the same effect</h2>
$yardsticks
<h2>Paired beside split</h2>
<p>$saving</p>
$forms
<h2>Notes</h2>
<ul>$notes</ul>
<h2>What was asked</h2>
$settings
<footer>Made by gauntlet plan.</footer>
</main>
</body>
</html>
""")
