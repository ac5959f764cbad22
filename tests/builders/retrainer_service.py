"""A retrainer as it runs, with its HTTP port and a key, whose champion has been overtaken by the world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from builders import retraining_data, small_experiment
from gauntlet import adapters, events, keys
from gauntlet.config import Config, KeyConfig, ObserveConfig
from gauntlet.log import Record
from gauntlet.types import Role
from retrainer import app

KEY = "an-operators-key-of-32-characters"


@asynccontextmanager
async def retrainer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> AsyncIterator[tuple[str, Config]]:
    """Its address and its configuration. The drift that it knows of is too mild for a job to start by itself."""
    monkeypatch.setenv("GAUNTLET_KEY_TEST", KEY)
    config = msgspec.structs.replace(
        retraining_data.configuration(folder, **settings),
        keys=[KeyConfig(name="operator", role=Role.OPERATOR, env="GAUNTLET_KEY_TEST")],
        observe=ObserveConfig(evaluator_port=0, retrainer_port=0),
    )
    now = await retraining_data.lay(config)
    mild = retraining_data.drift(now, severity="LOW")
    writer = adapters.local_writer(config, "evaluator")
    await writer.append([Record(keys.DRIFT, mild.id, mild.at, events.encode(mild))])
    await writer.close()
    async with serving(config) as url:
        yield url, config


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[str]:
    """The retrainer in this event loop, and its address; its failures are raised."""
    stop, address = asyncio.Event(), Path(config.data) / "retrainer.address"
    task = asyncio.create_task(app.serve(config, stop))

    async def listening() -> bool:
        return task.done() or (address.exists() and address.read_text().endswith("\n"))

    try:
        await small_experiment.until(listening)
        yield address.read_text().strip()
    finally:
        stop.set()
        await task
