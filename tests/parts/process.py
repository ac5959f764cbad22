"""One command on a leash: a process group that ends with its owner, whatever ends the owner.
Invariant: after `end` the command and all its descendants are dead and reaped, so ports and folders are free again."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")


class Process:
    """A started command. `out` and `err` are open files; the caller closes them, and calls `end`."""

    def __init__(self, command: Sequence[str], *, folder: Path, out: IO[bytes], err: IO[bytes]) -> None:
        self._pidfile = folder / "pid"
        self._pidfile.unlink(missing_ok=True)
        # -I: neither the folder of this package nor the environment may change what the leash imports.
        self._leash = subprocess.Popen(
            [sys.executable, "-I", str(_LEASH), str(self._pidfile), *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=folder,
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """The command's process id, which is its group's too; None in the first moment."""
        try:
            text = self._pidfile.read_text()
        except FileNotFoundError:
            return None
        return int(text) if text.endswith("\n") else None

    @property
    def code(self) -> int | None:
        """The command's exit code (128 + n for signal n) once it and all its descendants ended, else None."""
        return self._leash.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command's group; nothing happens when it ended already."""
        pid = self.pid
        if pid is not None and self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        try:
            self._leash.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Kill what is left and return when it is gone."""
        if self._leash.stdin is not None:
            self._leash.stdin.close()
        self._leash.wait()
