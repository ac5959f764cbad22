"""Model artifacts: load one after its checksum was checked, and ask it for predictions in one checked shape.

Formats: skops (the default; loading runs no code of the file), joblib (a pickle: only where it was allowed by name),
and `module:function`: a function of rows that is itself the model, or one without arguments that returns a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import BadInput, InvalidOutput, ModelUnusable
from gauntlet.spelling import did_you_mean
from gauntlet.structured_logging import get_logger
from gauntlet.types import Label, Task

_log = get_logger("gauntlet")

Rows = Sequence[Mapping[str, Any]]
"""Instances: one mapping of feature name to value each."""


_LARGEST = 1.7976931348623157e308  # beyond it is no float64; NaN fails the comparison too


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a model."""

    name: str
    kind: str = "number"
    required: bool = True


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives: its task, its features in order, its classes in order."""

    task: Task
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()
    input: str = "matrix"
    """How rows reach the model: `matrix` (float64), `frame` (pandas) or `rows` (the mappings as they are)."""

    def check_row(self, row: object, where: str) -> None:
        """Raise `BadInput` naming the feature when `row` cannot be an instance of this schema."""
        if not isinstance(row, Mapping):
            raise BadInput(f"{where} is not an object of features", code="bad_instance")
        for feature in self.features:
            value = row.get(feature.name)
            if value is None:
                if feature.required:
                    raise BadInput(f"{where} has no value for feature {feature.name!r}", code="missing_feature")
            elif feature.kind == "number":
                if isinstance(value, bool):
                    continue
                if not isinstance(value, int | float):
                    raise BadInput(
                        f"{where}: feature {feature.name!r} is a number, not {type(value).__name__}", code="wrong_type"
                    )
                if not abs(value) <= _LARGEST:
                    raise BadInput(f"{where}: feature {feature.name!r} is not a finite number", code="not_finite")
            elif not isinstance(value, str):
                raise BadInput(
                    f"{where}: feature {feature.name!r} is a text, not {type(value).__name__}", code="wrong_type"
                )

    def check_label(self, value: object, where: str) -> None:
        """Raise `BadInput` when `value` cannot be the truth for a prediction of this schema."""
        if self.task is Task.CLASSIFICATION:
            if self.class_index(value) is None:
                known = ", ".join(map(repr, self.classes[:10]))
                raise BadInput(f"{where}: {value!r} is none of the classes ({known})", code="unknown_class")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise BadInput(f"{where}: the outcome of a regression is a finite number", code="wrong_type")

    def class_index(self, value: object) -> int | None:
        """The place of a label among the classes; JSON's true and 1 and 1.0 are the same label, "1" is not."""
        for index, label in enumerate(self.classes):
            if isinstance(label, str) == isinstance(value, str) and label == value:
                return index
        return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(
    source: str, *, trusted: Sequence[str] = (), allow_pickle: bool = False, checksum: str | None = None
) -> object:
    """The model object behind a path or `module:function`.

    Raises `ModelUnusable` naming the source and the cause: missing, checksum differs, format unknown, not trusted,
    broken.
    """
    if ":" in source and not Path(source).exists():
        return _call(source)
    path = Path(source)
    if not path.is_file():
        raise ModelUnusable(f"model {path}: there is no such file", code="model_missing")
    if checksum is not None and (actual := sha256(path)) != checksum:
        raise ModelUnusable(
            f"model {path}: its SHA-256 is {actual[:12]}…, the registry recorded {checksum[:12]}…",
            code="model_checksum",
        )
    if path.suffix not in (".skops", ".joblib"):
        raise ModelUnusable(f"model {path}: known formats are .skops and .joblib", code="model_format")
    if path.suffix == ".joblib" and not allow_pickle:
        raise ModelUnusable(
            f"model {path}: joblib files can run any code when loaded; set champion.allow_pickle: true in the "
            "configuration, or give --allow-pickle to `gauntlet register`, for files you made yourself; "
            "or save the model with skops",
            code="model_untrusted",
        )
    try:
        if path.suffix == ".skops":
            return _load_skops(path, trusted)
        import joblib

        return joblib.load(path)
    except ModelUnusable:
        raise
    except Exception as error:  # whatever a broken artifact raises, the answer is the same
        raise ModelUnusable(f"model {path}: {type(error).__name__}: {error}", code="model_broken") from error


