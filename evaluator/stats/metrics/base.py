"""What every metric is made into before it is tested: one number a row, in the metric's own units.

Invariant: the number of a row depends on that row and on earlier batches alone. Given the past, a difference between
the arms' expected numbers is then a difference between their metrics, whatever the ramp and the drift did before.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.declaration import Columns, checked
from evaluator.stats.score_process import Bools, Floats

# So much of a past has to be there before a metric is linearised at it: a ratio from fewer events is no anchor.
FEWEST_EVENTS: Final = 20.0

# Over so many events what was learned fades to 1/e. The past serves as an anchor whose error is multiplied by another
# one, so 5 % of noise costs nothing, while an anchor that lags behind a drift makes a bias.
MEMORY: Final = 500.0

Snapshot = dict[str, Any]


class Influence(ABC):
    """One metric in one cell (a challenger against the champion, in one segment).

    A batch goes through `values` first and `learn` afterwards. Rows are `treated` (n,), True for the challenger, and
    the metric's input columns, each (n,) with NaN where the input is missing. Both raise ColumnError for a value that
    the metric can't have and StatsError for shapes that don't fit, before anything has changed.
    """

    def __init__(self, kind: str, positive: float | None = None) -> None:
        self.kind = kind
        self.positive = positive

    @abstractmethod
    def values(self, treated: Bools, columns: Columns) -> Floats:
        """The number of each row, (n,). NaN: no evidence, as an input is missing or there is too little past."""

    @abstractmethod
    def learn(self, treated: Bools, columns: Columns) -> None:
        """Make the batch part of the past. Batches should hold both arms: what compares the arms skips others."""

    @abstractmethod
    def figures(self) -> tuple[float | None, float | None]:
        """Champion's and challenger's value of the metric itself over all rows learned; None where undefined."""

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """What learning the other's batches after one's own would have left behind, as a new object. Associative."""

    @abstractmethod
    def state(self) -> Snapshot:
        """All that has been learned, fit for JSON, whose numbers come back bit for bit."""

    @abstractmethod
    def restore(self, state: Snapshot) -> None:
        """Take over what `state` gave. Raises StatsError where it is not one of this kind."""

    @property
    def scale(self) -> float:
        """Factor from a difference of the numbers to the metric's own units."""
        return 1.0

    def paired_values(self, champion: Columns, challenger: Columns) -> tuple[Floats, Floats]:
        """Both arms' numbers of requests that both have answered, (n,) each; NaN in both where either has none."""
        treated, columns = _stacked(champion, challenger)
        both = self.values(treated, columns).reshape(2, -1)
        both[:, np.isnan(both).any(axis=0)] = math.nan
        return both[0], both[1]

    def learn_paired(self, champion: Columns, challenger: Columns) -> None:
        """`learn` for requests that both arms have answered."""
        self.learn(*_stacked(champion, challenger))

    def to_dict(self) -> Snapshot:
        """The whole object for JSON; `evaluator.stats.metrics.influence_function.from_dict` gives it back."""
        return {"kind": self.kind, "positive": self.positive, **self.state()}

    def _present(self, treated: Bools, columns: Columns) -> Bools:
        return checked(self.kind, treated, columns, labelled=self.positive is not None)

    def _fits(self, other: Influence) -> None:
        if (type(self), self.kind, self.positive) != (type(other), other.kind, other.positive):
            raise StatsError(f"what {self.kind!r} has learned does not merge with what {other.kind!r} has")


def _stacked(champion: Columns, challenger: Columns) -> tuple[Bools, Columns]:
    if len(champion) != len(challenger) or any(a.shape != b.shape for a, b in zip(champion, challenger, strict=True)):
        raise StatsError("the columns of the two arms are not pairs")
    n = len(champion[0]) if champion else 0
    columns = tuple(np.concatenate(pair) for pair in zip(champion, challenger, strict=True))
    return np.repeat(np.array([False, True]), n), columns


def by_arm(treated: Bools, present: Bools, *terms: Floats) -> Floats:
    """Count and sums of the terms over the present rows of champion and challenger, shape (2, 1 + terms)."""
    sums = np.empty((2, 1 + len(terms)))
    for arm, rows in enumerate((present & ~treated, present & treated)):
        sums[arm, 0] = np.count_nonzero(rows)
        sums[arm, 1:] = [float(term[rows].sum()) for term in terms]
    return sums


