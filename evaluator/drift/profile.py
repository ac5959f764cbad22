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
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import Calibration, calibrate
from evaluator.drift.concept import ErrorReference
from evaluator.drift.grid import Floats, Grid, Ints, category_grid, numeric_grid
from evaluator.drift.reading import is_categorical, read_categories, read_numbers

Column = Sequence[Any] | npt.NDArray[Any]

PANE = 64
"""Rows a pane: how often a window moves on and is looked at."""
WINDOWS = (250, 1000, 4000)
"""Rows a window, rounded up to whole panes: short ones are quick, long ones see small shifts."""
MISSING, ABSENT, MISTYPED, INFINITE = range(4)
SPECIALS = 4
"""Kinds of cell without a slot: no value, no column, a value of another type, an infinite number."""
OUTLIER = 1 << 30
"""Flag on a code: the value is more than three standard deviations off the reference's mean."""
_SIGMAS = 3.0
_HUGE = 1e150
"""Beyond this a number counts as infinite: its square is no number any more."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the reference. `counts` has one number a slot of `grid`; calibrations go with the windows.

    `low` and `high` are mean -+ 3 standard deviations of the values winsorised at the grid's limits; `outliers` how
    many reference values lie beyond. `specials` counts missing, absent, mistyped and infinite cells.
    """

    name: str
    grid: Grid
    counts: Ints
    specials: tuple[int, int, int, int]
    mean: float
    deviation: float
    outliers: int
    importance: float
    shape: tuple[Calibration, ...]
    missing: tuple[Calibration, ...]
    outlying: tuple[Calibration, ...]

    @property
    def low(self) -> float:
        """Below this a value is an outlier."""
        return self.mean - _SIGMAS * self.deviation

    @property
    def high(self) -> float:
        """Above this a value is an outlier."""
        return self.mean + _SIGMAS * self.deviation

    @property
    def present(self) -> int:
        """Reference rows with a value in a slot."""
        return int(self.counts.sum())

    @property
    def numeric(self) -> bool:
        """Whether the slots are ordered."""
        return self.grid.kind != "categories"


