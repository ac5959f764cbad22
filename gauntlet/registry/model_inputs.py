"""What a fitted model knows of each of its inputs: number or text, and a value that it was fitted with.

Read from the attributes of scikit-learn's estimators alone; nothing is called. What a step passes on unseen (a
FunctionTransformer, a class of the user's own) stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

_NUMBERS_ONLY = ("sklearn", "xgboost", "lightgbm")
"""Packages whose estimators take nothing but numbers, unless they are named below."""
_PASSES_ON = ("FunctionTransformer", "FrozenEstimator")


class Input(NamedTuple):
    """What is known of one input."""

    kind: Literal["number", "text"] | None = None
    example: float | str | None = None
    texts: frozenset[str] = frozenset()
    """All that an encoder was fitted with; any other is to it as good as missing. Empty where none says."""


def inputs(model: Any, names: Sequence[str]) -> list[Input]:
    """One `Input` for each of the columns, in their order; those that the model was fitted with, if it has names."""
    found = [Input()] * len(names)
    for indices, step in _consumers(model, range(len(names))):
        for place, seen in zip(indices, _seen(step, names, indices), strict=False):
            if seen.kind == "text" or found[place].kind is None or found[place].example is None:
                found[place] = seen if seen.kind else found[place]
    return found


def algorithm(model: Any) -> str:
    """What the model is called: its class, and in a pipeline its last step's."""
    steps = getattr(model, "steps", None)
    last = steps[-1][1] if steps else model
    return type(last).__name__


def first_step(model: Any) -> Any:
    """The first step of a pipeline that does anything; of any other model, the model."""
    if not hasattr(model, "steps"):
        return model
    return next((step for _, step in model.steps if not _is_nothing(step)), None)


def is_text_vectorizer(model: Any) -> bool:
    """Whether the model begins with a vectorizer of texts: its input is one text for each row, and no table."""
    return any(_is_vectorizer(step) for step in _first_steps(model))


def vectorized_names(model: Any) -> list[str]:
    """The features that a DictVectorizer in front was fitted with; empty without one."""
    vectorizer = next((step for step in _first_steps(model) if type(step).__name__ == "DictVectorizer"), None)
    names = getattr(vectorizer, "feature_names_", ())
    separator = getattr(vectorizer, "separator", "=")
    return list(dict.fromkeys(str(name).partition(separator)[0] for name in names))


def _first_steps(model: Any) -> Iterator[Any]:
    """The estimators that are given the rows themselves, in pipelines, unions and meta-estimators."""
    if hasattr(model, "steps"):
        yield from _first_steps(first_step(model))
    elif hasattr(model, "transformer_list"):
        for _, step in model.transformer_list:
            yield from _first_steps(step)
    else:
        yield model
        for inner, _ in _inner(model):
            yield from _first_steps(inner)


def _consumers(model: Any, columns: Sequence[int]) -> Iterator[tuple[Sequence[int], Any]]:
    """The steps that first look into some of `columns` (places in the table), each with those columns."""
    if hasattr(model, "steps"):
        rest, moved = columns, False
        for step in (step for _, step in model.steps if not _is_nothing(step)):
            for chosen, consumer in _consumers(step, rest):
                if not (moved and _has_places(consumer)):  # a ColumnTransformer has put the columns in another order
                    yield chosen, consumer
            rest, moved = _passed_on(step, rest), moved or hasattr(step, "transformers_")
            if not rest:
                return
    elif hasattr(model, "transformer_list"):
        for _, step in model.transformer_list:
            yield from _consumers(step, columns)
    elif hasattr(model, "transformers_"):
        for step, chosen in _parts(model, columns):
            if not isinstance(step, str):
                yield from _consumers(step, chosen)
    else:
        found = False
        for inner, chosen in _inner(model):
            found = True
            taken = columns if chosen is None else [columns[i] for i in chosen if i < len(columns)]
            yield from _consumers(inner, taken)
        if not found:
            yield columns, model


