"""`gauntlet up`: three services come, a killed one comes back, and nothing is left behind however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from builders import small_experiment
from builders.service_processes import alive, command, process_stat, until_written

from gauntlet import first_start
from gauntlet.cli import up
from gauntlet.cli.up import SERVICES, Services

PROC = Path("/proc")
_LOOK_SECONDS = 0.1  # reading all of /proc at every turn would take the time from those who start

needs_proc = pytest.mark.skipif(not (PROC / "self" / "stat").exists(), reason="/proc tells which processes are left")
pytestmark = pytest.mark.timeout(280)


def children(parent: int) -> dict[str, int]:
    """The running services of an `up`, by name."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            stat = process_stat(int(entry.name))
            if len(stat) > 1 and stat[0] != "Z" and stat[1] == str(parent):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    found.update({name: int(entry.name) for name in SERVICES if name in words})
    return found


def is_free(address: str) -> bool:
    place = urlsplit(address)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.hostname, place.port))
        except OSError:
            return False
    return True


class Up:
    """A running `gauntlet up`."""

    def __init__(self, process: asyncio.subprocess.Process, data: Path, output: Path) -> None:
        self.process = process
        self.data = data
        self.output = output
        self.seen: set[int] = set()

    def services(self) -> dict[str, int]:
        found = children(self.process.pid)
        self.seen.update(found.values())
        return found

    def addresses(self) -> dict[str, str]:
        files = {name: self.data / f"{name}.address" for name in SERVICES}
        return {name: file.read_text().strip() for name, file in files.items() if file.exists()}

    async def answers(self) -> bool:
        """All three run and answer on the addresses that they wrote down."""
        assert self.process.returncode is None, self.output.read_text()
        await asyncio.sleep(_LOOK_SECONDS)
        found = self.addresses()
        if set(found) != set(SERVICES) or set(self.services()) != set(SERVICES):
            return False
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                answers = [await client.get(f"{url}/metrics") for url in found.values()]
            except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol):
                return False
        return all(answer.status_code == 200 for answer in answers)

    async def nothing_left(self) -> None:
        """Wait until every process is gone and every port free."""

        async def gone() -> bool:
            return not any(map(alive, self.seen)) and all(map(is_free, self.addresses().values()))

        await small_experiment.until(gone, 60)


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[Up]:
    output = path.parent / "up.txt"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gauntlet.cli",
            "up",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    one = Up(process, Path(small_experiment.load(path).data), output)
    try:
        await small_experiment.until(one.answers, 120)
        yield one
    finally:
        one.services()
        if process.returncode is None:
            process.kill()
        await process.wait()
        for pid in filter(alive, one.seen):
            os.kill(pid, signal.SIGKILL)


@needs_proc
async def test_a_killed_service_comes_back_and_all_end_together(tmp_path: Path) -> None:
    """Scenario 1: kill -9 of the router and of the evaluator; both come back; SIGTERM ends everything with code 0."""
    async with running(small_experiment.write(tmp_path)) as one:
        before = one.services()
        assert set(before) == set(SERVICES)
        for name in ("router", "evaluator"):
            os.kill(before[name], signal.SIGKILL)

        async def back() -> bool:
            await asyncio.sleep(_LOOK_SECONDS)
            now = one.services()
            return (
                now.get("router") not in (None, before["router"])
                and now.get("evaluator") not in (None, before["evaluator"])
                and await one.answers()
            )

        await small_experiment.until(back, 120)
        assert one.services()["retrainer"] == before["retrainer"], "the others go on"
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{one.addresses()['router']}/v1/predict", json={"features": small_experiment.instance(1)}
            )
        assert answer.status_code == 200
        one.process.terminate()
        assert await asyncio.wait_for(one.process.wait(), 30) == 0
        await one.nothing_left()
        output = one.output.read_text()
        assert "gauntlet is up: test, champion v0001" in output
        assert "router ended with -9; starting it again in 0.2 s" in output
        assert "Traceback" not in output


@needs_proc
async def test_killing_up_itself_ends_its_services(tmp_path: Path) -> None:
    """Scenario 2: kill -9 of `up`; its services see their standard input close and leave in good order."""
    path = small_experiment.write(tmp_path)
    async with running(path) as one:
        one.process.kill()
        await one.process.wait()
        await one.nothing_left()
        assert len(one.seen) == 3
        assert "Traceback" not in one.output.read_text()


