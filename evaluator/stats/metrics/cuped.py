"""Covariates: a linear prediction of each row's value from what was known before the experiment touched it.

Invariant: a prediction uses earlier batches alone, so that taking it off leaves the score process a martingale; it can
be wrong in any way and only costs variance.

With covariates that explain a share r² of a value the variance of the score falls to 1 − r² of what it was (Deng, Xu,
Kohavi & Walker 2013, "CUPED"; with several covariates the regression adjustment of Lin 2013).
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.metrics.base import Snapshot, numbers
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import LARGEST_OUTCOME, Bools, Floats

# A direction of the covariates that holds less than this part of their (standardised) spread is rounding.
_RANK: Final = 1e-9


class Adjustment:
    """Least squares of a value on `columns` covariates over all learned rows of both arms.

    Kept are n, the means and the centred cross-products of (covariates, value): of bounded size and mergeable.
    """

    def __init__(self, columns: int) -> None:
        if columns < 1:
            raise StatsError(f"an adjustment needs at least one covariate, not {columns}")
        self.columns = columns
        self._n = 0.0
        self._means = np.zeros(columns + 1)
        self._products = np.zeros((columns + 1, columns + 1))

    def predict(self, columns: Columns) -> Floats:
        """m of each row, (n,), in the value's units. A missing covariate (NaN) counts as its mean.

        Before any row was learned it is 0, and the mean alone until there are two rows for each coefficient.
        """
        covariates = self._matrix(columns)
        centred = np.where(np.isnan(covariates), 0.0, covariates - self._means[:-1])
        return np.asarray(self._means[-1] + centred @ self._slopes())

    def learn(self, columns: Columns, values: Floats) -> None:
        """Make the rows part of the past, but for those whose value is NaN. Raises OutcomeError on an infinite one."""
        covariates = self._matrix(columns)
        if values.shape != covariates.shape[:1]:
            raise StatsError(f"values of shape {values.shape} do not fit {len(covariates)} rows of covariates")
        if (np.abs(values) > LARGEST_OUTCOME).any():
            at = int((np.abs(values) > LARGEST_OUTCOME).argmax())
            raise OutcomeError(f"value {float(values[at])!r} at position {at} is not of usable size")
        present = ~np.isnan(values)
        if present.any():
            self._join(*_moments(covariates[present], values[present], self._means[:-1]))

    def merge(self, other: Self) -> Self:
        """What the rows of both have taught, as a new object."""
        if self.columns != other.columns:
            raise StatsError(f"adjustments for {self.columns} and {other.columns} covariates do not merge")
        new = type(self)(self.columns)
        new._join(self._n, self._means, self._products)
        new._join(other._n, other._means, other._products)
        return new

    def to_dict(self) -> Snapshot:
        """Fit for JSON; numbers come back bit for bit."""
        return {
            "columns": self.columns,
            "n": self._n,
            "means": self._means.tolist(),
            "products": self._products.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Snapshot) -> Self:
        """The object whose `to_dict` this is. Raises StatsError where it can't be one."""
        columns = data.get("columns")
        if not isinstance(columns, int):
            raise StatsError("this is not a snapshot of an adjustment")
        new = cls(columns)
        new._n = float(numbers(data, "n", (1,))[0])
        new._means = numbers(data, "means", (columns + 1,))
        new._products = numbers(data, "products", (columns + 1, columns + 1))
        return new

    def _slopes(self) -> Floats:
        """Coefficients of the covariates: 0 for one that is constant, the shortest solution where some depend."""
        spread = np.diag(self._products)[:-1]
        # Rounding leaves a constant column of size c with a spread of about n (1e-16 c)².
        varies = spread > self._n * np.square(1e-12 * self._means[:-1])
        if self._n < 2.0 * (self.columns + 1) or not varies.any():
            return np.zeros(self.columns)
        size = np.sqrt(np.where(varies, spread, 1.0))
        correlations = np.where(np.outer(varies, varies), self._products[:-1, :-1], 0.0) / np.outer(size, size)
        with_value = np.where(varies, self._products[:-1, -1], 0.0) / size
        return np.asarray(np.linalg.pinv(correlations, rcond=_RANK, hermitian=True) @ with_value / size)

    def _join(self, n: float, means: Floats, products: Floats) -> None:
        """The pairwise update of Chan, Golub & LeVeque (1983), for cross-products."""
        total = self._n + n
        if total == 0.0:
            return
        apart = means - self._means
        self._products = self._products + products + np.outer(apart, apart) * (self._n * n / total)
        self._means = self._means + apart * (n / total)
        self._n = total

    def _matrix(self, columns: Columns) -> Floats:
        if len(columns) != self.columns:
            raise StatsError(f"{len(columns)} covariates where {self.columns} were declared")
        if len({column.shape for column in columns}) > 1:
            raise StatsError("the covariates differ in length")
        matrix = np.stack(columns, axis=1)
        bad: Bools = np.abs(matrix) > LARGEST_OUTCOME
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            raise OutcomeError(f"covariate {column} at position {row} is not of usable size")
        return matrix


def _moments(covariates: Floats, values: Floats, means: Floats) -> tuple[float, Floats, Floats]:
    """n, means and centred cross-products. A missing covariate is at the batch's mean, or else at `means`."""
    missing = np.isnan(covariates)
    if missing.any():
        known = np.where(missing, 0.0, covariates).sum(axis=0)
        count = (~missing).sum(axis=0)
        fill = np.where(count > 0, known / np.maximum(count, 1), means)
        covariates = np.where(missing, fill, covariates)
    rows = np.column_stack([covariates, values])
    centre = rows.mean(axis=0)
    centred = rows - centre
    return float(len(rows)), centre, centred.T @ centred