def _parts(transformer: Any, columns: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
    """The steps of a ColumnTransformer, each with its columns."""
    places = getattr(transformer, "_transformer_to_input_indices", {})
    for name, step, _ in transformer.transformers_:
        yield step, [columns[i] for i in places.get(name, ()) if i < len(columns)]


def _passed_on(step: Any, columns: Sequence[int]) -> Sequence[int]:
    """The `columns` that a step hands on as they are."""
    if hasattr(step, "transformers_"):
        parts = _parts(step, columns)
        return [i for part, chosen in parts if not _is_dropped(part) for i in _passed_on(part, chosen)]
    identity = type(step).__name__ == "FunctionTransformer" and step.func is None
    return columns if _is_nothing(step) or identity or _fills_gaps_only(step) else ()


def _is_nothing(step: Any) -> bool:
    return step is None or isinstance(step, str)


def _fills_gaps_only(step: Any) -> bool:
    """Whether an imputer neither adds columns nor drops those that were empty."""
    values = getattr(step, "statistics_", None)
    if values is None or getattr(step, "indicator_", None) is not None:
        return False
    return all(value is not None and value == value for value in np.asarray(values).tolist())


def _is_dropped(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


def _has_places(step: Any) -> bool:
    return hasattr(step, "categories_") or hasattr(step, "statistics_")


def _inner(model: Any) -> Iterator[tuple[Any, Any]]:
    """The fitted estimators that a meta-estimator gives its own rows to, with the columns of each (None: all)."""
    for name in ("best_estimator_", "regressor_", "_preprocessor"):
        if getattr(model, name, None) is not None:
            yield getattr(model, name), None
    for calibrated in getattr(model, "calibrated_classifiers_", ()):
        yield calibrated.estimator, None
    if not hasattr(model, "support_") and getattr(model, "estimator_", None) is not None:  # a selector's sees a part
        yield model.estimator_, None
    if type(model).__name__ == "FrozenEstimator":
        yield model.estimator, None
    members, chosen = getattr(model, "estimators_", None), getattr(model, "estimators_features_", None)
    if isinstance(members, list):
        for place, member in enumerate(members):
            if not isinstance(member, str):
                yield member, None if chosen is None else chosen[place]


def _seen(step: Any, names: Sequence[str], columns: Sequence[int]) -> list[Input]:
    """What one step knows of the columns that it gets."""
    if _is_vectorizer(step):
        word = next(iter(getattr(step, "vocabulary_", None) or {}), "text")
        return [Input("text", str(word))] * len(columns)
    if type(step).__name__ == "DictVectorizer":
        return _vectorized(step, [names[i] for i in columns])
    if hasattr(step, "categories_"):
        return [_of_categories(values) for values in step.categories_]
    if hasattr(step, "statistics_"):
        return [_of_values([value]) for value in step.statistics_]
    if type(step).__name__ in _PASSES_ON:
        return [Input("number") if isinstance(getattr(step, "func", None), np.ufunc) else Input()] * len(columns)
    return [Input("number") if type(step).__module__.split(".")[0] in _NUMBERS_ONLY else Input()] * len(columns)


def _is_vectorizer(step: Any) -> bool:
    """CountVectorizer, TfidfVectorizer, HashingVectorizer, and whatever is derived from them."""
    return hasattr(step, "analyzer") and hasattr(step, "ngram_range")


def _vectorized(step: Any, names: Sequence[str]) -> list[Input]:
    """A DictVectorizer writes `name=text` for a text and `name` for a number."""
    known: dict[str, Input] = {}
    for entry in map(str, step.feature_names_):
        name, separator, value = entry.partition(step.separator)
        known.setdefault(name, Input("text", value) if separator else Input("number"))
    return [known.get(name, Input()) for name in names]


def _of_categories(values: Any) -> Input:
    return _of_values(values)._replace(texts=frozenset(str(value) for value in values if isinstance(value, str)))


def _of_values(values: Any) -> Input:
    """The kind of what an encoder or an imputer has learned of a column; the example is the first value."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    usable = [v for v in plain if v is not None and not (isinstance(v, float) and not math.isfinite(v))]
    text = next((v for v in usable if isinstance(v, str)), None)
    if text is not None:
        return Input("text", text)
    if usable and isinstance(usable[0], int | float):
        return Input("number", float(usable[0]))
    return Input("number" if plain and not usable else None)
