"""An analysis as one HTML page that needs nothing else, the same bytes for the same answer.

Invariant: every text that came from the file or the command is escaped, in tables, attributes and plots alike.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template

from evaluator.offline.experiment.result import Analysis, Comparison
from evaluator.offline.render import experiment_plots
from evaluator.offline.render.experiment_text import (
    better,
    decimals,
    difference,
    interval,
    number,
    overall,
    p_text,
    segments,
    signed,
    validity,
)
from evaluator.offline.render.experiment_text import escape as printable

MOST_IN_FOREST = 60  # segments in one plot; the table below it has all
MOST_FIGURES = 24  # comparisons with plots of their own, primary metrics first
_COLOURS = {"better": "good", "worse": "bad", "invalid": "bad", "equivalent": "blue"}


def render(answer: Analysis, title: str) -> str:
    """The whole page. `title` says which log this is, for example the file's name."""
    return _PAGE.substitute(
        title=escape(title),
        lead=escape(
            f"{', '.join(answer.challengers)} against {answer.champion}, the champion, over {answer.rows:,} rows. "
            + validity(answer)
        ),
        verdict=escape(answer.verdict),
        verdict_class=_COLOURS.get(answer.verdict, "open"),
        reasons=_list(answer.reasons),
        comparisons=_comparisons(answer),
        classical=_classical(answer),
        figures=_figures(answer),
        segments=_segments(answer),
        traffic=_traffic(answer),
        settings=_settings(answer),
        footer=escape(f"Answer {answer.id}. Made by gauntlet analyze."),
    )


def escape(text: str) -> str:
    """Fit for HTML text and attributes; control characters are spelled out."""
    return html.escape(printable(text))


def _comparisons(answer: Analysis) -> str:
    rows = []
    for one in overall(answer):
        corrected = "" if one.adjusted_p_value is None else f"corrected {p_text(one.adjusted_p_value)}"
        stopped = "" if one.stopped is None else f"at look {one.stopped.look:,} of {one.looks:,}"
        rows.append(
            [
                _two(one.metric, f"{one.role}, {one.kind}; {better(one)}"),
                escape(one.challenger),
                *_figures_of(answer, one),
                _two(p_text(one.p_value), corrected),
                _pill(one.verdict) + (f"<small>{stopped}</small>" if stopped else ""),
            ]
        )
    head = ["Metric", "Challenger", "Champion's", "Challenger's", "Effect", "p", "Verdict"]
    return _table(head, rows, "llrrrrl", "There is no comparison.")


def _figures_of(answer: Analysis, one: Comparison) -> list[str]:
    """Three cells: both arms' values with their rows, and the effect with its interval."""
    digits = decimals(one)
    return [
        *(
            _two(number(one.mean.get(arm), digits), f"{one.n.get(arm, 0):,} rows")
            for arm in (answer.champion, one.challenger)
        ),
        _two(signed(one.effect, digits), interval(one.lower, one.upper, digits)),
    ]


def _classical(answer: Analysis) -> str:
    rows = [
        [
            _two(one.metric, one.challenger),
            number(one.fixed.z, 2),
            p_text(one.fixed.p_value).replace("<", "&lt;"),
            number(one.z, 2),
            p_text(one.p_value).replace("<", "&lt;"),
            escape(difference(answer, one)),
        ]
        for one in overall(answer)
    ]
    head = ["Metric", "Classical z", "Classical p", "Sequential z", "Sequential p", "Why they differ"]
    return _table(head, rows, "lrrrrl", "There is no comparison.")


