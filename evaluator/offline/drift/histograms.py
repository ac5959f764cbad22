"""The two distributions of a column as bars for a plot, from samples of both sides.

For the eye only: no number that decides is taken from them.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, read_categories, read_numbers
from evaluator.drift.feature import Column
from evaluator.offline.drift.result import Bars

Floats = npt.NDArray[np.float64]

_BINS = 36
_LABELS = 9
_TAIL = 0.005
_FEW = 12
"""Up to so many distinct whole numbers have a bar each."""


def number_bars(reference: Column, current: Column) -> Bars | None:
    """Histograms over the range that holds nearly all of both; what lies beyond counts at its ends."""
    before, now = _finite(reference), _finite(current)
    if not len(before) or not len(now):
        return None
    both = [np.quantile(side, (_TAIL, 1 - _TAIL)) for side in (before, now)]
    low, high = min(float(side[0]) for side in both), max(float(side[1]) for side in both)
    distinct = np.unique(np.concatenate([np.unique(before), np.unique(now)]))
    if len(distinct) <= _FEW and bool((distinct == np.round(distinct)).all()):
        labels = tuple(f"{value:g}" for value in distinct)
        return Bars((), labels, _shares_at(before, distinct), _shares_at(now, distinct))
    if not (low < high and np.isfinite(high - low)):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    if not (np.diff(edges) > 0).all():  # values so close that no bin fits between them
        return None
    return Bars(tuple(edges.tolist()), (), _histogram(before, edges), _histogram(now, edges))


def category_bars(reference: Column, current: Column) -> Bars | None:
    """Shares of the categories that are most frequent on either side, the rest as one."""
    before, now = _texts(reference), _texts(current)
    if not before or not now:
        return None
    share = {name: max(before[name] / before.total(), now[name] / now.total()) for name in {*before, *now}}
    names = sorted(share, key=lambda name: (-share[name], name))
    shown = names[:_LABELS] if len(names) > _LABELS + 1 else names
    sides = [[side[name] / side.total() for name in shown] for side in (before, now)]
    if len(shown) < len(names):
        shown = [*shown, f"{len(names) - len(shown)} others"]
        sides = [[*side, max(0.0, 1.0 - sum(side))] for side in sides]
    return Bars((), tuple(shown), tuple(sides[0]), tuple(sides[1]))


def _finite(column: Column) -> Floats:
    values = read_numbers(column)[0]
    return values[np.abs(values) <= 1e150]


def _texts(column: Column) -> Counter[str]:
    if isinstance(column, Coded):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values)).tolist()
        return Counter({value: count for value, count in zip(column.values, counts, strict=True) if count})
    return Counter(value for value in read_categories(column) if isinstance(value, str))


def _histogram(values: Floats, edges: Floats) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return tuple((counts / len(values)).tolist())


def _shares_at(values: Floats, distinct: Floats) -> tuple[float, ...]:
    return tuple((np.bincount(np.searchsorted(distinct, values), minlength=len(distinct)) / len(values)).tolist())
