"""`gauntlet register`: puts a model into the registry as a new version. Starting its rollout is a separate command."""

from __future__ import annotations

import argparse
import asyncio
import time

from gauntlet import adapters, bootstrap
from gauntlet.cli import load_config
from gauntlet.config import Config
from gauntlet.errors import ModelUnusable
from gauntlet.registry import artifact, model_schema, trial
from gauntlet.registry.artifact import Predictor


def run(arguments: argparse.Namespace) -> int:
    """Register the model for the experiment of the configuration, and print the new version."""
    config = load_config.load(arguments.config)
    allowed, referred = arguments.allow_pickle, arguments.reference
    asked = register(config, arguments.model, arguments.note, allow_pickle=allowed, with_reference=referred)
    print(asyncio.run(asked))
    return 0


async def register(config: Config, model: str, note: str, *, allow_pickle: bool, with_reference: bool = False) -> str:
    """Register `model` (with the rows of `champion.reference` as its own) and return its version.

    Raises `ModelUnusable` when it does not load, takes other features, gives other classes or has another task than the
    champion, or can't answer a row of them.
    """
    record = await bootstrap.ensure(config)
    registry = adapters.registry(config)
    champion = registry.get(record.champion)
    loaded = artifact.load(model, trusted=config.champion.trusted, allow_pickle=allow_pickle)
    fitted = model_schema.read(
        loaded, config.task, champion.schema.features, champion.schema.classes, config.champion.input
    )
    schema = fitted.schema
    if schema.classes != champion.schema.classes:
        raise ModelUnusable(f"{model} has classes {schema.classes}, the champion {champion.schema.classes}")
    predictor = Predictor(loaded, schema, "the model")
    trial.predict(predictor, fitted, registry.reference(record.champion))
    reference = bootstrap.reference_of(config, predictor) if with_reference else None
    entry = registry.register(
        model,
        schema,
        created_at=time.time(),
        reference=reference,
        rows=reference.rows if reference else 0,
        trusted=tuple(config.champion.trusted),
        allow_pickle=allow_pickle,
        parent=record.champion,
        algorithm=type(loaded).__name__,
        note=note,
    )
    return entry.version