def _figures(answer: Analysis) -> str:
    parts = []
    whole = overall(answer)
    for place, one in enumerate(whole[:MOST_FIGURES]):
        facts = [f"{one.looks:,} looks"]
        if one.information_fraction is not None:
            facts.append(f"{one.information_fraction:.0%} of the planned evidence")
        if one.blocks is not None:
            facts.append(f"{one.blocks:,} blocks")
        if one.widening is not None and one.widening != 1.0:
            facts.append(f"variance widened {one.widening:.2f}-fold because blocks are correlated")
        if one.skewness is not None:
            facts.append(f"skewness of the blocks {one.skewness:.2f}")
        svg = experiment_plots.looks(answer, one, f"looks{place}")
        drawn = f"<figure>{svg}</figure>" if svg else '<p class="muted">There was no look with an effect to draw.</p>'
        parts.append(
            f"<h3>{escape(one.metric)}: {escape(one.challenger)} {_pill(one.verdict)}</h3>"
            f'{_list(one.reasons)}<p class="muted">{escape(", ".join(facts))}.</p>{drawn}'
        )
    if len(whole) > MOST_FIGURES:
        parts.append(f'<p class="muted">{len(whole) - MOST_FIGURES:,} more comparisons are in the tables.</p>')
    return "\n".join(parts)


def _segments(answer: Analysis) -> str:
    parts = []
    for place, whole in enumerate(overall(answer)):
        inside = segments(answer, whole)
        if not inside:
            continue
        drawn = sorted(inside, key=lambda one: -sum(one.n.values()))[:MOST_IN_FOREST]
        kept = [one for one in inside if one in drawn]
        svg = experiment_plots.forest(whole, kept, f"forest{place}")
        rest = len(inside) - len(kept)
        note = (
            f'<p class="muted">The {len(kept):,} largest segments are drawn; all are in the table.</p>' if rest else ""
        )
        rows = [
            [
                escape(one.segment or ""),
                *_figures_of(answer, one),
                escape(p_text(one.p_value)),
                _pill(one.verdict) + "".join(f"<small>{escape(reason)}</small>" for reason in one.reasons),
            ]
            for one in inside
        ]
        head = ["Segment", "Champion's", "Challenger's", "Effect", "p", "Verdict"]
        table = _table(head, rows, "lrrrrl", "")
        parts.append(
            f"<h3>{escape(whole.metric)}: {escape(whole.challenger)}</h3>"
            f"{f'<figure>{svg}</figure>' if svg else ''}{note}"
            f"<details{'' if svg else ' open'}><summary>{len(inside):,} segments as a table</summary>{table}</details>"
        )
    if not parts:
        return ""
    about = (
        "The same comparison in each segment. The diamond and the dashed line are the effect over all rows; an arrow "
        "means that the interval goes on."
    )
    return f'<section><h2>Segments</h2><p class="muted">{about}</p>' + "\n".join(parts) + "</section>"


def _traffic(answer: Analysis) -> str:
    ratio = answer.sample_ratio
    parts = []
    if ratio is not None:
        rows = [
            [escape(arm), f"{count:,}", f"{ratio.expected[arm]:,.1f}" if arm in ratio.expected else "–"]
            for arm, count in ratio.observed.items()
        ]
        parts.append(_table(["Arm", "Rows", "Expected"], rows, "lrr", ""))
        word = _mark("mismatch" if ratio.mismatch else "in order", "bad" if ratio.mismatch else "good")
        ps = f"p {p_text(ratio.sequential_p_value)} at any look, {p_text(ratio.p_value)} at one"
        parts.append(f"<p>Sample ratio: {word} ({escape(ps)}). {escape(ratio.reason)}</p>")
    guards = [
        [
            escape(guard.name),
            _mark("in order", "good") if guard.ok else _mark("not in order", "bad"),
            escape(guard.reason),
        ]
        for guard in answer.guards
    ]
    if guards:
        parts.append(_table(["Guard", "", "What it saw"], guards, "lll", ""))
    return "\n".join(parts) or '<p class="muted">Nothing was asked about the traffic.</p>'


def _settings(answer: Analysis) -> str:
    rows = [
        [escape(name.replace("_", " ")), escape(_spelled(value))]
        for name, value in answer.settings.items()
        if value is not None and value != () and value != []
    ]
    return _table(["Setting", "Value"], rows, "ll", "")


