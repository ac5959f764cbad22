"""The type of a prediction: a label, the probability of a class, or a number, inferred once from the reference.

A label and a probability are both numbers, and an accuracy of one held against the other means nothing; so cells of
the current rows that are not of the reference's type are found and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Coded, Column, is_categorical, read_categories, read_numbers
from evaluator.drift.performance import Task
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from gauntlet.spelling import apart, canonical, folded, parse_number

Kind = Literal["label", "probability", "number"]

_CLASSES = 20  # distinct whole numbers up to which they are classes, where the prediction fits
_FEWEST = 10  # cells below which their kind is not judged
_STRAY = 0.05
"""Share of values strictly between 0 and 1, among labels, above which all of them are probabilities; and of predicted
labels that the target never has, above which the two speak of different things."""
_SAMPLED = 1000  # cells of a batch among which examples of what can't be used are looked for
_MOSTLY = 0.5
_CHANCE = 1e-6
"""Chance of nothing but exact zeros and ones, as often as the reference has them, below which they are labels."""


@dataclass
class OutcomeCounts:
    """Cells of target and prediction in some rows."""

    targets: int = 0
    """Rows with a target, whatever it is."""
    mismatched: int = 0
    """Predictions of another kind than the reference's."""
    unusable: dict[str, int] = field(default_factory=dict)
    """By column, cells that can be neither target nor prediction."""
    samples: dict[str, frozenset[str]] = field(default_factory=dict)
    """By column, some of these cells, as texts."""

    def __add__(self, later: OutcomeCounts) -> OutcomeCounts:
        names = {**self.unusable, **later.unusable}
        unusable = {name: self.unusable.get(name, 0) + later.unusable.get(name, 0) for name in names}
        samples = {**later.samples, **self.samples}
        return OutcomeCounts(self.targets + later.targets, self.mismatched + later.mismatched, unusable, samples)

    def add_unusable(self, name: str, cells: Column, usable: Column, *, at_least: int = 0) -> None:
        """Count the cells of a column that have no usable value."""
        unusable = max(at_least, count_present(cells) - count_present(usable))
        self.unusable[name] = self.unusable.get(name, 0) + unusable
        if unusable and name not in self.samples:
            pairs = zip(list(cells)[:_SAMPLED], list(usable)[:_SAMPLED], strict=True)
            left_out = {canonical(str(cell)) for cell, kept in pairs if not _missing(cell) and _missing(kept)}
            self.samples[name] = frozenset(left_out)


