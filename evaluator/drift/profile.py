"""The frozen reference of one model version: grids, counts and null calibrations of its columns.

Fitted once, stored with the version, never changed. Counts carry the hash of their profile; counts of different hashes
are never added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from evaluator.drift.cbpe import ScoreReference
from evaluator.drift.columns import Coded, Column, batch_rows, read_categories, read_numbers
from evaluator.drift.concept import ErrorReference
from evaluator.drift.feature import (
    ABSENT,
    INFINITE,
    MISSING,
    MISTYPED,
    QUICK_PANES,
    SPECIALS,
    FeatureArrays,
    FeatureReference,
    Role,
    fit_feature,
)
from evaluator.drift.grid import BINS, HUGE, Bools, Floats, Ints
from evaluator.drift.markov import STATES, RegimeReference, has_memory
from evaluator.drift.performance import WINDOWS as PERFORMANCE_WINDOWS
from evaluator.drift.performance import PerformanceReference, Task, losses_of, squared_errors
from evaluator.drift.state import from_builtins, to_builtins

PANE = 64
"""Rows of a pane: the step of the windows, and the rows between two looks."""
WINDOWS = (250, 1000, 4000)
"""Rows of the windows, rounded up to whole panes: short ones react fast, long ones detect small shifts."""
OUTLIER = 1 << 30
"""Flag on a code: the value is more than three standard deviations from the reference's mean."""
TARGET = "target"
"""Name of the outcomes' column in their own profile."""
_VERSION = 6
_CHUNK = 16_000
"""Numbers encoded at once: under 128 kB, so that they stay in the processor's cache."""
_KIND_ORDER = ("linear", "asinh", "exact", "categories")


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The reference's outcomes: their distribution as a profile of one column, and the model's performance on them.

    `performance` needs predictions, `scores` a score and 0/1 outcomes.
    """

    distribution: Profile
    performance: PerformanceReference | None
    scores: ScoreReference | None


@dataclass(frozen=True, eq=False)
class Profile(FeatureArrays):
    """The reference of one model version. Build with `fit` or `from_dict`.

    `features` are ordered linear, asinh, exact, categories, so that whole blocks of columns are encoded at once;
    `column_order` has their names as given. `prediction` and `score` name the model's outputs among them.
    """

    reference_id: str
    rows: int
    pane: int
    windows: tuple[int, ...]
    features: tuple[FeatureReference, ...]
    column_order: tuple[str, ...]
    errors: ErrorReference | None = None
    truth: GroundTruth | None = None
    regimes: tuple[RegimeReference, ...] = ()
    prediction: str | None = None
    score: str | None = None

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Column],
        *,
        reference_id: str,
        pane: int = PANE,
        windows: Sequence[int] = WINDOWS,
        errors: Column | None = None,
        importance: Mapping[str, float] | None = None,
        prediction: str | None = None,
        score: str | None = None,
        targets: Column | None = None,
        answers: Column | None = None,
        task: Task | None = None,
        regimes: Sequence[str] | Literal["auto"] = (),
    ) -> Profile:
        """Fit a reference.

        columns: values by name, of one length, rows in time order; mostly strings are categories, other columns
        numeric, None and NaN missing. windows: rows, rounded up to whole panes. errors: out-of-sample losses in time
        order, of any length, for concept drift. importance: weights of the features (default: equal), scaled to sum
        one. prediction, score: the columns of the model's outputs (a label or a number; the probability of outcome 1).
        targets: the outcome of each row, None where unknown; with a prediction or score they give performance, and
        `errors` unless given. answers: the predictions for `targets`, where these are not of the columns' rows. task:
        default from the targets. regimes: columns whose transitions are watched; auto: those with few values and
        memory.

        Raises ValueError for no rows, columns of different lengths, an unknown column, or a number out of range.
        """
        rows, whole = batch_rows(columns), _whole_panes(windows, pane)
        if rows == 0:
            raise ValueError("a reference needs at least one row")
        roles = _output_roles(columns, prediction, score)
        weights = _importances(columns, roles, importance)
        features = [
            fit_feature(name, values, whole, QUICK_PANES * pane, weights[name], roles.get(name, "feature"))
            for name, values in columns.items()
        ]
        features.sort(key=lambda feature: _KIND_ORDER.index(feature.grid.kind))
        truth, losses = None, None
        if targets is not None:
            output = prediction or score
            predicted = answers if answers is not None or not output else columns[output]
            scores = None if not score else predicted if output == score else columns[score]
            truth, losses = _fit_truth(targets, predicted, scores, task, pane, whole)
        errors = errors if errors is not None else losses
        profile = cls(
            reference_id,
            rows,
            pane,
            whole,
            tuple(features),
            tuple(columns),
            None if errors is None else ErrorReference.fit(errors),
            truth,
            prediction=prediction,
            score=score,
        )
        return replace(profile, regimes=_fit_regimes(profile, columns, regimes))

    @property
    def few_valued(self) -> tuple[str, ...]:
        """Features with at least two values and at most as many as a Markov chain has states."""
        few = [f.name for f in self.features if f.role == "feature" and 2 <= np.count_nonzero(f.counts) <= STATES]
        return tuple(name for name in self.column_order if name in few)

    def column_slots(self, feature: int, values: Column) -> Ints:
        """The slot of each value of one column within its feature, -1 for none."""
        fitted = self.features[feature]
        if not fitted.numeric:
            codes = np.asarray(self.encode_categories(feature, values)) - self.starts[feature]
            return np.where(codes < fitted.grid.slots, codes, -1)
        numbers, _ = read_numbers(values)
        finite = np.abs(numbers) <= HUGE
        return np.where(finite, fitted.grid.slot_of(np.where(finite, numbers, 0.0)), -1)

    def encode(self, columns: Mapping[str, Column]) -> Ints:
        """Codes of a batch, shape (features, rows): each an index into the count vector, perhaps with `OUTLIER`.

        Missing columns are absent in all rows, unknown ones are ignored. Raises ValueError if columns differ in length.
        """
        rows = batch_rows(columns)
        codes = np.empty((len(self.features), rows), dtype=np.int64)
        some = max(1, _CHUNK // max(1, rows))
        values = np.empty((min(some, self.numeric_count), rows))
        for first in range(0, self.numeric_count, some):
            last = min(first + some, self.numeric_count)
            self._encode_numbers(columns, slice(first, last), values[: last - first], codes[first:last])
        for i in range(self.numeric_count, len(self.features)):
            column = columns.get(self.names[i])
            codes[i] = self.special(i, ABSENT) if column is None else self.encode_categories(i, column)
        return codes

    def special(self, feature: int, kind: int) -> int:
        """Index of a kind of special cell in a count vector."""
        return self.slots + SPECIALS * feature + kind

    def _encode_numbers(self, columns: Mapping[str, Column], some: slice, values: Floats, codes: Ints) -> None:
        """Fill `codes` of some numeric features; `values`, of the same shape, is overwritten."""
        grids = self._numeric_grids
        odd: list[tuple[int, Bools | slice, int]] = []
        for k, i in enumerate(range(some.start, some.stop)):
            column = columns.get(self.names[i])
            if column is None:
                values[k] = 0.0
                odd.append((k, slice(None), self.special(i, ABSENT)))
                continue
            values[k], wrong = read_numbers(column)
            if wrong is not None:
                odd.append((k, wrong, self.special(i, MISTYPED)))
        flat, into = values.ravel(), codes.ravel()
        # One pass: any NaN, infinite or huge cell makes the sum of squares NaN or too large.
        with np.errstate(over="ignore", invalid="ignore"):
            clean = bool(np.einsum("i,i->", flat, flat) <= HUGE**2)
        bad = np.empty(0, dtype=np.int64) if clean else np.flatnonzero(~(np.abs(flat) <= HUGE))
        kinds = np.where(np.isnan(flat[bad]), MISSING, INFINITE)
        flat[bad] = 0.0
        outside = np.flatnonzero((values < grids.lowest[some]) | (values > grids.highest[some]))
        # Ends of the linear and of all evenly spaced grids among these features.
        linear, even = (min(max(end - some.start, 0), len(values)) for end in (grids.linear, self.even_count))
        for k in range(even, len(values)):
            codes[k] = self.features[some.start + k].grid.slot_of(values[k])
        axis, tail = values[:even], values[linear:even]
        before = slice(some.start, some.start + even)
        with np.errstate(over="ignore"):
            if linear < even:
                bent = slice(some.start + linear, some.start + even)
                tail -= grids.centre[bent]
                tail /= grids.scale[bent]
                np.arcsinh(tail, out=tail)
            axis -= grids.origin[before]
            axis *= grids.step[before]
        np.clip(axis, 0, BINS + 1, out=axis)
        np.copyto(codes[:even], axis, casting="unsafe")  # before the start is added, which would round up
        codes += self.starts[some, None]
        into[outside] |= OUTLIER
        into[bad] = self.slots + SPECIALS * (some.start + bad // max(1, values.shape[1])) + kinds
        for k, cells, code in odd:
            codes[k, cells] = code

    def encode_categories(self, feature: int, values: Column) -> Ints | list[int]:
        """Codes of a categorical column, shape (rows,)."""
        known, start = self._category_slots[feature], int(self.starts[feature])
        other = len(known)
        missing, mistyped = self.special(feature, MISSING), self.special(feature, MISTYPED)
        if isinstance(values, Coded):
            slots = [*(start + known.get(value, other) for value in values.values), mistyped, missing]
            codes: Ints = np.array(slots, dtype=np.int64)[values.codes]
            return codes
        return [
            start + known.get(value, other) if isinstance(value, str) else (missing if value is None else mistyped)
            for value in read_categories(values)
        ]

    @cached_property
    def _category_slots(self) -> dict[int, dict[str, int]]:
        return {
            i: {name: slot for slot, name in enumerate(self.features[i].grid.categories)}
            for i in range(self.numeric_count, len(self.features))
        }

    @cached_property
    def _numeric_grids(self) -> _NumericGrids:
        even = [feature.grid for feature in self.features[: self.even_count]]
        axes = np.array([(grid.origin, grid.step, grid.centre, grid.scale) for grid in even]).reshape(-1, 4)
        limits = np.array([(f.low, f.high) for f in self.features[: self.numeric_count]]).reshape(-1, 2)
        linear = sum(grid.kind == "linear" for grid in even)
        return _NumericGrids(linear, *axes.T[:, :, None], *limits.T[:, :, None])

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that was fitted: the key under which counts may be added."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return {"version": _VERSION, **to_builtins(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Profile:
        """The inverse of `to_dict`, also after JSON. Raises ValueError for an unknown version."""
        if raw.get("version") != _VERSION:
            raise ValueError(f"profile version {raw.get('version')!r} is not {_VERSION}")
        return from_builtins(raw, cls)


class _NumericGrids(NamedTuple):
    """Numeric features as columns, shape (features, 1): axes of the evenly spaced grids, the first `linear` of which
    are linear, and outlier limits of all."""

    linear: int
    origin: Floats
    step: Floats
    centre: Floats
    scale: Floats
    lowest: Floats
    highest: Floats


def _whole_panes(windows: Sequence[int], pane: int) -> tuple[int, ...]:
    """Ascending windows of whole panes. Raises ValueError for none, and for less than a row."""
    if pane < 1 or not windows or min(windows) < 1:
        raise ValueError("pane and windows must be at least 1 row each")
    return tuple(sorted({-(-int(window) // pane) * pane for window in windows}))


def _require(columns: Mapping[str, Column], names: Iterable[str]) -> None:
    unknown = sorted({*names} - set(columns))
    if unknown:
        raise ValueError(f"no such column: {', '.join(unknown)}")


def _output_roles(columns: Mapping[str, Column], *outputs: str | None) -> dict[str, Role]:
    """Roles of the model's outputs. Raises ValueError for an unknown column."""
    roles: dict[str, Role] = {name: "prediction" for name in outputs if name is not None}
    _require(columns, roles)
    return roles


