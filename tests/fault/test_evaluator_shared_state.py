"""The evaluator with its sums in a real Redis and its joins in a local file: whichever of the two is lost or behind, it
ends with exactly the sums of one pass, and every verdict is told."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import parts
import pytest
import redis.asyncio
from builders.evaluator_events import (
    BLOCK,
    GUARDED,
    HORIZON,
    Evaluator,
    MemoryLog,
    config,
    one_pass,
    outcome,
    prediction,
    traffic,
)

from evaluator.service.checkpoint import Checkpoint, EvaluatorState
from evaluator.service.worker import WorkerSettings
from gauntlet import events, keys
from gauntlet.config import Config
from gauntlet.errors import Conflict
from gauntlet.state.redis import RedisState

pytestmark = pytest.mark.asyncio

N = 700
STREAM = traffic(N)
LOOKS = (N - 1 - int(HORIZON)) // int(BLOCK)


STEPS = WorkerSettings(predictions=60, commit=0.0)
"""Small steps, and a commit after every one of them."""

fresh = functools.partial(Evaluator, settings=STEPS)


class Killed(BaseException):
    """kill -9 at this very place."""


class Keyspace:
    """What Redis holds under one test's own prefix, to lose it or to bring an older copy of it back."""

    def __init__(self, url: str) -> None:
        self.prefix = f"{uuid.uuid4().hex}:"
        self.url = f"{url}?prefix={self.prefix}"
        self.client = redis.asyncio.Redis.from_url(url)

    async def copy(self) -> dict[bytes, bytes]:
        return {key: await self.client.dump(key) async for key in self.client.scan_iter(f"{self.prefix}*")}

    async def lose(self) -> None:
        assert await self.client.delete(*await self.copy()) > 0

    async def bring_back(self, copy: dict[bytes, bytes]) -> None:
        await self.lose()
        for key, value in copy.items():
            await self.client.restore(key, 0, value)


@pytest.fixture
async def keyspace(redis_server: parts.Redis) -> AsyncIterator[Keyspace]:
    found = Keyspace(redis_server.url)
    yield found
    await found.client.aclose()


@pytest.fixture
async def state(keyspace: Keyspace) -> AsyncIterator[RedisState]:
    store = RedisState(keyspace.url)
    yield store
    await store.close()


@pytest.fixture
def made(tmp_path: Path, redis_server: parts.Redis) -> Config:
    return msgspec.structs.replace(config(tmp_path, GUARDED), state=redis_server.url)


@pytest.fixture
def log() -> MemoryLog:
    found = MemoryLog()
    found.add(*STREAM)
    return found


def verdicts(log: MemoryLog) -> dict[str, set[bytes]]:
    """What was told under each id; a second telling must say the same."""
    found: dict[str, set[bytes]] = {}
    for value in log.values(keys.EVALUATIONS):
        found.setdefault(msgspec.json.decode(value)["id"], set()).add(value)
    return {name: values for name, values in found.items() if name.startswith("test-r")}


async def shared(state: RedisState) -> EvaluatorState:
    return msgspec.json.decode((await state.get(keys.evaluator_state("test"))).value, type=EvaluatorState)


def local(path: Path) -> EvaluatorState:
    checkpoint = Checkpoint(path)
    checkpoint.close()
    return checkpoint.saved


def retain(log: MemoryLog, saved: EvaluatorState) -> None:
    """What retention may take: all but what a rebuild needs."""
    for topic, horizons in ((keys.PREDICTIONS, 4), (keys.OUTCOMES, 2)):
        oldest = min(saved.latest.values()) - horizons * HORIZON - 2.0
        log.trim(topic, next(r.offset for r in log.records[topic, "a"] if r.at >= oldest))
        assert log.first[topic, "a"] > 0