class Profile:
    """The reference of one model version. Build with `fit` or `from_dict`; treat as immutable.

    `features` are ordered linear, asinh, exact, categories (each in the given order), so that whole blocks of columns
    are counted at once. A count vector has, in this order: each feature's slots, `SPECIALS` numbers a feature, one
    outlier count a feature.
    """

    def __init__(
        self,
        reference_id: str,
        rows: int,
        pane: int,
        windows: tuple[int, ...],
        features: tuple[Feature, ...],
        errors: ErrorReference | None = None,
    ) -> None:
        self.reference_id = reference_id
        self.rows = rows
        self.pane = pane
        self.windows = windows
        self.features = features
        self.errors = errors
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
        self._low = np.array([grid.low for grid in grids])[:, None]
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
    ) -> Profile:
        """Fit a reference.

        columns: name to values, all of one length, rows in time order. Columns mostly of strings are categories;
        numbers and booleans are numeric; None and NaN are missing. windows: rows, rounded up to whole panes. errors:
        the model's out-of-sample losses in time order, of any length, for concept drift. importance: weight a feature
        (default: all equal), scaled to sum to one.

        Raises ValueError when there are no rows, columns differ in length, or a number is out of range.
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
        weights = {name: float((importance or {}).get(name, 0.0 if importance else 1.0)) for name in columns}
        total = sum(weights.values())
        if min(weights.values()) < 0 or total <= 0:
            raise ValueError("importances must be at least zero and not all zero")
        fitted = [_fit_feature(name, values, whole, weights[name] / total) for name, values in columns.items()]
        order = ("linear", "asinh", "exact", "categories")
        fitted.sort(key=lambda feature: order.index(feature.grid.kind))
        reference = None if errors is None else ErrorReference.fit(errors)
        return cls(reference_id, rows, pane, whole, tuple(fitted), reference)

    def encode(self, columns: Mapping[str, Column]) -> Ints:
        """Codes of a batch, shape (features, rows): each an index into the count vector, perhaps with `OUTLIER`.

        A feature without a column is absent in all rows; columns that are no features are ignored. Raises ValueError
        when columns differ in length.
        """
        rows = batch_rows(columns)
        codes = np.empty((len(self.features), rows), dtype=np.int64)
        values = np.zeros((self._numeric, rows))
        absent: list[int] = []
        mistyped: list[tuple[int, npt.NDArray[np.bool_]]] = []
        for i, name in enumerate(self.names):
            if name not in columns:
                absent.append(i)
            elif i >= self._numeric:
                codes[i] = self._encode_categories(i, columns[name])
            else:
                values[i], wrong = read_numbers(columns[name])
                if wrong is not None:
                    mistyped.append((i, wrong))
        codes[: self._numeric] = self._encode_numbers(values)
        for i, wrong in mistyped:
            codes[i, wrong] = self._special(i, MISTYPED)
        for i in absent:
            codes[i] = self._special(i, ABSENT)
        return codes

    def _special(self, feature: int, kind: int) -> int:
        return self.slots + SPECIALS * feature + kind

    def _encode_numbers(self, values: Floats) -> Ints:
        bent = self._linear + self._asinh
        finite = np.abs(values) <= _HUGE  # false for NaN
        clean = finite.all()
        numbers = values if clean else np.where(finite, values, 0.0)
        codes = np.empty(values.shape, dtype=np.int64)
        with np.errstate(over="ignore"):
            axis = numbers[:bent].copy()
            tail = axis[self._linear :]
            tail -= self._centre
            tail /= self._scale
            np.arcsinh(tail, out=tail)
            axis -= self._low
            axis *= self._step
        axis += 1.0
        last = self.sizes[:bent, None] - 1
        codes[:bent] = np.clip(axis, 0, last, out=axis)
        for i in range(bent, self._numeric):
            codes[i] = self.features[i].grid.slot_of(numbers[i])
        codes += self.starts[: self._numeric, None]
        codes[(numbers < self._lowest) | (numbers > self._highest)] |= OUTLIER
        if not clean:
            features = np.arange(self._numeric)[:, None]
            kind = np.where(np.isnan(values), MISSING, INFINITE)
            codes = np.where(finite, codes, self.slots + SPECIALS * features + kind)
        return codes

    def _encode_categories(self, feature: int, values: Column) -> list[int]:
        known, start = self._categories[feature], int(self.starts[feature])
        other = len(known)
        missing, mistyped = self._special(feature, MISSING), self._special(feature, MISTYPED)
        return [
            start + known.get(value, other) if isinstance(value, str) else (missing if value is None else mistyped)
            for value in read_categories(values)
        ]

    @cached_property
    def ordered(self) -> npt.NDArray[np.bool_]:
        """Which features are numeric."""
        return np.arange(len(self.features)) < self._numeric

    @cached_property
    def present(self) -> Ints:
        """Reference rows with a slot, a feature."""
        return np.array([feature.present for feature in self.features], dtype=np.int64)

    @cached_property
    def importance(self) -> Floats:
        """Weight a feature, summing to one."""
        return np.array([feature.importance for feature in self.features])

    @cached_property
    def limits(self) -> Floats:
        """The distance each feature keeps inside the reference, shape (windows, features)."""
        return np.array([[feature.shape[w].limit for feature in self.features] for w in range(len(self.windows))])

    @cached_property
    def bad_share(self) -> Floats:
        """Share of reference rows without a slot, a feature."""
        return np.array([sum(feature.specials) for feature in self.features]) / self.rows

    @cached_property
    def outlier_share(self) -> Floats:
        """Share of the reference's values that are outliers, a feature."""
        return np.array([feature.outliers for feature in self.features]) / np.maximum(1, self.present)

    @cached_property
    def cumulative(self) -> Floats:
        """The reference's cumulative share in each slot, feature by feature; zero where it has no values."""
        parts = [np.cumsum(feature.counts) / max(1, feature.present) for feature in self.features]
        return np.concatenate(parts) if parts else np.empty(0)

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
            "features": [_feature_dict(feature) for feature in self.features],
            "errors": None if self.errors is None else self.errors.to_dict(),
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
            tuple(_feature_from(feature) for feature in raw["features"]),
            None if errors is None else ErrorReference.from_dict(errors),
        )


