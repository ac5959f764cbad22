"""An analysis for a terminal: the verdict and its reasons first, then the figures, then what guards saw.

Invariant: nothing from the file reaches the terminal unescaped; a figure without evidence is a dash, not a number.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from evaluator.offline.experiment.result import Analysis, Comparison

WIDTH = 110
MOST_SEGMENTS = 30  # rows of a segment table; JSON and page have all
_ROLES = ("primary", "guardrail", "signal", "exploratory")


def render(answer: Analysis) -> str:
    """The whole report, ending with a newline."""
    parts = [_verdict(answer), _comparisons(answer), _classical(answer), _ratio(answer), _segments(answer)]
    parts += [_guards(answer), _footer(answer)]
    return "\n\n".join(part for part in parts if part) + "\n"


def number(value: float | None, decimals: int | None = None) -> str:
    """With so many decimals, or four significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if decimals is not None:
        return f"{value:,.{decimals}f}".replace("-", "−")
    return (f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}").replace("-", "−")


def signed(value: float | None, decimals: int | None = None) -> str:
    return number(value, decimals) if value is None or value <= 0 else "+" + number(value, decimals)


def interval(lower: float | None, upper: float | None, decimals: int | None = None) -> str:
    """`lower to upper`; an open side is said in words."""
    low, high = signed(lower, decimals), signed(upper, decimals)
    if lower is None and upper is None:
        return "–"
    if upper is None:
        return f"at least {low}"
    return f"at most {high}" if lower is None else f"{low} to {high}"


def decimals(one: Comparison) -> int | None:
    """How many decimals the width of the interval makes meaningful; None where it has none, or is out of scale."""
    if one.lower is None or one.upper is None or not 1e-9 < one.upper - one.lower < 1e12:
        return None
    return max(0, 2 - math.floor(math.log10(one.upper - one.lower)))


