"""A file of Gauntlet's own is damaged: each is named in one line with its path, the cause and the remedy; nothing else
stops, and where the file is restored (or the remedy followed) the service goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from builders import small_experiment
from builders.service_processes import command

from evaluator.service import worker as evaluator
from gauntlet import adapters, files, first_start
from gauntlet.config import Config
from gauntlet.errors import DamagedFile
from gauntlet.registry.local import LocalRegistry
from router import app as router

URL = "/v1/experiments/test"
GARBAGE = b"\x00 this is neither a database nor JSON \xff" * 200

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Many tries within a test, and what they log."""
    caplog.set_level("INFO", "gauntlet")
    settings = dataclasses.replace(evaluator.WorkerSettings(), reopen=0.05, discover=0.1)
    monkeypatch.setattr(evaluator, "WorkerSettings", lambda: settings)


async def problems(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(URL)
    assert answer.status_code == 200, answer.text
    found = {problem["code"]: problem for problem in answer.json()["problems"]}
    found.pop("drift_not_judged", None)  # the champion has no reference
    return found


async def named(client: httpx.AsyncClient, code: str, path: Path) -> dict[str, Any]:
    """The open problem of that code, once it is there; it names the file."""
    await small_experiment.until(lambda: _has(client, code))
    found = (await problems(client))[code]
    assert found["text"].startswith(f"{path} can't be read: ")
    return dict(found)


async def _has(client: httpx.AsyncClient, code: str) -> bool:
    return code in await problems(client)


async def well(client: httpx.AsyncClient) -> None:
    async def none() -> bool:
        return not await problems(client)

    await small_experiment.until(none)


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    """The log's lines on an event; none has a traceback."""
    found = [record for record in caplog.records if record.getMessage().startswith(f"event={event} ")]
    assert [record for record in caplog.records if record.exc_info] == []
    return [record.getMessage() for record in found]


async def predict(client: httpx.AsyncClient, start: int, n: int) -> None:
    instances = [{"id": f"p-{i}", "features": small_experiment.instance(i)} for i in range(start, start + n)]
    assert (await client.post("/v1/predict", json={"instances": instances})).status_code == 200


async def counted(client: httpx.AsyncClient, n: int) -> None:
    """Return once the evaluator has counted exactly n predictions."""

    async def there() -> bool:
        report = (await client.get(URL)).json()["evaluator"]
        found = report["counts"].get("predictions", 0) if report else 0
        assert found <= n
        return bool(found == n)

    await small_experiment.until(there)


@contextlib.asynccontextmanager
async def damaged(path: Path) -> AsyncIterator[Callable[[], None]]:
    """The file as garbage; what it gives restores it."""
    kept = path.read_bytes()
    for extra in ("-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    path.write_bytes(GARBAGE)
    yield lambda: files.atomic_write(path, kept)


@pytest.mark.parametrize(("service", "code"), [("evaluator", "evaluation_paused"), ("retrainer", "decisions_paused")])
async def test_a_services_own_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, service: str, code: str
) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    database = Path(config.data) / f"{service}.db"
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        await predict(client, 0, 5)
        await counted(client, 5)
    caplog.clear()
    async with (
        damaged(database) as restore,
        small_experiment.running(config, "router", "evaluator", "retrainer") as client,
    ):
        problem = await named(client, code, database)
        assert "file is not a database" in problem["text"]
        assert problem["remedy"].startswith("restore it, or move it away with its -wal and -shm: ")
        await predict(client, 5, 5)  # the router serves on
        restore()
        await well(client)
        await counted(client, 10)
    assert len(lines(caplog, code)) == 1
    assert len(lines(caplog, f"{code}_is_over")) == 1


async def test_moved_away_the_evaluators_database_is_made_anew(tmp_path: Path) -> None:
    """Scenario: nobody has a backup. Expected: as the remedy says, everything is counted again from the log."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    database = Path(config.data) / "evaluator.db"
    async with small_experiment.running(config, "router", "evaluator") as client:
        await predict(client, 0, 5)
        await counted(client, 5)
    async with damaged(database), small_experiment.running(config, "router", "evaluator") as client:
        await named(client, "evaluation_paused", database)
        database.rename(tmp_path / "away.db")
        await well(client)
        await counted(client, 5)


async def test_a_database_that_breaks_while_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: SQLite finds a malformed page in the middle of a commit. Expected: reopened, it goes on."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    commit, broken = evaluator.Checkpoint.commit, [True]

    def malformed(self: Any, *args: Any, **kwargs: Any) -> None:
        if broken[0]:
            self.db.execute("ROLLBACK")
            self.db.execute("PRAGMA writable_schema=1")
            self.db.deserialize(GARBAGE)
            self.db.execute("SELECT * FROM saved")
        commit(self, *args, **kwargs)

    monkeypatch.setattr(evaluator.Checkpoint, "commit", malformed)
    async with small_experiment.running(config, "router", "evaluator") as client:
        await predict(client, 0, 5)
        problem = await named(client, "evaluation_paused", Path(config.data) / "evaluator.db")
        assert "file is not a database" in problem["text"]
        broken[0] = False
        await counted(client, 5)
        await well(client)
    assert len(lines(caplog, "evaluation_paused")) == 1


async def test_aliases_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    path = Path(config.data) / "registry" / "aliases.json"

    async def aliases(client: httpx.AsyncClient, expected: dict[str, str]) -> None:
        async def shown() -> bool:
            return bool((await client.get(URL)).json()["aliases"] == expected)

        await small_experiment.until(shown)

    async with small_experiment.running(config, "router", "retrainer") as client:
        await aliases(client, {"champion": "v0001"})
    async with damaged(path):
        async with small_experiment.running(config) as client:  # no retrainer, which puts them right
            problem = await named(client, "damaged_file", path)
            assert problem["remedy"] == "remove it: the retrainer recreates it from the control record"
            await aliases(client, {})
        async with small_experiment.running(config, "router", "retrainer") as client:
            await aliases(client, {"champion": "v0001"})
            await well(client)
    (line,) = lines(caplog, "labels_made_anew")
    assert str(path) in line


async def test_a_version_that_nobody_needs_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    await first_start.ensure(config)
    registry = adapters.registry(config)
    registry.register(small_experiment.classifier(2), registry.get("v0001").schema, created_at=0.0)
    path = Path(config.data) / "registry" / "v0002" / "version.json"
    async with damaged(path) as restore, small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        problem = await named(client, "registry_not_followed", path)
        assert problem["remedy"] == "restore it, or move its folder away if nothing needs that version"
        await predict(client, 0, 5)
        await counted(client, 5)
        answer = await client.post(f"{URL}/challenge", json={"version": "v0002", "reason": "test"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "damaged_file")
        assert str(path) in answer.json()["error"]["message"]
        restore()
        assert (await client.post(f"{URL}/challenge", json={"version": "v0002", "reason": "t"})).status_code == 200
        await well(client)

        async def followed() -> bool:
            return registry.aliases() == {"champion": "v0001", "challenger": "v0002"}

        await small_experiment.until(followed)
    assert len(lines(caplog, "registry_not_followed")) == 1


@pytest.mark.parametrize("name", ["registry/v0001/version.json", "state.db", "log/router/00000000.db"])
async def test_without_what_it_serves_from_a_router_refuses_to_start(tmp_path: Path, name: str) -> None:
    path = small_experiment.write(tmp_path)
    config = small_experiment.load(path)
    async with small_experiment.running(config):
        pass
    file = Path(config.data) / name
    async with damaged(file) as restore:
        async with command("router", path) as process:
            assert await asyncio.wait_for(process.wait(), 60) == 2
        line = (tmp_path / "router.log").read_text().splitlines()[-1]
        assert line.startswith(f"gauntlet: {file} can't be read: ")
        assert "restore it" in line
        restore()
    async with small_experiment.running(config) as client:
        await predict(client, 0, 1)


async def test_without_a_state_file_the_router_puts_the_record_back(tmp_path: Path) -> None:
    """The remedy that the line above names."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        await small_experiment.challenge(config, client, small_experiment.classifier(2))
        assert (await client.post(f"{URL}/promote", json={"reason": "test"})).status_code == 200
        await small_experiment.serving(client, URL, champion="v0002")
    async with damaged(Path(config.data) / "state.db"):
        with pytest.raises(DamagedFile, match=r"state\.db can't be read: .*the router puts the last control record"):
            await first_start.ensure(config)
        (Path(config.data) / "state.db").rename(tmp_path / "away.db")
        assert (await first_start.ensure(config)).champion == "v0002"


def reference(folder: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 3))
    y = (rng.random(300) < 1 / (1 + np.exp(-x @ np.array([1.5, -1.0, 0.5])))).astype(int)
    rows = [",".join([*map(repr, map(float, row)), str(label)]) for row, label in zip(x, y, strict=True)]
    (folder / "r.csv").write_text("\n".join(["x1,x2,x3,y", *rows]) + "\n")


