"""Scenarios of the records: 1. their database is not there when the retrainer starts; 2. PostgreSQL is killed again
and again while jobs come and go; 3. it hangs; 4. the SQLite file is damaged, and moved away; 5. the database is down,
and so is who is told. Every time decisions go on, the status tells of it, and afterwards the records are whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import parts
import pytest
from builders import retraining_data
from builders.decision_loop import DecisionLoop
from builders.retraining_records import Following, job, schema_of
from builders.samples import sample

from gauntlet import keys
from gauntlet.config import NotifyConfig
from gauntlet.errors import DamagedFile
from gauntlet.status import RetrainerProgress
from gauntlet.types import VerdictCause
from retrainer.notify.notifier import UNDELIVERED
from retrainer.records import queries
from retrainer.records.recorder import CODE
from retrainer.worker import serve

Follow = Callable[[str], Awaitable[Following]]


@pytest.fixture
async def follow(tmp_path: Path) -> AsyncIterator[Follow]:
    """A recorder that runs on its own at an address."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(address: str) -> Following:
            built = Following(tmp_path, address)
            await retraining_data.lay(built.config, days=2, a_day=2)
            stop = asyncio.Event()
            running = asyncio.create_task(built.recorder.run(stop))

            async def end() -> None:
                stop.set()
                await running
                built.store.close()
                await built.state.close()

            stack.push_async_callback(end)
            return built

        yield begin


async def told(following: Following) -> None:
    """Wait until the status says that the records are behind."""
    async with asyncio.timeout(60):
        while [problem.code for problem in following.problems.open] != [CODE]:
            await asyncio.sleep(0.02)


def challenge(following: Following) -> dict[str, object]:
    stages = tuple(stage.stage() for stage in following.config.ramp)
    return {"version": "v0002", "shadow": following.config.shadow.stage(), "stages": stages}


async def test_a_database_that_is_missing_at_start_is_filled_when_it_is_there(
    follow: Follow, postgres: parts.Postgres
) -> None:
    address = schema_of(postgres)
    before = sample("gauntlet_records_outages_total", experiment="turning") or 0.0
    with postgres.outage():
        following = await follow(address)
        following.put(job(1))
        await told(following)
        assert sample("gauntlet_records_behind", experiment="turning") == 1.0
        assert "127.0.0.1" in following.problems.open[0].text
        following.put(job(2))
        await following.change("challenge", 1.0, **challenge(following))
    await following.until_recorded(2)
    assert [d["command"] for d in following.read(queries.decisions)] == ["challenge", "begin"]
    await told_of_nothing(following)
    assert sample("gauntlet_records_behind", experiment="turning") == 0.0
    assert sample("gauntlet_records_outages_total", experiment="turning") == before + 1.0


async def test_postgresql_killed_again_and_again_loses_and_repeats_nothing(
    follow: Follow, postgres: parts.Postgres
) -> None:
    following = await follow(schema_of(postgres))
    stop = asyncio.Event()

    async def come_and_go() -> int:
        number = 0
        while not stop.is_set() or number < 50:
            number += 1
            running = job(number, status="running", ended_at=None)
            following.put(running)
            await asyncio.sleep(0.01)
            following.put(msgspec.structs.replace(job(number), reason=f"number {number}"))
        return number

    working = asyncio.create_task(come_and_go())
    for _ in range(3):
        with postgres.outage(crash=True):
            await told(following)
        await told_of_nothing(following)
    stop.set()
    total = await working
    await following.until_recorded(total)
    async with asyncio.timeout(60):
        while not all(event["execution_successful"] for event in following.read(queries.all_events)):
            await asyncio.sleep(0.05)
    found = following.read(queries.all_events)
    assert sorted(str(event["trigger_reason"]) for event in found) == sorted(
        f"number {number}" for number in range(1, total + 1)
    )


async def test_a_server_that_hangs_is_told_of_and_caught_up_with(follow: Follow, postgres: parts.Postgres) -> None:
    following = await follow(schema_of(postgres))
    await following.until_recorded(0)
    with postgres.frozen():
        following.put(job(1))
        await told(following)
    await following.until_recorded(1)


async def test_a_damaged_file_is_told_of_and_made_anew_when_it_is_moved_away(follow: Follow) -> None:
    following = await follow("local")
    following.put(job(1))
    await following.until_recorded(1)
    await following.change("challenge", 1.0, **challenge(following))
    file = following.data / "records.db"
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(b"no database" * 1000)
    following.put(job(2))
    await told(following)
    [problem] = following.problems.open
    assert str(file) in problem.text
    assert "recreated" in problem.remedy
    with pytest.raises(DamagedFile):
        following.read(queries.all_events)
    file.rename(file.with_suffix(".damaged"))
    await following.until_recorded(2)
    assert [d["command"] for d in following.read(queries.decisions)] == ["challenge", "begin"]


async def told_of_nothing(following: Following) -> None:
    async with asyncio.timeout(60):
        while following.problems.open:
            await asyncio.sleep(0.02)


def refuses(_: dict[str, object]) -> None:
    raise ConnectionError("nobody home")


async def test_decisions_go_on_while_nobody_can_be_told_and_nothing_recorded(tmp_path: Path) -> None:
    loop = DecisionLoop(tmp_path, "deaf")
    notify = [NotifyConfig(name="nobody", handler=f"{__name__}:refuses", severity="LOW")]
    config = msgspec.structs.replace(loop.config, records="postgresql://127.0.0.1:1/nowhere", notify=notify)
    loop.store.close()
    await loop.writer.close()
    await loop.begin()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(config, stop))

    async def problems() -> set[str]:
        _, value = await loop.state.get(keys.retrainer_progress("deaf"))
        report = msgspec.json.decode(value, type=RetrainerProgress) if value else RetrainerProgress()
        return {problem.code for problem in report.problems}

    async with asyncio.timeout(60):
        while await problems() != {CODE}:
            await asyncio.sleep(0.02)
        await loop.publish(loop.look(0.5, result="worse", cause=VerdictCause.HARM, effect=-0.1))
        while (await loop.record()).rollouts:
            await asyncio.sleep(0.02)
        while await problems() != {CODE, UNDELIVERED}:
            await asyncio.sleep(0.02)
    stop.set()
    await serving
    assert await loop.decisions() == ["begin", "challenge", "rollback"]
    for part in (loop.evaluator, loop.reader, loop.state):
        await part.close()