def _load_skops(path: Path, listed: Sequence[str]) -> object:
    import skops.io

    from gauntlet.registry import index_checks
    from gauntlet.registry.trusted_types import trusted

    types = set(skops.io.get_untrusted_types(file=path)) - set(listed)
    reasons = trusted(types)
    unknown = sorted(types - reasons.keys())
    if unknown:
        line = ", ".join([*listed, *unknown])
        raise ModelUnusable(
            f"model {path}: it holds types that are not trusted: {', '.join(unknown)}. If you made the file yourself, "
            f"or know what they run when loaded, write under `champion:` in the configuration:  trusted: [{line}]",
            code="model_untrusted",
        )
    for reason in sorted(set(reasons.values())):
        names = ",".join(name for name, why in reasons.items() if why == reason)
        _log.info("model_types_trusted", model=path, types=names, reason=reason, next="the model is loaded and checked")
    model = skops.io.load(path, trusted=[*listed, *reasons])
    index_checks.refuse_memory(model, path)
    if reasons:  # whoever lists a type answers for its indices, too
        index_checks.check_indices(model)
    return model


class FunctionModel:
    """A plain function of rows (a list of mappings) as a model: it returns probabilities, or numbers, one per row."""

    def __init__(self, function: Callable[[Rows], Any]) -> None:
        self.predict = self.predict_proba = function


def _call(source: str) -> object:
    module, _, name = source.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        return FunctionModel(function) if _takes_rows(function) else function()
    except Exception as error:  # user code: whatever it raises, the answer is the same
        raise ModelUnusable(f"model {source}: {type(error).__name__}: {error}", code="model_broken") from error


