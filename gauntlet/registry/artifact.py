"""Model artifacts: load one after its checksum was checked, and ask it for predictions in one checked shape.

Formats: files (`gauntlet.registry.model_files`; skops is the default, and loading it runs no code of the file), and
`module:name`: a function of rows that is itself the model, an object that predicts, or what makes one without
arguments, a class or a function.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import BadInput, InvalidOutput, ModelUnusable
from gauntlet.registry import model_files
from gauntlet.registry.column_rows import ColumnRows
from gauntlet.spelling import folded, likely
from gauntlet.structured_logging import get_logger
from gauntlet.types import Label, Task

_log = get_logger("gauntlet")

Rows = Sequence[Mapping[str, Any]]
"""Instances: one mapping of feature name to value each."""


_LARGEST = 1.7976931348623157e308  # beyond it is not a float64; NaN fails the comparison too


AUTO = "auto"
"""The kind of a feature that nobody has named yet; never in the schema of a model."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a model; `kind` is number or text."""

    name: str
    kind: str = "number"
    required: bool = True


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives: its task, its features in order, its classes in order."""

    task: Task
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()
    input: str = "matrix"
    """How rows reach the model: `matrix` (float64), `frame` (pandas), `rows` (the mappings as they are) or `column`
    (the values of the only feature)."""

    def check_row(self, row: object, where: str) -> None:
        """Raise `BadInput` naming the feature when `row` cannot be an instance of this schema."""
        if not isinstance(row, Mapping):
            raise BadInput(f"{where} is not an object of features", code="bad_instance")
        for feature in self.features:
            value = row.get(feature.name)
            if isinstance(value, float) and feature.kind == "number" and abs(value) <= _LARGEST:
                continue  # nearly every value: it is asked nothing else
            if value is None:
                if (other := self._respelt(feature.name, row)) or feature.required:
                    why = "which is required (`required: false` under `features` would let requests leave it out)"
                    why = f"but for {other!r}: another spelling?" if other else why
                    raise BadInput(f"{where} has no value for feature {feature.name!r}, {why}", code="missing_feature")
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

    def _respelt(self, name: str, row: Mapping[object, object]) -> str | None:
        """What a row calls this feature, which it has no value for, in another spelling."""
        others = () if name in row else row.keys() - {feature.name for feature in self.features}
        return next((text for text in others if isinstance(text, str) and folded(text) == folded(name)), None)

    def check_label(self, value: object, where: str) -> None:
        """Raise `BadInput` when `value` cannot be the truth for a prediction of this schema."""
        if self.task is Task.CLASSIFICATION:
            if self.class_index(value) is None:
                known = ", ".join(map(repr, self.classes[:10]))
                by_text = {str(label): label for label in self.classes}
                meant = likely(value, by_text) if isinstance(value, str) else None
                hint = "" if meant is None else f"; does it mean {by_text[meant]!r}?"
                raise BadInput(f"{where}: {value!r} is none of the classes ({known}){hint}", code="unknown_class")
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


def verify(path: Path, checksum: str | None) -> None:
    """Raise `ModelUnusable` unless the file is there, with its checksum where there is one."""
    if not path.is_file():
        restore = "" if checksum is None else ", and the registry has it: restore it"
        raise ModelUnusable(f"model {path}: there is no such file{restore}", code="model_missing")
    if checksum is not None and (actual := sha256(path)) != checksum:
        raise ModelUnusable(
            f"model {path}: its SHA-256 is {actual[:12]}…, the registry recorded {checksum[:12]}…: it was changed or "
            "damaged since; restore it",
            code="model_checksum",
        )


def load(
    source: str, *, trusted: Sequence[str] = (), allow_pickle: bool = False, checksum: str | None = None
) -> object:
    """The model object behind a path or `module:function`.

    Raises `ModelUnusable` naming the source and the cause: missing, checksum differs, format unknown, not trusted,
    broken.
    """
    if model_files.is_module(source):
        return _imported(source)
    with model_files.opened(source) as path:
        verify(path, checksum)
        if path.suffix not in model_files.FORMATS:
            known = ", ".join(model_files.FORMATS)
            raise ModelUnusable(f"model {path}: known formats are {known}", code="model_format")
        if path.suffix in model_files.PICKLES and not allow_pickle:
            raise ModelUnusable(
                f"model {path}: {path.suffix} files can run any code when loaded; set champion.allow_pickle: true in "
                "the configuration, or give --allow-pickle to the command, for files you made yourself; "
                "or save the model with skops, or as ONNX",
                code="model_untrusted",
            )
        try:
            return _read(path, trusted)
        except ModelUnusable:
            raise
        except Exception as error:  # whatever a broken artifact raises, the answer is the same
            raise ModelUnusable(f"model {path}: {type(error).__name__}: {error}", code="model_broken") from error


def _read(path: Path, trusted: Sequence[str]) -> object:
    """The model in a file of a known format; what its format needs is imported here."""
    if path.suffix == ".skops":
        return _load_skops(path, trusted)
    if path.suffix == ".onnx":
        model_files.require("onnxruntime", str(path))
        from gauntlet.registry.onnx_model import OnnxModel

        return OnnxModel(path)
    if path.suffix.startswith(".pt"):
        model_files.require("torch", str(path))
        from gauntlet.registry.torch_model import TorchModel

        return TorchModel.load(path)
    import joblib

    return joblib.load(path)


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


def _imported(source: str) -> object:
    module, _, name = source.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        return as_model(found, source)
    except ModelUnusable:
        raise
    except (Exception, SystemExit) as error:  # user code: whatever it raises, the answer is the same
        hint = file_hint(module)
        raise ModelUnusable(f"model {source}: {type(error).__name__}: {error}{hint}", code="model_broken") from error


def file_hint(module: str) -> str:
    """What to write where a module is named by its file; else empty."""
    name = module.removesuffix(".py").strip("./\\").replace("/", ".")
    return f"; a module is named, not its file: write {name}:…" if name != module else ""


def as_model(found: Any, source: str, *, made: bool = False) -> object:
    """`found` if it predicts, a function of rows as a model, or what a class or a factory makes; else `ModelUnusable`.

    `source` is its name for people. `made`: a factory made it.
    """

    def refuse(reason: str) -> NoReturn:
        raise ModelUnusable(f"model {source}: {reason}", code="model_broken")

    methods = [getattr(found, name) for name in ("predict_proba", "predict") if hasattr(found, name)]
    if any(map(inspect.iscoroutinefunction, [found, getattr(found, "__call__", None), *methods])):  # noqa: B004
        refuse("it is async, and a model runs in a thread of its own: write `def` instead of `async def`")
    if methods and not isinstance(found, type):
        return found
    kind = type(found).__name__
    if not callable(found):
        what = f"it returned {kind}, which" if made else f"{kind}"
        refuse(
            f"{what} has no predict or predict_proba; name a function(rows) that returns one answer a row, or one "
            "without arguments that returns a model"
        )
    needed = _needed(found)
    if len(needed) == 1 and not isinstance(found, type):
        return FunctionModel(found)
    if needed or made:
        refuse(
            f"it must be given {', '.join(needed) or 'nothing'}, and it is called with the rows alone, or (a class, "
            "or a function that makes the model) with nothing; bind the rest with functools.partial"
        )
    return as_model(found(), source, made=True)


def _needed(function: Any) -> list[str]:
    """The arguments that must be given; of a compiled function without a signature: the rows."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return ["rows"]
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        f"{p.name}=" if p.kind is inspect.Parameter.KEYWORD_ONLY else p.name
        for p in parameters
        if p.default is p.empty and p.kind not in many
    ]


