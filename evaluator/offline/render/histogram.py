"""Histograms of a column in the reference and now, from samples of both sides; for the eye only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from evaluator.drift.columns import Coded, Column, read_categories, read_numbers
from evaluator.drift.grid import Floats
from evaluator.offline.drift.result import ColumnSample

_BINS = 36
_CATEGORIES = 9
_TAIL = 0.005  # share of the values at either end that a histogram's range may leave out
_FEW = 12  # up to so many distinct whole numbers have a bar each
_HUGE = 1e150  # beyond it the width of a bin overflows


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distributions of one column in the reference and now, as shares of the present values; for plots only.

    edges: of the bins of numbers, shape (bins + 1,), else empty. labels: of the bars of categories or of few whole
    numbers, else empty.
    """

    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]

    @classmethod
    def of(cls, sample: ColumnSample | None) -> Histogram | None:
        """None without a sample, where a side has no value, or where no bin fits between the values."""
        if sample is None:
            return None
        build = cls._of_numbers if sample.numeric else cls._of_categories
        return build(sample.reference, sample.current)

    @classmethod
    def _of_numbers(cls, reference: Column, current: Column) -> Histogram | None:
        """Over the range that holds nearly all of both; values beyond it count at its ends."""
        before, now = _finite(reference), _finite(current)
        if not len(before) or not len(now):
            return None
        ranges = [np.quantile(side, (_TAIL, 1 - _TAIL)) for side in (before, now)]
        low, high = min(float(one[0]) for one in ranges), max(float(one[1]) for one in ranges)
        distinct = np.unique(np.concatenate([np.unique(before), np.unique(now)]))
        if len(distinct) <= _FEW and bool((distinct == np.round(distinct)).all()):
            labels = tuple(f"{value:g}" for value in distinct)
            return cls((), labels, _shares_of_values(before, distinct), _shares_of_values(now, distinct))
        if not (low < high and np.isfinite(high - low)):
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        if not (np.diff(edges) > 0).all():
            return None
        return cls(tuple(edges.tolist()), (), _shares_of_bins(before, edges), _shares_of_bins(now, edges))

    @classmethod
    def _of_categories(cls, reference: Column, current: Column) -> Histogram | None:
        """Of the categories that are most frequent on either side, the rest as one."""
        before, now = _category_counts(reference), _category_counts(current)
        if not before or not now:
            return None
        share = {name: max(before[name] / before.total(), now[name] / now.total()) for name in {*before, *now}}
        names = sorted(share, key=lambda name: (-share[name], name))
        shown = names[:_CATEGORIES] if len(names) > _CATEGORIES + 1 else names
        sides = [[side[name] / side.total() for name in shown] for side in (before, now)]
        if len(shown) < len(names):
            shown = [*shown, f"{len(names) - len(shown)} others"]
            sides = [[*side, max(0.0, 1.0 - sum(side))] for side in sides]
        return cls((), tuple(shown), tuple(sides[0]), tuple(sides[1]))


def _finite(column: Column) -> Floats:
    values = read_numbers(column)[0]
    return values[np.abs(values) <= _HUGE]


def _category_counts(column: Column) -> Counter[str]:
    if isinstance(column, Coded):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values)).tolist()
        return Counter({value: count for value, count in zip(column.values, counts, strict=True) if count})
    return Counter(value for value in read_categories(column) if isinstance(value, str))


def _shares_of_bins(values: Floats, edges: Floats) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return tuple((counts / len(values)).tolist())


def _shares_of_values(values: Floats, distinct: Floats) -> tuple[float, ...]:
    return tuple((np.bincount(np.searchsorted(distinct, values), minlength=len(distinct)) / len(values)).tolist())
