"""A small experiment to test with: models, a configuration, and the services in this process or as processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import skops.io
import yaml
from sklearn.linear_model import LinearRegression, LogisticRegression

from evaluator.service import worker as evaluator
from gauntlet import adapters, events, first_start
from gauntlet.config import Config
from gauntlet.config import load as configs
from retrainer import worker as retrainer
from router import app as router

FEATURES = ("x1", "x2", "x3")
_SERVE = {"router": router.serve, "evaluator": evaluator.serve, "retrainer": retrainer.serve}


def classifier(seed: int = 1, *, weights: tuple[float, ...] = (1.5, -1.0, 0.5)) -> LogisticRegression:
    """Fitted on data in which `weights` are the truth."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 3))
    y = (rng.random(2000) < 1 / (1 + np.exp(-x @ np.array(weights)))).astype(int)
    return LogisticRegression().fit(x, y)


def regressor(seed: int = 1) -> LinearRegression:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 3))
    return LinearRegression().fit(x, x @ np.array([2.0, -1.0, 0.5]) + rng.normal(size=2000))


def write(folder: Path, model: Any = None, **changes: Any) -> Path:
    """A configuration file in `folder` for `model`; `changes` replace whole top-level sections."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model if model is not None else classifier(), folder / "model.skops")
    document: dict[str, Any] = {
        "experiment": "test",
        "task": "classification",
        "champion": {"model": "model.skops"},
        "features": list(FEATURES),
        "router": {"port": 0, "deadline": "20s", "challenger_timeout": "5s"},
        "observe": {"evaluator_port": 0, "retrainer_port": 0},
    }
    document.update(changes)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@contextlib.asynccontextmanager
async def running(config: Config, *services: str) -> AsyncIterator[httpx.AsyncClient]:
    """The services in this event loop, and a client to the router; all stop at the end, and their failures are
    raised."""
    await first_start.ensure(config)
    stop = asyncio.Event()
    address = Path(config.data) / "router.address"
    address.unlink(missing_ok=True)
    tasks = [asyncio.create_task(_SERVE[name](config, stop)) for name in services or ("router",)]
    try:
        await until(lambda: _exists(address, tasks))
        async with httpx.AsyncClient(base_url=address.read_text().strip(), timeout=20) as client:
            yield client
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _exists(address: Path, tasks: list[asyncio.Task[None]]) -> bool:
    for task in tasks:
        if task.done():
            task.result()
    return address.exists() and address.read_text().endswith("\n")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Return as soon as `condition` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def load(path: Path) -> Config:
    return configs.load(path)


def instance(i: int) -> dict[str, float]:
    """The features of the i-th request, the same in every run."""
    rng = np.random.default_rng(i)
    return dict(zip(FEATURES, rng.normal(size=3).round(6).tolist(), strict=True))


async def recorded(config: Config, topic: str) -> list[Any]:
    """All events of `topic` in the router's own log, shadow scores one by one."""
    reader = adapters.local_reader(config)
    try:
        found = [events.decode(r.value) for r in await reader.read(topic, "router", 0, 100_000)]
        return [one for event in found for one in (event.each() if isinstance(event, events.Shadows) else [event])]
    finally:
        await reader.close()


async def challenge(config: Config, client: httpx.AsyncClient, model: Any, **order: Any) -> str:
    """Register `model` and start its rollout; returns the version once the router serves it."""
    registry = adapters.registry(config)
    entry = registry.register(model, registry.get("v0001").schema, created_at=0.0)
    url = f"/v1/experiments/{config.experiment}"
    body = {"version": entry.version, "reason": "test", **order}
    assert (await client.post(f"{url}/challenge", json=body)).status_code == 200

    async def loaded() -> bool:
        status = (await client.get(url)).json()["serving"]
        return entry.version in [each["version"] for each in status["challengers"]]

    await until(loaded)
    return entry.version


async def serving(client: httpx.AsyncClient, url: str, **expected: Any) -> None:
    """Return once the experiment's status at `url` shows `expected` under `serving`; challengers by their versions."""

    async def shown() -> bool:
        status = (await client.get(url)).json()["serving"]
        status["challengers"] = [each["version"] for each in status["challengers"]]
        return all(status[name] == value for name, value in expected.items())

    await until(shown)
