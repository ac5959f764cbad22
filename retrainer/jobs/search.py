"""A search over a recipe's parameters, on the validation days only; only the chosen model sees the test days.

The best of many on one set of rows looks better than it is, so a model must not be judged on the rows it was chosen by.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import numpy as np

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig
from gauntlet.losses import loss
from gauntlet.registry.artifact import Predictor
from gauntlet.types import Label
from retrainer.jobs import training
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.progress import Reporter


class SearchTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One combination of parameters, with its mean loss on the validation rows; None where it failed, and why."""

    parameters: dict[str, Label | None]
    loss: float | None
    error: str = ""

    def __str__(self) -> str:
        named = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{named}: {self.error if self.loss is None else f'{self.loss:.6g}'}"


def combinations(recipe: RecipeConfig) -> Iterator[dict[str, Label | None]]:
    """Every combination of the values to search, in the order in which they are written."""
    for values in itertools.product(*recipe.search.values()):
        yield dict(zip(recipe.search, values, strict=True))


def search(
    champion: Predictor,
    recipe: RecipeConfig,
    settings: RetrainConfig,
    metric: str,
    train: JobRows,
    validation: JobRows,
    report: Reporter,
) -> tuple[RecipeConfig, list[SearchTrial]]:
    """The recipe with the parameters of the least loss on `validation`, fitted on `train`; of equals the first. A
    combination that can't be fitted, or leaves a row without an answer, is out. Raises `TrainingError` where all are.
    """
    found, every = [], list(combinations(recipe))
    for number, parameters in enumerate(every, 1):
        text = f"trying combination {number} of {len(every)} on the validation days"
        report("search", text, (number - 1) / len(every))
        tried = msgspec.structs.replace(recipe, search={}, parameters={**recipe.parameters, **parameters})
        found.append(_trial(champion, tried, settings, metric, train, validation, parameters))
    best = min((trial for trial in found if trial.loss is not None), key=lambda trial: trial.loss or 0.0, default=None)
    if best is None:
        raise training.TrainingError(f"no combination of the search gives a model: {'; '.join(map(str, found[:3]))}")
    return msgspec.structs.replace(recipe, search={}, parameters={**recipe.parameters, **best.parameters}), found


def _trial(
    champion: Predictor,
    recipe: RecipeConfig,
    settings: RetrainConfig,
    metric: str,
    train: JobRows,
    validation: JobRows,
    parameters: dict[str, Label | None],
) -> SearchTrial:
    try:
        model, schema = training.fit(champion, recipe, settings, train)
        predictor = Predictor(model, schema, "trial")
        outputs = predictor.predict(validation.features)
    except Exception as error:  # noqa: BLE001 - whatever a user's estimator raises; the others go on
        return SearchTrial(parameters=parameters, loss=None, error=str(error))
    if not predictor.valid(outputs).all():
        return SearchTrial(parameters=parameters, loss=None, error="rows without a usable answer")
    losses = loss(metric, outputs, training.truths(champion.schema, validation))
    mean = float(np.average(losses, weights=validation.weights or None))
    return SearchTrial(parameters=parameters, loss=mean)
