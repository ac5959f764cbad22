"""The router's forwarder against a shared log that fails as it likes: lag, never loss, and the file of its progress.
Invariant: the source is a real local log; only the far end is a double, because a test must choose when it fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from builders.samples import sample

from gauntlet.errors import LogUnavailable
from gauntlet.keys import OUTCOMES, PREDICTIONS
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from router.forwarder import BATCH, Forwarder

TOPICS = (PREDICTIONS, OUTCOMES)


class Shared:
    """A shared log in memory; `fail` is asked at each connection and append and may raise or remember."""

    def __init__(self, fail: Callable[[str], None] = lambda _: None) -> None:
        self.records: list[Record] = []
        self.fail = fail
        self.connections = 0
        self.open = 0
        self.arrived = asyncio.Event()

    async def connect(self) -> "Shared":
        self.connections += 1
        self.fail("connect")
        self.open += 1
        return self

    async def append(self, records: Sequence[Record]) -> None:
        self.fail("append")
        self.records += records
        self.arrived.set()

    async def close(self) -> None:
        self.open -= 1

    def of(self, topic: str) -> list[bytes]:
        return [record.value for record in self.records if record.topic == topic]


def records(numbers: range, topic: str = PREDICTIONS) -> list[Record]:
    return [Record(topic, f"key-{n}", n + 0.25, b"%d" % n) for n in numbers]


def values(numbers: range) -> list[bytes]:
    return [b"%d" % n for n in numbers]


def lost(topic: str) -> float:
    """Records that were counted as gone before they could be forwarded."""
    return sample("gauntlet_events_lost_total", topic=topic, arm="unknown") or 0.0


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[LocalLogWriter, LocalLogReader]]:
    """The router's own log."""
    writer, reader = LocalLogWriter(tmp_path / "log", "router"), LocalLogReader(tmp_path / "log")
    yield writer, reader
    await writer.close()
    await reader.close()


@asynccontextmanager
async def running(forwarder: Forwarder) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(forwarder.run(stop))
    yield task
    stop.set()
    await task


async def until(condition: Callable[[], bool], task: asyncio.Task[None]) -> None:
    while not condition():
        assert not task.done(), "the forwarder ended by itself"
        await asyncio.sleep(0.005)


async def test_everything_goes_out_in_order_and_lag_goes_to_zero(own, tmp_path: Path) -> None:
    writer, reader = own
    shared = Shared()
    await writer.append(records(range(2 * BATCH + 10)) + records(range(7), OUTCOMES))
    forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
    async with running(forwarder) as task:
        await until(lambda: len(shared.records) == 2 * BATCH + 17, task)
        await writer.append(records(range(7, 9), OUTCOMES))
        await until(lambda: len(shared.of(OUTCOMES)) == 9, task)
    assert shared.of(PREDICTIONS) == values(range(2 * BATCH + 10))
    assert shared.of(OUTCOMES) == values(range(9))
    assert shared.records[3] == Record(PREDICTIONS, "key-3", 3.25, b"3")
    assert forwarder.lag() == {PREDICTIONS: 0, OUTCOMES: 0}
    assert json.loads((tmp_path / "forwarded.json").read_bytes()) == {PREDICTIONS: 2 * BATCH + 10, OUTCOMES: 9}
    assert shared.connections == 1
    assert shared.open == 0


async def test_stopping_sends_what_is_left(own, tmp_path: Path) -> None:
    writer, reader = own
    shared = Shared()
    forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
    stop = asyncio.Event()
    stop.set()
    await writer.append(records(range(3 * BATCH)))
    await forwarder.run(stop)
    assert shared.of(PREDICTIONS) == values(range(3 * BATCH))


async def test_a_restart_goes_on_where_the_last_one_was(own, tmp_path: Path) -> None:
    writer, reader = own
    shared = Shared()
    for start in (0, 10, 20):
        await writer.append(records(range(start, start + 10)))
        forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
        async with running(forwarder) as task:
            await until(lambda end=start + 10: len(shared.records) >= end, task)
    assert shared.of(PREDICTIONS) == values(range(30))
    assert json.loads((tmp_path / "forwarded.json").read_text()) == {PREDICTIONS: 30, OUTCOMES: 0}