@dataclass(frozen=True, slots=True)
class PredictionType:
    """What target and prediction mean in the reference, by which those of other rows are read."""

    settings: DriftFileSettings
    task: Task | None = None
    """None without both columns, as is `kind`."""
    kind: Kind | None = None
    positive: str | None = None
    """The class that a probability is of, as a text."""
    notes: tuple[str, ...] = ()
    """What was inferred, in a sentence."""
    texts: bool = False
    """Whether the target, and with it a label, holds texts."""
    classes: frozenset[float | str] = frozenset()
    """Beside a probability the two classes; empty where the reference shows fewer."""
    unlabelled: float | None = None
    """Share of rows without a target; None without the column."""
    whole: bool = False
    """Whether the prediction holds whole numbers of few kinds: labels."""
    certain_share: float | None = None
    """The share of exact zeros and ones in a prediction of probabilities, where those are few."""
    labels: frozenset[str] = frozenset()
    """Of labels that are texts, all that target or prediction has."""
    apart: str = ""
    """Why predictions can't be right: labels that the target doesn't have, or has in another spelling."""

    @classmethod
    def infer(cls, settings: DriftFileSettings, target: Column | None, prediction: Column | None) -> PredictionType:
        """The type of the predictions, from the reference's values. Raises DriftRequestError when the two don't fit
        each other or the settings."""
        known = cls(settings)
        if target is not None:
            unlabelled = 1 - count_present(target) / len(target)
            known = replace(known, texts=is_categorical(target), unlabelled=unlabelled)
        if prediction is not None:
            if target is not None:
                known = _infer_both(known, target, prediction)
            known = _judge_values(known, prediction)
        return known

    @property
    def respelt(self) -> dict[str, str]:
        """The label that a text which is none is another spelling of, by what the two have in common."""
        return {folded(label): label for label in self.labels}

    @property
    def written(self) -> frozenset[str]:
        """The labels as the reference writes them, where it shows them: of two numbers 0 and 1."""
        classes = self.labels or frozenset(map(_text, self.classes))
        return classes or (frozenset({"0", "1"}) if self.task == "classification" and not self.texts else classes)

    @property
    def scored(self) -> bool:
        """Whether the prediction is a probability."""
        return self.kind == "probability"

    @property
    def mismatch(self) -> str:
        """What cells of another kind than the reference's are, for a finding."""
        if self.whole:
            return "probabilities, and the reference has labels"
        return "labels, and the reference has probabilities"

    def usable_target(self, target: Column) -> Column:
        """The target as the drift rules take it: 0 and 1 beside a probability, else as it is; cells that can't be a
        truth are missing."""
        cells = _cells_of_kind(target, texts=self.texts)
        if not self.scored:
            return self._in_known_spelling(cells)
        assert self.positive is not None
        positive = self.positive if self.texts else float(self.positive)
        if isinstance(cells, np.ndarray):
            known = np.isin(cells, list(self.classes)) if self.classes else np.isfinite(cells)
            return np.where(known, np.asarray(cells == positive, dtype=np.float64), np.nan)
        values = {value: float(value == positive) for value in self.classes}
        other = np.nan if values else 0.0
        numbers = [
            np.nan if cell is None else values.get(cell, 1.0 if cell == positive else other) for cell in list(cells)
        ]
        return np.array(numbers, dtype=np.float64)

    def usable_prediction(self, prediction: Column) -> Column:
        """The prediction; cells of another type, and probabilities beyond 0 and 1, are missing."""
        if self.kind is None:
            return prediction
        cells = _cells_of_kind(prediction, texts=self.texts and self.kind == "label")
        if self.scored and isinstance(cells, np.ndarray):
            with np.errstate(invalid="ignore"):
                return np.where((cells >= 0) & (cells <= 1), cells, np.nan)
        return self._in_known_spelling(cells)

    def _in_known_spelling(self, cells: Column) -> Column:
        """Texts without those that are another spelling of a known label, which would be taken for misses."""
        if not self.labels:
            return cells
        respelt = self.respelt
        strange = {text for text in distinct_texts(cells) if text not in self.labels and folded(text) in respelt}
        return [None if cell in strange else cell for cell in list(cells)] if strange else cells

    def take(self, columns: dict[str, Column], counts: OutcomeCounts) -> tuple[Column | None, Column | None]:
        """The usable target and prediction of some rows, each None without its column; both are counted.

        The target is taken out of `columns`; predictions of another kind become texts there, which no number is.
        """
        target, prediction = self.settings.target, self.settings.prediction
        usable_target = usable_prediction = None
        if target is not None and target in columns:
            cells = columns.pop(target)
            usable_target = self.usable_target(cells)
            counts.targets += count_present(cells)
            counts.add_unusable(target, cells, usable_target)
        if prediction is not None and prediction in columns:
            cells, mismatched = self.mark_mismatches(columns[prediction])
            columns[prediction] = cells
            usable_prediction = self.usable_prediction(cells)
            counts.mismatched += mismatched
            counts.add_unusable(prediction, cells, usable_prediction, at_least=mismatched)
        return usable_target, usable_prediction

    def mark_mismatches(self, prediction: Column) -> tuple[Column, int]:
        """The cells, those of the other kind as texts, which no number is; and how many they are."""
        mismatched = self._mismatched(prediction)
        count = int(np.count_nonzero(mismatched))
        if not count:
            return prediction, 0
        cells = zip(list(prediction), mismatched.tolist(), strict=True)
        return [f"{cell}" if other else cell for cell, other in cells], count

    def _mismatched(self, prediction: Column) -> npt.NDArray[np.bool_]:
        none = np.zeros(len(prediction), dtype=np.bool_)
        if not (self.whole or self.certain_share is not None) or is_categorical(prediction):
            return none
        numbers = read_numbers(prediction)[0]
        known = np.isfinite(numbers)
        present = int(np.count_nonzero(known))
        if self.whole:
            between = (numbers > 0) & (numbers < 1)
            many = present >= _FEWEST and np.count_nonzero(between) > _STRAY * present
            return known if many else between
        assert self.certain_share is not None
        certain = (numbers == 0) | (numbers == 1)
        chance = max(self.certain_share, 1e-3) ** present
        return known if present >= _FEWEST and chance < _CHANCE and certain[known].all() else none


