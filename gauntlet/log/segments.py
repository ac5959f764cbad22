"""Segments of the embedded log: the SQLite files in one writer's folder, and reading them.

A topic is a table; `log_ends` has each topic's next offset after a segment. A segment with a successor never changes.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.errors import DamagedFile, LogUnavailable
from gauntlet.files import damage, fsync_directory, fsync_file
from gauntlet.log import Stored

_stored = functools.partial(tuple.__new__, Stored)  # as Stored._make, without a call of Python's own for each row
_KEYS = 500  # parameters of one look-up: parsing grows with them
_OPEN_FILES = 8  # segments that a reader keeps open in one folder; a sequential reader needs two

# Lower case, because SQLite's table names don't tell cases apart; no underscore, which keeps `log_ends` ours.
_TOPIC = re.compile(r"[a-z0-9][a-z0-9-]*")

REMEDY = "restore it from a backup, or repair it with SQLite's own `.recover`"
"""Of a segment that is damaged. Without it later ones can't be read on: the offsets would have a gap."""

# Where each topic goes on after this segment, and its latest event time within it (null: no record of it here).
_ENDS = "CREATE TABLE log_ends (topic TEXT PRIMARY KEY, offset INTEGER NOT NULL, latest REAL)"


def table(topic: str) -> str:
    """The topic's table, quoted. Raises ValueError for a name that can't be one."""
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"a topic's name has lower-case letters, digits and dashes only, not {topic!r}")
    return '"' + topic + '"'


def files(folder: Path) -> list[Path]:
    """The folder's files, oldest first."""
    return sorted(folder.glob("*.db"))


def make(path: Path, ends: Mapping[str, int]) -> None:
    """Make a segment that goes on at `ends`, under another name until it is complete.

    A half-made SQLite file needs repair, which readers, who open it read-only, can't do. Raises `DamagedFile` where
    there was one of that name.
    """
    unready = path.with_suffix(".new")
    if (left := path.with_name(f"{path.name}-wal")).exists():  # SQLite would take it for the new file's own
        raise DamagedFile(path, f"it is gone, and its {left.name} is there", REMEDY)
    for left_over in path.parent.glob(unready.name + "*"):
        left_over.unlink()
    with contextlib.closing(sqlite3.connect(unready, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")  # synced once, below
        db.execute("PRAGMA journal_mode=WAL")  # remembered in the file
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_ENDS)
            db.executemany("INSERT INTO log_ends VALUES (?, ?, NULL)", ends.items())
    fsync_file(unready)
    unready.rename(path)
    fsync_directory(path.parent)


def query(db: sqlite3.Connection, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
    """The rows; none where the table doesn't exist."""
    try:
        return db.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # this segment has no record of the topic
            return []
        raise


class Partition:
    """A reader's view of one writer's folder: its segments, of which a few are kept open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[Path, sqlite3.Connection] = {}  # least recently used first
        self._ends: dict[Path, dict[str, tuple[int, float | None]]] = {}  # of closed segments, which can't change

    def rows(self, topic: str, offset: int, limit: int) -> list[Stored]:
        sql = f"SELECT offset, key, at, value FROM {table(topic)} WHERE offset >= ? ORDER BY offset LIMIT ?"  # noqa: S608
        found: list[Stored] = []
        for path, closed in self._listing():
            if len(found) >= limit:
                break
            if closed and self._closed_end(path, topic)[0] <= offset:
                continue
            found += map(_stored, self._select(path, sql, (offset, limit - len(found))))
        return found

    def end(self, topic: str) -> int:
        for path, _ in reversed(self._listing()):
            rows = self._select(path, "SELECT offset FROM log_ends WHERE topic = ?", (topic,))
            if rows:
                return int(rows[0][0])
        return 0

    def seek(self, topic: str, at: float) -> int | None:
        sql = f"SELECT offset FROM {table(topic)} WHERE at >= ? ORDER BY offset LIMIT 1"  # noqa: S608 - checked by table
        for path, closed in self._listing():
            if closed:
                latest = self._closed_end(path, topic)[1]
                if latest is None or latest < at:
                    continue
            rows = self._select(path, sql, (at,))
            if rows:
                return int(rows[0][0])
        return None

    def known(self, topic: str, keys: Sequence[str]) -> set[str]:
        """The `keys` that have a record of the topic, newest segments first; fast where the writer indexes it."""
        found: set[str] = set()
        for path, _ in reversed(self._listing()):
            missing = [key for key in keys if key not in found]
            for start in range(0, len(missing), _KEYS):
                some = missing[start : start + _KEYS]
                marks = ",".join("?" * len(some))
                sql = f"SELECT DISTINCT key FROM {table(topic)} WHERE key IN ({marks})"  # noqa: S608 - question marks
                found.update(row[0] for row in self._select(path, sql, tuple(some)))
        return found

    def first(self, topic: str, keys: Sequence[str]) -> dict[str, Stored]:
        """The first record of each of `keys` that has any; fast where the writer indexes the topic."""
        found: dict[str, Stored] = {}
        for path, _ in reversed(self._listing()):  # what an older segment has replaces a newer one's
            for start in range(0, len(keys), _KEYS):
                some = tuple(keys[start : start + _KEYS])
                marks = ",".join("?" * len(some))
                sql = f"SELECT offset, key, at, value FROM {table(topic)} WHERE key IN ({marks}) ORDER BY offset DESC"  # noqa: S608 - question marks
                found.update((row[1], _stored(row)) for row in self._select(path, sql, some))
        return found

    def latest_keys(self, topic: str, least: int) -> list[str]:
        """The different keys of whole segments, newest first, until they are at least so many (or all)."""
        sql = f"SELECT DISTINCT key FROM {table(topic)}"  # noqa: S608 - checked by table
        found: list[str] = []
        for path, _ in reversed(self._listing()):
            if len(found) >= least:
                break
            found += [row[0] for row in self._select(path, sql, ())]
        return found

    def close(self) -> None:
        for db in self._open.values():
            db.close()
        self._open.clear()

    def _listing(self) -> list[tuple[Path, bool]]:
        """The segments, oldest first, and whether each is closed: it is once there is a newer one."""
        paths = files(self._path)
        for gone in self._open.keys() - set(paths):
            self._open.pop(gone).close()
        for gone in self._ends.keys() - set(paths):
            del self._ends[gone]
        return [(path, path != paths[-1]) for path in paths]

    def _closed_end(self, path: Path, topic: str) -> tuple[int, float | None]:
        if path not in self._ends:
            rows = self._select(path, "SELECT topic, offset, latest FROM log_ends", ())
            self._ends[path] = {name: (offset, latest) for name, offset, latest in rows}
        return self._ends[path].get(topic, (0, None))

    def _select(self, path: Path, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        try:
            db = self._open.pop(path, None) or sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._open[path] = db
            while len(self._open) > _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            return query(db, sql, parameters)
        except sqlite3.Error as error:
            if not path.exists():  # unlinked by the writer since it was listed
                return []
            why = error if (found := damage(error, path)) is None else f"{found}; {REMEDY}"
            raise LogUnavailable(f"cannot read the log's file {path}: {why}") from error
