"""Base of the metrics' influence functions: each row becomes one number, in the metric's own units.

Invariant: the number of a row depends on that row and on earlier batches only. Given the past, a difference between the
arms' expected numbers is therefore a difference between their metrics, whatever a ramp or a drift did before.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics.declaration import Columns, rows_with_inputs
from evaluator.stats.score_process import Bools, Floats

# Events in the champion's past before a metric is linearised at it.
FEWEST_EVENTS: Final = 20.0
# Events over which the past fades to 1/e. An anchor's error enters as a product with another error, so 5 % of noise in
# it costs nothing, while an anchor that lags behind a drift makes a bias.
MEMORY: Final = 500.0


class Influence(ABC):
    """The influence function of one metric in one comparison (a challenger against the champion, in one segment).

    A batch goes through `values` first and through `learn` afterwards. A batch is `treated` (n,), True for the
    challenger, and the metric's input columns, each (n,) with NaN for a missing input. Both methods raise ColumnError
    for an impossible value and StatsError for shapes that don't fit, before anything has changed. A kind of metric
    gives `_numbers`, `_learn` and `_figure`.
    """

    def __init__(self, kind: str, positive: float | None = None) -> None:
        self.kind = kind
        self.positive = positive

    def values(self, treated: Bools, columns: Columns) -> Floats:
        """The number of each row, (n,). NaN: no evidence, as an input is missing or there is too little past."""
        present, numbers = self._present(treated, columns), self._numbers(treated, columns)
        return np.where(present, math.nan if numbers is None else numbers, math.nan)

    def learn(self, treated: Bools, columns: Columns) -> None:
        """Add the batch to the past. What compares the arms ignores batches that lack one of them."""
        self._learn(treated, self._present(treated, columns), columns)

    def figures(self) -> tuple[float | None, float | None]:
        """Champion's and challenger's value of the metric itself over all rows learned; None where undefined."""
        return self._figure(0), self._figure(1)

    @abstractmethod
    def _numbers(self, treated: Bools, columns: Columns) -> Floats | Bools | None:
        """The number of each row, whatever where an input is missing; None while there is too little past."""

    @abstractmethod
    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
        """`learn` from the rows that have their inputs."""

    @abstractmethod
    def _figure(self, arm: int) -> float | None:
        """One arm's value: 0 is the champion, 1 the challenger."""

    def in_units(self, difference: float) -> float:
        """A difference of the arms' numbers in the metric's own units: 0 at 0, and the larger the larger it is."""
        return difference

    def of_units(self, movement: float) -> float:
        """The difference of the arms' numbers that a movement in the metric's own units makes."""
        return movement

    def paired_values(self, champion: Columns, challenger: Columns) -> tuple[Floats, Floats]:
        """Both arms' numbers of requests that both have answered, (n,) each; NaN in both where either has none."""
        treated, columns = _stacked(champion, challenger)
        both = self.values(treated, columns).reshape(2, -1)
        both[:, np.isnan(both).any(axis=0)] = math.nan
        return both[0], both[1]

    def learn_paired(self, champion: Columns, challenger: Columns) -> None:
        """`learn` for requests that both arms have answered."""
        self.learn(*_stacked(champion, challenger))

    def _present(self, treated: Bools, columns: Columns) -> Bools:
        return rows_with_inputs(self.kind, treated, columns, labelled=self.positive is not None)


class MeanInfluence(Influence):
    """A mean over rows: the number of a row is its own value, and no past is needed."""

    def __init__(self, kind: str, positive: float | None = None) -> None:
        super().__init__(kind, positive)
        self._sums = np.zeros((2, 2))  # by arm: n, Σ value

    def _numbers(self, treated: Bools, columns: Columns) -> Floats:
        return LOSSES[self.kind](columns, self.positive)

    def _learn(self, treated: Bools, present: Bools, columns: Columns) -> None:
        self._sums = self._sums + by_arm(treated, present, LOSSES[self.kind](columns, self.positive))

    def _figure(self, arm: int) -> float | None:
        n, total = self._sums[arm]
        return quotient(float(total), float(n))


def class_of(outcome: Floats, positive: float | None) -> Bools:
    """Rows of the class that the metric is about: 1 unless another was named."""
    return np.asarray(outcome == (1.0 if positive is None else positive))


def _log_loss(columns: Columns, positive: float | None) -> Floats:
    # The nearest probability to 0 or 1, as in scikit-learn: a certainty that fails would cost infinitely much.
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
    """One batch's sums by arm, (2, …), each times the other arm's share n₁₋ₐ/n (Mantel & Haenszel 1959).

    Added up over batches, both arms' sums weight the calendar alike whatever the shares were, so their quotient
    compares the arms and not the seasons. Zero where an arm is missing.
    """
    total = float(counts.sum())
    if not counts.all():
        return np.zeros_like(sums)
    weights = counts[::-1] / total
    return sums * weights.reshape((2,) + (1,) * (sums.ndim - 1))


def fading(events: Floats | float) -> Floats:
    """Weight left of the past after so many later events: exp(−events / MEMORY)."""
    return np.asarray(np.exp(-np.asarray(events) / MEMORY))


def quotient(numerator: float, denominator: float) -> float | None:
    """A figure that is a quotient, or None where it is undefined."""
    return numerator / denominator if denominator > 0.0 else None


def shrunk(champion: float | Floats, challenger: float | Floats, prior: float) -> Floats:
    """challenger / champion of two matched sums, shrunk to 1 as by `prior` more on both sides."""
    return np.asarray((challenger + prior) / (champion + prior))
