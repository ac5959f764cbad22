"""The host of jobs as real processes: one host for many jobs, each job alone in its session, nothing left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from retrainer.jobs.job_dir import JobFolder
from retrainer.jobs.job_host import JobHost


class Watched(JobHost):
    """A host whose processes are told from the other children of the tests' process."""

    def __init__(self) -> None:
        super().__init__()
        self._others = children(os.getpid())

    def processes(self) -> list[int]:
        return [child for child in children(os.getpid()) if child not in self._others]


@pytest.fixture
async def host() -> AsyncIterator[Watched]:
    found = Watched()
    yield found
    await found.close()


def folder(parent: Path, name: str) -> JobFolder:
    """A job that ends at once: its specification can't be read."""
    found = JobFolder(parent / name)
    found.path.mkdir()
    found.spec_path.write_text("{}")
    return found


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


async def test_one_host_runs_job_after_job_and_each_answers_in_its_own_folder(tmp_path: Path, host: Watched) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    assert (await host.run(first, 60)).code == 1
    (before,) = host.processes()
    assert (await host.run(second, 60)).code == 1
    assert host.processes() == [before]
    for done in (first, second):
        answer = done.answer()
        assert answer is not None
        assert answer.error is not None
    await host.close()
    assert host.processes() == []


async def test_a_job_over_its_limit_is_killed_with_its_session(tmp_path: Path, host: Watched) -> None:
    stuck = folder(tmp_path, "stuck")
    await host.run(folder(tmp_path, "warm"), 60)
    with stuck.locked():  # the job waits for the lock for ever
        end = await host.run(stuck, 1.0)
    assert end.code is None
    (left,) = host.processes()
    assert children(left) == []
    assert (await host.run(folder(tmp_path, "next"), 60)).code == 1


async def test_what_a_job_has_started_ends_with_it(
    tmp_path: Path, host: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that leaves a process behind: the job's session is ended with the job."""
    left = tmp_path / "left"
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, subprocess, sys, threading
if "retrainer.jobs.job_host" in " ".join(sys.orig_argv):
    def leave():
        while os.getsid(0) != os.getpid():
            pass  # until the job is in its session, with a pipe of its own to print into
        child = subprocess.Popen(["sleep", "600"])
        open({str(left)!r}, "w").write(str(child.pid))
    os.register_at_fork(after_in_child=lambda: threading.Thread(target=leave).start())
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    stuck = folder(tmp_path, "stuck")
    with stuck.locked():
        task = asyncio.create_task(host.run(stuck, 60))
        async with asyncio.timeout(30):
            while not (left.exists() and left.read_text()):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    process = Path(f"/proc/{left.read_text()}/stat")
    async with asyncio.timeout(30):
        while process.exists() and process.read_text().split()[2] != "Z":
            await asyncio.sleep(0.01)


async def test_a_cancelled_job_is_killed(tmp_path: Path, host: Watched) -> None:
    stuck = folder(tmp_path, "stuck")
    await host.run(folder(tmp_path, "warm"), 60)
    (process,) = host.processes()
    with stuck.locked():
        task = asyncio.create_task(host.run(stuck, 60))
        async with asyncio.timeout(30):
            while not children(process):
                await asyncio.sleep(0.01)
        (job,) = children(process)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(30):
        while Path(f"/proc/{job}").exists():
            await asyncio.sleep(0.01)


async def test_a_host_that_was_killed_is_replaced(tmp_path: Path, host: Watched) -> None:
    await host.run(folder(tmp_path, "first"), 60)
    (before,) = host.processes()
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(30):
        while host.alive:
            await asyncio.sleep(0.01)
    assert (await host.run(folder(tmp_path, "second"), 60)).code == 1
    assert host.processes() != [before]


async def test_an_idle_host_is_let_go(tmp_path: Path, host: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.run(folder(tmp_path, "first"), 60)
    await host.rest()
    assert host.alive
    monkeypatch.setattr("retrainer.jobs.job_host.WARM_SECONDS", 0.0)
    await host.rest()
    assert not host.alive
    assert host.processes() == []
