"""A model that may become a further version: loaded, checked against the champion's schema, and tried once.

`gauntlet register` and the advice to use it share this check, so the advice is only given where it works.
"""

from __future__ import annotations

from gauntlet.config import Config
from gauntlet.errors import ModelUnusable
from gauntlet.registry import Registry, artifact, model_schema, trial
from gauntlet.registry.artifact import Predictor


def read(config: Config, registry: Registry, champion: str, model: str, *, allow_pickle: bool = False) -> Predictor:
    """The model behind a path or `module:function`, with its schema.

    Raises `ModelUnusable` when it does not load, takes other features, gives other classes or has another task than the
    champion, or can't answer a row of them. `allow_pickle` adds to what the configuration allows.
    """
    settings, known = config.champion, registry.get(champion).schema
    loaded = artifact.load(model, trusted=settings.trusted, allow_pickle=allow_pickle or settings.allow_pickle)
    fitted = model_schema.read(loaded, config.task, known.features, known.classes, settings.input)
    if fitted.schema.classes != known.classes:
        raise ModelUnusable(f"{model} has classes {fitted.schema.classes}, the champion {known.classes}")
    predictor = Predictor(loaded, fitted.schema, "the model")
    trial.predict(predictor, fitted, registry.reference(champion))
    return predictor