async def kill_before_local_commit(evaluator: Evaluator, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commit `number` reach Redis and not the file."""
    commit = evaluator.checkpoint.commit

    def killed(data: bytes, this: int, *rest: Any, **named: Any) -> None:
        if this == number:
            raise Killed
        commit(data, this, *rest, **named)

    monkeypatch.setattr(evaluator.checkpoint, "commit", killed)
    with pytest.raises(Killed):
        await evaluator.read_all()
    evaluator.close()


@pytest.mark.parametrize("number", [1, 2, 4, 6])
async def test_killed_between_the_commit_to_redis_and_the_local_one(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Scenario 1: the sums are a commit ahead of the joins; they are replayed, and the verdicts of that commit told."""
    file = tmp_path / "e.db"
    await kill_before_local_commit(fresh(made, file, log, state), number, monkeypatch)
    assert (await shared(state)).commit == number
    assert local(file).commit == number - 1
    again = await fresh(made, file, log, state).read_all()
    assert again.facts() == one_pass(made, tmp_path, STREAM)
    again.close()
    assert len(verdicts(log)) == LOOKS
    assert all(len(values) == 1 for values in verdicts(log).values())
    assert local(file).commit == (await shared(state)).commit


async def test_killed_there_again_and_again(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 2: every second commit is torn."""
    for number in itertools.count(2, 2):
        evaluator = fresh(made, tmp_path / "e.db", log, state)
        try:
            await kill_before_local_commit(evaluator, number, monkeypatch)
        except pytest.fail.Exception:
            break  # it got to the end without that commit
        assert number < 100
    assert evaluator.facts() == one_pass(made, tmp_path, STREAM)
    evaluator.close()
    assert len(verdicts(log)) == LOOKS


@pytest.mark.parametrize("rounds", [1, 4, 30])
async def test_the_local_file_is_lost(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState, rounds: int
) -> None:
    """Scenario 3: a new machine; the joins come from the log, even where that is not kept from its beginning."""
    first = fresh(made, tmp_path / "first.db", log, state)
    await first.worker.catch_up()
    for _ in range(rounds):
        await first.worker.step()
    first.close()
    saved = await shared(state)
    if rounds == 30:
        retain(log, saved)
    second = await fresh(made, tmp_path / "second.db", log, state).read_all()
    expected = one_pass(made, tmp_path, STREAM)
    assert second.facts() == expected
    # The joins are really there: all of the last requests' outcomes come once more, and none counts again.
    log.add(*(e for e in STREAM if isinstance(e, events.Outcome) and e.at > 900.0 + N))
    log.add(*(e for e in STREAM if not isinstance(e, events.Outcome) and e.at > 900.0 + N))
    await second.read_all()
    after = second.facts()
    second.close()
    assert after["accumulators"] == expected["accumulators"]
    assert after["counts"]["joined"] == expected["counts"]["joined"]
    assert len(verdicts(log)) == LOOKS


async def test_a_file_that_is_far_behind_catches_up(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState
) -> None:
    """Scenario 4: an old machine comes back; another one has worked on, and retention has taken what lay between."""
    old = fresh(made, tmp_path / "old.db", log, state)
    await old.worker.catch_up()
    await old.worker.step()
    old.close()
    (await fresh(made, tmp_path / "new.db", log, state).read_all()).close()
    retain(log, await shared(state))
    assert log.first[keys.PREDICTIONS, "a"] > local(tmp_path / "old.db").offsets["predictions/a"]
    back = await fresh(made, tmp_path / "old.db", log, state).read_all()
    assert back.facts() == one_pass(made, tmp_path, STREAM)
    back.close()


async def test_redis_is_emptied(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState, keyspace: Keyspace
) -> None:
    """Scenario 5: the local file has everything; a running evaluator stops at the fence, the next one goes on."""
    evaluator = fresh(made, tmp_path / "e.db", log, state)
    await evaluator.worker.catch_up()
    evaluator.caught_up = True
    for _ in range(3):
        await evaluator.worker.step()
    await keyspace.lose()
    with pytest.raises(Conflict):
        await evaluator.read_all()
    evaluator.close()
    again = await fresh(made, tmp_path / "e.db", log, state).read_all()
    assert again.facts() == one_pass(made, tmp_path, STREAM)
    again.close()
    assert (await shared(state)).commit == local(tmp_path / "e.db").commit > 3
    assert len(verdicts(log)) == LOOKS


async def test_redis_has_lost_its_last_commits(
    tmp_path: Path, made: Config, log: MemoryLog, state: RedisState, keyspace: Keyspace
) -> None:
    """Scenario 6: it came back from a copy that is older than the local file; the newer of the two counts."""
    evaluator = fresh(made, tmp_path / "e.db", log, state)
    await evaluator.worker.catch_up()
    await evaluator.worker.step()
    old = await keyspace.copy()
    await evaluator.read_all()
    evaluator.close()
    await keyspace.bring_back(old)
    log.add(prediction(5000, 1000.0 + N), outcome(5000, 1000.0 + N))
    again = await fresh(made, tmp_path / "e.db", log, state).read_all()
    assert again.pipeline.counts["joined"] == N + 1
    assert again.pipeline.counts["predictions"] == N + 1
    again.close()
    assert (await shared(state)).commit == local(tmp_path / "e.db").commit


async def test_of_two_evaluators_one_stops(tmp_path: Path, made: Config, log: MemoryLog, state: RedisState) -> None:
    """Scenario 7: both on files of their own; each record counts once, whoever wins."""
    one = fresh(made, tmp_path / "one.db", log, state)
    two = fresh(made, tmp_path / "two.db", log, state)
    stop = asyncio.Event()
    running = {asyncio.create_task(one.worker.run(stop)), asyncio.create_task(two.worker.run(stop))}
    async with asyncio.timeout(30):
        done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [Conflict]
        (winner,) = left
        while (await shared(state)).counts.get("joined") != N:
            await asyncio.sleep(0.005)
            assert not winner.done(), winner.result()
    stop.set()
    await winner
    one.close()
    two.close()
    saved = await shared(state)
    expected = one_pass(made, tmp_path, STREAM)
    assert saved.accumulators == expected["accumulators"]
    assert saved.counts == expected["counts"]
    # The one that stopped comes back, takes over and still counts the same.
    back = await fresh(made, tmp_path / "two.db", log, state).read_all()
    assert back.facts() == expected
    back.close()
    assert len(verdicts(log)) == LOOKS


async def test_a_zombie_is_fenced(tmp_path: Path, made: Config, log: MemoryLog, state: RedisState) -> None:
    """Scenario 8: one that slept through another's whole work wakes up in the middle of a round."""
    never = dataclasses.replace(STEPS, commit=float("inf"))  # folds, and does not commit yet
    zombie = fresh(made, tmp_path / "zombie.db", log, state, settings=never)
    await zombie.worker.catch_up()
    zombie.caught_up = True
    await zombie.worker.step()
    (await fresh(made, tmp_path / "other.db", log, state).read_all()).close()
    before = await state.get(keys.evaluator_state("test"))
    with pytest.raises(Conflict):
        await zombie.worker.commit()
    zombie.close()
    assert await state.get(keys.evaluator_state("test")) == before
    assert local(tmp_path / "zombie.db").commit == 0
