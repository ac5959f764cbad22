"""The event log's contract, the same for every backend: order per key, offsets never reused, durability, seeking.
Invariant: a test knows a backend only by the ports LogWriter and LogReader."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import parts
import pytest

from gauntlet.errors import LogUnavailable
from gauntlet.keys import OUTCOMES, PREDICTIONS
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.log.kafka import KafkaLogReader, KafkaLogWriter
from gauntlet.log.local import LocalLogReader, LocalLogWriter

TOPICS = (PREDICTIONS, OUTCOMES)
SOON, NEVER = 60.0, 3600.0
START = 1_357_016_400.0  # 2013: replayed events are far older than any default retention


@dataclass
class Backend:
    """One log; writers and readers that it opens are closed with it."""

    address: str
    opened: list[LogWriter | LogReader] = field(default_factory=list)

    async def writer(self, name: str = "router") -> LogWriter:
        writer = await open_writer(self.address, name)
        self.opened.append(writer)
        return writer

    async def reader(self) -> LogReader:
        reader: LogReader
        if self.address.startswith("kafka:"):
            reader = await KafkaLogReader.connect(self.address, TOPICS)
        else:
            reader = LocalLogReader(Path(self.address))
        self.opened.append(reader)
        return reader

    async def close(self) -> None:
        for each in self.opened:
            await each.close()


async def open_writer(address: str, name: str) -> LogWriter:
    if address.startswith("kafka:"):
        return await KafkaLogWriter.connect(address, TOPICS)
    return LocalLogWriter(Path(address), name, segment_bytes=64 * 2**10)


@pytest.fixture(params=["local", "kafka"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    if request.param == "kafka":
        broker: parts.Kafka = request.getfixturevalue("kafka")
        address = f"{broker.url}?prefix=contract-{uuid4().hex[:8]}-&partitions=2"
    else:
        address = str(tmp_path / "log")
    backend = Backend(address)
    yield backend
    await backend.close()


def records(numbers: range, *, keys: int = 5, topic: str = PREDICTIONS, name: str = "") -> list[Record]:
    """Numbered records, a second apart, spread over a few keys."""
    return [Record(topic, f"{name}key-{n % keys}", START + n, f"{name}{n}".encode()) for n in numbers]


async def everything(reader: LogReader, topic: str = PREDICTIONS, limit: int = 7) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for partition in await reader.partitions(topic):
        rows: list[Stored] = []
        while more := await reader.read(topic, partition, rows[-1].offset + 1 if rows else 0, limit):
            assert len(more) <= limit
            rows += more
        found[partition] = rows
    return found


def by_key(found: dict[str, list[Stored]]) -> dict[str, list[bytes]]:
    """What each key's records say, in order; a key in two partitions is an error."""
    keys: dict[str, list[bytes]] = {}
    for rows in found.values():
        here: dict[str, list[bytes]] = {}
        for row in rows:
            here.setdefault(row.key, []).append(row.value)
        assert not here.keys() & keys.keys()
        keys |= here
    return keys


def expected(*written: list[Record]) -> dict[str, list[bytes]]:
    keys: dict[str, list[bytes]] = {}
    for batch in written:
        for record in batch:
            keys.setdefault(record.key, []).append(record.value)
    return keys


async def longest(reader: LogReader) -> tuple[str, list[Stored]]:
    return max((await everything(reader)).items(), key=lambda item: len(item[1]))