def p_text(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def better(comparison: Comparison) -> str:
    """Which direction is better, and what is accepted."""
    margin = f", margin {number(comparison.margin)}" if comparison.margin else ""
    return f"{comparison.direction} is better{margin}"


def validity(answer: Analysis) -> str:
    """What effects, intervals and p values mean in this mode."""
    where = "at the one look that was planned" if answer.mode == "fixed" else "at every look at once"
    return (
        f"Effect: challenger − champion. Intervals and p values hold {where} ({answer.mode}, alpha {answer.alpha:g})."
    )


def overall(answer: Analysis) -> list[Comparison]:
    """The comparisons over all rows, primary ones first."""
    whole = [one for one in answer.comparisons if one.segment is None]
    return sorted(whole, key=lambda one: _ROLES.index(one.role) if one.role in _ROLES else len(_ROLES))


def segments(answer: Analysis, of: Comparison) -> list[Comparison]:
    """The segments of a comparison over all rows."""
    return [
        one
        for one in answer.comparisons
        if one.segment is not None and (one.challenger, one.metric) == (of.challenger, of.metric)
    ]


def difference(answer: Analysis, one: Comparison) -> str:
    """One sentence: why the classical answer and the sequential one differ, or that they do not."""
    fixed, valid = one.fixed.p_value, one.p_value
    if fixed is None or valid is None:
        return "There is not enough evidence to compare the two answers."
    grounds, settings, alpha = _grounds(answer, one), answer.settings, answer.alpha
    if fixed < alpha <= valid:
        why = "; ".join(grounds) or "it is valid for one look, planned before the first row"
        return f"The classical test alone would call this significant, which is not safe here: {why}."
    if valid < alpha <= fixed:
        if one.stopped is not None:
            return (
                f"The sequential test had seen enough at look {one.stopped.look}; over all rows the difference is no "
                "longer clear to the classical test, which forgets when the evidence came."
            )
        why = "; ".join(grounds) or "it weighs the rows otherwise"
        return f"Only the sequential test sees a difference; about the classical one: {why}."
    agreed = "Both see a difference" if fixed < alpha else "Neither sees a difference"
    if fixed < valid:
        clusters = ", and because the rows of a cluster are correlated" if settings.get("cluster") else ""
        return f"{agreed}; the sequential p is larger because it holds at every look, not at one alone{clusters}."
    if valid < fixed and one.looks > 1:
        return f"{agreed}; the sequential p is the smaller one because it keeps the evidence of its best look."
    return f"{agreed}."


def _grounds(answer: Analysis, one: Comparison) -> list[str]:
    """What the classical test does not know about these rows."""
    settings = answer.settings
    grounds = []
    if one.looks > 1:
        grounds.append(f"it is valid for one planned look and there were {one.looks:,}")
    if settings.get("cluster") and one.blocks is not None:
        widened = f", widened {one.widening:.2f}-fold" if one.widening is not None and one.widening > 1.0 else ""
        grounds.append(f"it takes rows for independent, and they come in {one.blocks:,} clusters{widened}")
    if settings.get("propensity"):
        grounds.append("it pools rows of different shares, so that a change over time looks like an effect")
    if settings.get("covariates"):
        grounds.append("it does not use the covariates")
    return grounds


def _verdict(answer: Analysis) -> str:
    head = f"{answer.verdict.upper()}: {', '.join(answer.challengers)} against {answer.champion}"
    return "\n".join([escape(head), *_bullets(answer.reasons)])


def _comparisons(answer: Analysis) -> str:
    """One line a challenger and metric, and below it what its verdict rests on."""
    shown = overall(answer)
    if not shown:
        return ""
    rows = [
        [
            f"{one.metric} ({one.role})",
            one.challenger,
            f"{one.n.get(answer.champion, 0):,}",
            f"{one.n.get(one.challenger, 0):,}",
            number(one.mean.get(answer.champion), decimals(one)),
            number(one.mean.get(one.challenger), decimals(one)),
            signed(one.effect, decimals(one)),
            interval(one.lower, one.upper, decimals(one)),
            p_text(one.p_value),
            one.verdict,
        ]
        for one in shown
    ]
    head = [
        "metric",
        "challenger",
        "n champion",
        "n chall.",
        "champion",
        "chall.",
        "effect",
        "interval",
        "p",
        "verdict",
    ]
    adjusted = [one for one in shown if one.adjusted_p_value is not None and one.adjusted_p_value != one.p_value]
    lines = [*textwrap.wrap(validity(answer), WIDTH), *_table(head, rows, "llrrrrrrrl")]
    lines += [
        f"  {escape(_named(one))}: p {p_text(one.adjusted_p_value)} after the correction for several comparisons"
        for one in adjusted
    ]
    for one in shown:
        lines += ["", f"  {escape(_named(one))}: {one.verdict} ({better(one)})"]
        said = [reason for reason in one.reasons if reason not in answer.reasons]
        lines += ["  " + line for line in _bullets([*said, *_progress(one)])]
    return "\n".join(lines)


def _progress(one: Comparison) -> list[str]:
    """How far the evidence came, and where it stopped."""
    notes = []
    stop = one.stopped
    if stop is not None and not any(f"at look {stop.look}" in reason for reason in one.reasons):
        notes.append(
            f"stopped at look {stop.look:,} after {stop.rows:,} rows: {stop.verdict}, effect "
            f"{signed(stop.effect, decimals(one))} ({interval(stop.lower, stop.upper, decimals(one))})"
        )
    facts = [f"{one.looks:,} looks"]
    if one.information_fraction is not None:
        facts.append(f"{one.information_fraction:.0%} of the planned evidence")
    if one.z is not None:
        facts.append(f"z {number(one.z, 2)}")
    if one.blocks is not None:
        facts.append(f"{one.blocks:,} blocks")
    if one.widening is not None and one.widening != 1.0:
        facts.append(f"variance widened {one.widening:.2f}-fold for correlated blocks")
    if one.skewness is not None:
        facts.append(f"skewness {number(one.skewness, 2)}")
    return [*notes, ", ".join(facts)]


def _classical(answer: Analysis) -> str:
    shown = [one for one in overall(answer) if one.fixed.p_value is not None or one.p_value is not None]
    if not shown:
        return ""
    lines = ["The classical answer on all rows, for comparison:"]
    for one in shown:
        figures = f"{_named(one)}: z {number(one.fixed.z, 2)}, p {p_text(one.fixed.p_value)}"
        lines += _bullets([f"{figures}; sequential p {p_text(one.p_value)}. {difference(answer, one)}"])
    return "\n".join(lines)


def _ratio(answer: Analysis) -> str:
    ratio = answer.sample_ratio
    if ratio is None:
        return ""
    word = "MISMATCH" if ratio.mismatch else "in order"
    ps = f"p {p_text(ratio.sequential_p_value)} at any look, {p_text(ratio.p_value)} at one"
    return "\n".join([f"Sample ratio: {word} ({ps})", *_bullets([ratio.reason])])


def _segments(answer: Analysis) -> str:
    blocks = []
    for whole in overall(answer):
        parts = segments(answer, whole)
        if not parts:
            continue
        shown = sorted(parts, key=lambda one: 2.0 if one.p_value is None else one.p_value)[:MOST_SEGMENTS]
        rows = [
            [
                one.segment or "",
                f"{one.n.get(answer.champion, 0):,}",
                f"{one.n.get(one.challenger, 0):,}",
                signed(one.effect, decimals(one)),
                interval(one.lower, one.upper, decimals(one)),
                p_text(one.p_value),
                one.verdict,
            ]
            for one in shown
        ]
        rest = len(parts) - len(shown)
        lines = [f"Segments, {escape(_named(whole))}, smallest p first:"]
        lines += _table(["segment", "n champion", "n chall.", "effect", "interval", "p", "verdict"], rows, "lrrrrrl")
        if rest:
            lines.append(f"  … and {rest:,} more, in --json and --html")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _guards(answer: Analysis) -> str:
    if not answer.guards:
        return ""
    notes = [f"{guard.name}: {'in order' if guard.ok else 'NOT IN ORDER'}. {guard.reason}" for guard in answer.guards]
    return "\n".join(["Guards over the traffic:", *_bullets(notes)])


def _footer(answer: Analysis) -> str:
    return f"{answer.rows:,} rows, {answer.mode}, alpha {answer.alpha:g}, answer {escape(answer.id)}"


def _named(one: Comparison) -> str:
    return f"{one.metric}, {one.challenger}"


def _bullets(texts: Iterable[str]) -> list[str]:
    return [
        line
        for text in texts
        if text
        for line in textwrap.wrap(escape(text), WIDTH - 2, initial_indent="  - ", subsequent_indent="    ")
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Columns as wide as their longest cell; `sides` says l or r for each."""
    cells = [list(head), *([shortened(escape(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(_aligned(cell, width, side) for cell, width, side in zip(row, widths, sides, strict=True)).rstrip()
        for row in cells
    ]


def shortened(name: str, most: int = 40) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _aligned(cell: str, width: int, side: str) -> str:
    return cell.ljust(width) if side == "l" else cell.rjust(width)


def escape(text: str) -> str:
    """Printable: a control character from the file could drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