@needs_proc
async def test_a_service_that_refuses_to_start_ends_them_all(tmp_path: Path) -> None:
    """Scenario 3: the router's port is taken; `up` ends with code 2 and the reason, and leaves nobody behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = small_experiment.write(tmp_path, router={"port": port})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gauntlet.cli",
            "up",
            str(path),
            stderr=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
        )
        seen: set[int] = set()

        async def ended() -> bool:
            await asyncio.sleep(_LOOK_SECONDS)
            seen.update(children(process.pid).values())
            return process.returncode is not None

        await small_experiment.until(ended, 120)
        _, output = await process.communicate()
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}".encode() in output
    assert output.endswith(b"the router refused to start, for the reason printed above; everything is stopped\n")
    assert len(seen) >= 2
    assert not any(map(alive, seen))


def starting(monkeypatch: pytest.MonkeyPatch, code: str, then: Callable[[], Awaitable[None]] | None = None) -> None:
    """Let every service be a process that runs `code`; `then` happens between its start and the caller's knowing."""
    real = asyncio.create_subprocess_exec

    async def start(*_: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await real(sys.executable, "-c", code, **options)
        if then is not None:
            await then()
        return process

    monkeypatch.setattr(up.asyncio, "create_subprocess_exec", start)


async def test_stopping_during_the_pause_before_a_restart_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenario 4: a crashed service waits for its next start when all are asked to stop."""
    starting(monkeypatch, "raise SystemExit(7)")
    services = Services(tmp_path, backoff=[1000.0])
    task = asyncio.create_task(services.run("router"))
    output = ""

    async def crashed() -> bool:
        nonlocal output
        output += capsys.readouterr().err
        return "router ended with 7; starting it again in 1000 s" in output

    await small_experiment.until(crashed)
    await services.stop()
    assert await asyncio.wait_for(task, 20) == 7


async def test_stopping_in_the_middle_of_a_start_ends_what_is_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 5: all are asked to stop while a process is being made that nobody has on the list yet."""
    services = Services(tmp_path)
    starting(monkeypatch, "import time; time.sleep(60)", services.stop)
    assert await asyncio.wait_for(services.run("router"), 20) == -signal.SIGKILL


async def test_what_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 6: a service that ignores SIGTERM."""
    deaf = tmp_path / "deaf"
    starting(
        monkeypatch,
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(60)",
    )
    services = Services(tmp_path, stop_seconds=0.2)
    task = asyncio.create_task(services.run("router"))

    async def listening() -> bool:
        return deaf.exists()

    await small_experiment.until(listening)
    await services.stop()
    assert await asyncio.wait_for(task, 20) == -signal.SIGKILL


async def test_a_refusal_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 7: exit code 2 says that trying again can't help."""
    starting(monkeypatch, "raise SystemExit(2)")
    assert await asyncio.wait_for(Services(tmp_path).run("router"), 20) == 2


async def test_a_refusal_after_a_crash_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 8: a service crashes, is refused for a while (somebody edits the configuration), and comes back."""
    codes = tmp_path / "codes"
    codes.write_text("7 2 2 0")
    starting(
        monkeypatch,
        f"import pathlib; path = pathlib.Path({str(codes)!r}); code, *rest = path.read_text().split();"
        "path.write_text(' '.join(rest)); raise SystemExit(int(code))",
    )
    services = Services(tmp_path, backoff=[0.0])
    task = asyncio.create_task(services.run("evaluator"))

    async def back() -> bool:
        return not codes.read_text()

    await small_experiment.until(back)
    await services.stop()
    await asyncio.wait_for(task, 20)


@needs_proc
async def test_up_goes_on_where_nobody_can_read_it(tmp_path: Path) -> None:
    """Scenario 9: its output lies on a full disk; a killed service comes back all the same."""
    path = small_experiment.write(tmp_path)
    data = Path(small_experiment.load(path).data)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gauntlet.cli", "up", str(path), stdout=full, stderr=full
        )
    finally:
        os.close(full)
    seen: set[int] = set()
    try:
        await until_written(data / "router.address", seconds=120)
        before = children(process.pid)["router"]
        (data / "router.address").unlink()
        os.kill(before, signal.SIGKILL)
        await until_written(data / "router.address", seconds=120)
        seen.update(children(process.pid).values())
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)
    assert before not in seen
    assert not any(map(alive, seen))


async def test_output_goes_to_a_log_each_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starting(monkeypatch, "import sys; print('hello', flush=True); sys.exit(2)")
    await Services(tmp_path / "c.yaml", logs=tmp_path).run("retrainer")
    assert (tmp_path / "retrainer.log").read_text() == "hello\n"


@pytest.mark.parametrize("name", ["evaluator", "retrainer"])
async def test_a_service_waits_for_the_router_to_register_the_champion(tmp_path: Path, name: str) -> None:
    """Scenario 10: a service starts before the router ever has; it waits, then starts, and ends with code 0."""
    path = small_experiment.write(tmp_path)
    config = small_experiment.load(path)
    async with command(name, path) as process:
        await until_written(path.parent / f"{name}.log", "event=waiting_for_champion")
        assert not (Path(config.data) / f"{name}.address").exists()
        assert not list((Path(config.data) / "registry").glob("v*")), "only the router registers"
        await first_start.ensure(config)
        await until_written(Path(config.data) / f"{name}.address")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_router_starts_from_its_copy_while_the_state_store_is_away(tmp_path: Path) -> None:
    """Scenario 11: a router that has served before starts again, and its state store does not answer."""
    path = small_experiment.write(tmp_path)
    config = small_experiment.load(path)
    async with small_experiment.running(config):
        pass
    address = Path(config.data) / "router.address"
    address.unlink()
    async with command("router", small_experiment.write(tmp_path, state="redis://127.0.0.1:1/0")):
        await until_written(address)
        async with httpx.AsyncClient(base_url=address.read_text().strip(), timeout=20) as client:
            answer = await client.post("/v1/predict", json={"features": small_experiment.instance(1)})
            assert (answer.status_code, answer.json()["model"]) == (200, "v0001")
            assert "state store" in (await client.get("/readyz")).json()["problem"]
