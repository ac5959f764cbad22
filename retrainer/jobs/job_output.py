"""What a job prints, on its way to `output.log`: redacted before it is on disk, for the owner's eyes only, and bounded.

The host of the job is its only writer, so that nothing is lost but the oldest.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path
from types import TracebackType

from retrainer.jobs.redaction import redacted

OWNER_ONLY = 0o600
_MOST = 4 * 2**20  # bytes of the file; half of it is kept when there is more
_LONGEST = 64 * 2**10  # bytes that wait for the end of their line
_LOOK_SECONDS = 0.05
_DROPPED = b"[earlier output is dropped]\n"


def appending(path: Path) -> int:
    """A descriptor of the file at `path`, made where it is missing, for its owner only."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, OWNER_ONLY)


class JobOutput:
    """`output.log`, appended to in whole lines, so that no secret is split."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(appending(path), "r+b", buffering=0)
        self._rest = b""

    def __enter__(self) -> JobOutput:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._put(self._rest)
        self._file.close()

    def write(self, data: bytes) -> None:
        """Take what the job has printed; the beginning of a line waits for its end."""
        self._rest += data
        cut = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        if not cut and len(self._rest) > _LONGEST:
            cut = self._rest.rfind(b" ") + 1 or len(self._rest)
        if cut:
            done, self._rest = self._rest[:cut], self._rest[cut:]
            self._put(done)

    def _put(self, data: bytes) -> None:
        text = redacted(data.decode("utf-8", "replace")).encode()
        with contextlib.suppress(OSError):  # on a full disk the job goes on without its output
            self._file.write(text)
            if self._file.seek(0, os.SEEK_END) > _MOST:
                self._file.seek(-_MOST // 2, os.SEEK_END)
                kept = self._file.read()
                self._file.truncate(0)
                self._file.write(_DROPPED + kept)


def attend(child: int, printed: int, output: JobOutput) -> int:
    """Pass on what process `child` prints into the pipe `printed` until it has ended; its exit code. What processes
    that it has left behind print later is nobody's."""
    os.set_blocking(printed, False)
    closed = False
    while True:
        ended, status = os.waitpid(child, 0 if closed else os.WNOHANG)
        while not closed:
            try:
                data = os.read(printed, _LONGEST)
            except BlockingIOError:
                break
            closed = not data
            output.write(data)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if not closed:
            select.select([printed], [], [], _LOOK_SECONDS)
