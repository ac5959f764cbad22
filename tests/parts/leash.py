"""Runs one command for `Process` and ends with its exit code: `leash.py PIDFILE COMMAND...`; a script, never imported.
Invariant: it ends only when every descendant is dead and reaped, and it kills them when standard input closes, which
happens however its owner ends."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphaned descendants become this process's children


def _hold(group: int) -> None:
    while os.read(0, 1024):
        pass
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _children() -> list[int]:
    return [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]


def _bury(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    # Those that had left the group too: each death hands its children to us, until there are none.
    while True:
        for pid in _children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    pidfile, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    Path(pidfile).write_text(f"{child.pid}\n")
    threading.Thread(target=_hold, args=(child.pid,), daemon=True).start()
    code = child.wait()
    _bury(child.pid)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
