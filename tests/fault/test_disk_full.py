"""The disk is full: predictions go on and are counted as lost, outcomes stay with their senders, nothing crashes, and
everything goes on by itself once there is space again. On a real small file system where one can be mounted, and on
writes that fail as on a full one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders import small_experiment
from builders.service_processes import command

from evaluator.service import worker as evaluator
from evaluator.service.checkpoint import Checkpoint
from gauntlet import clock, files, http_server
from gauntlet.config import Config
from gauntlet.errors import LogUnavailable
from gauntlet.faults import disk_full, explained
from gauntlet.log.local import LocalLogWriter
from retrainer import worker as retrainer
from retrainer.store import RetrainerStore

URL = "/v1/experiments/test"

pytestmark = pytest.mark.timeout(180)


class RealDisk:
    """A file system of some megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        size = 2**16
        with self._filler.open("ab", buffering=0) as file:
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2

    def free(self) -> None:
        self._filler.unlink()


class SimulatedDisk:
    """Writes of the log, the services' databases and atomic files that fail as on a full disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._full = False
        append = LocalLogWriter.append

        async def append_or_fail(log: LocalLogWriter, records: Any) -> None:
            if self._full and records:
                raise LogUnavailable("cannot append to the log") from self._no_space()
            await append(log, records)

        monkeypatch.setattr(LocalLogWriter, "append", append_or_fail)
        for owner, name in ((Checkpoint, "commit"), (RetrainerStore, "commit")):
            self._fail(monkeypatch, owner, name, sqlite3.OperationalError("database or disk is full"))
        self._fail(monkeypatch, files, "atomic_write", self._no_space())

    def _no_space(self) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _fail(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
        if isinstance(error, sqlite3.Error):
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
        works = getattr(owner, name)

        def write(*args: Any, **kwargs: Any) -> Any:
            if self._full:
                raise error
            return works(*args, **kwargs)

        monkeypatch.setattr(owner, name, write)

    def fill(self) -> None:
        self._full = True

    def free(self) -> None:
        self._full = False


Disk = RealDisk | SimulatedDisk


@pytest.fixture(params=["real", "simulated"])
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Disk]:
    caplog.set_level("INFO", "gauntlet")
    settings = dataclasses.replace(evaluator.WorkerSettings(), reopen=0.05, backoff=0.05, discover=0.1)
    monkeypatch.setattr(evaluator, "WorkerSettings", lambda: settings)
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "simulated":
        yield SimulatedDisk(folder, monkeypatch)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    yield RealDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def config(disk: Disk, tmp_path: Path) -> Config:
    return small_experiment.load(small_experiment.write(tmp_path, data=str(disk.folder / "data")))


async def predict(client: httpx.AsyncClient, name: str) -> bool:
    """Whether it was recorded; it is answered in any case."""
    answer = await client.post("/v1/predict", json={"id": name, "features": small_experiment.instance(len(name))})
    assert answer.status_code == 200
    return answer.headers.get("x-gauntlet-recorded") is None


async def outcomes(client: httpx.AsyncClient, *names: str) -> httpx.Response:
    return await client.post("/v1/outcomes", json={"outcomes": [{"id": name, "value": 1} for name in names]})


async def counted(client: httpx.AsyncClient, n: int) -> None:
    async def there() -> bool:
        report = (await client.get(URL)).json()["evaluator"]
        return bool(report and report["counts"].get("predictions", 0) == n)

    await small_experiment.until(there)


async def problems(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Those of the disk: the champion has no reference, so drift is never judged here."""
    return [p for p in (await client.get(URL)).json()["problems"] if p["code"] != "drift_not_judged"]


async def well(client: httpx.AsyncClient) -> None:
    async def none() -> bool:
        return await problems(client) == []

    await small_experiment.until(none)


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith(f"event={event} ")]


async def test_predictions_go_on_and_outcomes_stay_with_their_senders(
    config: Config, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        assert await predict(client, "kept")
        await counted(client, 1)
        disk.fill()
        recorded = 0
        while await predict(client, f"fits-{recorded}"):  # into what the log's file has left
            recorded += 1
        for number in range(9):
            assert not await predict(client, f"lost-{number}")
        for names in (["kept"], ["lost-1"], ["kept", "lost-1"]):
            answer = await outcomes(client, *names)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), names
            assert answer.json()["error"]["retriable"] is True
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"], ready.json()["recording"]) == (200, True, False)
        problem = (await problems(client))[0]
        assert (problem["code"], problem["severity"]) == ("events_not_recorded", "CRITICAL")
        assert problem["text"].startswith(
            "10 predictions are answered and not recorded, 0 shadow scores are lost, and "
        )
        assert "2 outcomes are refused, which their senders keep: the disk is full: " in problem["text"]
        assert problem["remedy"].startswith("free space on the disk")
        assert ready.json()["problem"] == problem["text"]
        disk.free()
        assert await predict(client, "again")
        answer = await outcomes(client, "kept", "lost-1", "again")
        assert (answer.status_code, answer.json()["accepted"]) == (207, 2)
        assert [each["id"] for each in answer.json()["refused"]] == ["lost-1"]
        assert "could not be recorded" in answer.json()["refused"][0]["error"]["message"]
        await counted(client, recorded + 2)
        await well(client)
        assert (await client.get("/readyz")).json()["recording"] is True
    assert len(lines(caplog, "events_not_recorded")) == 1
    (again,) = lines(caplog, "events_recorded_again")
    assert "lost_predictions=10" in again


