"""Traffic for whole-loop tests: the services as processes, seeded requests with late outcomes, and one pass over the
log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from benchmarks.evaluator_rate import Nowhere
from builders import small_experiment
from evaluator.service.checkpoint import Checkpoint
from evaluator.service.pipeline import Pipeline
from evaluator.service.worker import Worker
from gauntlet import adapters, first_start, keys, status
from gauntlet.cli.up import SERVICES, Services
from gauntlet.config import Config

HOUR = 3600.0
START = 1_700_000_000.0


@contextlib.asynccontextmanager
async def command(name: str, path: Path, log: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """`gauntlet NAME` as a process; what it says is in `LOG.log` (default: `NAME.log`) beside its configuration."""
    with (path.parent / f"{log or name}.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gauntlet.cli", name, str(path), stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_written(file: Path, text: str = "", seconds: float = 60) -> None:
    """Return once the file is not empty and has `text` in it."""

    async def written() -> bool:
        return file.exists() and file.stat().st_size > 0 and text in file.read_bytes().decode("utf-8", "replace")

    await small_experiment.until(written, seconds)


class Loop:
    """The three services of one configuration, each a process, and a client that waits for a router that restarts."""

    def __init__(self, config: Config, client: httpx.AsyncClient, services: Services) -> None:
        self.config = config
        self.services = services
        self._client = client
        self.url = f"/v1/experiments/{config.experiment}"

    async def post(self, route: str, body: Any) -> Any:
        """Send until answered; a refusal fails the test."""
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await self._client.post(self._address() + route, json=body)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                assert answer.status_code < 300, answer.text
                return answer.json()

    async def status(self) -> Any:
        return (await self._client.get(self._address() + self.url)).json()

    def _address(self) -> str:
        return (Path(self.config.data) / "router.address").read_text().strip()

    def kill(self, service: str) -> None:
        """kill -9."""
        os.kill(self.services.processes[service].pid, signal.SIGKILL)

    async def challenge(self, seed: int = 2) -> None:
        """Start a rollout of another model, drawn by `seed`, and wait until it is served."""
        registry = adapters.registry(self.config)
        model = small_experiment.classifier(seed)
        entry = registry.register(model, registry.get("v0001").schema, created_at=0.0)
        await self.post(f"{self.url}/challenge", {"version": entry.version, "reason": "test"})
        await small_experiment.until(lambda: self._serves(entry.version))

    async def _serves(self, version: str) -> bool:
        return version in [each["version"] for each in (await self.status())["serving"]["challengers"]]

    async def counted(self, predictions: int, outcomes: int, shadows: int = 0) -> dict[str, int]:
        """Wait until the evaluator has counted this much; return all its counts."""
        found: dict[str, int] = {}

        async def there() -> bool:
            nonlocal found
            store = adapters.state(self.config)
            try:
                version, value = await store.get(keys.evaluator_progress(self.config.experiment))
            finally:
                await store.close()
            found = msgspec.json.decode(value, type=status.EvaluatorProgress).counts if version else {}
            return (
                found.get("predictions", 0) >= predictions
                and found.get("joined", 0) + found.get("late", 0) >= outcomes
                and found.get("shadows", 0) >= shadows
            )

        await small_experiment.until(there, 90)
        return found


@contextlib.asynccontextmanager
async def loop(path: Path) -> AsyncIterator[Loop]:
    """The services of the configuration at `path` as processes; their logs lie beside it."""
    config = small_experiment.load(path)
    await first_start.ensure(config)
    services = Services(path, logs=path.parent)
    tasks = [asyncio.create_task(services.run(name)) for name in SERVICES]
    address = Path(config.data) / "router.address"

    async def listening() -> bool:
        assert not any(task.done() for task in tasks), "a service ended; see its log"
        return address.exists() and address.read_text().endswith("\n")

    try:
        await small_experiment.until(listening, 60)
        async with httpx.AsyncClient(timeout=30) as client:
            yield Loop(config, client, services)
    finally:
        await services.stop()
        await asyncio.gather(*tasks)


async def send(
    running: Loop, n: int, batch: int, between: Callable[[int], Awaitable[None]] | None = None, *, seed: int = 7
) -> tuple[int, int]:
    """Send `n` predictions, 10 s of event time apart, and an outcome for nine of ten of them, an hour later.

    `between(i)` runs before batch i. Returns how many predictions and outcomes were sent.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).round(6)
    labels = (rng.random(n) < 1 / (1 + np.exp(-x @ np.array([1.5, -1.0, 0.5])))).astype(int)
    has_outcome = rng.random(n) < 0.9
    late = int(HOUR / 10)
    sent = 0
    for number, start in enumerate(range(0, n + late + batch, batch)):
        if between is not None:
            await between(number)
        stop = min(n, start + batch)
        if start < n:
            instances = [
                {
                    "features": dict(zip(small_experiment.FEATURES, x[i].tolist(), strict=True)),
                    "id": f"p-{i:06d}",
                    "at": START + 10.0 * i,
                }
                for i in range(start, stop)
            ]
            await running.post("/v1/predict", {"instances": instances})
        due = range(max(0, start - late), min(n, start + batch - late))
        outcomes = [
            {"id": f"p-{i:06d}", "value": int(labels[i]), "at": START + 10.0 * i + HOUR} for i in due if has_outcome[i]
        ]
        if outcomes:
            await running.post("/v1/outcomes", {"outcomes": outcomes})
            sent += len(outcomes)
    return n, sent


async def evaluated_in_one_pass(config: Config, folder: Path) -> Pipeline:
    """What a fresh evaluator makes of the whole log in one go."""
    checkpoint = Checkpoint(folder / "evaluator.db")
    reader = adapters.local_reader(config)
    pipeline = Pipeline(config, adapters.registry(config), checkpoint)
    local = msgspec.structs.replace(config, state="local")
    worker = Worker(local, pipeline, checkpoint, reader, Nowhere(), Nowhere())  # type: ignore[arg-type]
    while await worker.step():
        pass
    await worker.commit()
    await reader.close()
    checkpoint.close()
    return pipeline


def process_stat(pid: int) -> list[str]:
    """State, parent and so on of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    found = process_stat(pid)
    return bool(found) and found[0] != "Z"