def _takes_rows(function: Any) -> bool:
    """Whether a function has exactly one argument that must be given; a class or a factory has none."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return inspect.isfunction(function) and sum(p.kind in positional and p.default is p.empty for p in parameters) == 1


def save(model: object, path: Path) -> Path:
    """Write a fitted model as skops, or as joblib where skops does not know its types; return the path written.

    Joblib is only ever loaded back from the registry that wrote it, checksum first.
    """
    import joblib
    import skops.io

    from gauntlet.registry.trusted_types import trusted

    target = path.with_suffix(".skops")
    with contextlib.suppress(Exception):  # skops refuses what it can't write in many ways; joblib takes the rest
        skops.io.dump(model, target)
        found = skops.io.get_untrusted_types(file=target)
        if len(trusted(found)) == len(found):
            return target
    target.unlink(missing_ok=True)
    target = path.with_suffix(".joblib")
    joblib.dump(model, target)
    return target


def schema_of(
    model: object, task: Task, features: Sequence[Feature] = (), classes: Sequence[Label] = (), kind: str = "auto"
) -> Schema:
    """What `model` takes and gives, from its own attributes where the caller does not say.

    `kind` is how rows reach it: matrix, frame or rows; `auto` sees a frame where the model was fitted with one or takes
    texts, and rows where a pipeline begins with a DictVectorizer or the model is a function. Features come in the
    model's own order. Raises `ModelUnusable` when nobody says, or when the model takes other features or has another
    task.
    """
    fitted = _fitted_names(model)
    if not features:
        if not fitted:
            raise ModelUnusable("the model does not name its features; list them under `features`", code="no_features")
        features = [Feature(name=name) for name in fitted]
    elif fitted and not _made_up(model, fitted):
        features = _in_model_order(model, fitted, features)
    _check_task(model, task)
    if task is Task.CLASSIFICATION:
        if not hasattr(model, "predict_proba"):
            raise ModelUnusable("a classification model needs predict_proba", code="no_probabilities")
        own = [_plain(c) for c in getattr(model, "classes_", ())]
        if classes and own and list(classes) != own:
            raise ModelUnusable(f"the model's classes are {own}, not {list(classes)}", code="other_classes")
        classes = own or list(classes)
        if len(classes) < 2:
            raise ModelUnusable("the model does not name its classes; list them under `classes`", code="no_classes")
    elif not hasattr(model, "predict"):
        raise ModelUnusable("a regression model needs predict", code="no_predict")
    if kind == "auto":
        if isinstance(model, FunctionModel) or type(_first_step(model)).__name__ == "DictVectorizer":
            kind = "rows"
        else:
            kind = "frame" if fitted or any(f.kind != "number" for f in features) else "matrix"
    takes = getattr(model, "n_features_in_", None)
    if kind == "matrix" and takes is not None and takes != len(features):
        raise ModelUnusable(f"the model was fitted with {takes} features, not {len(features)}", code="other_features")
    return Schema(task=task, features=tuple(features), classes=tuple(classes), input=kind)


def _first_step(model: Any) -> Any:
    return model.steps[0][1] if hasattr(model, "steps") else model


def _fitted_names(model: object) -> list[str]:
    """The names of the columns that the model was fitted with; empty if it was fitted without names."""
    fitted = getattr(model, "feature_names_in_", None)
    return [str(name) for name in fitted] if fitted is not None else []


def _made_up(model: object, fitted: list[str]) -> bool:
    """LightGBM gives the columns of a matrix names of its own."""
    lightgbm = type(_first_step(model)).__module__.startswith("lightgbm")
    return lightgbm and all(re.fullmatch(r"Column_\d+", name) for name in fitted)


def _in_model_order(model: object, fitted: list[str], features: Sequence[Feature]) -> list[Feature]:
    """The features in the order that the model was fitted with. Raises `ModelUnusable` if it takes others."""
    declared = {feature.name: feature for feature in features}
    unknown = [name for name in declared if name not in fitted]
    missing = [name for name in fitted if name not in declared and name not in _dropped(model, fitted)]
    if unknown or missing:
        reasons = [f"`features` has {_quoted(unknown)}, which the model was not fitted with"] if unknown else []
        reasons += [f"the model was fitted with {_quoted(missing)}, which `features` has not"] if missing else []
        hint = did_you_mean(unknown[0], missing) if unknown else ""
        raise ModelUnusable("; ".join([*reasons, *([hint] if hint else [])]), code="other_features")
    return [declared[name] for name in fitted if name in declared]


def _dropped(model: object, fitted: list[str]) -> set[str]:
    """Columns that a ColumnTransformer in front drops: a frame may come without them."""
    dropped: set[str] = set()
    for _, step, columns in getattr(_first_step(model), "transformers_", ()):
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


def _plain(label: Any) -> Label:
    return label.item() if isinstance(label, np.generic) else label  # type: ignore[no-any-return]


class Predictor:
    """A loaded model behind one call: rows in, a float64 array of checked shape out.

    Classification gives (n, classes) probabilities, regression (n,). Raises `InvalidOutput` for anything else.
    """

    def __init__(self, model: object, schema: Schema, version: str) -> None:
        self.model = model
        self.schema = schema
        self.version = version
        self._names = [f.name for f in schema.features]
        builders: dict[str, Callable[[Rows], Any]] = {"matrix": self._matrix, "frame": self._frame, "rows": self._rows}
        self.inputs = builders[schema.input]
        """Gives rows in the form that the model was fitted on: for training a successor just like it."""
        self._answer = model.predict_proba if schema.task is Task.CLASSIFICATION else model.predict  # type: ignore[attr-defined]

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's warnings must not flood the log, nor raise under -W error
            answer = self._answer(self.inputs(rows))
        return self.checked(answer, len(rows))

    def checked(self, answer: object, n: int) -> NDArray[np.float64]:
        """`answer` as float64 of the right shape, or `InvalidOutput`."""
        try:
            output = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidOutput(f"{self.version} answered with no numbers: {error}") from error
        classes = len(self.schema.classes)
        if self.schema.task is Task.CLASSIFICATION:
            if output.shape == (n,) and classes == 2:  # a bare probability of the second class
                output = np.column_stack([1.0 - output, output])
            if output.shape != (n, classes):
                raise InvalidOutput(f"{self.version} answered in shape {output.shape}, not {(n, classes)}")
        else:
            if output.shape == (n, 1):
                output = output[:, 0]
            if output.shape != (n,):
                raise InvalidOutput(f"{self.version} answered in shape {output.shape}, not {(n,)}")
        return output

    def valid(self, output: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which rows of a checked output are usable: finite, and for classes in [0, 1] with sum 1 (to 1e-6)."""
        if self.schema.task is Task.REGRESSION:
            return np.isfinite(output)
        inside = np.isfinite(output).all(axis=1) & (output >= 0).all(axis=1) & (output <= 1 + 1e-9).all(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(inside & (np.abs(output.sum(axis=1) - 1) < 1e-6))

    def _matrix(self, rows: Rows) -> NDArray[np.float64]:
        nan = float("nan")
        names = self._names
        return np.array(
            [[nan if (v := row.get(name)) is None else v for name in names] for row in rows], dtype=np.float64
        )

    def _rows(self, rows: Rows) -> list[dict[str, Any]]:
        """Every declared feature and no other: a DictVectorizer would read a missing one as 0 without a word."""
        names = self._names
        return [{name: row.get(name) for name in names} for row in rows]

    def _frame(self, rows: Rows) -> Any:
        import pandas as pd

        return pd.DataFrame({f.name: self._column(rows, f) for f in self.schema.features})

    def _column(self, rows: Rows, feature: Feature) -> Any:
        values = [row.get(feature.name) for row in rows]
        if feature.kind == "number":
            return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        return np.array(values, dtype=object)
