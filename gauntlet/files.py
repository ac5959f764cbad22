"""Durable files: atomic replacement, fsync, damage that is named, and exclusive locks between processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from gauntlet.errors import ConfigError, DamagedFile, InUse

_FULL_BELOW = 2**16  # bytes: less than any of SQLite's files needs to be opened
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

FOREVER = 1e9
"""Seconds; finite, because filelock takes an endless wait in a thread pool for a deadlock."""


def atomic_write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the file at `path` in one step; when this returns, the new content survives a crash of the machine.

    The data goes to a temporary file in the same directory and is fsynced before the rename, so a reader sees the old
    file or the new one. mode: who may read it, less what the process's umask takes. Raises `OSError`; then the old file
    is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except IsADirectoryError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, unusable(path), str(path)) from error
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """What reading and decoding the file at `path` raises, as `DamagedFile`; `FileNotFoundError` and a database that
    is merely busy stay what they are."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(path, unusable(path) or error, remedy) from error
    except (EOFError, zlib.error, msgspec.MsgspecError) as error:
        raise DamagedFile(path, error, remedy) from error
    except sqlite3.Error as error:
        if (why := damage(error, path)) is None:
            raise
        raise DamagedFile(path, why, remedy) from error


def damaged(error: sqlite3.Error) -> bool:
    """Whether the file is not a database, or a broken one; no attempt will succeed then."""
    # The lowest byte is the kind of error, the others say more about it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def damage(error: sqlite3.Error, path: Path) -> str | None:
    """Why no attempt on the database at `path` will succeed until somebody puts it right; None where one may."""
    return unusable(path) or (str(error) if damaged(error) else None)


def unusable(path: Path) -> str | None:
    """Why a file can't be used whatever is in it; None where it can, or where there is none. SQLite and the operating
    system say it in many ways, and not always of this file."""
    if path.is_dir():
        return "a folder stands in its place: move it away"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "this process's user may not read and write it: change its owner or its mode"
    return None


def cause(error: sqlite3.Error, path: Path) -> str:
    """What SQLite says of the file at `path`, and that its disk is full where it is: SQLite doesn't always say so."""
    try:
        full = shutil.disk_usage(path.parent).free < _FULL_BELOW
    except OSError:
        full = False
    return f"{error}; its disk is full: free space on it" if full else str(error)


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


def lock(path: Path, holder: str, *, seconds: float = 0.0) -> FileLock:
    """Take the exclusive lock of the file at `path`, waiting up to `seconds`; held until `release()` or the end of the
    process, however that ends.

    Any thread may release it. `holder` names who takes such locks. Raises `InUse` when another has it, with its process
    id, which stands in the file; `OSError` when the file can't be created.
    """
    held = FileLock(path, thread_local=False)
    try:
        held.acquire(timeout=seconds)
    except Timeout:
        who, where = f"another {holder} ({_process_in(path)})", path.parent.resolve()
        raise InUse(f"{who} works in {where}; stop it first, or use another folder") from None
    with contextlib.suppress(OSError):  # on a full disk it is locked all the same
        path.write_text(f"{os.getpid()}\n")
    return held


def claim(folder: Path, command: str, *, seconds: float = 0.0) -> FileLock:
    """The data folder, made if it is missing, for one process of a command. Raises `InUse`, or `ConfigError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder / f"{command}.lock", f"gauntlet {command}", seconds=seconds)
    except OSError as error:
        path = folder / f"{command}.lock"
        why = f"{path}: {found}" if (found := unusable(path)) else error.strerror or error
        raise ConfigError(f"cannot write to the data folder {folder}: {why}") from error


def _process_in(path: Path) -> str:
    with contextlib.suppress(OSError):
        if (found := path.read_text().strip()).isdigit():
            return f"process {found}"
    return "its process is not known"