def _infer_both(known: PredictionType, target: Column, prediction: Column) -> PredictionType:
    settings, texts, text_labels = known.settings, known.texts, is_categorical(prediction)
    names = f"target {settings.target!r} and prediction {settings.prediction!r}"
    classes, predicted = _distinct(target), _distinct(prediction)
    if not classes or not predicted:
        raise DriftRequestError(f"{names}: one of them has no value in the reference")
    task = settings.task or _task(target, prediction, classes, predicted)
    if task == "regression":
        if texts or text_labels:
            raise DriftRequestError(f"{names}: regression needs numbers in both")
        return replace(known, task=task, kind="number", notes=(f"{names}: numbers, regression",))
    if text_labels != texts and (text_labels or not _within_unit(prediction)):
        raise DriftRequestError(
            f"{names}: one holds texts and the other numbers, so no prediction can be right: "
            + apart({canonical(_text(one)) for one in predicted}, {canonical(_text(one)) for one in classes})
        )
    if text_labels or (not texts and set(predicted) <= set(classes)):
        note = f"{names}: {len(classes)} classes and a predicted label, classification"
        known = replace(known, task=task, kind="label", notes=(note,))
        return _with_labels(known, set(map(str, classes)), prediction) if texts else known
    if not _within_unit(prediction):
        raise DriftRequestError(
            f"{names}: the prediction is neither one of the {len(classes)} classes nor a probability from 0 to 1; "
            "if it is a regression, set task to regression"
        )
    if len(classes) > 2:
        raise DriftRequestError(
            f"{names}: a probability needs a target of two classes, and this one has {len(classes)}: "
            + ", ".join(map(_text, classes[:5]))
        )
    positive = _positive_class(settings, classes)
    note = f"{names}: classification, the prediction is the probability of {positive!r}"
    both = classes if len(classes) == 2 else [0.0, 1.0] if not texts and set(classes) <= {0.0, 1.0} else []
    return replace(known, task=task, kind="probability", positive=positive, notes=(note,), classes=frozenset(both))


def _with_labels(known: PredictionType, classes: set[str], prediction: Column) -> PredictionType:
    """With the labels, and the reason where predicted ones are none of the target's, or are in another spelling."""
    predicted = set(distinct_texts(prediction))
    strange = predicted - classes
    respelt = {label for label in strange if folded(label) in set(map(folded, classes))}
    share = sum(cell in strange for cell in list(prediction)) / max(1, count_present(prediction)) if strange else 0.0
    reason = ""
    if strange == predicted:
        reason = f"share no label: {apart(predicted, classes)}"
    elif respelt:
        reason = f"spell labels differently: {apart(respelt, classes)}"
    elif share > _STRAY and len(classes) > 1:
        reason = f"share some labels only: {share:.0%} of the predictions are {apart(strange, classes)}"
    elif strange:
        note = f"{share:.1%} of the predictions are none of the target's labels: {apart(strange, classes)}"
        known = replace(known, notes=(*known.notes, note))
    return replace(known, labels=frozenset(classes | predicted), apart=reason)


