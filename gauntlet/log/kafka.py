"""The shared event log on Apache Kafka: a writer that every in-sync replica acknowledges and a reader without groups.

Every producer partitions by murmur2 of the key and all topics have equally many partitions, so that records of one key
lie side by side. Kafka keeps times in whole milliseconds: `at` comes back rounded down, and `seek` rounds down alike.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import has_zstd
from aiokafka.errors import CorruptRecordException, KafkaError, LeaderNotAvailableError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from gauntlet import keys
from gauntlet.errors import LogUnavailable
from gauntlet.log import Record, Stored, kafka_topics
from gauntlet.log.kafka_topics import RECORD_BYTES, Address
from gauntlet.log.partitioner import partitions
from gauntlet.structured_logging import get_logger

_log = get_logger("gauntlet.log")

_BATCH_BYTES = 256 * 2**10
_CODEC = "zstd"  # aiokafka asks lz4 for level 9: three times the time on the caller's loop for larger batches
_FETCH_BYTES = 2**20
_POLL_SECONDS = 0.05

# ListOffsets' special times (Kafka protocol, key 2), and its answer when no record is that young.
_EARLIEST, _LATEST, _NOWHERE = -2, -1, -1

T = TypeVar("T")


@dataclass(frozen=True)
class Timeouts:
    """Seconds until an unanswered operation is `LogUnavailable`."""

    request: float = 10.0  # one request; the library's 40 s would hold a writer's caller for as long
    call: float = 15.0  # one append, read, end or seek with all its requests


TIMEOUTS = Timeouts()


def _milliseconds(at: float) -> int:
    """Rounded down, which keeps order; Kafka knows no time before 1970."""
    return max(0, math.floor(min(at, 1e15) * 1000))


class _Connection:
    """What both sides know: the log's address and their patience."""

    def __init__(self, address: Address, timeouts: Timeouts = TIMEOUTS) -> None:
        self._address = address
        self._timeouts = timeouts
        self._closed = False

    @classmethod
    async def connect(cls, url: str, topics: Sequence[str] = keys.TOPICS, timeouts: Timeouts = TIMEOUTS) -> Self:
        """Make the topics that are missing. Raises `LogUnavailable` when Kafka is down, `ConfigError` for a bad URL."""
        address = kafka_topics.parse(url)
        if "_crecords" not in DefaultRecordBatchBuilder.__module__:
            _log.warning(
                "kafka_without_c_extension", next="the log is 5 to 36 times slower; install a wheel of aiokafka"
            )
        if not has_zstd():
            _log.warning("kafka_without_zstd", next="compressed batches can't be read or written; install cramjam")
        await kafka_topics.make(address, topics)
        return cls(address, timeouts)


