"""The frozen reference of one model version: grids, counts and what each feature does inside the reference.

Fitted once, stored with the version, never changed: everything counted against it carries its hash, and counts of
different hashes are never added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.cbpe import ScoreReference
from evaluator.drift.columns import Coded, batch_rows, read_categories, read_numbers
from evaluator.drift.concept import ErrorReference
from evaluator.drift.feature import Column, Feature, Role, feature_dict, feature_from, fit_feature
from evaluator.drift.feature_arrays import QUICK_PANES, Arrays
from evaluator.drift.grid import BINS, HUGE, Floats, Ints
from evaluator.drift.markov import STATES, RegimeReference, remembers
from evaluator.drift.performance import WINDOWS as PERFORMANCE
from evaluator.drift.performance import PerformanceReference, Task, losses_of, outcomes

PANE = 64
"""Rows a pane: how often a window moves on and is looked at."""
WINDOWS = (250, 1000, 4000)
"""Rows a window, rounded up to whole panes: short ones are quick, long ones see small shifts."""
MISSING, ABSENT, MISTYPED, INFINITE = range(4)
SPECIALS = 4
"""Kinds of cell without a slot: no value, no column, a value of another type, an infinite number."""
OUTLIER = 1 << 30
"""Flag on a code: the value is more than three standard deviations off the reference's mean."""
TARGET = "target"
"""The name of the outcomes' column in their profile."""
_VERSION = 4
_AT_ONCE = 16_000
"""Numbers encoded at once: under 128 kB, so that a processor's cache holds them and memory is not taken anew."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the reference knows of outcomes: their distribution as a profile of one column, and how good the model was.

    `performance` needs predictions, `scores` a score and 0/1 outcomes.
    """

    distribution: Profile
    performance: PerformanceReference | None
    scores: ScoreReference | None