@pytest.mark.parametrize(
    "content", [GARBAGE, gzip.compress(b"{"), gzip.compress(b"{}" * 5000)[:-9]], ids=["garbage", "half", "cut"]
)
async def test_a_drift_reference(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    champion = {"model": "model.skops", "reference": "r.csv", "target": "y"}
    reference(tmp_path)
    config = small_experiment.load(small_experiment.write(tmp_path, champion=champion))
    await first_start.ensure(config)
    path = Path(config.data) / "registry" / "v0001" / "reference.json.gz"
    kept = path.read_bytes()
    path.write_bytes(content)
    async with small_experiment.running(config, "router", "evaluator") as client:
        await predict(client, 0, 5)
        problem = await named(client, "evaluation_paused", path)
        assert problem["remedy"].startswith("restore it, or remove it: ")
        files.atomic_write(path, kept)
        await counted(client, 5)
        await well(client)
    assert len(lines(caplog, "evaluation_paused")) == 1


async def test_a_fitted_profile_is_fitted_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    champion = {"model": "model.skops", "reference": "r.csv", "target": "y"}
    reference(tmp_path)
    config = small_experiment.load(small_experiment.write(tmp_path, champion=champion))
    await first_start.ensure(config)
    path = Path(config.data) / "registry" / "v0001" / "profile.json.gz"
    path.write_bytes(GARBAGE)
    async with small_experiment.running(config, "router", "evaluator") as client:
        await predict(client, 0, 5)
        await counted(client, 5)
        assert await problems(client) == {}
    assert adapters.registry(config).profile("v0001") is not None
    (line,) = lines(caplog, "profile_unusable")
    assert str(path) in line


def sql(database: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        assert db.execute(statement, values).rowcount == 1


async def test_a_control_record_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario: something else has written to the state store. Expected: the router starts from its copy and says so;
    once the record is removed, it puts its own back."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    state = Path(config.data) / "state.db"
    async with small_experiment.running(config):
        pass
    sql(state, "UPDATE records SET value = ? WHERE key = 'control/test'", GARBAGE)
    stop = asyncio.Event()
    (Path(config.data) / "router.address").unlink()
    serving = asyncio.create_task(router.serve(config, stop))
    try:
        async with httpx.AsyncClient(base_url=await listening(config), timeout=20) as client:
            await predict(client, 0, 1)
            found = await problems(client)
            assert "the record control/test in the state store can't be read" in found["control_not_followed"]["text"]
            sql(state, "DELETE FROM records WHERE key = 'control/test'")
            await well(client)
            assert (await client.get(URL)).json()["version"] == 1
    finally:
        stop.set()
        await serving
    assert len(lines(caplog, "control_not_followed")) == 1


async def listening(config: Config) -> str:
    address = Path(config.data) / "router.address"

    async def written() -> bool:
        return address.exists() and address.read_text().endswith("\n")

    await small_experiment.until(written)
    return address.read_text().strip()


async def test_whatever_fails_the_router_goes_on_following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: loading a model fails with a mistake in the code. Expected: a problem, not a router that serves the old
    champion for ever without a word."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        registry = adapters.registry(config)
        registry.register(small_experiment.classifier(2), registry.get("v0001").schema, created_at=0.0)
        with monkeypatch.context() as broken:
            broken.setattr(LocalRegistry, "load", lambda *_: 1 / 0)
            assert (await client.post(f"{URL}/challenge", json={"version": "v0002", "reason": "t"})).status_code == 200
            await small_experiment.until(lambda: _has(client, "control_not_followed"))
            text = (await problems(client))["control_not_followed"]["text"]
            assert text.endswith("the last known control record stays in force: division by zero")
        await small_experiment.serving(client, URL, challengers=["v0002"])
        await well(client)


async def test_a_registry_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    version = Path(config.data) / "registry" / "v0001"
    async with small_experiment.running(config) as client:
        version.rename(tmp_path / "away")
        stop = asyncio.Event()
        evaluating = asyncio.create_task(evaluator.serve(config, stop))
        await predict(client, 0, 3)
        await small_experiment.until(lambda: _has(client, "evaluation_paused"))
        text = (await problems(client))["evaluation_paused"]["text"]
        assert text == f"the registry in {config.data} has no version: restore its folder"
        (tmp_path / "away").rename(version)
        await counted(client, 3)
        await well(client)
        stop.set()
        await evaluating
    assert len(lines(caplog, "evaluation_paused")) == 1
