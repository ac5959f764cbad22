"""`gauntlet register`: puts a model into the registry as a new version. Starting its rollout is a separate command."""

from __future__ import annotations

import argparse
import asyncio
import time

from gauntlet import adapters, first_start
from gauntlet.cli import load_config
from gauntlet.config import Config
from gauntlet.registry import new_version
from gauntlet.registry.model_inputs import algorithm


def run(arguments: argparse.Namespace) -> int:
    """Register the model for the experiment of the configuration, and print the new version."""
    config = load_config.load(arguments.config)
    allowed, referred = arguments.allow_pickle, arguments.reference
    asked = register(config, arguments.model, arguments.note, allow_pickle=allowed, with_reference=referred)
    print(asyncio.run(asked))
    return 0


async def register(config: Config, model: str, note: str, *, allow_pickle: bool, with_reference: bool = False) -> str:
    """Register `model` (with the rows of `champion.reference` as its own) and return its version.

    Raises `ModelUnusable` for one that can't serve in the champion's place. A pickle is allowed by the configuration,
    or by `allow_pickle`.
    """
    record = await first_start.ensure(config)
    registry = adapters.registry(config)
    predictor = new_version.read(config, registry, record.champion, model, allow_pickle=allow_pickle)
    reference = first_start.reference_of(config, predictor) if with_reference else None
    entry = registry.register(
        model,
        predictor.schema,
        created_at=time.time(),
        reference=reference,
        rows=reference.rows if reference else 0,
        trusted=tuple(config.champion.trusted),
        allow_pickle=allow_pickle or config.champion.allow_pickle,
        parent=record.champion,
        algorithm=algorithm(predictor.model),
        note=note,
    )
    return entry.version
