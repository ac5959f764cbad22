"""The two models of a comparison: loaded by the registry, asked for outputs in the same class order, and timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.offline.comparator.settings import ComparatorError, ComparatorSettings
from gauntlet.errors import ModelUnusable
from gauntlet.holdout import stability
from gauntlet.holdout.statistics import Floats
from gauntlet.registry import artifact, model_schema
from gauntlet.registry.artifact import AUTO, Feature, FunctionModel, Predictor, Schema
from gauntlet.registry.plain_numbers import PlainNumbers
from gauntlet.registry.unknown_texts import known_texts
from gauntlet.types import Label, Task

ROLES = ("champion", "challenger")

_TASKLESS = (FunctionModel, PlainNumbers)
"""Models that have `predict_proba` whatever their numbers are."""


class ComparedModel:
    """A model that answers rows in the order of the champion's classes."""

    def __init__(self, role: str, name: str, predictor: Predictor, order: Sequence[int] = ()) -> None:
        self.role, self.name = role, name
        self.schema: Schema = predictor.schema
        self._predictor = predictor
        self._order = list(order)

    @property
    def known_texts(self) -> dict[str, frozenset[str]]:
        """By feature, the texts that it was fitted with, where its encoders say."""
        return known_texts(self._predictor.model, [feature.name for feature in self.schema.features])

    @property
    def spectral_gap(self) -> float | None:
        """The spectral gap; None unless it is a regime model."""
        return stability.spectral_gap(self._predictor.model)

    def ask(self, rows: artifact.Rows) -> Any:
        """One call, unchecked, for the clock."""
        return self._predictor.predict(rows)

    def predict(self, rows: artifact.Rows, start: int) -> Floats:
        """Checked outputs; `start` is the number of the first row. Raises `ModelUnusable`, naming model and row."""
        try:
            output = self._predictor.predict(rows)
            valid = self._predictor.valid(output)
        except Exception as error:  # the user's model may raise anything
            raise ModelUnusable(
                f"the {self.role} {self.name} fails on rows {start:,} to {start + len(rows) - 1:,}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not valid.all():
            bad = int(valid.argmin())
            raise ModelUnusable(
                f"the {self.role} {self.name} gives no usable answer to row {start + bad:,} (counted from 0), and "
                f"{int((~valid).sum()) - 1:,} others of {len(rows):,}: got {output[bad].tolist()}"
            )
        return output[:, self._order] if self._order else output


def contenders(
    champion: str | Path | object,
    challenger: str | Path | object,
    kinds: Mapping[str, str],
    settings: ComparatorSettings,
) -> tuple[ComparedModel, ComparedModel]:
    """Both, with the same task and the same classes.

    kinds: of the columns that may be features. Raises `ModelUnusable` and ComparatorError.
    """
    loaded = [_loaded(role, one, settings) for role, one in zip(ROLES, (champion, challenger), strict=True)]
    task = Task(settings.task) if settings.task else _task([model for _, model in loaded], settings)
    classes: Sequence[Label] = settings.classes
    predictors = []
    for role, (name, model) in zip(ROLES, loaded, strict=True):
        schema = _schema(role, name, model, task, () if hasattr(model, "classes_") else classes, kinds, settings)
        predictors.append(Predictor(model, schema, f"the {role}"))
        classes = classes or schema.classes
    first, second = predictors
    order = _order(first.schema, second.schema)
    return ComparedModel("champion", loaded[0][0], first), ComparedModel("challenger", loaded[1][0], second, order)


def _loaded(role: str, source: str | Path | object, settings: ComparatorSettings) -> tuple[str, object]:
    """A name for people, and the model."""
    if not isinstance(source, str | Path):
        name = type(source).__name__
        return name, artifact.as_model(source, f"{role} {name}")
    try:
        model = artifact.load(str(source), trusted=settings.trusted, allow_pickle=settings.allow_pickle)
    except ModelUnusable as error:
        hint = "; here: --trusted TYPE for each" if "types that are not" in str(error) else ""
        raise ModelUnusable(f"{role}: {error}{hint}", code=error.code) from error
    return str(source), model


def _task(models: Sequence[object], settings: ComparatorSettings) -> Task:
    """Classification where a model gives probabilities or classes are named, else regression."""
    gives_classes = any(hasattr(model, "predict_proba") and not isinstance(model, _TASKLESS) for model in models)
    return Task.CLASSIFICATION if gives_classes or settings.classes else Task.REGRESSION


def _schema(
    role: str,
    name: str,
    model: object,
    task: Task,
    classes: Sequence[Label],
    kinds: Mapping[str, str],
    settings: ComparatorSettings,
) -> Schema:
    """The features as the model names them, else as the settings do."""
    named = [Feature(name=one, kind=AUTO) for one in settings.features]
    try:
        try:
            return model_schema.read(model, task, (), classes, "auto", kinds).schema
        except ModelUnusable as error:
            if error.code != "no_features" or not named:
                raise
            return model_schema.read(model, task, named, classes, "auto", kinds).schema
    except ModelUnusable as error:
        options = {"no_features": "--features", "no_classes": "--classes", "wrong_task": "--task"}
        hint = f"; here: {options[error.code]}" if error.code in options else ""
        raise ModelUnusable(f"{role} {name}: {error}{hint}", code=error.code) from error


def _order(champion: Schema, challenger: Schema) -> list[int]:
    """Where the challenger has each of the champion's classes; empty for the same order. Raises ComparatorError."""
    if champion.classes == challenger.classes:
        return []
    places = [challenger.class_index(one) for one in champion.classes]
    if None in places or len(places) != len(challenger.classes):
        raise ComparatorError(
            f"the champion's classes are {list(champion.classes)}, the challenger's {list(challenger.classes)}: their "
            "probabilities can't be compared"
        )
    return [int(place) for place in np.array(places)]
