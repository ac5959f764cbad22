"""The router's forwarder and a real Kafka that goes away: stopped, killed and hung while records go on coming.
Invariant: nothing acknowledged by the router's own log is lost, and each key's first appearances are in order."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import parts
import pytest

from gauntlet.errors import LogUnavailable
from gauntlet.keys import OUTCOMES, PREDICTIONS
from gauntlet.log import LogWriter, Record
from gauntlet.log.kafka import KafkaLogReader, KafkaLogWriter, Timeouts
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from router.forwarder import Forwarder

TOPICS = (PREDICTIONS, OUTCOMES)
KEYS = 40


@pytest.fixture
def address(kafka: parts.Kafka) -> str:
    return f"{kafka.url}?prefix=fault-{uuid4().hex[:8]}-"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[LocalLogWriter, LocalLogReader]]:
    writer, reader = LocalLogWriter(tmp_path / "log", "router"), LocalLogReader(tmp_path / "log")
    yield writer, reader
    await writer.close()
    await reader.close()


def records(numbers: range) -> list[Record]:
    return [Record(topic, f"key-{n % KEYS}", 1.4e9 + n, b"%d" % n) for n in numbers for topic in TOPICS]


def forwarded(progress: Path) -> int:
    """Records of each topic that are on the shared log, by the forwarder's own file."""
    return min(json.loads(progress.read_bytes()).values()) if progress.exists() else 0


async def until_forwarded(progress: Path, count: int, task: asyncio.Task[None]) -> None:
    while forwarded(progress) < count:
        assert not task.done(), "the forwarder ended by itself"
        await asyncio.sleep(0.02)


async def first_appearances(address: str) -> dict[str, dict[str, list[int]]]:
    """By topic and key, the numbers in the order in which each first came; duplicates left out."""
    reader = await KafkaLogReader.connect(address, TOPICS)
    try:
        found: dict[str, dict[str, list[int]]] = {}
        for topic in TOPICS:
            keys = found.setdefault(topic, {})
            for partition in await reader.partitions(topic):
                offset = 0
                while rows := await reader.read(topic, partition, offset, 1000):
                    offset = rows[-1].offset + 1
                    for row in rows:
                        numbers = keys.setdefault(row.key, [])
                        if int(row.value) not in numbers:
                            numbers.append(int(row.value))
        return found
    finally:
        await reader.close()


def outage(kafka: parts.Kafka, kind: str) -> AbstractContextManager[None]:
    return kafka.frozen() if kind == "hung" else kafka.outage(crash=kind == "killed")


@pytest.mark.parametrize("kind", ["stopped", "killed", "hung"])
async def test_an_outage_of_kafka_is_only_lag(kafka: parts.Kafka, address: str, own, tmp_path: Path, kind: str) -> None:
    """Scenario: records come all the time; Kafka goes away after the first thousands, stays away for more, comes back.
    Expected: the forwarder never ends, lag grows meanwhile, and in the end all is there in order, per key."""
    writer, reader = own
    total = 6000

    async def connect() -> LogWriter:
        return await KafkaLogWriter.connect(address, TOPICS)

    forwarder = Forwarder(reader, connect, tmp_path / "forwarded.json", topics=TOPICS)
    stop = asyncio.Event()
    task = asyncio.create_task(forwarder.run(stop))

    async def write(numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, 50):
            await writer.append(records(range(start, start + 50)))

    await write(range(2000))
    await until_forwarded(tmp_path / "forwarded.json", 1000, task)
    away = outage(kafka, kind)
    during = asyncio.create_task(write(range(2000, 4000)))
    await asyncio.to_thread(away.__enter__)
    await during
    before = forwarded(tmp_path / "forwarded.json")
    assert before < 4000
    await asyncio.to_thread(away.__exit__, None, None, None)
    await write(range(4000, total))
    await until_forwarded(tmp_path / "forwarded.json", total, task)
    assert forwarder.lag() == dict.fromkeys(TOPICS, 0)
    stop.set()
    await task
    wanted = {f"key-{k}": [n for n in range(total) if n % KEYS == k] for k in range(KEYS)}
    assert await first_appearances(address) == dict.fromkeys(TOPICS, wanted)


async def test_the_router_starts_while_kafka_is_down(kafka: parts.Kafka, address: str, own, tmp_path: Path) -> None:
    """Scenario: Kafka is down at the start. Expected: lag only; all goes out, and topics are made, once it is up."""
    writer, reader = own
    tries = asyncio.Semaphore(0)

    async def connect() -> LogWriter:
        tries.release()
        return await KafkaLogWriter.connect(address, TOPICS)

    await writer.append(records(range(100)))
    forwarder = Forwarder(reader, connect, tmp_path / "forwarded.json", topics=TOPICS)
    stop = asyncio.Event()
    await asyncio.to_thread(kafka.stop)
    try:
        task = asyncio.create_task(forwarder.run(stop))
        for _ in range(3):
            await tries.acquire()
        assert forwarder.lag() == dict.fromkeys(TOPICS, 100)
    finally:
        await asyncio.to_thread(kafka.start)
    await until_forwarded(tmp_path / "forwarded.json", 100, task)
    stop.set()
    await task


async def test_readers_and_writers_say_unavailable_and_recover(kafka: parts.Kafka, address: str) -> None:
    """Scenario: Kafka stops under an open writer and reader. Expected: LogUnavailable; both go on when it is back."""
    impatient = Timeouts(request=2.0, call=3.0)
    writer = await KafkaLogWriter.connect(address, TOPICS, impatient)
    reader = await KafkaLogReader.connect(address, TOPICS, impatient)
    try:
        await writer.append(records(range(10)))
        places = {p: await reader.read(PREDICTIONS, p, 0, 100) for p in await reader.partitions(PREDICTIONS)}
        assert sum(map(len, places.values())) == 10
        with kafka.outage():  # blocks this loop: nobody asks anything while Kafka stops
            with pytest.raises(LogUnavailable):
                await reader.end(PREDICTIONS, "0")
            with pytest.raises(LogUnavailable):
                await KafkaLogWriter.connect(address, TOPICS)
            with pytest.raises(LogUnavailable):
                await writer.append(records(range(10, 20)))
        await writer.append(records(range(10, 20)))
        found = 0
        for partition, rows in places.items():
            more = await reader.read(PREDICTIONS, partition, len(rows), 100)
            found += len({row.value for row in more} - {row.value for row in rows})
        assert found == 10
    finally:
        await writer.close()
        await reader.close()
