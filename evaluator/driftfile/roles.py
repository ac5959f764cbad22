"""What target and prediction mean together: a class and its label, a class and its probability, or two numbers.

Inferred once from a sample of the reference, said in words, and then only applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.feature import Column
from evaluator.drift.reading import Coded, is_categorical, read_categories, read_numbers
from evaluator.driftfile.settings import DriftRequestError, Settings, Task

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

    def truth(self, target: Column) -> Column:
        """The target as the drift rules take it: 0 and 1 beside a probability, else as it is."""
        if self.says != "probability":
            return target
        if is_categorical(target):
            known = [None if not isinstance(v, str) else v == self.positive for v in read_categories(target)]
            return np.array([np.nan if value is None else float(value) for value in known])
        numbers = read_numbers(target)[0]
        assert self.positive is not None
        return np.where(np.isnan(numbers), np.nan, np.asarray(numbers == float(self.positive), dtype=np.float64))


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
        return Roles(task, "label", None, f"{names}: {len(classes)} classes and a predicted label, classification")
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
    return Roles(task, "probability", positive, note)


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
