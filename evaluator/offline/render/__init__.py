"""The report kit: results as text for a terminal, as JSON and as pages; the only place that knows how they look.

Templates (Jinja2) hold the layout; a page's stylesheet is inlined, so that it needs no other file. `experiment`,
`comparator`, `drift` and `plan` render one kind of result each, `figures` has their plots, drawn with `plot`. Results
never import this package. Invariant: no control character of a name from the data reaches the reader, and a page
escapes every value but `Markup`, which is from macros and from `plot.svg`; an unknown number is a dash.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext
from markupsafe import Markup

from evaluator.offline.records import to_plain
from gauntlet.spelling import printable as printable

WIDTH = 110


def shortened(name: str, most: int = 40) -> str:
    """The name, cut to so many characters with an ellipsis."""
    return name if len(name) <= most else name[: most - 1] + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str, most: int = 60) -> list[str]:
    """Lines of a table, columns as wide as their longest cell; `sides` is l or r for each, cells are cut at `most`."""
    cells = [list(head), *([shortened(printable(cell), most) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = {"l": str.ljust, "r": str.rjust}
    return [
        "  " + "  ".join(aligned[s](cell, w) for cell, w, s in zip(row, widths, sides, strict=True)).rstrip()
        for row in cells
    ]


def bullets(texts: Iterable[str]) -> list[str]:
    """Lines of a list, wrapped at the terminal's width; empty texts are left out."""
    wrapper = textwrap.TextWrapper(WIDTH - 2, initial_indent="  - ", subsequent_indent="    ")
    return [line for one in texts if one for line in wrapper.wrap(printable(one))]


def number(value: float | None, decimals: int | None = None) -> str:
    """A number as text: with so many decimals, or four significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if decimals is not None:
        return f"{value:z,.{decimals}f}".replace("-", "−")
    return (f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:z.4g}").replace("-", "−")


def signed(value: float | None, decimals: int | None = None) -> str:
    """A number with its sign."""
    shown = number(value, decimals)
    return shown if value is None or value <= 0 or not shown.strip("0.") else f"+{shown}"


def interval(lower: float | None, upper: float | None, decimals: int | None = None) -> str:
    """`lower to upper`; an open side is said in words."""
    low, high = signed(lower, decimals), signed(upper, decimals)
    if lower is None and upper is None:
        return "–"
    if upper is None:
        return f"at least {low}"
    return f"at most {high}" if lower is None else f"{low} to {high}"


def interval_decimals(lower: float | None, upper: float | None) -> int | None:
    """Decimals that an interval's width makes meaningful; None where it has none, or is out of scale."""
    if lower is None or upper is None or not 1e-9 < upper - lower < 1e12:
        return None
    return max(0, 2 - math.floor(math.log10(upper - lower)))


def p_value(value: float | None) -> str:
    """A p value with four decimals."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def whole(value: float) -> str:
    """Days and counts: without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")


def percent(value: float | None) -> str:
    """A share in percent, small ones with a decimal more."""
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if 0.0001 <= value < 0.1 else f"{100 * value:.1f} %"


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{value:,.0f}"


def wrapped(text: str, lead: str = "", indent: int = 0, width: int = WIDTH) -> str:
    """A paragraph behind `lead`, its further lines indented by so many spaces."""
    wrapper = textwrap.TextWrapper(width, initial_indent=lead, subsequent_indent=" " * indent)
    return "\n".join(wrapper.wrap(text))


def as_json(report: Any, *, indent: int | None = 2, ascii_only: bool = False) -> str:
    """A report, or plain values, as JSON text without NaN: a number that is not finite is null."""
    values = report.to_dict() if hasattr(report, "to_dict") else report
    return json.dumps(to_plain(values), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


_HERE = Path(__file__).parent
_FILTERS: Final = (bullets, count, interval, number, p_value, percent, printable, shortened, signed, whole, wrapped)


@pass_eval_context
def _printable(context: EvalContext, value: object) -> object:
    """What a template prints: lines break in a text only."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value) if context.autoescape else "\n".join(map(printable, value.split("\n")))


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, _HERE / "templates"]),
        autoescape=select_autoescape(("html",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
        finalize=_printable,
    )
    environment.filters.update({one.__name__: one for one in _FILTERS})
    environment.globals["table"] = table
    environment.globals["style"] = Markup((_HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704  our own file
    return environment


def rendered(template: str, context: Mapping[str, object], folder: Path = _HERE) -> str:
    """A template, `.html` or `.txt`, with these values. A caller's own templates lie in `folder`, and may use the
    kit's."""
    content = _environment(folder).get_template(template).render(context)
    return content if template.endswith("html") else re.sub(r"\n{3,}", "\n\n", content).strip("\n") + "\n"