def batch_rows(columns: Mapping[str, Column]) -> int:
    """Rows of a batch. Raises ValueError when its columns differ in length."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns differ in length: { {name: len(values) for name, values in columns.items()} }")
    return lengths.pop() if lengths else 0


def _fit_feature(name: str, values: Column, windows: tuple[int, ...], importance: float) -> Feature:
    if is_categorical(values):
        read = read_categories(values)
        grid = category_grid([value for value in read if isinstance(value, str)])
        known = {category: slot for slot, category in enumerate(grid.categories)}
        codes = np.array(
            [known.get(value, len(known)) if isinstance(value, str) else grid.slots for value in read], dtype=np.int64
        )
        missing = np.array([value is None for value in read])
        wrong = np.array([value is False for value in read])
        infinite = np.zeros(len(read), dtype=np.bool_)
        outlying = infinite
        mean = deviation = 0.0
    else:
        numbers, mistyped = read_numbers(values)
        wrong = np.zeros(len(numbers), dtype=np.bool_) if mistyped is None else mistyped
        missing, finite = np.isnan(numbers) & ~wrong, np.abs(numbers) <= _HUGE
        infinite = ~finite & ~np.isnan(numbers)
        grid = numeric_grid(numbers[finite])
        codes = np.full(len(numbers), grid.slots, dtype=np.int64)
        codes[finite] = grid.slot_of(numbers[finite])
        mean, deviation = _winsorised(numbers[finite])
        low, high = mean - _SIGMAS * deviation, mean + _SIGMAS * deviation
        outlying = finite & ((numbers < low) | (numbers > high))
    return Feature(
        name=name,
        grid=grid,
        counts=np.bincount(codes, minlength=grid.slots + 1)[: grid.slots].astype(np.int64),
        specials=(int(missing.sum()), 0, int(wrong.sum()), int(infinite.sum())),
        mean=mean,
        deviation=deviation,
        outliers=int(outlying.sum()),
        importance=importance,
        shape=calibrate(codes, grid.slots, windows, ordered=grid.kind != "categories"),
        missing=calibrate(missing.astype(np.int64), 2, windows, ordered=False),
        outlying=calibrate(outlying.astype(np.int64), 2, windows, ordered=False),
    )


def _winsorised(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation with each tail pulled in to its 0.5 % order statistic: wild values don't widen it."""
    if len(values) == 0:
        return 0.0, 0.0
    cut = max(1, int(0.005 * len(values))) if len(values) >= 10 else 0
    ordered = np.partition(values, [cut, len(values) - 1 - cut])
    clipped = np.clip(values, ordered[cut], ordered[len(values) - 1 - cut])
    if clipped.min() == clipped.max():  # a constant is its own mean, exactly: no rounding error makes it an outlier
        return float(clipped[0]), 0.0
    return float(clipped.mean()), float(clipped.std())


def _feature_dict(feature: Feature) -> dict[str, Any]:
    def pairs(calibrations: tuple[Calibration, ...]) -> list[list[float]]:
        return [[one.limit, one.efficiency] for one in calibrations]

    return {
        "name": feature.name,
        "grid": feature.grid.to_dict(),
        "counts": feature.counts.tolist(),
        "specials": list(feature.specials),
        "mean": feature.mean,
        "deviation": feature.deviation,
        "outliers": feature.outliers,
        "importance": feature.importance,
        "shape": pairs(feature.shape),
        "missing": pairs(feature.missing),
        "outlying": pairs(feature.outlying),
    }


def _feature_from(raw: Mapping[str, Any]) -> Feature:
    def calibrations(pairs: Sequence[Sequence[float]]) -> tuple[Calibration, ...]:
        return tuple(Calibration(limit, efficiency) for limit, efficiency in pairs)

    missing, absent, mistyped, infinite = raw["specials"]
    return Feature(
        name=raw["name"],
        grid=Grid.from_dict(raw["grid"]),
        counts=np.array(raw["counts"], dtype=np.int64),
        specials=(missing, absent, mistyped, infinite),
        mean=raw["mean"],
        deviation=raw["deviation"],
        outliers=raw["outliers"],
        importance=raw["importance"],
        shape=calibrations(raw["shape"]),
        missing=calibrations(raw["missing"]),
        outlying=calibrations(raw["outlying"]),
    )
