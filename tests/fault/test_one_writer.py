"""One process for each work on a data folder: a second one is refused at once, by the first one's process and folder.

The locks are the operating system's: none outlives kill -9.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from builders import small_experiment
from builders.service_processes import command, until_written

from gauntlet import first_start
from gauntlet.cli.up import SERVICES

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(280)]


async def refusal(name: str, path: Path) -> str:
    """What the command says, in one line, as it refuses."""
    async with command(name, path) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 2
    output = (path.parent / f"{name}.log").read_text()
    lines = [line for line in output.splitlines() if line.startswith("gauntlet: ")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]


async def test_a_second_up_and_second_services_are_refused(tmp_path: Path) -> None:
    """Scenario 1: `up` runs; another `up`, by another path of the folder, and each service alone want the same folder.
    Expected: exit code 2 with process and folder; the first goes on. After kill -9 the next one starts, and waits for a
    service of the first that is slow to leave."""
    path = small_experiment.write(tmp_path / "a")
    config = small_experiment.load(path)
    data = Path(config.data)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    async with command("up", path, log="first") as first:
        await until_written(data / "retrainer.address")
        await until_written(data / "router.address")
        pids = {name: int((data / f"{name}.lock").read_text()) for name in ("up", *SERVICES)}
        assert pids["up"] == first.pid
        said = await refusal("up", tmp_path / "again" / path.name)
        assert said.startswith(f"gauntlet: another gauntlet up (process {first.pid}) works in {data};")
        for name in SERVICES:
            assert f"another gauntlet {name} (process {pids[name]}) works in {data};" in await refusal(name, path)
        assert first.returncode is None
        assert all(Path(f"/proc/{pid}").exists() or sys.platform != "linux" for pid in pids.values())
        os.kill(pids["retrainer"], signal.SIGSTOP)
        first.kill()
        await first.wait()
        for name in ("router", "retrainer"):
            (data / f"{name}.address").unlink()
        async with command("up", path, log="second") as second:
            await until_written(path.parent / "second.log", "waiting_for_predecessor service=retrainer", 120)
            os.kill(pids["retrainer"], signal.SIGCONT)
            for name in ("router", "retrainer"):
                await until_written(data / f"{name}.address", seconds=120)
            second.terminate()
            assert await asyncio.wait_for(second.wait(), 60) == 0


async def test_a_stale_lock_blocks_nobody(tmp_path: Path) -> None:
    """Scenario 2: the evaluator alone is killed; its lock names it still, and the next one starts."""
    path = small_experiment.write(tmp_path)
    config = small_experiment.load(path)
    await first_start.ensure(config)
    address, lock = Path(config.data) / "evaluator.address", Path(config.data) / "evaluator.lock"
    for _ in range(2):
        async with command("evaluator", path) as process:
            await until_written(address)
            assert lock.read_text() == f"{process.pid}\n"
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        address.unlink()


@pytest.mark.parametrize(
    ("name", "section", "option"),
    [
        ("router", "router", "port"),
        ("evaluator", "observe", "evaluator_port"),
        ("retrainer", "observe", "retrainer_port"),
    ],
)
async def test_a_port_in_use_is_named_with_its_option(tmp_path: Path, name: str, section: str, option: str) -> None:
    """Scenario 3: another program listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        observe = {"evaluator_port": 0, "retrainer_port": 0}
        ports = {"router": {"port": 0}, "observe": observe, section: {**observe, option: port}}
        if section == "router":
            ports["router"] = {"port": port}
        path = small_experiment.write(tmp_path, **ports)
        await first_start.ensure(small_experiment.load(path))
        said = await refusal(name, path)
    assert f"127.0.0.1:{port}: Address already in use; free the port, or set {section}.{option}" in said
