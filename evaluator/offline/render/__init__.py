"""The report kit: results as text for a terminal, as JSON and as pages; the only place that knows how they look.

`html`, `plot` and `text` are the kit; `experiment`, `drift` and `plan` use it for one kind of result each, `figures`
has their plots. Results never import this package.
"""

from __future__ import annotations

import json
from typing import Any

from evaluator.offline.records import to_plain


def as_json(report: Any, *, indent: int | None = 2, ascii_only: bool = False) -> str:
    """A report, or plain values, as JSON text without NaN: a number that is not finite is null."""
    values = report.to_dict() if hasattr(report, "to_dict") else report
    return json.dumps(to_plain(values), indent=indent, ensure_ascii=ascii_only, allow_nan=False)