class Profile(Arrays):
    """The reference of one model version. Build with `fit` or `from_dict`; treat as immutable.

    `features` are ordered linear, asinh, exact, categories (each in the given order), so that whole blocks of columns
    are counted at once; `given` are their names in the order given. A count vector has, in this order: each feature's
    slots, `SPECIALS` numbers a feature, one outlier count a feature.
    """

    def __init__(
        self,
        reference_id: str,
        rows: int,
        pane: int,
        windows: tuple[int, ...],
        features: tuple[Feature, ...],
        errors: ErrorReference | None = None,
        truth: Truth | None = None,
        regimes: tuple[RegimeReference, ...] = (),
        given: tuple[str, ...] = (),
        prediction: str | None = None,
        score: str | None = None,
    ) -> None:
        self.reference_id = reference_id
        self.rows = rows
        self.pane = pane
        self.windows = windows
        self.features = features
        self.errors = errors
        self.truth = truth
        self.regimes = regimes
        self.given = given or tuple(feature.name for feature in features)
        self.prediction = prediction
        self.score = score
        self.names = tuple(feature.name for feature in features)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.sizes = np.array([feature.grid.slots for feature in features], dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.slots = int(self.sizes.sum())
        self.width = self.slots + (SPECIALS + 1) * len(features)
        kinds = [feature.grid.kind for feature in features]
        self._linear, self._asinh = kinds.count("linear"), kinds.count("asinh")
        self._numeric = len(kinds) - kinds.count("categories")
        self._categories = {
            i: {name: slot for slot, name in enumerate(features[i].grid.categories)}
            for i in range(self._numeric, len(features))
        }
        grids = [feature.grid for feature in features[: self._linear + self._asinh]]
        self._origin = np.array([grid.origin for grid in grids])[:, None]
        self._step = np.array([grid.step for grid in grids])[:, None]
        self._centre = np.array([grid.centre for grid in grids[self._linear :]])[:, None]
        self._scale = np.array([grid.scale for grid in grids[self._linear :]])[:, None]
        self._lowest = np.array([feature.low for feature in features[: self._numeric]])[:, None]
        self._highest = np.array([feature.high for feature in features[: self._numeric]])[:, None]

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

        columns: name to values, all of one length, rows in time order. Columns mostly of strings are categories;
        numbers and booleans are numeric; None and NaN are missing. windows: rows, rounded up to whole panes. errors:
        the model's out-of-sample losses in time order, of any length, for concept drift. importance: weight a feature
        (default: all equal), scaled to sum to one. prediction, score: columns that are no inputs but what the model
        says (a label or a number; the probability of outcome 1). targets: the truth of each row, None where unknown;
        with a prediction or score it gives performance, and `errors` unless they are given. answers: what the model
        said to each of the `targets`, where these are not the truth of the columns' rows. task: default by the truth.
        regimes: columns whose transitions are watched; auto: the features of at most eight values that remember.

        Raises ValueError when there are no rows, columns differ in length, a named column is not there, or a number is
        out of range.
        """
        lengths = {name: len(values) for name, values in columns.items()}
        rows = max(lengths.values(), default=0)
        if rows == 0:
            raise ValueError("a reference needs at least one row")
        if min(lengths.values()) != rows:
            raise ValueError(f"reference columns differ in length: {lengths}")
        if pane < 1 or not windows or min(windows) < 1:
            raise ValueError("pane and windows are numbers of rows, at least one each")
        whole = tuple(sorted({-(-int(window) // pane) * pane for window in windows}))
        roles: dict[str, Role] = {name: "prediction" for name in (prediction, score) if name is not None}
        named = () if regimes == "auto" else regimes
        unknown = sorted({*roles, *named} - set(columns))
        if unknown:
            raise ValueError(f"no such column: {', '.join(unknown)}")
        weights = {
            name: 0.0 if name in roles else float((importance or {}).get(name, 0.0 if importance else 1.0))
            for name in columns
        }
        total = sum(weights.values())
        if min(weights.values()) < 0 or (total <= 0 and len(weights) > len(roles)):
            raise ValueError("importances must be at least zero and not all zero")
        fitted = [
            fit_feature(
                name, values, whole, QUICK_PANES * pane, weights[name] / (total or 1.0), roles.get(name, "feature")
            )
            for name, values in columns.items()
        ]
        order = ("linear", "asinh", "exact", "categories")
        fitted.sort(key=lambda feature: order.index(feature.grid.kind))
        truth = None
        if targets is not None:
            own = prediction or score
            said = answers if answers is not None or not own else columns[own]
            scores = None if not score else said if own == score else columns[score]
            truth, losses = _fit_truth(targets, said, scores, task, pane, whole)
            errors = errors if errors is not None else losses
        reference = None if errors is None else ErrorReference.fit(errors)
        profile = cls(
            reference_id,
            rows,
            pane,
            whole,
            tuple(fitted),
            reference,
            truth,
            given=tuple(columns),
            prediction=prediction,
            score=score,
        )
        watched = profile.few_valued if regimes == "auto" else named
        fits = [profile._fit_regime(profile.index[name], columns[name]) for name in watched]
        profile.regimes = tuple(fit for fit in fits if regimes != "auto" or remembers(fit.counts))
        return profile

    @property
    def few_valued(self) -> tuple[str, ...]:
        """Features that take at most as many values as a column of regimes has states."""
        few = [f.name for f in self.features if f.role == "feature" and 2 <= np.count_nonzero(f.counts) <= STATES]
        return tuple(name for name in self.given if name in few)

    def _fit_regime(self, feature: int, values: Column) -> RegimeReference:
        fitted = self.features[feature]
        slots = self.column_slots(feature, values)
        return RegimeReference.fit(fitted.name, fitted.counts, slots, ordered=fitted.numeric)

    def column_slots(self, feature: int, values: Column) -> Ints:
        """The slot of each value of one column within its feature, -1 where it has none."""
        fitted = self.features[feature]
        if not fitted.numeric:
            codes = np.asarray(self.encode_categories(feature, values)) - self.starts[feature]
            return np.where(codes < fitted.grid.slots, codes, -1)
        numbers, _ = read_numbers(values)
        finite = np.abs(numbers) <= HUGE
        return np.where(finite, fitted.grid.slot_of(np.where(finite, numbers, 0.0)), -1)

    def encode(self, columns: Mapping[str, Column]) -> Ints:
        """Codes of a batch, shape (features, rows): each an index into the count vector, perhaps with `OUTLIER`.

        A feature without a column is absent in all rows; columns that are no features are ignored. Raises ValueError
        when columns differ in length.
        """
        rows = batch_rows(columns)
        codes = np.empty((len(self.features), rows), dtype=np.int64)
        some = max(1, _AT_ONCE // max(1, rows))
        values = np.empty((min(some, self._numeric), rows))
        for first in range(0, self._numeric, some):
            last = min(first + some, self._numeric)
            self._encode_numbers(columns, slice(first, last), values[: last - first], codes[first:last])
        for i in range(self._numeric, len(self.features)):
            column = columns.get(self.names[i])
            codes[i] = self.special(i, ABSENT) if column is None else self.encode_categories(i, column)
        return codes

    def special(self, feature: int, kind: int) -> int:
        """The place of one kind of cell without a slot in a count vector."""
        return self.slots + SPECIALS * feature + kind

    def _encode_numbers(self, columns: Mapping[str, Column], some: slice, values: Floats, codes: Ints) -> None:
        """Fill `codes` of some numeric features; `values`, of the same shape, is written over."""
        features = range(some.start, some.stop)
        odd: list[tuple[int, npt.NDArray[np.bool_] | slice, int]] = []
        for k, i in enumerate(features):
            column = columns.get(self.names[i])
            if column is None:
                values[k] = 0.0
                odd.append((k, slice(None), self.special(i, ABSENT)))
                continue
            values[k], wrong = read_numbers(column)
            if wrong is not None:
                odd.append((k, wrong, self.special(i, MISTYPED)))
        flat, into = values.ravel(), codes.ravel()
        # One pass: NaN, infinite and huge cells all make the sum of squares something else than a small number.
        with np.errstate(over="ignore", invalid="ignore"):
            clean = bool(np.einsum("i,i->", flat, flat) <= HUGE**2)
        bad = np.empty(0, dtype=np.int64) if clean else np.flatnonzero(~(np.abs(flat) <= HUGE))
        kinds = np.where(np.isnan(flat[bad]), MISSING, INFINITE)
        flat[bad] = 0.0
        wild = np.flatnonzero((values < self._lowest[some]) | (values > self._highest[some]))
        # Where among these features those of an even grid end, of a linear and then of a bent axis.
        linear, bent = (
            min(max(end - some.start, 0), len(values)) for end in (self._linear, self._linear + self._asinh)
        )
        for k in range(bent, len(values)):
            codes[k] = self.features[some.start + k].grid.slot_of(values[k])
        axis, tail = values[:bent], values[linear:bent]
        before = slice(some.start, some.start + bent)
        with np.errstate(over="ignore"):
            if linear < bent:
                of = slice(some.start + linear - self._linear, some.start + bent - self._linear)
                tail -= self._centre[of]
                tail /= self._scale[of]
                np.arcsinh(tail, out=tail)
            axis -= self._origin[before]
            axis *= self._step[before]
        np.clip(axis, 0, BINS + 1, out=axis)
        np.copyto(codes[:bent], axis, casting="unsafe")  # cut off first: added to a large start, 0.99999999 is the next
        codes += self.starts[some, None]
        into[wild] |= OUTLIER
        into[bad] = self.slots + SPECIALS * (some.start + bad // max(1, values.shape[1])) + kinds
        for k, cells, code in odd:
            codes[k, cells] = code

    def encode_categories(self, feature: int, values: Column) -> Ints | list[int]:
        """Codes of a column of categories, shape (rows,)."""
        known, start = self._categories[feature], int(self.starts[feature])
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

    @property
    def even(self) -> int:
        """Number of features, the first ones, whose grids have the same number of slots."""
        return self._linear + self._asinh

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that was fitted: the key under which counts may be added."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "version": _VERSION,
            "reference_id": self.reference_id,
            "rows": self.rows,
            "pane": self.pane,
            "windows": list(self.windows),
            "features": [feature_dict(feature) for feature in self.features],
            "errors": None if self.errors is None else self.errors.to_dict(),
            "truth": None if self.truth is None else _truth_dict(self.truth),
            "regimes": [regime.to_dict() for regime in self.regimes],
            "given": list(self.given),
            "prediction": self.prediction,
            "score": self.score,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Profile:
        """The inverse of `to_dict`, also after JSON. Raises ValueError for a version this code does not know."""
        if raw.get("version") != _VERSION:
            raise ValueError(f"profile version {raw.get('version')!r} is not {_VERSION}")
        errors = raw["errors"]
        return cls(
            raw["reference_id"],
            raw["rows"],
            raw["pane"],
            tuple(raw["windows"]),
            tuple(feature_from(feature) for feature in raw["features"]),
            None if errors is None else ErrorReference.from_dict(errors),
            None if raw["truth"] is None else _truth_from(raw["truth"]),
            tuple(RegimeReference.from_dict(regime) for regime in raw["regimes"]),
            tuple(raw["given"]),
            raw["prediction"],
            raw["score"],
        )


def _fit_truth(
    targets: Column, said: Column | None, scores: Column | None, task: Task | None, pane: int, windows: tuple[int, ...]
) -> tuple[Truth, Floats | None]:
    """What the outcomes say, and the losses of the rows that have one (None for fewer than 30)."""
    column = fit_feature(TARGET, targets, windows, QUICK_PANES * pane, 1.0, "target")
    distribution = Profile(TARGET, len(targets), pane, windows, (column,))
    performance = losses = None
    if said is not None:
        try:
            performance = PerformanceReference.fit(targets, said, task, windows=sorted({*PERFORMANCE, *windows}))
        except ValueError:  # too few rows with both: nothing to hold a window against
            performance = None
    if performance is not None and said is not None:
        squared = outcomes(performance.task, targets, said)[1]
        losses = losses_of(performance.task, squared[np.isfinite(squared)])
    return Truth(distribution, performance, ScoreReference.fit(scores, targets) if scores is not None else None), losses


def _truth_dict(truth: Truth) -> dict[str, Any]:
    return {
        "distribution": truth.distribution.to_dict(),
        "performance": None if truth.performance is None else truth.performance.to_dict(),
        "scores": None if truth.scores is None else truth.scores.to_dict(),
    }


def _truth_from(raw: Mapping[str, Any]) -> Truth:
    return Truth(
        Profile.from_dict(raw["distribution"]),
        None if raw["performance"] is None else PerformanceReference.from_dict(raw["performance"]),
        None if raw["scores"] is None else ScoreReference.from_dict(raw["scores"]),
    )
