"""Jobs for the records, and a recorder over a real store and a real state that a test turns by hand."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import msgspec
import parts
import sqlalchemy as sa

from builders import retraining_data
from gauntlet import adapters, control, status
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.faults import Faults
from gauntlet.rollout import Command
from gauntlet.structured_logging import get_logger
from retrainer.jobs.job_dir import Answer
from retrainer.records import queries
from retrainer.records.database import Database
from retrainer.records.recorder import Recorder
from retrainer.store import JobRecord, RetrainerStore

T0 = retraining_data.START
DAY = retraining_data.DAY


def schema_of(postgres: parts.Postgres) -> str:
    """The address of a schema of a test's own."""
    name = f"records_{uuid4().hex[:12]}"
    postgres.query(f"create schema {name}")
    return f"{postgres.url}?options={quote(f'-csearch_path={name}')}"


def job(number: int, **changes: object) -> JobRecord:
    known = JobRecord(
        id=f"retrain_20231114_{number:03d}",
        status="completed",
        trigger="drift",
        request="e1",
        severity="HIGH",
        reason="HIGH drift",
        drift_type="concept",
        champion="v0001",
        recipe="default",
        created_at=T0 + number * DAY,
        updated_at=T0 + number * DAY,
        ended_at=T0 + number * DAY,
        seconds=12.5,
        starts=1,
        answer=Answer(
            accepted=True,
            version="v0002",
            reason="better",
            metrics={
                "champion": {"accuracy": 0.80, "log_loss": 0.5},
                "challenger": {"accuracy": 0.88, "log_loss": 0.4},
                "holdout": {"improvement": 0.1},
            },
            split={"train_rows": 900.0, "holdout_rows": 300.0, "skipped_forced": 4.0},
        ),
    )
    return msgspec.structs.replace(known, **changes)


class Following:
    """A recorder over a real store and a real state, turned by hand."""

    def __init__(self, folder: Path, address: str) -> None:
        config = retraining_data.configuration(folder)
        self.config: Config = msgspec.structs.replace(config, records=address)
        self.data = Path(self.config.data)
        self.state = adapters.state(self.config)
        self.store = RetrainerStore(self.data, self.config.experiment)
        self.problems = status.Problems("retrainer")
        self.registry = adapters.registry(self.config)
        self.recorder = self.anew()

    @property
    def stages(self) -> dict[str, object]:
        """What a challenge needs beside its version."""
        stages = tuple(stage.stage() for stage in self.config.ramp)
        return {"shadow": self.config.shadow.stage(), "stages": stages}

    def anew(self) -> Recorder:
        faults = Faults(self.problems, get_logger("test"))
        return Recorder(self.config, self.store, self.state, self.registry, faults)

    def put(self, *jobs: JobRecord) -> None:
        for one in jobs:
            self.store.put(one)
        self.store.commit()

    async def change(self, name: str, at: float, **options: object) -> None:
        command = Command(name=name, actor="op", reason="because", **options)
        await control.change(self.state, self.config.experiment, command, at)

    def read(self, query: Callable[[str], sa.Select[object]]) -> list[dict[str, object]]:
        return Database(self.config.records, self.data).read(query(self.config.experiment))

    async def until_recorded(self, number: int) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if len(await asyncio.to_thread(self.read, queries.all_events)) == number:
                        return
                except GauntletError:
                    pass
                await asyncio.sleep(0.02)
