"""A model of a format that does not say what its numbers are: probabilities, or regression outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PlainNumbers(ABC):
    """The task tells what the numbers are; they are taken as they come. A model that ends in logits needs a softmax as
    its last layer."""

    @abstractmethod
    def numbers(self, rows: Any) -> NDArray[Any]:
        """What the model answers to a matrix, or to a frame of its columns."""

    def predict(self, rows: Any) -> NDArray[Any]:
        found = self.numbers(rows)
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found

    def predict_proba(self, rows: Any) -> NDArray[Any]:
        found = np.asarray(self.predict(rows), dtype=np.float64)
        if found.ndim == 2:  # float32's rounding, of whatever size the row is
            total = found.sum(axis=1, keepdims=True)
            found = np.where(np.abs(total - 1) < 1e-4, found / np.where(total == 0, 1, total), found)
        return found
