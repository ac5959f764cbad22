"""The topics of the Kafka log: what its URL says, and how topics come to be.

Every topic has equally many partitions, takes records of any event time and keeps them until somebody says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidConfigurationError, KafkaError, TopicAlreadyExistsError, for_code

from gauntlet.errors import ConfigError, LogUnavailable

RECORD_BYTES = 16 * 2**20  # far above any event; Kafka's default of 1 MB is near the size of a wide feature row
_READY_SECONDS = 15.0
_FOREVER = str(2**63 - 1)


class Address(NamedTuple):
    """What a log URL says: `kafka://host:port[,host:port]?prefix=…&partitions=4&replication=1`."""

    servers: list[str]
    prefix: str
    partitions: int
    replication: int


def parse(url: str) -> Address:
    """The address in `url`. Raises `ConfigError` for anything that it does not understand."""
    parts = urlsplit(url)
    options = {"prefix": "", "partitions": "4", "replication": "1"} | dict(parse_qsl(parts.query))
    servers = [server for server in parts.netloc.split(",") if server]
    numbers = options["partitions"], options["replication"]
    if parts.scheme != "kafka" or not servers or parts.path.strip("/") or len(options) > 3:
        raise ConfigError(f"a Kafka log is kafka://host:port?prefix=…&partitions=…&replication=…, not {url!r}")
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise ConfigError(f"partitions and replication are whole numbers above 0 in {url!r}")
    return Address(servers, options["prefix"], int(numbers[0]), int(numbers[1]))


async def make(address: Address, topics: Sequence[str]) -> None:
    """Create the topics that are missing and wait until all can be used.

    Raises `ConfigError` when they don't have equally many partitions, `LogUnavailable` when Kafka does not answer.
    """
    names = [address.prefix + topic for topic in topics]
    admin = AIOKafkaAdminClient(bootstrap_servers=address.servers, request_timeout_ms=int(_READY_SECONDS * 1000))
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await admin.start()
            known = await _leaders(admin)
            # Only what is missing: where others manage the topics, we may not be allowed to create any.
            await _create(admin, address, [name for name in names if name not in known])
            while not all(known.get(name) and min(known[name]) >= 0 for name in names):
                await asyncio.sleep(0.05)
                known = await _leaders(admin)
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka at {','.join(address.servers)} does not answer: {error!r}") from error
    finally:
        await admin.close()
    counts = {name: len(known[name]) for name in names}
    if len(set(counts.values())) > 1:
        raise ConfigError(f"these topics must have equally many partitions: {counts}", code="unequal_partitions")


async def _leaders(admin: AIOKafkaAdminClient) -> dict[str, list[int]]:
    """The partitions' leaders by topic, negative while there is none.

    Asks for all topics: asking by name would make a broker with auto-creation create them with its own settings.
    """
    return {entry["topic"]: [p["leader"] for p in entry["partitions"]] for entry in await admin.describe_topics()}


async def _create(admin: AIOKafkaAdminClient, address: Address, names: list[str]) -> None:
    settings = {
        # Replays carry old times: by their own clock they would expire on arrival. Whoever wants retention sets it.
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "CreateTime",
        "max.message.bytes": str(RECORD_BYTES),
        # From three copies on, an acknowledgement means at least two.
        "min.insync.replicas": "2" if address.replication > 2 else "1",
    }
    # Newer brokers refuse records whose time is far from their own; older ones don't know these settings.
    any_time = {"message.timestamp.before.max.ms": _FOREVER, "message.timestamp.after.max.ms": _FOREVER}
    for extra in (any_time, {}):
        if not names:
            return
        wanted = [NewTopic(name, address.partitions, address.replication, None, settings | extra) for name in names]
        answer = await admin.create_topics(wanted)
        errors = {name: (for_code(code), text) for name, code, text in answer.topic_errors if code}
        names = [name for name, (kind, _) in errors.items() if kind is InvalidConfigurationError and extra]
        for name, (kind, text) in errors.items():
            if name not in names and kind is not TopicAlreadyExistsError:  # another service was faster
                raise kind(f"creating topic {name}: {text or kind.__name__}")
