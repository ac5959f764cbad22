"""A regime model: the next regime by the present one, from a transition matrix; a scikit-learn classifier.

One feature, the present regime (texts or numbers), and the next regime as the target. It is fitted, retrained, served
and compared like any other model; its `spectral_gap` says how fast it forgets where it came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = NDArray[np.float64]


class MarkovRegimes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """P(next regime | present regime), as shares of the transitions that were seen.

    smoothing: transitions that every pair of regimes is given beforehand (Laplace), so that none is impossible. A
    regime that was never seen is answered by the shares of all. Fitted: `classes_` (next regimes), `regimes_` (present
    ones), `transition_` of shape (regimes, classes) whose rows sum to 1, `prior_` (classes).
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def fit(self, X: Any, y: Any) -> MarkovRegimes:
        """X: (n, 1) present regimes. y: (n,) next regimes. Raises ValueError for more columns than one."""
        if self.smoothing < 0:
            raise ValueError(f"smoothing must be at least 0, not {self.smoothing}")
        present = _column(X)
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = 1
        self.regimes_, rows = np.unique(present, return_inverse=True)
        self.classes_, columns = np.unique(np.asarray(y), return_inverse=True)
        counts = np.full((len(self.regimes_), len(self.classes_)), float(self.smoothing))
        np.add.at(counts, (rows, columns), 1.0)
        self.transition_ = counts / counts.sum(axis=1, keepdims=True)
        seen = np.bincount(columns, minlength=len(self.classes_)) + float(self.smoothing)
        self.prior_ = seen / seen.sum()
        return self

    def predict_proba(self, X: Any) -> Floats:
        """(n, classes) probabilities of the next regime."""
        present = _column(X)
        if present.dtype.kind != self.regimes_.dtype.kind:
            present = present.astype(self.regimes_.dtype)
        place = np.clip(np.searchsorted(self.regimes_, present), 0, len(self.regimes_) - 1)
        known = self.regimes_[place] == present
        found: Floats = np.where(known[:, None], self.transition_[place], self.prior_)
        return found

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def spectral_gap(self) -> float | None:
        """1 less the second largest modulus of the transition matrix's eigenvalues: near 0 regimes hardly ever change,
        near 1 the present one says nothing of the next. None where present and next regimes are not the same."""
        if len(self.classes_) < 2 or list(map(str, self.regimes_)) != list(map(str, self.classes_)):
            return None
        return float(1.0 - np.sort(np.abs(np.linalg.eigvals(self.transition_)))[-2])


def _column(X: Any) -> NDArray[Any]:
    values = np.asarray(X)
    if values.ndim == 1:
        values = values[:, None]
    if values.shape[1] != 1:
        raise ValueError(f"a regime model has one feature, the present regime, not {values.shape[1]}")
    column = values[:, 0]
    return column.astype(str) if column.dtype == object else column
