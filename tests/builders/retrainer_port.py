"""The retrainer's API over a worker that a test turns by hand, without a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop
from gauntlet import keys
from retrainer.api.operations import RunningOperations
from retrainer.app import application

MODEL = "/retraining/turning"
WHY = {"reason": "new labels"}


class Port:
    """The API of a retrainer that is turned by hand, without a socket."""

    def __init__(self, loop: RetrainerLoop, client: httpx.AsyncClient) -> None:
        self.loop = loop
        self.client = client

    async def get(self, path: str) -> Any:
        answer = await self.client.get(f"{MODEL}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = WHY, key: str | None = None) -> httpx.Response:
        headers = {"idempotency-key": key} if key else {}
        return await self.client.post(f"{MODEL}/{path}", json=body, headers=headers)


@contextlib.asynccontextmanager
async def served(
    loop: RetrainerLoop, client: str = "127.0.0.1", headers: dict[str, str] | None = None
) -> AsyncIterator[Port]:
    """The API beside a worker that is turned by the test."""
    running = RunningOperations()
    with running.serve(loop.worker.operations):
        transport = httpx.ASGITransport(application(loop.config, running), client=(client, 1))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as found:
            yield Port(loop, found)


@contextlib.asynccontextmanager
async def retrainer(folder: Path, **settings: Any) -> AsyncIterator[RetrainerLoop]:
    """A retrainer over a laid stream, which has handled a drift that is too mild for a job."""
    config = retraining_data.configuration(folder, **settings)
    if not (folder / "data" / "retrainer.db").exists():
        await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        now = retraining_data.START + 40 * retraining_data.DAY
        await loop.publish(keys.DRIFT, retraining_data.drift(now, severity="LOW", episode=f"mild-{loop.store.now:.0f}"))
        await loop.worker.step()
        yield loop
