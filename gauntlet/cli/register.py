"""`gauntlet register`: puts a model into the registry as a new version. Starting its rollout is a separate command."""

from __future__ import annotations

import time

from gauntlet import adapters, bootstrap
from gauntlet.cli import load_config
from gauntlet.config import Config
from gauntlet.errors import ModelUnusable
from gauntlet.registry import artifact, model_schema, trial
from gauntlet.registry.artifact import Predictor


async def run(path: str, model: str, note: str, allow_pickle: bool) -> int:
    """Register `model` for the experiment configured in the file at `path`, and print the new version."""
    print(await register(load_config.load(path), model, note, allow_pickle=allow_pickle))
    return 0


async def register(config: Config, model: str, note: str, *, allow_pickle: bool) -> str:
    """Register `model` and return its version.

    Raises `ModelUnusable` when it does not load, takes other features, gives other classes or has another task than the
    champion, or can't answer a row of them.
    """
    record = await bootstrap.ensure(config)
    registry = adapters.registry(config)
    champion = registry.get(record.champion)
    if config.task is not champion.schema.task:
        raise ModelUnusable(
            f"`task: {config.task}`, but {config.experiment} has run as {champion.schema.task} since its first start; "
            "give a new task a new `experiment`",
            code="wrong_task",
        )
    loaded = artifact.load(model, trusted=config.champion.trusted, allow_pickle=allow_pickle)
    fitted = model_schema.read(
        loaded, config.task, champion.schema.features, champion.schema.classes, config.champion.input
    )
    schema = fitted.schema
    if schema.classes != champion.schema.classes:
        raise ModelUnusable(f"{model} has classes {schema.classes}, the champion {champion.schema.classes}")
    trial.predict(Predictor(loaded, schema, "the model"), fitted, registry.reference(record.champion))
    entry = registry.register(
        model,
        schema,
        created_at=time.time(),
        trusted=tuple(config.champion.trusted),
        allow_pickle=allow_pickle,
        parent=record.champion,
        algorithm=type(loaded).__name__,
        note=note,
    )
    return entry.version
