"""Declaration of a metric: its kind, columns, direction and role, and the check of the values it is given.

Invariant: an impossible declaration can't be built, and every refusal of a value names its input and its position.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.score_process import LARGEST_OUTCOME, Bools, Floats

# Errors are squared, and RMSE's squares once more.
_LARGEST_SQUARED: Final = 1e49

Role = Literal["primary", "guardrail", "signal", "exploratory"]
Columns = tuple[Floats, ...]


class MetricError(StatsError):
    """A declaration of a metric is impossible, for example an unknown kind or a quantile at 0 %."""


class ColumnError(OutcomeError):
    """A value doesn't fit the metric; `why` ends the sentence "it …".

    `index` counts the metric's inputs, `position` the rows of the batch, from 0.
    """

    def __init__(self, name: str, value: float, why: str, *, index: int, position: int) -> None:
        super().__init__(f"{name} {value!r} at position {position} {why}")
        self.value = value
        self.why = why
        self.index = index
        self.position = position


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of metric.

    inputs: the columns it needs, in order. higher_is_better: the default direction. bounded: the values tested lie in
    [0, 1], as exact mode needs. plain: a mean of one value a row, which needs no past. labelled: a class may be named,
    as in `recall@spam`.
    """

    inputs: tuple[str, ...]
    higher_is_better: bool
    meaning: str
    bounded: bool = False
    plain: bool = False
    labelled: bool = False


_VALUE, _RATIO = ("value",), ("numerator", "denominator")
_CLASS, _SCORE = ("prediction", "outcome"), ("score", "outcome")

KINDS: Final = MappingProxyType(
    {
        "mean": Kind(_VALUE, True, "mean of a number (also of a model's property, as the spectral gap)", plain=True),
        "reward": Kind(_VALUE, True, "mean reward of a request", plain=True),
        "proportion": Kind(_VALUE, True, "share of rows whose value is 1, the others being 0", True, True),
        "error_rate": Kind(_VALUE, False, "share of requests that failed: 1 failed, 0 did not", True, True),
        "coverage": Kind(_VALUE, True, "share of requests with a prediction that is a finite number", True, True),
        "ratio": Kind(_RATIO, True, "sum of the numerators over sum of the denominators"),
        "quantile": Kind(_VALUE, False, "the value that a share of rows (p99: 99 %) does not exceed", True),
        "accuracy": Kind(_CLASS, True, "share of predictions that equal the outcome", True, True),
        "precision": Kind(_CLASS, True, "share of the predictions of a class that are right", labelled=True),
        "recall": Kind(_CLASS, True, "share of the outcomes of a class that were predicted", labelled=True),
        "f1": Kind(_CLASS, True, "harmonic mean of precision and recall of a class", labelled=True),
        "macro_f1": Kind(_CLASS, True, "mean of F1 over the classes"),
        "auc": Kind(_SCORE, True, "probability that a row of the class scores above one of the others", labelled=True),
        "log_loss": Kind(_SCORE, False, "mean of −ln of the probability given to what happened", False, True, True),
        "brier": Kind(_SCORE, False, "mean squared error of a probability", True, True, True),
        "mae": Kind(_CLASS, False, "mean absolute error", plain=True),
        "mse": Kind(_CLASS, False, "mean squared error", plain=True),
        "rmse": Kind(_CLASS, False, "root of the mean squared error"),
        "r2": Kind(_CLASS, True, "share of the outcomes' variance that is explained"),
    }
)


