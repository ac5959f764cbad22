"""The job's process: started in a session of its own, ended with everything it started when its time is up.

It never outlives the retrainer: its standard input is a pipe that ends when the retrainer does, even by kill -9.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Literal

import msgspec

from retrainer.folder import JobFolder


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended: by itself with an exit code, or aborted at its time limit; wall seconds either way."""

    how: Literal["exited", "aborted"]
    code: int
    seconds: float


async def run(folder: JobFolder, time_limit: float) -> Ended:
    """Run the job in `folder` to its end, `time_limit` seconds at most. Cancelling kills it."""
    began = time.monotonic()
    # The job imports what the retrainer can import, a user's trainer among it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
    with folder.output.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retrainer.job", str(folder.spec_path), "--leash",
            stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, env=environment,
        )  # fmt: skip
    how: Literal["exited", "aborted"] = "exited"
    try:
        await asyncio.wait_for(process.wait(), time_limit)
    except TimeoutError:
        how = "aborted"
    finally:
        with contextlib.suppress(ProcessLookupError):  # its children, too: the session is the group
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
        assert process.stdin is not None
        process.stdin.close()
    return Ended(how=how, code=code, seconds=time.monotonic() - began)
