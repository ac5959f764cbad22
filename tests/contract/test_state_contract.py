"""The state store's contract, the same for every backend: compare-and-set, history, hints, outages.
Invariant: a test knows a backend only by the port StateStore and by a way to make it hang."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import parts
import pytest

from gauntlet.errors import Conflict, StateUnavailable
from gauntlet.state import StateStore, Versioned
from gauntlet.state.local import LocalState
from gauntlet.state.redis import RedisState

KEY = "control/flights"
NEVER = 3600.0  # a poll that far apart can't be what woke a test
SOON = 60.0  # what a loaded machine may take to wake a waiter


@dataclass
class Backend:
    """One store's address; clients that it opens are closed with it. Inside `hung()` it answers nobody."""

    address: str
    hung: Callable[[], AbstractContextManager[None]]
    opened: list[StateStore] = field(default_factory=list)

    def store(self) -> StateStore:
        self.opened.append(open_store(self.address))
        return self.opened[-1]

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


def open_store(address: str, patience: float = 0.2) -> StateStore:
    if address.startswith("redis:"):
        return RedisState(address, poll_seconds=NEVER)
    return LocalState(Path(address), patience=patience)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's transaction that does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


@pytest.fixture(params=["local", "redis"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    if request.param == "redis":
        server: parts.Redis = request.getfixturevalue("redis_server")
        backend = Backend(f"{server.url}?prefix=contract-{uuid4().hex}:", server.frozen)
    else:
        path = tmp_path / "state.db"
        backend = Backend(str(path), lambda: locked(path))
    yield backend
    await backend.close()


async def test_what_is_not_there_has_version_zero(backend: Backend) -> None:
    store = backend.store()
    assert await store.get(KEY) == Versioned(0, b"")
    assert await store.history(KEY) == []
    assert await store.keys("") == []


async def test_what_is_forgotten_was_never_there(backend: Backend) -> None:
    store, other = backend.store(), backend.store()
    await store.put(KEY, b"a", 0, keep=True)
    await store.put("another", b"b", 0)
    await other.forget(KEY)
    await other.forget("nothing")
    assert await store.get(KEY) == Versioned(0, b"")
    assert await store.history(KEY) == []
    assert await store.keys("") == ["another"]
    assert await store.put(KEY, b"c", 0, keep=True) == 1
    assert await store.history(KEY) == [Versioned(1, b"c")]


async def test_versions_count_up_and_values_are_bytes(backend: Backend) -> None:
    store, other = backend.store(), backend.store()
    values = [b"", b"\x00\xff\r\n", b"x" * 1_000_000, '{"ключ": 1}'.encode()]
    for version, value in enumerate(values):
        assert await store.put(KEY, value, version) == version + 1
        assert await other.get(KEY) == Versioned(version + 1, value)


async def test_a_wrong_version_conflicts_and_changes_nothing(backend: Backend) -> None:
    store = backend.store()
    await store.put(KEY, b"one", 0, keep=True)
    await store.put(KEY, b"two", 1, keep=True)
    for wrong in (0, 1, 3):
        with pytest.raises(Conflict, match=f"at version 2, not {wrong}"):
            await store.put(KEY, b"lost", wrong, keep=True)
    with pytest.raises(Conflict, match="at version 0, not 1"):
        await store.put("control/other", b"lost", 1)
    assert await store.get(KEY) == Versioned(2, b"two")
    assert await store.history(KEY) == [Versioned(1, b"one"), Versioned(2, b"two")]
    assert await store.keys("control/") == [KEY]


async def test_history_holds_what_was_kept(backend: Backend) -> None:
    store = backend.store()
    for version in range(12):
        await store.put(KEY, b"%d" % version, version, keep=version % 3 != 1)
    kept = [Versioned(v + 1, b"%d" % v) for v in range(12) if v % 3 != 1]
    assert await store.history(KEY) == kept
    for after in range(14):
        assert await store.history(KEY, after) == [entry for entry in kept if entry.version > after]
    assert await store.history("control/other") == []


async def test_keys_are_found_by_their_prefix(backend: Backend) -> None:
    store = backend.store()
    names = ["router/a/1", "router/a/2", "router/b/1", "router", "router/ä", "router/*", "other", "routes"]
    for name in names:
        await store.put(name, b"x", 0)
        await store.put(name, b"y", 1)
    for prefix in ("", "router/", "router/a/", "router/*", "router/ä", "[", "nothing"):
        assert await store.keys(prefix) == sorted(name for name in names if name.startswith(prefix))


async def test_of_racing_changes_one_wins(backend: Backend) -> None:
    stores = [backend.store() for _ in range(4)]
    for version in range(10):
        puts = (store.put(KEY, b"%d" % n, version, keep=True) for n, store in enumerate(stores))
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert sorted(str(type(result).__name__) for result in results) == ["Conflict"] * 3 + ["int"]
        winner = next(n for n, result in enumerate(results) if isinstance(result, int))
        assert await stores[0].get(KEY) == Versioned(version + 1, b"%d" % winner)
    assert [entry.version for entry in await stores[0].history(KEY)] == list(range(1, 11))


COUNT = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from test_state_contract import KEY, open_store
from gauntlet.errors import Conflict

async def main():
    store = open_store(sys.argv[1], patience=60.0)
    done = 0
    while done < 50:
        version, value = await store.get(KEY)
        try:
            await store.put(KEY, b"%d" % (int(value or b"0") + 1), version, keep=True)
            done += 1
        except Conflict:
            pass
    await store.close()

asyncio.run(main())
"""


async def test_processes_that_count_together_lose_nothing(backend: Backend) -> None:
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[1]), str(here.parents[2])]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", COUNT, backend.address, *paths) for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    store = backend.store()
    assert await store.get(KEY) == Versioned(150, b"150")
    assert await store.history(KEY) == [Versioned(n, b"%d" % n) for n in range(1, 151)]


async def settled(store: StateStore) -> None:
    """The first waits may return for what was before them: nobody knows what a new client has missed."""
    await store.wait(0.05)
    await store.wait(0.05)


class Waiter:
    """Waits for a version of the record later than `version`, each time as long as the store lets it."""

    def __init__(self, store: StateStore, version: int = 0) -> None:
        self.waiting = asyncio.Event()
        self.waits = asyncio.create_task(self._count(store, version))

    async def _count(self, store: StateStore, version: int) -> int:
        """How many waits it took."""
        waits = 0
        while (await store.get(KEY)).version <= version:
            self.waiting.set()  # nobody else runs between this and the inside of `wait`
            await store.wait(NEVER)
            waits += 1
        return waits


async def waited(store: StateStore, seconds: float = NEVER) -> float:
    """How many seconds one wait took."""
    before = asyncio.get_running_loop().time()
    await store.wait(seconds)
    return asyncio.get_running_loop().time() - before


async def test_wait_wakes_every_waiter_at_a_change(backend: Backend) -> None:
    """Without the hint these waits would last an hour; few of them means that nobody spins either."""
    writer, readers = backend.store(), [backend.store() for _ in range(2)]
    for reader in readers:
        await settled(reader)
    waiters = [Waiter(reader) for reader in [*readers, readers[0]]]
    for waiter in waiters:
        await waiter.waiting.wait()
    await writer.put(KEY, b"new", 0)
    for waiter in waiters:
        assert 1 <= await waiter.waits <= 3


async def test_wait_knows_of_a_change_made_before_it(backend: Backend) -> None:
    writer, reader = backend.store(), backend.store()
    await settled(reader)
    assert (await reader.get(KEY)).version == 0
    await writer.put(KEY, b"new", 0)
    assert await waited(reader) < SOON
    assert (await reader.get(KEY)).version == 1


async def test_wait_sees_the_stores_own_changes(backend: Backend) -> None:
    store = backend.store()
    await settled(store)
    await store.put(KEY, b"new", 0)
    assert await waited(store) < SOON


async def test_wait_ends_without_a_change(backend: Backend) -> None:
    store = backend.store()
    await settled(store)
    assert await waited(store, 0.1) >= 0.09


async def test_a_hung_store_is_unavailable_and_comes_back(backend: Backend) -> None:
    """Hung inside: every change fails by itself, long before a caller's patience ends; afterwards all is as before."""
    store = backend.store()
    await store.put(KEY, b"one", 0)
    await settled(store)
    with backend.hung():
        async with asyncio.timeout(10):
            for _ in range(2):
                with pytest.raises(StateUnavailable):
                    await store.put(KEY, b"two", 1)
    # A change that timed out may have happened all the same, as the port says: look before writing again.
    version, value = await store.get(KEY)
    assert (version, value) in [(1, b"one"), (2, b"two")]
    assert await store.put(KEY, b"three", version) == version + 1


async def test_a_closed_store_refuses(backend: Backend) -> None:
    store = backend.store()
    await store.put(KEY, b"one", 0)
    await store.close()
    with pytest.raises(StateUnavailable):
        await store.get(KEY)


async def test_redis_down_is_unavailable_at_once_and_recovers(redis_server: parts.Redis) -> None:
    """Scenario: Redis is killed under a client that waits for changes, and started again; another client writes.
    Expected: calls fail as StateUnavailable, waits only time out; then the client reads, writes and is woken again."""
    address = f"{redis_server.url}?prefix=contract-{uuid4().hex}:"
    store, other = RedisState(address, poll_seconds=NEVER), RedisState(address)
    try:
        await store.put(KEY, b"one", 0, keep=True)
        await settled(store)
        await asyncio.to_thread(redis_server.kill)
        for call in (store.get(KEY), store.put(KEY, b"two", 1), store.history(KEY), store.keys("")):
            with pytest.raises(StateUnavailable):
                await call
        await store.wait(0.05)
        await asyncio.to_thread(redis_server.start)
        assert await store.get(KEY) == Versioned(1, b"one")
        assert await store.history(KEY) == [Versioned(1, b"one")]
        await store.wait(NEVER)  # subscribed anew: look again
        await settled(store)
        waiter = Waiter(store, 1)
        await waiter.waiting.wait()
        await other.put(KEY, b"two", 1)
        assert 1 <= await waiter.waits <= 3
    finally:
        await store.close()
        await other.close()


async def test_redis_polls_when_hints_are_lost(redis_server: parts.Redis) -> None:
    store = RedisState(f"{redis_server.url}?prefix=contract-{uuid4().hex}:", poll_seconds=0.1)
    try:
        await settled(store)
        assert await waited(store) < SOON
    finally:
        await store.close()


async def test_redis_keys_carry_the_prefix_of_the_url(redis_server: parts.Redis) -> None:
    prefix = f"contract-{uuid4().hex}:"
    one, two = RedisState(f"{redis_server.url}?prefix={prefix}a:"), RedisState(f"{redis_server.url}?prefix={prefix}b:")
    try:
        await one.put(KEY, b"one", 0)
        assert await two.get(KEY) == Versioned(0, b"")
        assert await two.keys("") == []
        assert await one.keys("") == [KEY]
    finally:
        await one.close()
        await two.close()


async def test_a_lost_record_is_put_back_under_its_version(backend: Backend) -> None:
    """Scenario: the record was at version 7 and is lost, or an old backup of version 2 came back."""
    store, other = backend.store(), backend.store()
    for key, versions in (("control/lost", 0), ("control/old", 2)):
        for version in range(versions):
            await store.put(key, b"old", version, keep=True)
        before = await store.history(key)
        assert await store.restore(key, b"seven", 7)
        assert await other.get(key) == Versioned(7, b"seven")
        assert await other.history(key) == [*before, Versioned(7, b"seven")]
        assert not await other.restore(key, b"seven again", 7)
        assert not await other.restore(key, b"older", 6)
        assert await store.put(key, b"eight", 7, keep=True) == 8
        assert (await store.history(key))[-2:] == [Versioned(7, b"seven"), Versioned(8, b"eight")]
        assert await store.keys("control/") == ["control/lost", "control/old"][: 1 if key == "control/lost" else 2]


async def test_a_record_put_back_wakes_who_waits(backend: Backend) -> None:
    store, other = backend.store(), backend.store()
    await settled(store)
    waiter = Waiter(store)
    await waiter.waiting.wait()
    await other.restore(KEY, b"back", 3)
    assert 1 <= await waiter.waits <= 3
