"""Pages: Jinja2 templates over one base and one stylesheet, which is inlined so that a page needs no other file.

Invariant: every value is escaped (autoescape), and control characters are spelled out. `Markup` alone, from macros and
from `plot.svg`, is taken as HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from jinja2.loaders import BaseLoader
from markupsafe import Markup

from evaluator.offline.render import text

_HERE = Path(__file__).parent
_FORMATS = (text.count, text.interval, text.number, text.p_value, text.percent, text.signed, text.whole)


def page(template: str, context: Mapping[str, object], *, folder: Path | None = None) -> str:
    """A template as a page. A caller's own templates lie in `folder` and may use `base.html` and `macros.html`."""
    folders = [_HERE / "templates"] if folder is None else [folder, _HERE / "templates"]
    loaders: list[BaseLoader] = [FileSystemLoader(one) for one in folders]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
        finalize=_printable,
    )
    environment.filters.update({one.__name__: one for one in _FORMATS})
    environment.globals["style"] = Markup((_HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704  our own file
    return environment.get_template(template).render(context)


def _printable(value: object) -> object:
    return value if isinstance(value, Markup) or not isinstance(value, str) else text.printable(value)