def save(model: object, path: Path) -> Path:
    """Write a fitted model as skops, or as joblib where skops does not know its types; return the path written.

    Joblib is only ever loaded back from the registry that wrote it, checksum first. Raises `ModelUnusable` for a model
    that no file can hold, `OSError` where none can be written.
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
    try:
        joblib.dump(model, target)
    except OSError:
        raise
    except Exception as error:
        raise ModelUnusable(f"{type(model).__name__} cannot be saved: {type(error).__name__}: {error}") from error
    return target


class Predictor:
    """A loaded model behind one call: rows in, a float64 array of checked shape out.

    Classification gives (n, classes) probabilities, regression (n,). Raises `InvalidOutput` for anything else.
    """

    def __init__(self, model: object, schema: Schema, version: str) -> None:
        self.model = model
        self.schema = schema
        self.version = version
        self._names = [f.name for f in schema.features]
        self._values = operator.itemgetter(*self._names) if self._names else lambda row: ()
        builders: dict[str, Callable[[Rows], Any]] = {
            "matrix": self._matrix,
            "frame": self._frame,
            "rows": self._rows,
            "column": lambda rows: self._column(rows, schema.features[0]),
        }
        self.inputs = builders[schema.input]
        """Gives rows in the form that the model was fitted on: for training a successor just like it."""
        self._answer = model.predict_proba if schema.task is Task.CLASSIFICATION else model.predict  # type: ignore[attr-defined]

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's warnings must not flood the log, nor raise under -W error
            try:
                answer = self._answer(self.inputs(rows))
            except SystemExit as error:  # it is no Exception, and would end who asked without a word
                raise RuntimeError(f"the model raised SystemExit: {error}") from error
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
            if output.ndim == 2 and len(output) == n:
                raise InvalidOutput(
                    f"{self.version} answered with {output.shape[1]} numbers a row, and an experiment has one target: "
                    "save one model a target"
                )
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
        if isinstance(rows, ColumnRows) and self._names:
            columns = [np.asarray(rows.columns[name], dtype=np.float64) for name in self._names]
            return np.column_stack(columns)
        try:
            values = list(map(self._values, rows))  # None is NaN
        except KeyError:  # an optional feature that a row leaves out
            values = [[row.get(name) for name in self._names] for row in rows]
        return np.array(values, dtype=np.float64).reshape(len(rows), len(self._names))

    def _rows(self, rows: Rows) -> list[dict[str, Any]]:
        """Every declared feature and no other: a DictVectorizer would read a missing one as 0 without a word."""
        names = self._names
        return [{name: row.get(name) for name in names} for row in rows]

    def _frame(self, rows: Rows) -> Any:
        import pandas as pd

        return pd.DataFrame({f.name: self._column(rows, f) for f in self.schema.features})

    def _column(self, rows: Rows, feature: Feature) -> Any:
        if isinstance(rows, ColumnRows):
            return rows.columns[feature.name]
        values = [row.get(feature.name) for row in rows]
        if feature.kind == "number":
            return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        return np.array(values, dtype=object)
