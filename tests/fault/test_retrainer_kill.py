"""Scenario: the retrainer is killed with signal 9 in the middle of a job and started again.

Exactly one version is registered, exactly one rollout started, and the job ends under the id that it began with.
"""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data

from gauntlet import adapters, control, events, keys
from gauntlet.config import Config
from gauntlet.events import Job
from gauntlet.log import Record
from gauntlet.status import RetrainerProgress
from retrainer.records import queries
from retrainer.records.database import Database
from retrainer.worker import serve

_SERVE = """
import asyncio, sys
from pathlib import Path
from builders import retraining_data
from retrainer.worker import serve
config = retraining_data.configuration(Path(sys.argv[1]), trainer="builders.retraining_data:patient_trainer")
asyncio.run(serve(config, asyncio.Event()))
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path),
        "TRAINER_FOLDER": str(folder),
    }
    with (folder / "retrainer.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", _SERVE, str(folder)], env=environment, stdout=log, stderr=log)


async def progress(config: Config) -> RetrainerProgress:
    store = adapters.state(config)
    _, value = await store.get(keys.retrainer_progress(config.experiment))
    await store.close()
    return msgspec.json.decode(value, type=RetrainerProgress) if value else RetrainerProgress()


async def jobs(config: Config) -> list[Job]:
    return (await progress(config)).jobs


async def until(holds: Callable[[], Awaitable[bool]], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for what another process does; fail at once when that process has ended."""
    async with asyncio.timeout(120):
        while not await holds():
            assert process is None or process.poll() is None, "the retrainer has ended by itself"
            await asyncio.to_thread(time.sleep, 0.02)


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def completed(config: Config) -> bool:
    return "completed" in [j.status for j in await jobs(config)]


async def handled(config: Config, offset: int) -> bool:
    return (await progress(config)).offsets.get("drift/evaluator") == offset


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_kill_9_during_training_registers_exactly_one_version(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    config = retraining_data.configuration(tmp_path, trainer="builders.retraining_data:patient_trainer")
    now = await retraining_data.lay(config)
    evaluator = adapters.local_writer(config, "evaluator")
    drift = retraining_data.drift(now)
    await evaluator.append([Record(keys.DRIFT, drift.id, drift.at, events.encode(drift))])
    await evaluator.close()

    first = start(tmp_path)
    processes.append(first)
    await until(lambda: exists(tmp_path / "started"), first)
    begun = await jobs(config)
    assert [j.status for j in begun] == ["running"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    await asyncio.to_thread(released, Path(config.data) / "jobs" / begun[0].id / "lock")  # the orphan has ended, too
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]

    (tmp_path / "go").touch()
    second = start(tmp_path)
    processes.append(second)
    await until(lambda: completed(config), second)
    assert [(j.id, j.accepted, j.version) for j in await jobs(config)] == [(begun[0].id, True, "v0002")]
    second.send_signal(signal.SIGKILL)
    second.wait()

    # After a kill at the end the job is not run again: a third retrainer handles what comes next, and that's all.
    before = (tmp_path / "started").read_text()
    closed = retraining_data.drift(now + 60, event="close")
    evaluator = adapters.local_writer(config, "evaluator")
    await evaluator.append([Record(keys.DRIFT, closed.id, closed.at, events.encode(closed))])
    await evaluator.close()
    stop = asyncio.Event()
    third = asyncio.create_task(serve(config, stop))
    await until(lambda: handled(config, 2))
    stop.set()
    await third
    assert (tmp_path / "started").read_text() == before
    assert [(j.id, j.status) for j in await jobs(config)] == [(begun[0].id, "completed")]
    assert [v.note for v in adapters.registry(config).versions()] == ["", begun[0].id]
    store = adapters.state(config)
    _, record = await control.read(store, config.experiment)
    history = await control.history(store, config.experiment)
    await store.close()
    assert record is not None
    assert (record.rollouts[0].id, record.rollouts[0].challenger) == ("turning-r0001", "v0002")
    assert [c.last.command for _, c in history if c.last] == ["begin", "challenge"]
    records = Database(config.records, Path(config.data))
    assert [(e["job_id"], e["execution_successful"]) for e in records.read(queries.all_events(config.experiment))] == [
        (begun[0].id, True)
    ]
    assert [d["command"] for d in records.read(queries.decisions(config.experiment))] == ["challenge", "begin"]


def released(lock: Path) -> None:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