def _importances(
    columns: Iterable[str], roles: Mapping[str, Role], importance: Mapping[str, float] | None
) -> dict[str, float]:
    """Weights with sum one; 0 for the model's outputs. Raises ValueError for negative ones, or all zero."""
    given, default = importance or {}, 0.0 if importance else 1.0
    weights = {name: 0.0 if name in roles else float(given.get(name, default)) for name in columns}
    total = sum(weights.values())
    if min(weights.values()) < 0 or (total <= 0 and len(weights) > len(roles)):
        raise ValueError("importances must be at least zero and not all zero")
    return {name: weight / (total or 1.0) for name, weight in weights.items()}


def _fit_truth(
    targets: Column,
    predicted: Column | None,
    scores: Column | None,
    task: Task | None,
    pane: int,
    windows: tuple[int, ...],
) -> tuple[GroundTruth, Floats | None]:
    """The outcomes' reference, and the losses of rows with a prediction (None for fewer than 30)."""
    column = fit_feature(TARGET, targets, windows, QUICK_PANES * pane, 1.0, "target")
    distribution = Profile(TARGET, len(targets), pane, windows, (column,), (TARGET,))
    performance = losses = None
    if predicted is not None:
        try:
            lengths = sorted({*PERFORMANCE_WINDOWS, *windows})
            performance = PerformanceReference.fit(targets, predicted, task, windows=lengths)
        except ValueError:  # too few rows with both: there is no performance to compare with
            performance = None
    if performance is not None and predicted is not None:
        squared = squared_errors(performance.task, targets, predicted)[1]
        losses = losses_of(performance.task, squared[np.isfinite(squared)])
    calibrated = ScoreReference.fit(scores, targets) if scores is not None else None
    return GroundTruth(distribution, performance, calibrated), losses


def _fit_regimes(
    profile: Profile, columns: Mapping[str, Column], names: Sequence[str] | Literal["auto"]
) -> tuple[RegimeReference, ...]:
    """The Markov chains of the columns; auto: of those with few values and memory."""
    watched = profile.few_valued if names == "auto" else names
    _require(columns, watched)
    regimes = []
    for name in watched:
        feature = profile.features[profile.index[name]]
        slots = profile.column_slots(profile.index[name], columns[name])
        regimes.append(RegimeReference.fit(name, feature.counts, slots, ordered=feature.numeric))
    return tuple(regime for regime in regimes if names != "auto" or has_memory(regime.counts))