def _judge_values(known: PredictionType, prediction: Column) -> PredictionType:
    """Whether the prediction holds labels or probabilities; in a regression all numbers are of one kind."""
    if is_categorical(prediction) or known.kind == "number":
        return known
    numbers = read_numbers(prediction)[0]
    values = numbers[np.isfinite(numbers)]
    if len(values) < _FEWEST:
        return known
    whole = values == np.round(values)
    if whole.all():
        return replace(known, whole=len(np.unique(values)) <= _CLASSES)
    within = bool((values >= 0).all() and (values <= 1).all())
    return replace(known, certain_share=float(whole.mean()) if within and whole.mean() < _MOSTLY else None)


def count_present(column: Column) -> int:
    """Cells that are not missing, whatever they hold."""
    if isinstance(column, Coded):
        return int((column.codes >= 0).sum())
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return int((~np.isnan(column.astype(np.float64, copy=False))).sum())
    return sum(cell is not None and cell == cell for cell in column)


def _missing(cell: object) -> bool:
    return cell is None or cell != cell


def _cells_of_kind(column: Column, *, texts: bool) -> Column:
    """The column as texts or as numbers; cells of the other kind, and infinite ones, are missing."""
    if texts:
        if isinstance(column, Coded):
            return column
        return [value if isinstance(value, str) else None for value in read_categories(column)]
    numbers = read_numbers(column)[0]
    return numbers if np.isfinite(numbers).all() else np.where(np.isfinite(numbers), numbers, np.nan)


def _task(target: Column, prediction: Column, classes: list[float | str], predicted: list[float | str]) -> Task:
    if is_categorical(target) or is_categorical(prediction):
        return "classification"
    whole = len(classes) <= _CLASSES and all(isinstance(v, float) and v == int(v) for v in classes)
    if whole and (set(predicted) <= set(classes) or (len(classes) <= 2 and _within_unit(prediction))):
        return "classification"
    if whole and len(classes) <= 2:
        listed = " and ".join(map(_text, classes))
        raise DriftRequestError(
            f"the target has nothing but {listed}, and the prediction has numbers from {min(predicted):g} to "
            f"{max(predicted):g}: neither labels nor probabilities from 0 to 1 (percents? logits?); if it is a "
            "regression, say --task regression"
        )
    return "regression"


def distinct_texts(column: Column) -> list[str]:
    """The distinct texts in order."""
    if isinstance(column, Coded):
        used = np.unique(column.codes[column.codes >= 0])
        return sorted(column.values[code] for code in used.tolist())
    return sorted({value for value in read_categories(column) if isinstance(value, str)})


def _distinct(column: Column) -> list[float | str]:
    """The distinct values in order; numbers as floats."""
    if is_categorical(column):
        return [*distinct_texts(column)]
    numbers = read_numbers(column)[0]
    return list(np.unique(numbers[np.isfinite(numbers)]).tolist())


def _within_unit(column: Column) -> bool:
    """Whether the column holds numbers from 0 to 1 only."""
    if is_categorical(column):
        return False
    numbers = read_numbers(column)[0]
    known = numbers[~np.isnan(numbers)]
    return len(known) > 0 and bool((known >= 0).all() and (known <= 1).all())


def _positive_class(settings: DriftFileSettings, classes: list[float | str]) -> str:
    """The class in the settings, else the last in order: 1 of 0 and 1, yes of no and yes."""
    names = [_text(value) for value in classes]
    if settings.positive is None:
        # A sample of one class, all 0, still leaves its probability the one of 1.
        return "1" if names == ["0"] else names[-1]
    asked = canonical(settings.positive)
    for value, name in zip(classes, names, strict=True):
        if asked == name or (isinstance(value, float) and parse_number(asked) == value):
            return name
    known = ", ".join(names[:20])
    raise DriftRequestError(f"--positive {settings.positive} is none of the target's classes: {known}")


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)
