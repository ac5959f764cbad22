"""The embedded state store: one SQLite file (WAL) that every process of the machine may change by compare-and-set."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from gauntlet import files
from gauntlet.errors import Conflict, StateUnavailable
from gauntlet.folder_watch import FolderWatch
from gauntlet.sqlite_file import SqliteFile
from gauntlet.state import Versioned
from gauntlet.threads import in_thread

_LOOK_SECONDS = 5.0  # between two looks where no hint comes

_REMEDY = (
    "stop, restore it or move it away with its -wal and -shm, and start again: without it the router puts the last "
    "control record back"
)

_TABLES = (
    "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS history (key TEXT, version INTEGER, value BLOB NOT NULL, PRIMARY KEY (key, version))",
)


class LocalState:
    """`StateStore` on SQLite. Calls run in threads, one at a time: the file is tiny and its transactions are short.

    `patience`: seconds to wait for another process's transaction before `StateUnavailable`. Making one raises
    `DamagedFile` for a file that is none of SQLite's.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        with self._translated(), contextlib.ExitStack() as opened:
            self._db = SqliteFile(self._path, _REMEDY, _TABLES, patience=patience).db
            opened.callback(self._db.close)
            # `data_version` counts the changes by other connections: by this one of its own, `wait` also sees what this
            # very store changed, and never stands behind the lock of a call that waits for another process.
            self._watch = opened.enter_context(
                contextlib.closing(
                    sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0.0)
                )
            )
            self._seen = self._changes()
            opened.pop_all()
        self._folder = FolderWatch()

    async def wait(self, seconds: float) -> None:
        """As the port says. A change since the last wait's end counts; of several waiters at once each is woken."""
        deadline = asyncio.get_running_loop().time() + seconds
        before = self._seen
        while True:
            with contextlib.suppress(sqlite3.Error):  # busy for a moment, or damaged: no news, which `get` explains
                self._seen = self._changes()
            left = deadline - asyncio.get_running_loop().time()
            if self._seen != before or left <= 0:
                return
            await self._folder.wait([self._path.parent], min(_LOOK_SECONDS, left))

    def _changes(self) -> int:
        return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            damage = files.damage(error, self._path)
            cause = files.cause(error, self._path) if damage is None else f"{damage}; {_REMEDY}"
            raise StateUnavailable(f"the state file {self._path} does not answer: {cause}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), self._lock:
            yield self._db

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, undone where the body raises."""
        with self._locked() as db, db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    async def close(self) -> None:
        self._folder.close()
        await self._close()

    @in_thread
    def _close(self) -> None:
        with self._lock:
            self._db.close()
        self._watch.close()

    @in_thread
    def get(self, key: str) -> Versioned:
        with self._locked() as db:
            row = db.execute("SELECT version, value FROM records WHERE key = ?", (key,)).fetchone()
        return Versioned(*row) if row else Versioned(0, b"")

    @in_thread
    def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        with self._changing() as db:
            version = _version(db, key)
            if version != expected:
                raise Conflict(f"{key} is at version {version}, not {expected}")
            _write(db, key, expected + 1, value, keep=keep)
        return expected + 1

    @in_thread
    def restore(self, key: str, value: bytes, version: int) -> bool:
        with self._changing() as db:
            lost = _version(db, key) < version
            if lost:
                _write(db, key, version, value, keep=True)
        return lost

    @in_thread
    def history(self, key: str, after: int = 0) -> list[Versioned]:
        with self._locked() as db:
            rows = db.execute(
                "SELECT version, value FROM history WHERE key = ? AND version > ? ORDER BY version", (key, after)
            ).fetchall()
        return [Versioned(*row) for row in rows]

    @in_thread
    def keys(self, prefix: str) -> list[str]:
        with self._locked() as db:
            rows = db.execute("SELECT key FROM records WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix))
            return [row[0] for row in rows]

    @in_thread
    def forget(self, key: str) -> None:
        with self._changing() as db:
            for table in ("records", "history"):
                db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608 - our own two tables


def _version(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT version FROM records WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def _write(db: sqlite3.Connection, key: str, version: int, value: bytes, *, keep: bool) -> None:
    db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (key, version, value))
    if keep:
        db.execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?)", (key, version, value))