@pytest.mark.parametrize("error", [LogUnavailable("down"), RuntimeError("a bug at the far end")])
@pytest.mark.parametrize("where", ["connect", "append"])
async def test_an_outage_is_only_lag(own, tmp_path: Path, where: str, error: Exception) -> None:
    """Scenario: the shared log fails three times while records go on coming. Expected: lag grows, then all arrive."""
    writer, reader = own
    failures = 0

    def fail(what: str) -> None:
        nonlocal failures
        if what == where and failures < 3:
            failures += 1
            raise error

    shared = Shared(fail)
    await writer.append(records(range(10)))
    forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
    async with running(forwarder) as task:
        await until(lambda: failures >= 1, task)
        assert forwarder.lag()[PREDICTIONS] == 10
        await writer.append(records(range(10, 15)))
        await until(lambda: failures >= 2, task)
        await until(lambda: forwarder.lag()[PREDICTIONS] in (0, 15), task)
        await until(lambda: len(shared.records) == 15, task)
    assert shared.of(PREDICTIONS) == values(range(15))
    assert forwarder.lag() == {PREDICTIONS: 0, OUTCOMES: 0}


async def test_progress_is_written_only_after_the_acknowledgement(own, tmp_path: Path) -> None:
    """Scenario: the router dies between the broker's word and the file. Expected: sent again, none left out."""
    writer, reader = own
    progress = tmp_path / "forwarded.json"
    written: list[bool] = []
    shared = Shared(lambda _: written.append(progress.exists()))
    await writer.append(records(range(10)))
    forwarder = Forwarder(reader, shared.connect, progress, topics=TOPICS)
    async with running(forwarder) as task:
        await until(progress.exists, task)
    assert written == [False, False]
    progress.unlink()
    again = Forwarder(reader, shared.connect, progress, topics=TOPICS)
    async with running(again) as task:
        await until(progress.exists, task)
    assert shared.of(PREDICTIONS) == values(range(10)) * 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"predictions": "x"}', '{"predictions": 99}', '{"other": 5}'])
async def test_a_progress_file_that_means_nothing_starts_over(own, tmp_path: Path, content: str) -> None:
    """99 is past the end: the file outlived the log that it speaks of, which was recreated."""
    writer, reader = own
    (tmp_path / "forwarded.json").write_text(content)
    before = lost(PREDICTIONS)
    await writer.append(records(range(10)))
    shared = Shared()
    forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
    async with running(forwarder) as task:
        await until(lambda: len(shared.records) == 10, task)
    assert shared.of(PREDICTIONS) == values(range(10))
    assert lost(PREDICTIONS) == before


async def test_what_retention_took_first_is_counted(tmp_path: Path) -> None:
    writer = LocalLogWriter(tmp_path / "log", "router", segment_bytes=1, retain_bytes=1)
    reader = LocalLogReader(tmp_path / "log")
    for n in range(20):
        await writer.append(records(range(n, n + 1)))
    kept = await reader.seek(PREDICTIONS, "router", float("-inf"))
    assert 0 < kept < 20
    shared, before = Shared(), lost(PREDICTIONS)
    forwarder = Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS)
    async with running(forwarder) as task:
        await until(lambda: len(shared.records) == 20 - kept, task)
    assert shared.of(PREDICTIONS) == values(range(kept, 20))
    assert lost(PREDICTIONS) == before + kept
    await writer.close()
    await reader.close()


async def test_cancelling_lets_the_shared_log_go(own, tmp_path: Path) -> None:
    writer, reader = own
    shared = Shared()
    await writer.append(records(range(3)))
    task = asyncio.create_task(
        Forwarder(reader, shared.connect, tmp_path / "forwarded.json", topics=TOPICS).run(asyncio.Event())
    )
    await shared.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shared.open == 0