@contextlib.asynccontextmanager
async def service(serve: Any, config: Config) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(serve(config, stop))
    try:
        yield task
    finally:
        stop.set()
        await task


@pytest.mark.parametrize(
    ("serve", "paused"), [(evaluator.serve, "evaluation_paused"), (retrainer.serve, "decisions_paused")]
)
async def test_a_service_that_starts_on_a_full_disk_waits(
    config: Config,
    disk: Disk,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    serve: Any,
    paused: str,
) -> None:
    pauses: list[float] = []

    async def counted_pause(stop: asyncio.Event, seconds: float, *hints: Any) -> None:
        pauses.append(seconds)
        await clock.pause(stop, seconds, *hints)

    monkeypatch.setattr(sys.modules[serve.__module__], "pause", counted_pause)
    async with small_experiment.running(config, "router") as client:
        for number in range(3):
            assert await predict(client, f"p-{number}")
        disk.fill()
        async with service(serve, config) as task:

            async def said() -> bool:
                assert not task.done()
                return bool(lines(caplog, paused))

            await small_experiment.until(said)
            tried = len(pauses)

            async def several_tries() -> bool:
                assert not task.done()
                return len(pauses) >= tried + 3

            await small_experiment.until(several_tries)  # none may say it again
            assert len(lines(caplog, paused)) <= 2  # opening fails otherwise than writing does
            disk.free()

            async def over() -> bool:
                assert not task.done()
                return bool(lines(caplog, f"{paused}_is_over"))

            await small_experiment.until(over)
            if serve is evaluator.serve:
                await counted(client, 3)


async def test_an_evaluator_that_can_read_and_not_write_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario: the log has space left in its file, and the evaluator's has none: what it reads it can't commit."""
    caplog.set_level("INFO", "gauntlet")
    settings = dataclasses.replace(evaluator.WorkerSettings(), reopen=0.05, discover=0.1)
    monkeypatch.setattr(evaluator, "WorkerSettings", lambda: settings)
    works, full, tries = Checkpoint.commit, [True], [0]

    def commit(self: Checkpoint, *args: Any, **kwargs: Any) -> None:
        if full[0]:
            tries[0] += 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        works(self, *args, **kwargs)

    async def several_tries() -> bool:
        return tries[0] >= 4

    monkeypatch.setattr(Checkpoint, "commit", commit)
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config, "router", "evaluator") as client:
        assert await predict(client, "one")
        await small_experiment.until(several_tries)
        assert len(lines(caplog, "evaluation_paused")) == 1
        assert lines(caplog, "evaluation_paused_is_over") == []
        full[0] = False
        await counted(client, 1)
        await well(client)
    assert len(lines(caplog, "evaluation_paused_is_over")) == 1


async def test_a_full_disk_holds_up_no_change_of_the_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: the state store is elsewhere and works; the router's copy of the record can't be written. Expected: it
    follows all the same, says so, and goes on following."""
    disk = SimulatedDisk(tmp_path, monkeypatch)
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        version = await small_experiment.challenge(config, client, small_experiment.classifier(2))
        disk.fill()
        assert (await client.post(f"{URL}/promote", json={"reason": "test"})).status_code == 200
        await small_experiment.serving(client, URL, champion=version)
        problem = next(p for p in (await client.get(URL)).json()["problems"] if p["code"] == "control_not_copied")
        assert problem["text"].startswith("the disk is full: ")
        disk.free()
        assert (await client.post(f"{URL}/rollback", json={"reason": "test"})).status_code == 200
        await small_experiment.serving(client, URL, champion="v0001")
        assert await problems(client) == []


def test_a_full_disk_is_told_from_other_faults() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    wrapped = LogUnavailable("cannot append")
    wrapped.__cause__ = full
    assert disk_full(wrapped)
    assert disk_full(OSError(errno.EDQUOT, "quota"))
    assert not disk_full(OSError(errno.EACCES, "no"))
    assert not disk_full(LogUnavailable("the broker is away"))
    assert explained(wrapped) == (
        "the disk is full: cannot append",
        "free space on the disk of the `data` folder; it goes on by itself",
    )


async def test_a_router_that_cannot_start_on_a_full_disk_says_so_in_a_line(disk: Disk, tmp_path: Path) -> None:
    """Scenario: it was stopped, and SQLite can't even open its files. Expected: one line; `up` tries again."""
    if isinstance(disk, SimulatedDisk):
        pytest.skip("another process has other writes")
    path = small_experiment.write(tmp_path, data=str(disk.folder / "data"))
    config = small_experiment.load(path)
    async with small_experiment.running(config) as client:
        assert await predict(client, "p")
    disk.fill()
    async with command("router", path) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 1
    (line,) = (tmp_path / "router.log").read_text().splitlines()
    assert line.startswith(f"gauntlet: the state file {disk.folder}/data/state.db does not answer: ")
    assert line.endswith("; its disk is full: free space on it")
    disk.free()
    async with small_experiment.running(config) as client:
        assert await predict(client, "q")


async def test_what_a_start_writes_for_others_is_not_needed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario: the file with a service's address can't be written. Expected: it is served all the same."""
    with http_server.listen("127.0.0.1", 0, "router.port") as listener:
        (tmp_path / "file").write_text("no folder")
        assert http_server.publish(listener, tmp_path / "file" / "router.address") == http_server.url(listener)
    assert len(lines(caplog, "address_not_written")) == 1
