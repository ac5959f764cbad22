"""What a fitted model takes and gives: its task, features, their kinds and its classes, from its own attributes.

What the model does not tell has to come from the configuration, or for kinds from the reference; a configuration that
says something else than the model is refused by name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from gauntlet.errors import ModelUnusable
from gauntlet.registry.artifact import AUTO, Feature, FunctionModel, Schema
from gauntlet.registry.model_inputs import Input, first_step, inputs, is_text_vectorizer, vectorized_names
from gauntlet.spelling import did_you_mean, quoting_hint
from gauntlet.types import Label, Task


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """A model's schema, and what its features are known by. `assumed`: features whose kind nobody tells, taken for
    numbers. `examples`: a value of each feature that the model knows."""

    schema: Schema
    assumed: tuple[str, ...] = ()
    examples: dict[str, float | str] = {}


def schema_of(
    model: object, task: Task, features: Sequence[Feature] = (), classes: Sequence[Label] = (), kind: str = "auto"
) -> Schema:
    """As `read`, without what the features are known by."""
    return read(model, task, features, classes, kind).schema


def read(
    model: object,
    task: Task,
    features: Sequence[Feature] = (),
    classes: Sequence[Label] = (),
    kind: str = "auto",
    columns: Mapping[str, str] | None = None,
) -> Fitted:
    """What `model` takes and gives, from its own attributes where the caller does not say.

    `kind` is how rows reach it: matrix, frame, rows or column; `auto` sees a frame where the model was fitted with one
    or takes texts, a column where it begins with a vectorizer of texts, and rows where it begins with a DictVectorizer
    or is a function. `columns` are the kinds of the reference's columns but for target and time. Features come in the
    model's own order. Raises `ModelUnusable` when nobody says, or when the model takes other features or has another
    task.
    """
    columns = columns or {}
    _check_task(model, task)
    try:
        return _read(model, task, features, classes, kind, columns)
    except ModelUnusable as error:
        if error.code in ("no_features", "no_classes") and _is_unfitted(model):
            reason = f"this {type(model).__name__} is not fitted: save it after  fit(X, y)"
            raise ModelUnusable(reason, code="not_fitted") from error
        raise


def _read(
    model: object,
    task: Task,
    features: Sequence[Feature],
    classes: Sequence[Label],
    kind: str,
    columns: Mapping[str, str],
) -> Fitted:
    named = _fitted_names(model) or vectorized_names(model)
    features = _features(model, named, features, columns)
    known = _known_inputs(model, [feature.name for feature in features])
    assumed = tuple(f.name for f in features if f.kind == AUTO and not known[f.name].kind and f.name not in columns)
    features = [_with_kind(feature, known[feature.name], columns) for feature in features]
    classes = _classes(model, classes) if task is Task.CLASSIFICATION else ()
    if task is Task.REGRESSION and not hasattr(model, "predict"):
        raise ModelUnusable("a regression model needs predict", code="no_predict")
    if kind == "auto":
        kind = _input(model, features)
    takes = getattr(model, "n_features_in_", None)
    if kind in ("matrix", "frame") and not named and takes is not None and takes != len(features):
        raise ModelUnusable(f"the model was fitted with {takes} features, not {len(features)}", code="other_features")
    if kind == "column" and len(features) != 1:
        raise ModelUnusable(
            f"the model takes one column of texts, and `features` has {len(features)}", code="other_features"
        )
    schema = Schema(task=task, features=tuple(features), classes=tuple(classes), input=kind)
    examples = {name: found.example for name, found in known.items() if found.example is not None}
    return Fitted(schema=schema, assumed=assumed, examples=examples)


def _features(
    model: object, named: list[str], features: Sequence[Feature], columns: Mapping[str, str]
) -> Sequence[Feature]:
    """The features in the model's order."""
    if not features and not named and len(columns) == 1 and _width(model) == 1:
        named = list(columns)
    if not features:
        if not named:
            raise ModelUnusable(_ask_for_names(model, columns), code="no_features")
        return [Feature(name=name, kind=AUTO) for name in named]
    if not named or _made_up(model, named):
        return features
    return _in_model_order(model, named, features)


def _ask_for_names(model: object, columns: Mapping[str, str]) -> str:
    if is_text_vectorizer(model):
        return "the model takes one text, and has no name for it: give it one, such as  features: [text]"
    width = _width(model)
    reason = "the model does not name its features; list them under `features`"
    if width is None:
        return reason
    if len(columns) == width:
        return (
            f"{reason}: it was fitted with {width}, and the reference has {', '.join(columns)}; if that is their "
            f"order, write  features: [{', '.join(columns)}]"
        )
    return f"{reason}, in the order of the {width} that it was fitted with"


def _width(model: object) -> int | None:
    """How many columns the model was fitted with; None if it doesn't say."""
    return 1 if is_text_vectorizer(model) else getattr(model, "n_features_in_", None)


def _known_inputs(model: object, names: Sequence[str]) -> dict[str, Input]:
    """What the model knows of each feature: by name where it was fitted with names, else by place."""
    order = _fitted_names(model)
    if _made_up(model, order) or not order:
        order = vectorized_names(model) or list(names)
    found = dict(zip(order, inputs(model, order), strict=True))
    return {name: found.get(name, Input()) for name in names}


