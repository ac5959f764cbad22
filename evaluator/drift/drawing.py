"""A column of two tables made ready to be drawn side by side, from the counts alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluator.drift.distances import edges
from evaluator.drift.feature import Feature
from evaluator.drift.grid import BINS, Floats, Ints
from evaluator.drift.profile import Profile

BARS = 32
"""Bars of a numeric column, each a whole number of bins."""
_LABELS = 20


@dataclass(frozen=True, slots=True)
class Distribution:
    """Shares of the present values, reference and current, each summing to one (or all zero without values).

    Numbers on a grid have `edges` (one more than shares; what lies beyond the outer ones is in the outer shares);
    everything else has `labels`, the last of which is "other".
    """

    name: str
    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


def distribution(profile: Profile, name: str, counts: Ints) -> Distribution:
    """The column `name` of a table counted as `counts`, shape (profile.width,). Raises KeyError for no such column."""
    i = profile.index[name]
    fitted = profile.features[i]
    now = counts[profile.span(i)]
    marks = edges(fitted.grid)[:: BINS // BARS] if fitted.grid.kind in ("linear", "asinh") else np.empty(0)
    return Distribution(
        name,
        tuple(marks.tolist()),
        _labels(fitted),
        tuple(_shares(fitted, fitted.counts).tolist()),
        tuple(_shares(fitted, now).tolist()),
    )


def _labels(fitted: Feature) -> tuple[str, ...]:
    if fitted.grid.kind == "categories":
        return (*fitted.grid.categories[:_LABELS], "other")
    if fitted.grid.kind == "exact":
        return (*(f"{value:g}" for value in fitted.grid.values), "other")
    return ()


def _shares(fitted: Feature, counts: Ints) -> Floats:
    if fitted.grid.kind == "categories":
        bars = np.append(counts[:-1][:_LABELS], counts[:-1][_LABELS:].sum() + counts[-1])
    elif fitted.grid.kind == "exact":
        bars = np.append(counts[1::2], counts[::2].sum())
    else:
        bars = counts[1:-1].reshape(BARS, -1).sum(axis=1)
        bars[0] += counts[0]
        bars[-1] += counts[-1]
    found: Floats = bars / max(1, int(bars.sum()))
    return found