def matched(counts: Floats, sums: Floats) -> Floats:
    """One batch's sums by arm, (2, …), weighted n₀n₁/n per mean as Mantel & Haenszel (1959) weight a stratum.

    Added up over batches both arms' sums have seen the same calendar, whatever the shares were, so that their quotient
    compares the arms and not the seasons. Nothing where an arm is missing.
    """
    total = float(counts.sum())
    if not counts.all():
        return np.zeros_like(sums)
    weights = counts[::-1] / total
    return sums * weights.reshape((2,) + (1,) * (sums.ndim - 1))


def fading(events: Floats | float) -> Floats:
    """The factor for what was learned before so many later events: exp(−events / MEMORY)."""
    return np.asarray(np.exp(-np.asarray(events) / MEMORY))


def numbers(state: Snapshot, name: str, shape: tuple[int, ...]) -> Floats:
    """An array of a snapshot. Raises StatsError unless it is of finite numbers in this shape (−1: any length)."""
    try:
        array = np.array(state[name], dtype=np.float64).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise StatsError(f"a snapshot of this metric has {name!r} as numbers of shape {shape}") from error
    if not np.isfinite(array).all():
        raise StatsError(f"a snapshot of this metric has a number in {name!r} that is not finite")
    return array


def class_of(outcome: Floats, positive: float | None) -> Bools:
    """Which rows are of the class that the metric is about: 1 unless another was named."""
    return np.asarray(outcome == (1.0 if positive is None else positive))


def _log_loss(columns: Columns, positive: float | None) -> Floats:
    # A certainty that fails would cost everything; the nearest probability below 1 is what scikit-learn charges.
    least = float(np.finfo(np.float64).eps)
    score = np.clip(columns[0], least, 1.0 - least)
    return -np.log(np.where(class_of(columns[1], positive), score, 1.0 - score))


LOSSES: Final[Mapping[str, Callable[[Columns, float | None], Floats]]] = MappingProxyType(
    {
        "mean": lambda columns, _: columns[0],
        "reward": lambda columns, _: columns[0],
        "proportion": lambda columns, _: columns[0],
        "error_rate": lambda columns, _: columns[0],
        "coverage": lambda columns, _: np.isfinite(columns[0]).astype(np.float64),
        "accuracy": lambda columns, _: (columns[0] == columns[1]).astype(np.float64),
        "mae": lambda columns, _: np.abs(columns[0] - columns[1]),
        "mse": lambda columns, _: np.square(columns[0] - columns[1]),
        "brier": lambda columns, positive: np.square(columns[0] - class_of(columns[1], positive)),
        "log_loss": _log_loss,
    }
)


class MeanInfluence(Influence):
    """A mean over rows: its number is the row's own value, and no past is needed."""

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._sums = np.zeros((2, 2))

    def values(self, treated: Bools, columns: Columns) -> Floats:
        present = self._present(treated, columns)
        return np.where(present, LOSSES[self.kind](columns, self.positive), math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        present = self._present(treated, columns)
        self._sums = self._sums + by_arm(treated, present, LOSSES[self.kind](columns, self.positive))

    def figures(self) -> tuple[float | None, float | None]:
        champion, challenger = (float(total) / float(n) if n else None for n, total in self._sums)
        return champion, challenger

    def merge(self, other: Self) -> Self:
        self._fits(other)
        new = type(self)(self.kind, self.positive)
        new._sums = self._sums + other._sums
        return new

    def state(self) -> Snapshot:
        return {"sums": self._sums.tolist()}

    def restore(self, state: Snapshot) -> None:
        self._sums = numbers(state, "sums", (2, 2))


def quotient(numerator: float, denominator: float) -> float | None:
    """A figure that is a quotient, or None where it is undefined."""
    return numerator / denominator if denominator > 0.0 else None


def shrunk(champion: float, challenger: float, prior: float) -> float:
    """challenger / champion of two matched sums, pulled to 1 as by `prior` more on both sides."""
    return (challenger + prior) / (champion + prior)
