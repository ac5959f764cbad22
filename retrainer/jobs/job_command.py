"""A job by a command of the user's (`retrain.command`): in a container, on a cluster, on another machine.

The job, its folder and its answer are the same as of one that is forked here; this side starts the command, keeps what
it prints, and waits. Killing a command does not reach what it waits for, so a job that is to end is withdrawn in its
folder, too, and ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Collection, Sequence

from retrainer.jobs.job_dir import JobFolder
from retrainer.jobs.job_host import MemoryWatch, ProcessEnd, environment
from retrainer.jobs.job_output import JobOutput

SPEC = "{spec}"
"""What stands in the command for the path of the job's specification."""

_CHUNK = 64 * 2**10
_LAST_WORDS_SECONDS = 2.0
_WITHDRAWN_SECONDS = 5.0


class JobCommand(MemoryWatch):
    """Runs jobs as `words` say, one at a time. hidden: environment variables that they don't get."""

    def __init__(self, words: Sequence[str], hidden: Collection[str] = ()) -> None:
        super().__init__()
        self._words = list(words)
        self._hidden = frozenset(hidden)

    alive = False
    """Nothing of it stays warm."""

    async def run(self, folder: JobFolder, time_limit: float) -> ProcessEnd:
        """Run the job in `folder` to its end, `time_limit` seconds at most. Cancelling withdraws it."""
        began = time.monotonic()
        words = [word.replace(SPEC, str(folder.spec_path)) for word in self._words]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment(self._hidden), start_new_session=True
        )
        printing = asyncio.create_task(_keep(process, folder))
        over: int | None = None
        ended = False
        try:
            async with asyncio.timeout(time_limit):
                over = await self.watched(asyncio.ensure_future(process.wait()), process.pid)
                ended = over is None
        except TimeoutError:
            pass
        finally:
            if not ended:
                await asyncio.to_thread(folder.withdraw)
            with contextlib.suppress(ProcessLookupError):  # what it has left behind, too: the session is the group
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await asyncio.wait([printing], timeout=_LAST_WORDS_SECONDS)
            printing.cancel()
            if not ended:  # then the job that is withdrawn has ended, wherever it runs, and registers nothing more
                await asyncio.to_thread(folder.taken, _WITHDRAWN_SECONDS)
        return ProcessEnd(process.returncode if ended else None, time.monotonic() - began, over)

    async def rest(self) -> None:
        """There is nothing to let go."""

    async def close(self) -> None:
        """There is nothing to end."""


async def _keep(process: Process, folder: JobFolder) -> None:
    """What the command prints, on its way to the job's output."""
    assert process.stdout is not None
    with JobOutput(folder.output) as output:
        while data := await process.stdout.read(_CHUNK):
            output.write(data)