def _with_kind(feature: Feature, known: Input, columns: Mapping[str, str]) -> Feature:
    """The feature with its kind as the configuration, the model or the reference says."""
    if feature.kind == AUTO:
        return msgspec.structs.replace(feature, kind=known.kind or columns.get(feature.name, "number"))
    if feature.kind == "number" and known.kind == "text":
        raise ModelUnusable(
            f"`features` says that {feature.name!r} is a number, and the model was fitted with texts there"
            + (f" ({known.example!r}, …)" if known.example else "")
            + f"; write  {{name: {feature.name}, kind: text}}",
            code="other_kind",
        )
    return feature


def _input(model: object, features: Sequence[Feature]) -> str:
    if isinstance(model, FunctionModel) or vectorized_names(model):
        return "rows"
    if is_text_vectorizer(model):
        return "column"
    return "frame" if _fitted_names(model) or any(f.kind != "number" for f in features) else "matrix"


def _classes(model: object, classes: Sequence[Label]) -> Sequence[Label]:
    """The classes in the model's order. Raises `ModelUnusable` for a model without probabilities or classes."""
    own = [_plain(label) for label in _own_classes(model)]
    if any(isinstance(label, np.ndarray) for label in own):
        raise ModelUnusable(
            f"the model predicts {len(own)} targets at once, and an experiment has one: save one model a target",
            code="several_targets",
        )
    if not hasattr(model, "predict_proba"):
        raise ModelUnusable(_without_probabilities(model), code="no_probabilities")
    if classes and own and list(classes) != own:
        hint = quoting_hint(classes, own)
        reason = f"the model's classes are {own}, not {list(classes)}"
        raise ModelUnusable(f"{reason}; {hint}" if hint else reason, code="other_classes")
    classes = own or list(classes)
    if len(classes) < 2:
        named = f"the model knows one class, {classes[0]!r}; fit it" if classes else "the model does not name its"
        raise ModelUnusable(
            f"{named} with two or more" if classes else f"{named} classes; list them under `classes`", code="no_classes"
        )
    return classes


def _own_classes(model: object) -> Any:
    try:
        return getattr(model, "classes_", ())
    except Exception:  # noqa: BLE001 - a property of somebody else's model may raise anything
        return ()


def _without_probabilities(model: object) -> str:
    name = type(model).__name__
    reason = f"a classification model needs predict_proba, and {name} has none: "
    if hasattr(model, "decision_function"):
        return reason + f"save  CalibratedClassifierCV({name}(…)).fit(X, y)  of sklearn.calibration instead"
    if hasattr(model, "voting"):
        return reason + f"save it with  {name}(…, voting='soft')"
    if type(model).__module__.startswith("sklearn."):
        return reason + "save a model that gives probabilities, or a module:function(rows) that returns them"
    return reason + "if its predict returns probabilities, name it predict_proba"


def _fitted_names(model: object) -> list[str]:
    """The names of the columns that the model was fitted with; empty if it was fitted without names."""
    fitted = getattr(model, "feature_names_in_", None)
    return [str(name) for name in fitted] if fitted is not None else []


def _made_up(model: object, fitted: list[str]) -> bool:
    """LightGBM gives the columns of a matrix names of its own."""
    lightgbm = type(first_step(model)).__module__.startswith("lightgbm")
    return lightgbm and all(re.fullmatch(r"Column_\d+", name) for name in fitted)


def _in_model_order(model: object, fitted: list[str], features: Sequence[Feature]) -> list[Feature]:
    """The features in the order that the model was fitted with, then those that it ignores: a DictVectorizer reads what
    it knows. Raises `ModelUnusable` if it takes others."""
    declared = {feature.name: feature for feature in features}
    unknown = [name for name in declared if name not in fitted]
    missing = [name for name in fitted if name not in declared and name not in _dropped(model, fitted)]
    if missing or (unknown and not vectorized_names(model)):
        reasons = [f"`features` has {_quoted(unknown)}, which the model was not fitted with"] if unknown else []
        reasons += [f"the model was fitted with {_quoted(missing)}, which `features` has not"] if missing else []
        hint = did_you_mean(unknown[0], missing) if unknown else ""
        raise ModelUnusable("; ".join([*reasons, *([hint] if hint else [])]), code="other_features")
    return [declared[name] for name in [*fitted, *unknown] if name in declared]


def _dropped(model: object, fitted: list[str]) -> set[str]:
    """Columns that a ColumnTransformer in front drops: a frame may come without them."""
    dropped: set[str] = set()
    for _, step, columns in getattr(first_step(model), "transformers_", ()):
        if isinstance(step, str) and step == "drop" and isinstance(columns, list):
            dropped |= {fitted[column] if isinstance(column, int) else str(column) for column in columns}
    return dropped


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (", …" if len(names) > 10 else "")


def _check_task(model: object, task: Task) -> None:
    """Raise `ModelUnusable` for a classifier of scikit-learn's kind in a regression, and the reverse."""
    base = sys.modules.get("sklearn.base")  # a model of scikit-learn's kind has imported it
    if base is None or not isinstance(model, base.BaseEstimator):
        return
    for other, matches in (("classifier", base.is_classifier), ("regressor", base.is_regressor)):
        if matches(model) and (other == "classifier") != (task is Task.CLASSIFICATION):
            raise ModelUnusable(
                f"`task: {task}`, but the model is a {other} ({type(model).__name__})", code="wrong_task"
            )


def _is_unfitted(model: object) -> bool:
    """Whether a model of scikit-learn's kind says so itself; others can't be asked."""
    base = sys.modules.get("sklearn.base")
    if base is None or not isinstance(model, base.BaseEstimator):
        return False
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        return True
    except TypeError:  # it has no fit
        return False
    return False


def _plain(label: Any) -> Label:
    return label.item() if isinstance(label, np.generic) else label  # type: ignore[no-any-return]
