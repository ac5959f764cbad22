"""Durable files: atomic replacement, fsync, and exclusive locks between processes."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from filelock import FileLock, Timeout

_PATIENCE = 1e9  # seconds; finite, because filelock takes an endless wait in a thread pool for a deadlock


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the file at `path` in one step; when this returns, the new content survives a crash of the machine.

    The data goes to a temporary file in the same directory and is fsynced before the rename, so a reader sees the old
    file or the new one. Raises `OSError`; then the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def fsync_file(path: Path) -> None:
    """Flush the content of a file that something else has written."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def fsync_directory(path: Path) -> None:
    """Flush a directory's entries, so that a rename in it survives a crash of the machine (no-op on Windows)."""
    if os.name == "nt":  # a directory can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: Path, *, wait: bool = False) -> FileLock:
    """Take the exclusive lock of the file at `path`; held until `release()` or the end of the process.

    Any thread may release it. Raises `BlockingIOError` when another holder
    has it and `wait` is false, `OSError` when the file can't be created.
    """
    held = FileLock(path, thread_local=False)
    try:
        held.acquire(timeout=_PATIENCE if wait else 0)
    except Timeout:
        raise BlockingIOError(f"{path} is locked by another process") from None
    return held
