"""What kind of answer a prediction column holds, by its values in the reference, and the cells that are of the other.

A label and a probability are both numbers: held against each other they give an accuracy that means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Column
from evaluator.drift.reading import is_categorical, read_numbers
from evaluator.driftfile.roles import Roles

_FEWEST = 10
"""Cells below which nothing is said of their kind."""
_CLASSES = 20
"""Whole numbers of up to so many kinds are labels."""
_STRAY = 0.05
"""Share of probabilities beyond which the labels among them are exact zeros and ones."""
_MOSTLY = 0.5
_CHANCE = 1e-6
"""Chance of so many exact zeros and ones in a row, as often as the reference has them, that is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """labels: the reference has whole numbers. ends: its share of exact zeros and ones, where it has probabilities.
    Both are false or None where no other kind could be told."""

    labels: bool = False
    ends: float | None = None

    @classmethod
    def of(cls, prediction: Column, roles: Roles | None) -> Answer:
        """By the reference's values; in a regression whole numbers and others are of one kind."""
        if is_categorical(prediction) or (roles is not None and roles.says == "number"):
            return cls()
        numbers = read_numbers(prediction)[0]
        known = numbers[np.isfinite(numbers)]
        if len(known) < _FEWEST:
            return cls()
        whole = known == np.round(known)
        if whole.all():
            return cls(labels=len(np.unique(known)) <= _CLASSES)
        shares = bool((known >= 0).all() and (known <= 1).all())
        return cls(ends=float(whole.mean()) if shares and whole.mean() < _MOSTLY else None)

    @property
    def other(self) -> str:
        """What is wrong with cells of the other kind, in words."""
        return "probabilities, and the reference has labels" if self.labels else "labels, and the reference has " \
            "probabilities"  # fmt: skip

    def told(self, column: Column) -> tuple[Column, int]:
        """Some rows' predictions with those of the other kind as texts, which no number is, and how many they are."""
        strange = self._strange(column)
        count = int(np.count_nonzero(strange))
        if not count:
            return column, 0
        return [f"{cell}" if odd else cell for cell, odd in zip(list(column), strange.tolist(), strict=True)], count

    def _strange(self, column: Column) -> npt.NDArray[np.bool_]:
        none = np.zeros(len(column), dtype=np.bool_)
        if not (self.labels or self.ends is not None) or is_categorical(column):
            return none
        numbers = read_numbers(column)[0]
        known = np.isfinite(numbers)
        present = int(np.count_nonzero(known))
        if self.labels:
            between = (numbers > 0) & (numbers < 1)
            many = present >= _FEWEST and np.count_nonzero(between) > _STRAY * present
            return known if many else between
        assert self.ends is not None
        at_ends = (numbers == 0) | (numbers == 1)
        chance = max(self.ends, 1e-3) ** present
        return known if present >= _FEWEST and chance < _CHANCE and at_ends[known].all() else none
