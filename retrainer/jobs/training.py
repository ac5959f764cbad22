"""A new model from rows: the champion's kind of model refitted, or whatever the user's trainer returns."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import ConfigError, GauntletError, ModelUnusable
from gauntlet.holdout import stability
from gauntlet.preflight import named_function
from gauntlet.registry import model_schema
from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.model_inputs import algorithm
from gauntlet.types import Task
from retrainer.jobs.dataset import JobRows


class TrainingError(GauntletError):
    """No model came out of the training rows; the message says what to change."""

    code = "training_failed"


def fit(champion: Predictor, recipe: RecipeConfig, settings: RetrainConfig, rows: JobRows) -> tuple[object, Schema]:
    """A model fitted on `rows` by `recipe`, and the schema it answers by: the champion's features and classes.

    Default: `sklearn.clone` of the champion, on input built as the champion gets it. A trainer is
    `module:function(rows, targets, **parameters) -> model`. Where the rows have weights, both get them if they take
    any: as `sample_weight`, or as the trainer's parameter `weights`. Raises `TrainingError`.
    """
    trainer = recipe.trainer or settings.trainer
    random.seed(settings.seed)
    np.random.seed(settings.seed)  # estimators without a random_state of their own draw from this one
    targets = np.asarray(rows.targets)
    schema = champion.schema
    if schema.task is Task.CLASSIFICATION:
        absent = [label for label in schema.classes if label not in set(rows.targets)]
        if absent:
            raise TrainingError(f"the training rows have no example of {absent}: a model would not know these classes")
    if trainer is None:
        model = _clone(champion, rows, targets, recipe.parameters)
    else:
        model = _call(trainer, rows, targets, recipe.parameters)
    kind = schema.input if trainer is None else "auto"
    try:
        return model, model_schema.schema_of(model, schema.task, schema.features, schema.classes, kind)
    except ModelUnusable as error:
        raise TrainingError(f"the trained model can't take the champion's place: {error}") from error


def _clone(champion: Predictor, rows: JobRows, targets: Any, parameters: Mapping[str, Any]) -> object:
    import sklearn

    try:
        model = sklearn.clone(champion.model)
    except TypeError as error:
        raise TrainingError(
            f"{champion.version} is not a scikit-learn estimator, so it can't be refitted by itself: "
            "give `retrain.trainer` a module:function(rows, targets)"
        ) from error
    try:
        model.set_params(**parameters)
    except (ValueError, AttributeError) as error:
        raise TrainingError(f"the recipe's parameters do not fit {type(model).__name__}: {error}") from error
    try:
        model.fit(champion.inputs(rows.features), targets, **_sample_weight(model, rows))
    except Exception as error:
        raise TrainingError(
            f"fitting {type(model).__name__} on {len(rows):,} rows failed: {type(error).__name__}: {error}"
        ) from error
    return cast(object, model)


def _call(trainer: str, rows: JobRows, targets: Any, parameters: Mapping[str, Any]) -> object:
    try:
        function = named_function(trainer, "retrain.trainer")
    except ConfigError as error:
        raise TrainingError(str(error)) from error
    try:
        return function([*rows.features], targets, **parameters, **_weights(function, rows))
    except Exception as error:
        raise TrainingError(
            f"retrain.trainer {trainer} failed on {len(rows):,} rows: {type(error).__name__}: {error}"
        ) from error


def _sample_weight(model: Any, rows: JobRows) -> dict[str, Any]:
    """What `fit` is given of the rows' weights: `sample_weight`, of a pipeline for its last step."""
    from sklearn.utils.validation import has_fit_parameter

    if not rows.weights:
        return {}
    name, last = model.steps[-1] if hasattr(model, "steps") else ("", model)
    parameter = f"{name}__sample_weight" if name else "sample_weight"
    return {parameter: np.array(rows.weights)} if has_fit_parameter(last, "sample_weight") else {}


def _weights(trainer: Callable[..., Any], rows: JobRows) -> dict[str, Any]:
    """What a trainer is given of the rows' weights."""
    takes = rows.weights and "weights" in inspect.signature(trainer).parameters
    return {"weights": np.array(rows.weights)} if takes else {}


def unweighted(model: object, recipe: RecipeConfig, settings: RetrainConfig, rows: JobRows) -> list[str]:
    """That the rows had weights and the model was fitted without them, if so."""
    trainer = recipe.trainer or settings.trainer
    if not rows.weights:
        return []
    if trainer is None:
        taken = _sample_weight(model, rows)
    else:
        taken = _weights(named_function(trainer, "retrain.trainer"), rows)
    name = algorithm(model) if trainer is None else trainer
    return [] if taken else [f"{name} takes no weights: times in which a challenger had a share count for less"]


def code_of(source: str, setting: str) -> str:
    """SHA-256 of the file in which the function behind `module:function` stands; empty where it stands in none."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(named_function(source, setting)))
        return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


def truths(schema: Schema, rows: JobRows) -> NDArray[np.float64]:
    """Targets as class indices or numbers."""
    if schema.task is not Task.CLASSIFICATION:
        return np.array(rows.targets, dtype=np.float64)
    index = {label: schema.class_index(label) for label in set(rows.targets)}
    return np.array([index[label] for label in rows.targets], dtype=np.float64)


ITERATIONS = 100
"""From which on a fit by iteration counts as hard to converge."""
_ITERATIVE = tuple(f"sklearn.{part}." for part in ("linear_model", "svm", "neural_network", "mixture", "cluster"))


def warnings(model: object) -> list[str]:
    """What is odd about a fit that went through: many iterations, none left, or the spectral gap of a regime model."""
    found = []
    for part in [step for _, step in getattr(model, "steps", [("", model)])]:
        taken, name = getattr(part, "n_iter_", None), type(part).__name__
        if taken is not None and type(part).__module__.startswith(_ITERATIVE):
            most, limit = int(np.max(taken)), getattr(part, "max_iter", None)
            if isinstance(limit, int) and 0 < limit <= most:
                found.append(f"{name} used all of its {most} iterations: it may not have converged")
            elif most >= ITERATIONS:
                found.append(f"{name} took {most} iterations to converge, {ITERATIONS} or more")
        gap = stability.spectral_gap(part)
        if gap is not None and stability.outside(gap):
            limits = f"{stability.LOWEST:g} to {stability.HIGHEST:g}"
            found.append(f"{name} has a spectral gap of {gap:.4g}, outside {limits}")
    return found
