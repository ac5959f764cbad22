"""The control record is lost from the state store (a deleted file, a flushed Redis, an old backup): a promoted champion
is never forgotten in silence. The router's copy puts it back, or the start is refused with what is missing and what to
do."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import parts
import pytest
import redis.asyncio
from builders import small_experiment

from gauntlet import adapters, control, control_copy, first_start
from gauntlet.cli import main
from gauntlet.config import Config
from gauntlet.errors import ConfigError
from retrainer import registry_sync

URL = "/v1/experiments/test"

Lose = Callable[[], Awaitable[None]]


async def promote(config: Config, client: httpx.AsyncClient) -> None:
    """Make a second model the champion; the registry says so, too, as the retrainer would have it."""
    await small_experiment.challenge(config, client, small_experiment.classifier(2))
    assert (await client.post(f"{URL}/promote", json={"reason": "test"})).status_code == 200
    await small_experiment.serving(client, URL, champion="v0002")
    registry_sync.reconcile((await record(config))[1], adapters.registry(config))


async def record(config: Config) -> tuple[int, Any]:
    store = adapters.state(config)
    try:
        return await control.read(store, config.experiment)
    finally:
        await store.close()


@pytest.fixture(params=["local", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Config, Lose]:
    """An experiment, and how its state store loses everything."""
    if request.param == "local":
        config = small_experiment.load(small_experiment.write(tmp_path))

        async def delete() -> None:
            for file in Path(config.data).glob("state.db*"):
                file.unlink()

        return config, delete
    server: parts.Redis = request.getfixturevalue("redis_server")
    prefix = f"lost-{uuid.uuid4().hex}:"

    async def flush() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.delete(*[key async for key in client.scan_iter(f"{prefix}*")])

    return small_experiment.load(small_experiment.write(tmp_path, state=f"{server.url}?prefix={prefix}")), flush


async def test_a_restart_serves_the_promoted_champion(store: tuple[Config, Lose]) -> None:
    config, lose = store
    async with small_experiment.running(config) as client:
        await promote(config, client)
    before = await record(config)
    await lose()
    async with small_experiment.running(config) as client:
        answer = await client.post("/v1/predict", json={"features": small_experiment.instance(1)})
        assert answer.json()["model"] == "v0002"
        assert await record(config) == before  # its version, too: nobody takes the restored record for an older one
        assert [each["version"] for each in (await client.get(f"{URL}/history")).json()] == [before[0]]
        assert (await client.post(f"{URL}/rollback", json={"reason": "it goes on"})).json()["version"] == before[0] + 1
    assert [entry.version for entry in adapters.registry(config).versions()] == ["v0001", "v0002"]


async def test_a_router_puts_back_what_is_flushed_while_it_serves(tmp_path: Path, redis_server: parts.Redis) -> None:
    prefix = f"lost-{uuid.uuid4().hex}:"
    config = small_experiment.load(small_experiment.write(tmp_path, state=f"{redis_server.url}?prefix={prefix}"))
    async with redis.asyncio.Redis.from_url(redis_server.url) as keys, small_experiment.running(config) as client:
        await promote(config, client)
        before = await record(config)
        await keys.delete(*[key async for key in keys.scan_iter(f"{prefix}*")])
        await keys.publish(f"{prefix}changes", "flushed")  # no need to wait for the poll

        async def back() -> bool:
            return await record(config) == before

        await small_experiment.until(back)
        assert (await client.post(f"{URL}/rollback", json={"reason": "it goes on"})).status_code == 200
        await small_experiment.serving(client, URL, champion="v0001")


async def test_an_old_backup_is_brought_up_to_date(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    state = Path(config.data) / "state.db"
    await first_start.ensure(config)
    backup = await record(config)
    shutil.copy(state, tmp_path / "backup.db")
    async with small_experiment.running(config) as client:
        await promote(config, client)
    for file in Path(config.data).glob("state.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup.db", state)
    assert await record(config) == backup
    assert (await first_start.ensure(config)).champion == "v0002"


async def refusal(config: Config) -> str:
    """Why a start is refused; nothing was registered, and nothing put into the state store."""
    with pytest.raises(ConfigError) as refused:
        await first_start.ensure(config)
    assert await record(config) == (0, None)
    assert len(adapters.registry(config).versions()) == 2
    return str(refused.value)


@pytest.mark.parametrize("settings", ["with", "without"])
async def test_without_a_copy_a_start_is_refused(store: tuple[Config, Lose], settings: str) -> None:
    config, lose = store
    data = Path(config.data)
    async with small_experiment.running(config) as client:
        await promote(config, client)
    await lose()
    control_copy.path(config).unlink()
    trace = data / "settings.json"
    if settings == "without":
        trace.unlink()
        trace = data / "registry" / "aliases.json"
    message = await refusal(config)
    where = data / "state.db" if config.state == "local" else config.state
    assert message == (
        f"{data}: test has run here ({trace} is there), and its control record is neither in the state store ({where}) "
        f"nor in the router's copy ({data / 'control.json'}): restore one of the two, or start over with its champion, "
        f"v0002: an empty `data` folder and `champion.model: {data / 'registry' / 'v0002' / 'model.skops'}`"
    )


async def test_a_log_alone_shows_that_it_has_run(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config):
        pass
    data = Path(config.data)
    for file in [*data.glob("state.db*"), data / "control.json", data / "settings.json"]:
        file.unlink()
    with pytest.raises(ConfigError, match=r"has run here \(.*00000000\.db is there\).* with an empty `data` folder"):
        await first_start.ensure(config)


async def test_a_copy_that_missed_a_promotion_is_not_put_back(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        old = control_copy.path(config).read_bytes()
        await promote(config, client)
    control_copy.path(config).write_bytes(old)
    for file in Path(config.data).glob("state.db*"):
        file.unlink()
    message = await refusal(config)
    assert f"the router's copy ({control_copy.path(config)}) is of before v0002 was promoted" in message


async def test_a_first_start_that_was_killed_begins_again(tmp_path: Path) -> None:
    """Scenario: the model is registered, the control record not yet. Expected: this is no experiment that has run."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    await first_start.ensure(config)
    for file in [*Path(config.data).glob("state.db*"), Path(config.data) / "settings.json"]:
        file.unlink()
    assert (await asyncio.wait_for(first_start.ensure(config), 30)).champion == "v0002"


def test_check_and_diff_go_by_the_copy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    config = small_experiment.load(path)
    control_copy.write(config, 3, asyncio.run(first_start.ensure(config)))
    for file in Path(config.data).glob("state.db*"):
        file.unlink()
    assert main(["diff", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: test is in force with champion v0001, as configured\n"
    assert main(["check", str(path)]) == 0


async def test_another_state_store_is_no_lost_record(tmp_path: Path) -> None:
    """Scenario: `state` names another store than at the last start, which has no record of the experiment."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    control_copy.write(config, 3, await first_start.ensure(config))
    file = Path(config.data) / "settings.json"
    file.write_text(file.read_text().replace('"state": "local"', '"state": "redis://elsewhere"'))
    for database in Path(config.data).glob("state.db*"):
        database.unlink()
    with pytest.raises(ConfigError, match="set `state` back to redis://elsewhere, as it was at the last start"):
        await first_start.ensure(config)
