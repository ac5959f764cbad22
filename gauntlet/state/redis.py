"""The shared state store: Redis, each change one Lua script, so that record, history and notice are one atomic step.

A record is a hash {version, value}; its history a stream whose entry ids are the versions. Pub/sub is only a hint:
every waiter polls within a few seconds anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis.asyncio as client
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gauntlet.errors import Conflict, StateUnavailable
from gauntlet.state import Versioned

PREFIX = "gauntlet:"
_TIMEOUT = 0.25  # by default the client waits over 20 s for a hung server
_RECONNECT_SECONDS = 0.25

# KEYS: record, history, index of keys. ARGV: expected version, value, keep (1 or 0), key, channel.
# Answers the new version, or -1 - version when the expected one was wrong. A script that fails isn't undone, so what
# may be refused (a history that is ahead of its lost record) comes before the record's change.
_PUT = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return -1 - version end
version = version + 1
if ARGV[3] == '1' then redis.call('XADD', KEYS[2], version .. '-0', 'value', ARGV[2]) end
redis.call('HSET', KEYS[1], 'version', version, 'value', ARGV[2])
if version == 1 then redis.call('ZADD', KEYS[3], 0, ARGV[4]) end
redis.call('PUBLISH', ARGV[5], ARGV[4])
return version
"""

# KEYS: as above. ARGV: version, value, key, channel. Answers 1, or 0 where the record has that version or a later one.
_RESTORE = """
local version = tonumber(ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'version') or '0') >= version then return 0 end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not last or tonumber(string.match(last[1], '^%d+')) < version then
  redis.call('XADD', KEYS[2], version .. '-0', 'value', ARGV[2])
end
redis.call('HSET', KEYS[1], 'version', version, 'value', ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 1
"""


class RedisState:
    """`StateStore` on Redis. `url`: redis://, rediss:// or unix://, with `?prefix=` for its keys (default `gauntlet:`).

    Connects at first use and reconnects by itself. A failure is `StateUnavailable` within about half a second, and
    leaves open whether a `put` took place: read the record before writing again.
    `poll_seconds` is the longest `wait` when a notice is lost (at random between half of it and all).
    """

    def __init__(self, url: str, *, poll_seconds: float = 5.0) -> None:
        address, self._prefix = _split(url)
        self._poll_seconds = poll_seconds
        self._redis = client.Redis.from_url(
            address, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        self._put = self._redis.register_script(_PUT)
        self._restore = self._redis.register_script(_RESTORE)
        self._channel = self._prefix + "changes"
        self._index = self._prefix + "keys"
        self._notice: asyncio.Task[None] | None = None
        self._subscription: PubSub | None = None
        self._closed = False

    async def get(self, key: str) -> Versioned:
        async with self._translated():
            found: Any = await self._redis.hmget(self._record(key), ["version", "value"])
        return Versioned(0, b"") if found[0] is None else Versioned(int(found[0]), found[1])

    async def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        async with self._translated():
            version: int = await self._put(
                keys=[self._record(key), self._history(key), self._index],
                args=[expected, value, int(keep), key, self._channel],
            )
        if version < 0:
            raise Conflict(f"{key} is at version {-1 - version}, not {expected}")
        return version

    async def restore(self, key: str, value: bytes, version: int) -> bool:
        async with self._translated():
            restored: int = await self._restore(
                keys=[self._record(key), self._history(key), self._index], args=[version, value, key, self._channel]
            )
        return bool(restored)

    async def history(self, key: str, after: int = 0) -> list[Versioned]:
        async with self._translated():
            entries: Any = await self._redis.xrange(self._history(key), min=f"{after + 1}-0")
        return [Versioned(int(entry.partition(b"-")[0]), fields[b"value"]) for entry, fields in entries]

    async def keys(self, prefix: str) -> list[str]:
        start = prefix.encode()
        async with self._translated():
            # UTF-8 has no byte 0xff, so everything that begins with the prefix sorts before it.
            found: Any = await self._redis.zrangebylex(self._index, b"[" + start, b"(" + start + b"\xff")
        return [key.decode() for key in found]

    async def forget(self, key: str) -> None:
        async with self._translated(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._record(key), self._history(key))
            pipeline.zrem(self._index, key)
            pipeline.publish(self._channel, key)
            await pipeline.execute()

    async def wait(self, seconds: float) -> None:
        """As the port says. Of several waiters at once each is woken; while Redis is down it only takes time."""
        self._refuse_if_closed()
        if self._notice is None:
            self._notice = asyncio.create_task(self._listen())
        notice = self._notice
        most = self._poll_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads the replicas' polls
        await asyncio.wait([notice], timeout=min(seconds, most))
        if notice.done() and self._notice is notice:
            self._notice = None

    async def close(self) -> None:
        self._closed = True
        if self._notice is not None:
            self._notice.cancel()
            await asyncio.wait([self._notice])
        if self._subscription is not None:
            await self._subscription.aclose()  # type: ignore[no-untyped-call]
        await self._redis.aclose()

    async def _listen(self) -> None:
        """Return at the next notice, or once (re)subscribed, because earlier notices may have been missed."""
        while True:
            try:
                if self._subscription is None:
                    self._subscription = self._redis.pubsub(ignore_subscribe_messages=True)
                    await self._subscription.subscribe(self._channel)
                    await self._subscription.get_message(timeout=_TIMEOUT)  # the server's confirmation
                    return
                while await self._subscription.get_message(timeout=self._poll_seconds) is None:
                    pass
                while await self._subscription.get_message(timeout=0.0) is not None:
                    pass  # a burst is one hint
                return
            except (RedisError, OSError, TimeoutError):
                await self._drop_subscription()
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _drop_subscription(self) -> None:
        broken, self._subscription = self._subscription, None
        if broken is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await broken.aclose()  # type: ignore[no-untyped-call]

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        self._refuse_if_closed()
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise StateUnavailable(f"Redis does not answer: {error}") from error

    def _refuse_if_closed(self) -> None:
        if self._closed:  # the library would connect again
            raise StateUnavailable("this client of Redis is closed")

    def _record(self, key: str) -> str:
        return f"{self._prefix}record:{key}"

    def _history(self, key: str) -> str:
        return f"{self._prefix}history:{key}"


def _split(url: str) -> tuple[str, str]:
    """The address without our own option, and the prefix of our keys."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query)
    prefix = dict(options).get("prefix", PREFIX)
    query = urlencode([(name, value) for name, value in options if name != "prefix"])
    return urlunsplit(parts._replace(query=query)), prefix