class KafkaLogWriter(_Connection):
    """`LogWriter` on Kafka: acks=all, idempotence off (ids deduplicate; an idempotent producer hangs in an outage).

    Order per key holds through failures: calls go one after the other, and a partition's next batch leaves only after
    the last one's acknowledgement. A failed append may have written any part of its records; append all of them again.
    The producer that failed is given up, and the next append makes a new one.
    """

    def __init__(self, address: Address, timeouts: Timeouts = TIMEOUTS) -> None:
        super().__init__(address, timeouts)
        self._producer: AIOKafkaProducer | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._order = asyncio.Lock()

    async def append(self, records: Sequence[Record]) -> None:
        if not records:
            return
        async with self._order:
            if self._closed:
                raise LogUnavailable("this writer of the Kafka log is closed")
            try:
                async with asyncio.timeout(self._timeouts.call):
                    await self._send(await self._started(), records)
            except (KafkaError, OSError, TimeoutError) as error:
                self._give_up()
                raise LogUnavailable(f"Kafka did not acknowledge {len(records)} records: {error!r}") from error

    async def close(self) -> None:
        self._closed = True
        async with self._order:
            self._give_up()
        if self._stopping:
            await asyncio.wait(self._stopping)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._address.servers,
                acks="all",
                compression_type=_CODEC if has_zstd() else None,
                max_batch_size=_BATCH_BYTES,
                max_request_size=RECORD_BYTES,
                request_timeout_ms=int(self._timeouts.request * 1000),
            )
            await self._producer.start()
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        lanes: dict[tuple[str, int], list[tuple[int, bytes, bytes]]] = {}
        names = [record.key.encode() for record in records]
        # Equally many everywhere, as `kafka_topics.make` has seen to.
        count = len(await producer.partitions_for(self._address.prefix + records[0].topic))
        for (topic, _, at, value), name, partition in zip(records, names, partitions(names, count), strict=True):
            lanes.setdefault((topic, partition), []).append((_milliseconds(at), name, value))
        sent = [self._send_lane(producer, topic, partition, lane) for (topic, partition), lane in lanes.items()]
        for result in await asyncio.gather(*sent, return_exceptions=True):
            if result is not None:
                raise result

    async def _send_lane(
        self, producer: AIOKafkaProducer, topic: str, partition: int, lane: list[tuple[int, bytes, bytes]]
    ) -> None:
        batch = producer.create_batch()
        for at, key, value in lane:
            if batch.append(timestamp=at, key=key, value=value) is None:  # full
                await self._deliver(producer, topic, partition, batch)
                batch = producer.create_batch()
                batch.append(timestamp=at, key=key, value=value)  # an empty batch takes a record of any size
        await self._deliver(producer, topic, partition, batch)

    async def _deliver(self, producer: AIOKafkaProducer, topic: str, partition: int, batch: Any) -> None:
        batch.close()  # nothing else joins it, so it needn't linger
        await (await producer.send_batch(batch, self._address.prefix + topic, partition=partition))

    def _give_up(self) -> None:
        """Stop the producer in the background: it may wait out its last request before it lets go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(_stop(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, OSError, TimeoutError):
        await producer.stop()


class _Page:
    """One fetch of a partition, decoded lazily."""

    def __init__(self, offset: int, data: bytes = b"") -> None:
        self.offset = offset  # the record that `take` gives next
        self._reached = offset
        self._rows = self._decode(data)

    def take(self, limit: int) -> list[Stored]:
        rows = list(islice(self._rows, limit))
        self.offset = rows[-1].offset + 1 if rows else self._reached
        return rows

    def _decode(self, data: bytes) -> Iterator[Stored]:
        batches = MemoryRecords(data)
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise CorruptRecordException("a batch's checksum does not match")
            for record in () if batch.is_control_batch else batch:
                if record.offset >= self._reached:
                    key = (record.key or b"").decode(errors="replace")  # other systems write outcomes, too
                    yield Stored(record.offset, key, record.timestamp / 1000, record.value or b"")
            self._reached = batch.next_offset


class KafkaLogReader(_Connection):
    """`LogReader` on Kafka, one plain fetch at a time.

    aiokafka's consumer holds its connection while it waits for new records, and doesn't tell where the end is. A fetch
    that doesn't wait is answered at once, and is empty only at the end, as the port promises. A failure drops the
    connection; the next call makes a new one.

    Raises `LogUnavailable` with code `offset_lost` for an offset that retention took, or that is past the end because
    the topic was recreated. `seek(…, -inf)` gives the oldest kept.
    """

    def __init__(self, address: Address, timeouts: Timeouts = TIMEOUTS) -> None:
        super().__init__(address, timeouts)
        self._client: AIOKafkaClient | None = None
        self._pages: dict[TopicPartition, _Page] = {}
        self._locks: dict[TopicPartition, asyncio.Lock] = {}
        self._connecting = asyncio.Lock()

    async def partitions(self, topic: str) -> list[str]:
        async def names(client: AIOKafkaClient) -> list[str]:
            return [str(number) for number in sorted(await client._wait_on_metadata(self._address.prefix + topic))]

        return await self._request(names)

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        place = self._place(topic, partition)

        async def rows(client: AIOKafkaClient) -> list[Stored]:
            page = self._pages.get(place)
            if page is None or page.offset != offset:
                page = _Page(offset)
            while not (taken := page.take(limit)):
                start = page.offset
                page, end = await _fetch(client, place, start)
                if start >= end:
                    break
            self._pages[place] = page
            return taken

        if limit < 1:
            return []
        async with self._locks.setdefault(place, asyncio.Lock()):
            return await self._request(rows)

    async def end(self, topic: str, partition: str) -> int:
        place = self._place(topic, partition)
        return await self._request(lambda client: _offset(client, place, _LATEST))

    async def seek(self, topic: str, partition: str, at: float) -> int:
        place = self._place(topic, partition)

        async def first(client: AIOKafkaClient) -> int:
            end = await _offset(client, place, _LATEST)  # first: a record that arrives in between is not skipped
            offset = await _offset(client, place, _milliseconds(at) if at > 0 else _EARLIEST)
            return end if offset == _NOWHERE else offset

        return await self._request(first)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, _POLL_SECONDS))

    async def close(self) -> None:
        self._closed = True
        await self._drop(self._client)

    def _place(self, topic: str, partition: str) -> TopicPartition:
        return TopicPartition(self._address.prefix + topic, int(partition))

    async def _request(self, call: Callable[[AIOKafkaClient], Awaitable[T]]) -> T:
        if self._closed:
            raise LogUnavailable("this reader of the Kafka log is closed")
        client: AIOKafkaClient | None = None
        try:
            async with asyncio.timeout(self._timeouts.call):
                client = await self._connected()
                return await call(client)
        except OffsetOutOfRangeError as error:
            raise LogUnavailable(f"Kafka has no record {error} (any more)", code="offset_lost") from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self._drop(client)
            raise LogUnavailable(f"Kafka does not answer: {error!r}") from error

    async def _connected(self) -> AIOKafkaClient:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaClient(
                    bootstrap_servers=self._address.servers, request_timeout_ms=int(self._timeouts.request * 1000)
                )
                try:
                    await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _drop(self, client: AIOKafkaClient | None) -> None:
        if client is not None:
            if client is self._client:  # and not the one that another call has made since
                self._client = None
            await client.close()


async def _leader(client: AIOKafkaClient, place: TopicPartition) -> int:
    await client._wait_on_metadata(place.topic)
    leader: int | None = client.cluster.leader_for_partition(place)
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(f"{place.topic}/{place.partition} has no leader")
    return leader


async def _fetch(client: AIOKafkaClient, place: TopicPartition, offset: int) -> tuple[_Page, int]:
    """What lies at `offset`, and the partition's end; asks the broker not to wait for more."""
    request = FetchRequest(0, 1, _FETCH_BYTES, 0, [(place.topic, [(place.partition, offset, _FETCH_BYTES)])])
    answer = await client.send(await _leader(client, place), request)
    ((_, ((_, code, end, *rest),)),) = answer.topics
    if code:
        raise for_code(code)(f"reading {place.topic}/{place.partition} at offset {offset}")
    return _Page(offset, rest[-1]), end


async def _offset(client: AIOKafkaClient, place: TopicPartition, at: int) -> int:
    """The first offset at or after a time in milliseconds, or at one of the special times."""
    request = OffsetRequest(-1, 0, [(place.topic, [(place.partition, at)])])
    answer = await client.send(await _leader(client, place), request)
    ((_, ((_, code, _, offset),)),) = answer.topics
    if code:
        raise for_code(code)(f"asking for an offset of {place.topic}/{place.partition}")
    return int(offset)
