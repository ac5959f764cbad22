"""A retrainer turned by hand: its worker on real local ports, and an evaluator's voice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from gauntlet import adapters, events
from gauntlet.config import Config
from gauntlet.events import Event
from gauntlet.log import Record
from retrainer.store import JobRecord, RetrainerStore
from retrainer.worker import Worker


class RetrainerLoop:
    """A worker on real local ports, turned by hand."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state = adapters.state(config)
        self.reader = adapters.local_reader(config)
        self.writer = adapters.local_writer(config, "retrainer")
        self.evaluator = adapters.local_writer(config, "evaluator")
        self.registry = adapters.registry(config)
        self.open()

    def open(self) -> None:
        """A retrainer as it starts, on what is on disk."""
        self.store = RetrainerStore(Path(self.config.data), self.config.experiment)
        self.worker = Worker(self.config, self.reader, self.writer, self.state, self.registry, self.store)

    @property
    def only_job(self) -> JobRecord:
        (found,) = self.store.jobs.values()
        return found

    async def killed(self) -> None:
        """kill -9 and a new start: the job's process ends with the retrainer, and what is not committed is gone."""
        await self.worker.runner.stop()
        self.store.close()
        self.open()

    async def publish(self, topic: str, *new: Event) -> None:
        await self.evaluator.append([Record(topic, e.id, e.at, events.encode(e)) for e in new])  # type: ignore[arg-type]

    async def turn_until(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not done():
                await self.worker.step()

    async def events(self, topic: str) -> list[events.AnyEvent]:
        return [
            events.decode(r.value)
            for partition in await self.reader.partitions(topic)
            for r in await self.reader.read(topic, partition, 0, 1000)
        ]

    async def __aenter__(self) -> RetrainerLoop:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.close()
        self.store.close()
        for part in (self.writer, self.evaluator, self.reader, self.state):
            await part.close()