_SHARES: Final = frozenset(
    ["proportion", "error_rate", "coverage", "accuracy", "precision", "recall", "f1", "macro_f1", "auc", "brier"]
)
"""Kinds that lie between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric. Raises MetricError where the fields contradict each other.

    columns: names of a table's columns in the order of the kind's inputs. margin: the worsening ≥ 0 that is still
    accepted, in the metric's units. min_samples: rows of the smaller arm before the metric is tested. level: of
    quantiles alone, 0.99 for p99. positive: the class that a labelled metric is about, as written in the column; None
    means 1.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    higher_is_better: bool
    role: Role = "primary"
    margin: float = 0.0
    min_samples: int = 0
    level: float | None = None
    positive: str | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise MetricError(f"metric {self.name!r}: there is no kind {self.kind!r}; known are {', '.join(KINDS)}")
        if not self.name:
            raise MetricError("a metric needs a name")
        if len(self.columns) != len(kind.inputs):
            raise MetricError(
                f"metric {self.name!r}: {self.kind} needs {len(kind.inputs)} columns ({', '.join(kind.inputs)}), "
                f"not {len(self.columns)}"
            )
        if self.role not in get_args(Role):
            raise MetricError(f"metric {self.name!r}: there is no role {self.role!r}; {', '.join(get_args(Role))}")
        if not (math.isfinite(self.margin) and self.margin >= 0.0):
            raise MetricError(f"metric {self.name!r}: the margin {self.margin!r} is not a finite number of at least 0")
        if self.min_samples < 0:
            raise MetricError(f"metric {self.name!r}: min_samples {self.min_samples!r} is negative")
        if self.kind == "quantile":
            if self.level is None or not 0.0 < self.level < 1.0:
                raise MetricError(f"metric {self.name!r}: a quantile's level {self.level!r} is not between 0 and 1")
        elif self.level is not None:
            raise MetricError(f"metric {self.name!r}: {self.kind} has no level")
        if self.positive is not None and not kind.labelled:
            raise MetricError(f"metric {self.name!r}: {self.kind} takes no class")

    @property
    def bounded(self) -> bool:
        return KINDS[self.kind].bounded

    @property
    def plain(self) -> bool:
        return KINDS[self.kind].plain

    @property
    def largest_difference(self) -> float:
        """Between two arms, either way; infinite where the metric has no limits of its own."""
        return 1.0 if self.kind in _SHARES else math.inf


NAMES: Final = tuple(name for name in KINDS if name != "quantile")
"""Kinds as people write them; a quantile is written by its level, as p99."""

_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


def parse_kind(text: str) -> tuple[str, float | None, str | None]:
    """(kind, level, class) of a written kind: `mean`, `p99`, `p99.9`, `recall@spam`. Raises MetricError."""
    name, at, positive = text.partition("@")
    found = _QUANTILE.fullmatch(name)
    if found and not at:
        level = float(found[1]) / 100.0
        if level > 0.0:
            return "quantile", level, None
    if name not in NAMES:
        raise MetricError(f"there is no kind {text!r}; known are pXX (a quantile), {', '.join(NAMES)}")
    if at and not (positive and KINDS[name].labelled):
        raise MetricError(f"the kind {text!r} names no class, or {name} is not about one class")
    return name, None, positive or None


def declare(
    name: str,
    kind: str,
    columns: tuple[str, ...],
    *,
    higher_is_better: bool | None = None,
    role: Role = "primary",
    margin: float = 0.0,
    min_samples: int = 0,
) -> Metric:
    """A metric from a kind as people write it (see `parse_kind`), with the kind's own direction unless one is given."""
    known, level, positive = parse_kind(kind)
    better = KINDS[known].higher_is_better if higher_is_better is None else higher_is_better
    return Metric(name, known, columns, better, role, margin, min_samples, level, positive)


def rows_with_inputs(kind: str, treated: Bools, columns: Columns, *, labelled: bool = False) -> Bools:
    """Rows that have all their inputs, shape (n,). NaN is a missing input.

    Raises ColumnError for a value that is impossible in a metric of this kind (infinite, not 0 or 1, a probability
    outside [0, 1], a negative denominator) and StatsError where shapes differ. labelled: outcomes name classes, so that
    any number is possible.
    """
    inputs = KINDS[kind].inputs
    if len(columns) != len(inputs):
        raise StatsError(f"{kind} needs {len(inputs)} columns, not {len(columns)}")
    for column in columns:
        if column.ndim != 1 or column.shape != treated.shape:
            raise StatsError(f"a column of shape {column.shape} does not fit arms of shape {treated.shape}")
    if kind == "coverage":
        return np.ones(treated.shape, dtype=np.bool_)
    present = np.ones(treated.shape, dtype=np.bool_)
    largest = _LARGEST_SQUARED if kind in ("mse", "rmse", "r2") else LARGEST_OUTCOME
    for index, column in enumerate(columns):
        _refuse(np.abs(column) > largest, columns, index, inputs, "is not a number of usable size")
        present &= ~np.isnan(column)
    binary, probability = "is neither 0 nor 1", "is not a probability between 0 and 1"
    first = columns[0]
    if kind in ("proportion", "error_rate"):
        _refuse((first != 0.0) & (first != 1.0), columns, 0, inputs, binary)
    if kind in ("log_loss", "brier"):
        _refuse((first < 0.0) | (first > 1.0), columns, 0, inputs, probability)
    if kind == "ratio":
        _refuse(columns[1] < 0.0, columns, 1, inputs, "is negative")
    if kind in ("log_loss", "brier", "auc") and not labelled:
        _refuse((columns[1] != 0.0) & (columns[1] != 1.0), columns, 1, inputs, binary)
    return present


def _refuse(bad: Bools, columns: Columns, index: int, inputs: tuple[str, ...], why: str) -> None:
    """Raise for the first bad value of a column that is not missing."""
    bad = bad & ~np.isnan(columns[index])
    if bad.any():
        at = int(bad.argmax())
        raise ColumnError(inputs[index], float(columns[index][at]), why, index=index, position=at)
