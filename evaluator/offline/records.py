"""Records of results as plain values, fit for JSON."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any


def to_plain(value: Any) -> Any:
    """Dataclasses as dictionaries, sequences as lists, numbers that are not finite as None.

    Fields that a record leaves out of its `repr` are for plots, and are left out here as well.
    """
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, dict):
        return {str(name): to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class PlainRecord:
    """A frozen record that is JSON-able as the dictionary of its fields."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, without what is only plotted."""
        values: dict[str, Any] = to_plain(self)
        return values