async def test_records_come_back_whole_and_in_order_per_key(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    written = [records(range(start, start + 30)) for start in range(0, 300, 30)]
    for batch in written:
        await writer.append(batch)
    found = await everything(reader)
    assert by_key(found) == expected(*written)
    for rows in found.values():
        assert [row.offset for row in rows] == list(range(len(rows)))
        assert all(row.at == START + int(row.value) for row in rows)


async def test_an_empty_append_and_an_empty_log_are_no_errors(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append([])
    partitions = await reader.partitions(OUTCOMES)
    assert partitions
    for partition in partitions:
        assert await reader.read(OUTCOMES, partition, 0, 10) == []
        assert await reader.end(OUTCOMES, partition) == 0
        assert await reader.seek(OUTCOMES, partition, START) == 0


async def test_reading_starts_at_any_offset_and_stops_at_the_limit(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append(records(range(200)))
    partition, rows = await longest(reader)
    middle = len(rows) // 2
    assert await reader.read(PREDICTIONS, partition, middle, 10) == rows[middle : middle + 10]
    assert await reader.read(PREDICTIONS, partition, middle + 10, 3) == rows[middle + 10 : middle + 13]
    assert await reader.read(PREDICTIONS, partition, 1, 1) == rows[1:2]  # back again
    assert await reader.read(PREDICTIONS, partition, 0, 10_000) == rows
    assert await reader.read(PREDICTIONS, partition, 0, 0) == []


async def test_reading_at_the_end_is_empty_until_something_comes(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append(records(range(10), keys=1))
    partition, rows = await longest(reader)
    end = await reader.end(PREDICTIONS, partition)
    assert end == len(rows) == 10
    assert await reader.read(PREDICTIONS, partition, end, 5) == []
    for n in range(10, 30):  # an acknowledged record can be read at once
        await writer.append(records(range(n, n + 1), keys=1))
        assert [row.value for row in await reader.read(PREDICTIONS, partition, n, 5)] == [b"%d" % n]


async def test_an_offset_past_the_end_is_told_apart_from_the_end(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append(records(range(10), keys=1))
    partition, _ = await longest(reader)
    with pytest.raises(LogUnavailable) as caught:
        await reader.read(PREDICTIONS, partition, 11, 5)
    assert caught.value.code == "offset_lost"
    assert len(await reader.read(PREDICTIONS, partition, 0, 50)) == 10  # the reader lives on


async def test_seek_finds_the_first_record_of_a_time_or_later(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    times = [5.0, 1.0, 7.0, 3.0, 7.0, 2.0]  # out of order, as outcomes are
    batch = [Record(PREDICTIONS, "key", START + at, b"x") for at in times]
    await writer.append(batch)
    partition, rows = await longest(reader)
    assert len(rows) == len(times)
    for at in (*times, 0.0, 4.0, 6.5, 8.0):
        after = [row.offset for row in rows if row.at >= START + at]
        assert await reader.seek(PREDICTIONS, partition, START + at) == (after[0] if after else len(rows))
    assert await reader.seek(PREDICTIONS, partition, float("-inf")) == 0


async def test_times_keep_their_milliseconds_and_seek_misses_none(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    draw = random.Random(3)
    times = sorted(START + draw.random() for _ in range(50))
    await writer.append([Record(PREDICTIONS, "key", at, b"x") for at in times])
    partition, rows = await longest(reader)
    assert all(0 <= at - row.at < 0.001 + 1e-6 for at, row in zip(times, rows, strict=True))
    for n, at in enumerate(times):
        assert await reader.seek(PREDICTIONS, partition, at) <= n


async def test_topics_are_apart_and_a_key_has_one_partition_in_all(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    mixed = [record for n in range(100) for t in TOPICS for record in records(range(n, n + 1), keys=20, topic=t)]
    await writer.append(mixed)
    found = {topic: await everything(reader, topic) for topic in TOPICS}
    for topic in TOPICS:
        assert by_key(found[topic]) == expected([record for record in mixed if record.topic == topic])
    places = [{key: p for p, rows in found[t].items() for key in (r.key for r in rows)} for t in TOPICS]
    assert places[0] == places[1]
    assert await reader.partitions(PREDICTIONS) == await reader.partitions(OUTCOMES)


async def test_awkward_keys_and_values_survive(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    awkward = [("", b""), ("ключ", b"\x00\xff" * 10), ("k" * 500, os.urandom(300_000)), ("a\nb'\"", b"null")]
    await writer.append([Record(PREDICTIONS, key, START, value) for key, value in awkward])
    assert by_key(await everything(reader)) == {key: [value] for key, value in awkward}


async def test_offsets_go_on_after_reopening(backend: Backend) -> None:
    first = await open_writer(backend.address, "router")
    await first.append(records(range(50)))
    await first.close()
    reader = await backend.reader()
    before = await everything(reader)
    second = await backend.writer()
    await second.append(records(range(50, 100)))
    after = await everything(reader)
    assert by_key(after) == expected(records(range(100)))
    for partition, rows in before.items():
        assert after[partition][: len(rows)] == rows
        assert [row.offset for row in after[partition]] == list(range(len(after[partition])))


async def test_readers_follow_concurrent_writers(backend: Backend) -> None:
    """Several tasks append while two readers follow; each reader sees each record once and each key in order."""
    writer = await backend.writer()
    total = 4 * 300

    async def write(name: str) -> None:
        for start in range(0, 300, 10):
            await writer.append(records(range(start, start + 10), name=name))

    async def follow(reader: LogReader) -> dict[str, list[Stored]]:
        found: dict[str, list[Stored]] = {partition: [] for partition in await reader.partitions(PREDICTIONS)}
        while sum(map(len, found.values())) < total:
            for partition, rows in found.items():
                rows += await reader.read(PREDICTIONS, partition, rows[-1].offset + 1 if rows else 0, 37)
        return found

    followers = [asyncio.create_task(follow(await backend.reader())) for _ in range(2)]
    await asyncio.gather(*(write(f"{name}-") for name in "abcd"))
    for found in await asyncio.gather(*followers):
        assert by_key(found) == expected(*(records(range(300), name=f"{name}-") for name in "abcd"))


async def test_a_reader_is_woken_by_what_it_has_not_seen(backend: Backend) -> None:
    """Written before its wait, or during it; the waits are so long that only a hint can end them."""
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append(records(range(1)))
    seen = by_key(await everything(reader))
    for number in range(1, 4):
        for _ in range(2):  # what the reader's own opening of files may have changed
            await reader.wait(0.05)
        waiting = asyncio.create_task(reader.wait(NEVER)) if number % 2 else None
        await asyncio.sleep(0)
        await writer.append(records(range(number, number + 1)))
        async with asyncio.timeout(SOON):
            await (waiting or reader.wait(NEVER))
            while by_key(await everything(reader)) == seen:
                await reader.wait(NEVER)
        seen = by_key(await everything(reader))
    assert seen == expected(records(range(4)))


async def test_a_closed_log_refuses(backend: Backend) -> None:
    writer, reader = await backend.writer(), await backend.reader()
    await writer.append(records(range(5)))
    await writer.close()
    await writer.close()
    with pytest.raises(LogUnavailable):
        await writer.append(records(range(5)))
    partition = (await reader.partitions(PREDICTIONS))[0]
    await reader.close()
    with pytest.raises(LogUnavailable):
        await reader.read(PREDICTIONS, partition, 0, 1)


WRITE = """
import asyncio, sys
sys.path[:0] = sys.argv[3:]
from test_log_contract import open_writer, records

async def main():
    writer = await open_writer(sys.argv[1], sys.argv[2])
    for start in range(0, 200, 20):
        await writer.append(records(range(start, start + 20), name=sys.argv[2] + "-"))
    await writer.close()

asyncio.run(main())
"""


async def test_two_processes_write_while_a_third_reads(backend: Backend) -> None:
    await (await backend.writer("here")).append(records(range(3), name="here-"))
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[1]), str(here.parents[2])]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITE, backend.address, name, *paths)
        for name in ("one", "two")
    ]
    ended = asyncio.gather(*(process.wait() for process in processes))
    reader = await backend.reader()
    while not ended.done():
        by_key(await everything(reader, limit=100))
    assert await ended == [0, 0]
    wanted = expected(records(range(3), name="here-"), *(records(range(200), name=f"{n}-") for n in ("one", "two")))
    assert by_key(await everything(reader)) == wanted