def _spelled(value: object) -> str:
    if isinstance(value, dict) and {"name", "kind", "columns"} <= value.keys():  # a metric
        return f"{value['name']} ({value['kind']} of {_spelled(value['columns'])}, {value.get('role', '')})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spelled(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_spelled, value))
    return number(value) if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], sides: str, empty: str) -> str:
    """A table of cells that are HTML already, under titles that are not; `empty` is said when there are no rows."""
    body = [
        "<tr>" + "".join(f'<td class="{s}">{c}</td>' for c, s in zip(row, sides, strict=True)) + "</tr>" for row in rows
    ]
    if not body:
        return f'<p class="muted">{empty}</p>' if empty else ""
    titles = "".join(f'<th scope="col" class="{s}">{escape(h)}</th>' for h, s in zip(head, sides, strict=True))
    rest = "\n".join(body)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>\n{rest}</tbody></table></div>'


def _two(first: str, second: str) -> str:
    return f"{escape(first)}<small>{escape(second)}</small>" if second else escape(first)


def _list(reasons: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in reasons) + "</ul>" if reasons else ""


def _pill(verdict: str) -> str:
    return _mark(verdict, _COLOURS.get(verdict, ""))


def _mark(word: str, colour: str) -> str:
    return f'<span class="kind {colour}">{escape(word)}</span>'


_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title: $verdict</title>
<style>
:root { --ink: #1f2933; --muted: #5f6b78; --line: #e1e6eb; --soft: #f6f8fa; --blue: #0b62a4; --green: #006b51;
  --orange: #a84300; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .6rem; }
h3 { font-size: 1.02rem; margin: 2rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; max-width: 78ch; }
ul { margin: .4rem 0; padding-left: 1.2rem; max-width: 84ch; overflow-wrap: anywhere; }
.muted, .lead { color: var(--muted); }
.lead { overflow-wrap: anywhere; }
.verdict { margin: 1.6rem 0 0; padding: 1.1rem 1.3rem; border-left: .4rem solid var(--muted); background: var(--soft); }
.verdict b { font-size: 1.5rem; letter-spacing: -.01em; text-transform: capitalize; }
.verdict.good { border-color: var(--green); } .verdict.good b { color: var(--green); }
.verdict.bad { border-color: var(--orange); } .verdict.bad b { color: var(--orange); }
.verdict.blue { border-color: var(--blue); } .verdict.blue b { color: var(--blue); }
figure { margin: .8rem 0 0; }
figure svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin-top: .6rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: .82rem; border-bottom: 2px solid var(--line); }
th, td { padding: .45rem 1rem .45rem 0; vertical-align: top; overflow-wrap: break-word; }
td:first-child { min-width: 8.5rem; max-width: 22rem; }
td { border-bottom: 1px solid var(--line); }
th.r, td.r { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--muted); font-size: .85rem; }
details { margin-top: .8rem; } summary { cursor: pointer; color: var(--blue); }
.kind { display: inline-block; padding: .02rem .55rem; border-radius: .8rem; font-size: .82rem; font-weight: 500;
  white-space: nowrap; color: var(--muted); background: #eef1f4; }
.kind.good { color: var(--green); background: #e2f3ed; } .kind.bad { color: var(--orange); background: #fbeadf; }
.kind.blue { color: var(--blue); background: #e6f0f8; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted); font-size: .88rem;
  overflow-wrap: anywhere; }
@media print { main { padding: 0; } h2, h3 { break-after: avoid; } figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="lead">$lead</p>
<div class="verdict $verdict_class"><b>$verdict</b>
$reasons
</div>
</header>
<section>
<h2>Every metric</h2>
$comparisons
</section>
<section>
<h2>Beside the classical answer</h2>
<p class="muted">The classical test on all rows takes one look, planned before the first row, and independent rows for
granted. It is shown for comparison; the verdict rests on the sequential answer.</p>
$classical
</section>
<section>
<h2>Over the looks</h2>
$figures
</section>
$segments
<section>
<h2>The traffic</h2>
$traffic
</section>
<section>
<h2>What was asked</h2>
$settings
</section>
<footer>$footer</footer>
</main>
</body>
</html>
""")
