"""Host of jobs: forks each from a process that has imported what jobs need, and starts them on request.

A job then begins in milliseconds instead of seconds. Each line on the host's standard input is the path of a job's
spec.json; its answers are two lines, the process id of the job and, once that has ended, its exit code. One job at a
time; each has a session of its own and ends when the retrainer does, even by kill -9, so none outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from retrainer.jobs import job, process_memory
from retrainer.jobs.job_dir import JobFolder
from retrainer.jobs.job_output import JobOutput, appending, attend

WARM_SECONDS = 60.0
_LOOK_SECONDS = 0.1  # between two looks at a running job's memory
_LAST_WORDS_SECONDS = 2.0


class ProcessEnd(NamedTuple):
    """How a job's process ended: its exit code, None where it was aborted at a limit; its wall seconds; and the bytes
    that it held in memory where that was its limit."""

    code: int | None
    seconds: float
    bytes: int | None = None


class MemoryWatch:
    """memory_limit: bytes that a job's processes on this machine may hold together, None for any. memory: what the
    running job's held when it was last looked at."""

    def __init__(self, memory_limit: int | None = None) -> None:
        self.memory_limit = memory_limit
        self.memory: int | None = None

    async def watched(self, ending: asyncio.Future[Any], pid: int) -> int | None:
        """Wait until `ending` is done; the bytes that process `pid` and its children held where that was too many."""
        try:
            while not (await asyncio.wait([ending], timeout=_LOOK_SECONDS))[0]:
                self.memory = process_memory.resident_bytes(pid)
                if self.memory_limit is not None and (self.memory or 0) > self.memory_limit:
                    return self.memory
        finally:
            self.memory = None
            if not ending.done():
                ending.cancel()
        return None


class JobHost(MemoryWatch):
    """The retrainer's side: starts the host with the first job and lets it go when none has come for a minute.

    hidden: environment variables that jobs don't get.
    """

    def __init__(self, memory_limit: int | None = None, hidden: Collection[str] = ()) -> None:
        super().__init__(memory_limit)
        self._hidden = frozenset(hidden)
        self._process: Process | None = None
        self._used = 0.0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def run(self, folder: JobFolder, time_limit: float) -> ProcessEnd:
        """Run the job in `folder` to its end, `time_limit` seconds at most. Cancelling kills it."""
        began = time.monotonic()
        if not self.alive:
            await self.close()
        process = self._process = self._process or await _start(folder, self._hidden)
        assert process.stdin is not None
        assert process.stdout is not None
        pid, code, over, clean = 0, None, None, False
        try:
            async with asyncio.timeout(time_limit):
                process.stdin.write(f"{folder.spec_path}\n".encode())
                pid = int(await process.stdout.readline() or 0)
                ending = asyncio.ensure_future(process.stdout.readline())
                over = await self.watched(ending, pid)
                answer = ending.result() if over is None else b""
                clean = bool(answer)
                if over is None:
                    code = int(answer) if clean else -signal.SIGKILL  # no answer: the host itself was killed
        except TimeoutError:
            pass
        finally:
            if pid:
                with contextlib.suppress(ProcessLookupError):  # its children, too: the session is the group
                    os.killpg(pid, signal.SIGKILL)
                if not clean:
                    clean = await _told(process.stdout)
            self._used = time.monotonic()
            if not clean:
                await self.close()
        return ProcessEnd(code, self._used - began, over)

    async def rest(self) -> None:
        """Let a host go that has been idle for long; not to be called while a job runs."""
        if self.alive and time.monotonic() - self._used > WARM_SECONDS:
            await self.close()

    async def close(self) -> None:
        """End the host, and with it a job that it has not ended."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


async def _told(host: asyncio.StreamReader) -> bool:
    """Whether the host says that the job, just killed, has ended: what it printed last is in its folder then."""
    try:
        return bool(await asyncio.wait_for(host.readline(), _LAST_WORDS_SECONDS))
    except TimeoutError:
        return False


def _threads() -> dict[str, str]:
    """Half of the cores for the numerical libraries of a job, the others for whoever serves beside it."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}


def environment(hidden: Collection[str]) -> dict[str, str]:
    """What a job gets: without the variables `hidden`, and with all that the retrainer can import, a user's trainer
    among it."""
    known = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**_threads(), **known, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}


async def _start(folder: JobFolder, hidden: Collection[str]) -> Process:
    output, known = appending(folder.output), environment(hidden)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retrainer.jobs.job_host", stdin=PIPE, stdout=PIPE, stderr=output, env=known
        )
    finally:
        os.close(output)


def host() -> None:
    """The host's own process, until its standard input ends."""
    import skops.io  # noqa: F401 - brings along nearly all that a job imports

    for line in sys.stdin:
        spec = Path(line.rstrip("\n"))
        printed, printing = os.pipe()
        child = os.fork()
        if not child:
            os.close(printed)
            os._exit(_work(spec, printing))
        os.close(printing)
        _tell(child)
        with JobOutput(JobFolder(spec.parent).output) as output:
            code = attend(child, printed, output)
        os.close(printed)
        _tell(code)


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _work(spec: Path, printing: int) -> int:
    """The job's process, which prints into a pipe: its exit code."""
    for stream in (1, 2):
        os.dup2(printing, stream)
    os.close(printing)
    os.setsid()
    threading.Thread(target=_die_with_retrainer, name="leash", daemon=True).start()
    try:
        return job.main([str(spec)])
    except BaseException:  # noqa: BLE001 - there is nobody above: what it printed is the job's last word
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _die_with_retrainer() -> None:
    """Standard input hangs up when the last holder of its other end, the retrainer, has gone."""
    leash = select.poll()
    leash.register(0, 0)  # hang-ups are always told; what is written there is the host's
    leash.poll()
    os._exit(1)


if __name__ == "__main__":
    host()
