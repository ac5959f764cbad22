"""Where a command's answer goes: files that are refused before the work, and standard output that may close or fill up.

A reader that has had enough (`| head`) ends a command quietly; a full disk ends it with a sentence.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from gauntlet.errors import BadInput

CLOSED = 128 + 13
"""Exit code where standard output was closed early: what a shell shows of a program that a closed pipe ended."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check(option: str, path: str | None, *taken: str | None) -> None:
    """Refuse before the work what can't be written after it, or would overwrite one of `taken`. Raises BadInput."""
    if path is None or (option == "json" and path == "-"):
        return
    asked, file = f"--{option} {path}", Path(path)
    if not file.parent.is_dir():
        raise BadInput(f"{asked}: there is no folder {file.parent}")
    if file.is_dir():
        raise BadInput(f"{asked}: this is a folder")
    if any(other is not None and Path(other).resolve() == file.resolve() for other in taken):
        raise BadInput(f"{asked}: this file is already an input or another output")
    if file.exists() and not file.is_file():  # a device or a pipe, which opening alone may change
        return
    new = not file.exists()
    try:
        file.open("ab").close()
        if new:
            file.unlink()
    except OSError as error:
        raise BadInput(f"{asked}: {error.strerror or error}") from error


def write(option: str, path: str, content: str | bytes) -> None:
    """Raises BadInput, naming the option, for a file that can't be written."""
    try:
        Path(path).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise BadInput(f"--{option} {path}: {error.strerror or error}") from error


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code, or `CLOSED` where the reader went away, or 2 where the disk is full.

    Everything is flushed here, so that nothing fails when the interpreter ends.
    """
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except OSError as error:
        closed = [_let_go(stream) for stream in (sys.stdout, sys.stderr)]
        if isinstance(error, BrokenPipeError) and any(closed):
            return CLOSED
        if error.errno not in _FULL:
            raise
        with suppress(OSError):
            where = error.filename or "standard output or a temporary file"
            print(f"gauntlet: {where}: {error.strerror}", file=sys.stderr)
        return 2


def _let_go(stream: TextIO) -> bool:
    """Whether nobody reads a standard stream any more; if so, or if it can't be written, what it still holds goes
    nowhere, or the end of the interpreter would fail once more."""
    try:
        closed = _unread(stream.fileno())
        try:
            stream.flush()
        except OSError:
            pass
        else:
            if not closed:
                return False
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no stream of the system's
        return False
    return closed


def _unread(file: int) -> bool:
    """Whether a file is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
