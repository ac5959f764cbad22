"""What target and prediction mean together: a class and its label, a class and its probability, or two numbers.

Inferred once from a sample of the reference, said in words, and then only applied.

What kind of answer a prediction column holds, by its values in the reference, and the cells that are of the other.

A label and a probability are both numbers: held against each other they give an accuracy that means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, is_categorical, read_categories, read_numbers
from evaluator.drift.feature import Column
from evaluator.offline.drift.settings import DriftRequestError, Settings, Task

Floats = npt.NDArray[np.float64]
Says = Literal["label", "probability", "number"]

_CLASSES = 20
"""Whole numbers of up to so many kinds are classes, where the prediction fits."""


@dataclass(frozen=True, slots=True)
class Roles:
    """task, what the prediction says, and the class that a probability is of (as a text, None without one)."""

    task: Task
    says: Says
    positive: str | None
    note: str
    texts: bool = False
    """Whether the reference's target, and with it a label, is of texts."""
    classes: frozenset[float | str] = frozenset()
    """Beside a probability the classes there are; empty where the reference shows fewer than two."""

    def truth(self, target: Column) -> Column:
        """The target as the drift rules take it: 0 and 1 beside a probability, else as it is; unknown where it can't be
        a truth."""
        cells = of_kind(target, texts=self.texts)
        if self.says != "probability":
            return cells
        assert self.positive is not None
        positive = self.positive if self.texts else float(self.positive)
        told = {value: float(value == positive) for value in self.classes}
        if isinstance(cells, np.ndarray):
            known = np.isin(cells, list(told)) if told else np.isfinite(cells)
            return np.where(known, np.asarray(cells == positive, dtype=np.float64), np.nan)
        default = np.nan if told else 0.0
        each = [np.nan if v is None else told.get(v, float(v == positive) or default) for v in list(cells)]
        return np.array(each, dtype=np.float64)

    def said(self, prediction: Column) -> Column:
        """The prediction with what can't be one unknown: cells of another type, probabilities beyond 0 and 1."""
        cells = of_kind(prediction, texts=self.texts and self.says == "label")
        if self.says == "probability" and isinstance(cells, np.ndarray):
            with np.errstate(invalid="ignore"):
                return np.where((cells >= 0) & (cells <= 1), cells, np.nan)
        return cells


def present(column: Column) -> int:
    """Cells that are not missing, whatever they hold."""
    if isinstance(column, Coded):
        return int((column.codes >= 0).sum())
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return int((~np.isnan(column.astype(np.float64, copy=False))).sum())
    return sum(cell is not None and cell == cell for cell in column)


def of_kind(column: Column, *, texts: bool) -> Column:
    """The column with cells of the other kind, and infinite ones, unknown."""
    if texts:
        if isinstance(column, Coded):
            return column
        return [value if isinstance(value, str) else None for value in read_categories(column)]
    numbers = read_numbers(column)[0]
    return numbers if np.isfinite(numbers).all() else np.where(np.isfinite(numbers), numbers, np.nan)


def infer(settings: Settings, target: Column, prediction: Column) -> Roles:
    """From values of the reference where both are asked for.

    Raises DriftRequestError when the two don't fit each other or the settings.
    """
    if settings.prediction is None or settings.target is None:
        raise ValueError("roles need a target and a prediction")
    names = f"target {settings.target!r} and prediction {settings.prediction!r}"
    classes = _classes(target)
    said = _distinct(prediction)
    if not classes or not said:
        raise DriftRequestError(f"{names}: one of them has no value in the reference")
    texts = is_categorical(target)
    task = settings.task or _task(target, prediction, classes, said)
    if task == "regression":
        if texts or is_categorical(prediction):
            raise DriftRequestError(f"{names}: regression needs numbers in both")
        return Roles(task, "number", None, f"{names}: numbers, regression")
    if is_categorical(prediction) != texts and (texts is False or not _shares(prediction)):
        raise DriftRequestError(f"{names}: one holds texts and the other numbers, so no prediction can be right")
    if is_categorical(prediction) or (not texts and set(said) <= set(classes)):
        return Roles(
            task, "label", None, f"{names}: {len(classes)} classes and a predicted label, classification", texts
        )
    if not _shares(prediction):
        raise DriftRequestError(
            f"{names}: the prediction is neither one of the {len(classes)} classes nor a probability from 0 to 1; "
            "is it a regression (task=regression)?"
        )
    if len(classes) > 2:
        raise DriftRequestError(
            f"{names}: a probability needs a target of two classes, and this one has {len(classes)}: "
            + ", ".join(map(_spelled, classes[:5]))
        )
    positive = _positive(settings, classes)
    note = f"{names}: classification, the prediction is the probability of {positive!r}"
    known: frozenset[float | str] = frozenset()
    if len(classes) == 2 or (not texts and set(classes) <= {0.0, 1.0}):
        known = frozenset(classes) if len(classes) == 2 else frozenset((0.0, 1.0))
    return Roles(task, "probability", positive, note, texts, known)


def _task(target: Column, prediction: Column, classes: list[float | str], said: list[float | str]) -> Task:
    if is_categorical(target) or is_categorical(prediction):
        return "classification"
    whole = len(classes) <= _CLASSES and all(isinstance(v, float) and v == int(v) for v in classes)
    if whole and (set(said) <= set(classes) or (len(classes) <= 2 and _shares(prediction))):
        return "classification"
    return "regression"


def _classes(column: Column) -> list[float | str]:
    return _distinct(column)


def _distinct(column: Column) -> list[float | str]:
    """The distinct values in order; numbers as floats."""
    if isinstance(column, Coded):
        used = np.unique(column.codes[column.codes >= 0])
        return sorted(column.values[code] for code in used.tolist())
    if is_categorical(column):
        return sorted({value for value in read_categories(column) if isinstance(value, str)})
    numbers = read_numbers(column)[0]
    return list(np.unique(numbers[np.isfinite(numbers)]).tolist())


def _shares(column: Column) -> bool:
    """Whether all numbers are from 0 to 1."""
    if is_categorical(column):
        return False
    numbers = read_numbers(column)[0]
    known = numbers[~np.isnan(numbers)]
    return len(known) > 0 and bool((known >= 0).all() and (known <= 1).all())


def _positive(settings: Settings, classes: list[float | str]) -> str:
    """The asked class, else the last in order: 1 of 0 and 1, yes of no and yes."""
    spelled = [_spelled(value) for value in classes]
    if settings.positive is None:
        # A sample of one class, all 0, still leaves its probability the one of 1.
        return "1" if spelled == ["0"] else spelled[-1]
    asked = settings.positive
    for value, text in zip(classes, spelled, strict=True):
        if asked == text or (isinstance(value, float) and _same(asked, value)):
            return text
    raise DriftRequestError(f"the positive class {asked!r} is none of the target's: {', '.join(spelled[:20])}")


def _same(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def _spelled(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)


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
        return (
            "probabilities, and the reference has labels"
            if self.labels
            else "labels, and the reference has probabilities"
        )

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
