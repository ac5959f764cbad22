"""CUPED: regression adjustment of each row's value by covariates known before the experiment.

Sources: Deng, Xu, Kohavi & Walker (2013); with several covariates Lin (2013). Covariates that explain a share r² of a
value reduce the variance of the score to 1 − r² of what it was.

Invariant: a prediction uses earlier batches only, so the adjusted score stays a martingale however wrong it is.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.metrics.declaration import Columns
from evaluator.stats.score_process import LARGEST_OUTCOME, Bools, Floats

# A direction of the covariates that holds less than this part of their (standardised) spread is rounding.
_RANK: Final = 1e-9


class CupedAdjustment:
    """Least squares of a value on `columns` covariates over all learned rows of both arms.

    It keeps n, the means and the centred cross-products of (covariates, value).
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
