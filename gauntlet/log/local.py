"""The embedded event log: SQLite files on the local disk, one writer process per folder, any number of readers.

A writer owns `<root>/<writer>/` and is one partition of every topic it appends to; its offsets are dense. Files roll by
size and whole old files are unlinked, never rows deleted; only the writer checkpoints, readers open read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from gauntlet import files
from gauntlet.errors import DamagedFile, InUse, LogUnavailable
from gauntlet.folder_watch import FolderWatch
from gauntlet.log import Record, Stored, segments
from gauntlet.threads import deliver, in_thread

SEGMENT_BYTES = 256 * 2**20
_GROUP = 4096  # records in one commit at most: keeps a commit under ~50 ms, so a durable answer never waits long

_Call = tuple[Sequence[Record], "asyncio.Future[None]"]


class LocalLogWriter:
    """Group commit in a thread: calls that arrive while a commit runs go into the next one.

    Commit order: records of one `append` call, then the calls in their order, then one fsync (synchronous=FULL); only
    then the callers wake. `durable=False` trades the fsync of each commit for SQLite's NORMAL (a crash of the machine,
    not of the process, may lose the last commits). `retain_bytes` bounds the closed segments (0: keep all).

    Raises `LogUnavailable` when another process writes this folder (code `log_locked`) or its files can't be opened;
    `DamagedFile` where one is none of SQLite's.
    """

    def __init__(
        self,
        root: Path,
        writer: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        retain_bytes: int = 0,
        durable: bool = True,
        indexed: Sequence[str] = (),
    ) -> None:
        """`indexed` names the topics in which readers look records up by key."""
        self._folder = Path(root) / writer
        self._indexed = frozenset(indexed)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segment_bytes = segment_bytes
        self._retain_bytes = retain_bytes
        self._sync = "FULL" if durable else "NORMAL"
        self._lock = _lock(self._folder)
        try:
            existing = segments.files(self._folder)
            self._number = int(existing[-1].stem) if existing else 0
            self._next = _ends(existing[-1]) if existing else {}
            self._db = self._open(self._number)
        except BaseException as cause:
            self._lock.release()
            if isinstance(cause, sqlite3.Error):
                newest = self._path(self._number)
                if (damage := files.damage(cause, newest)) is not None:
                    raise DamagedFile(newest, damage, segments.REMEDY) from cause
                why = files.cause(cause, newest)
                raise LogUnavailable(f"cannot open the log in {self._folder}: {why}") from cause
            if isinstance(cause, OSError | ValueError):
                raise LogUnavailable(f"cannot open the log in {self._folder}: {cause}") from cause
            raise
        self._closed = False
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"log-{writer}", daemon=True)
        self._thread.start()

    async def append(self, records: Sequence[Record]) -> None:
        """As the port says; ValueError for a topic whose name can't be a table's. Cancelling takes no record back."""
        for topic in {record.topic for record in records}:
            segments.table(topic)
        if not records:
            return
        if self._closed:
            raise LogUnavailable(f"the log in {self._folder} is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((tuple(records), done))
        await done

    async def close(self) -> None:
        """Commit what was appended, then release the folder. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._db.close()
        self._lock.release()

    # The rest runs in the writer's thread.

    def _open(self, number: int) -> sqlite3.Connection:
        path = self._path(number)
        if not path.exists():
            segments.make(path, self._next)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA synchronous={self._sync}")
        return db

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.db"

    def _run(self) -> None:
        stopping = False
        while not stopping:
            item = self._queue.get()
            group: list[_Call] = []
            size = 0
            while item is not None:
                group.append(item)
                size += len(item[0])
                if size >= _GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            stopping = item is None
            if group:
                self._settle(group)

    def _settle(self, group: list[_Call]) -> None:
        error = self._commit([records for records, _ in group])
        if error is not None and len(group) > 1:
            for call in group:  # one call's unusable record must not fail the others
                self._settle([call])
            return
        deliver([(done, error) for _, done in group])

    def _commit(self, calls: list[Sequence[Record]]) -> LogUnavailable | None:
        ends = dict(self._next)
        rows: dict[str, list[tuple[int, str, float, bytes]]] = {}
        for records in calls:
            for topic, key, at, value in records:
                offset = ends.get(topic, 0)
                ends[topic] = offset + 1
                rows.setdefault(topic, []).append((offset, key, at, value))
        try:
            self._roll()
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for topic, new in rows.items():
                    table = segments.table(topic)
                    self._db.execute(
                        f"CREATE TABLE IF NOT EXISTS {table} "
                        "(offset INTEGER PRIMARY KEY, key TEXT NOT NULL, at REAL NOT NULL, value BLOB NOT NULL)"
                    )
                    if topic in self._indexed:
                        self._db.execute(f'CREATE INDEX IF NOT EXISTS "{topic}_keys" ON {table} (key)')
                    self._db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", new)  # noqa: S608 - checked by table
                    self._db.execute(
                        "INSERT INTO log_ends VALUES (?1, ?2, ?3) ON CONFLICT (topic) DO UPDATE "
                        "SET offset = ?2, latest = max(ifnull(latest, ?3), ?3)",
                        (topic, ends[topic], max(row[2] for row in new)),
                    )
        except Exception as cause:  # noqa: BLE001 - whatever a record does, this thread must live for the next one
            error = LogUnavailable(f"cannot append to the log in {self._folder}: {cause}")
            error.__cause__ = cause  # it is raised elsewhere
            return error
        self._next = ends
        return None

    def _roll(self) -> None:
        path = self._path(self._number)
        wal = path.with_name(path.name + "-wal")
        size = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
        if size < self._segment_bytes:
            return
        # Readers rely on a file with a successor never changing. So when the new file can't be made or opened, the
        # append fails and the next one tries again; the old file takes no more records.
        new = self._open(self._number + 1)
        old, self._db = self._db, new
        self._number += 1
        with contextlib.suppress(sqlite3.Error):  # a busy WAL stays beside its file, complete and readable
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing alone does nothing while a reader has it open
        old.close()
        if self._retain_bytes:
            self._trim()

    def _trim(self) -> None:
        closed = segments.files(self._folder)[:-1]
        sizes = [path.stat().st_size for path in closed]
        excess = sum(sizes) - self._retain_bytes
        for path, size in zip(closed, sizes, strict=True):
            if excess <= 0:
                return
            for name in (path.name, path.name + "-wal", path.name + "-shm"):
                path.with_name(name).unlink(missing_ok=True)
            excess -= size


def _lock(folder: Path) -> FileLock:
    """The folder's lock; the operating system releases it when the process dies."""
    try:
        return files.lock(folder / "lock", "writer of the log")
    except InUse as error:
        raise LogUnavailable(str(error), code="log_locked") from None


def _ends(path: Path) -> dict[str, int]:
    """Each topic's next offset: every segment knows every topic's, even a silent one's."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT topic, offset FROM log_ends"))


class LocalLogReader:
    """Reads every writer's folder below `root`; each is a partition named after its writer.

    Raises `LogUnavailable` with code `offset_lost` for an offset that retention took, or that is past the end because
    somebody removed the folder: going on elsewhere would lose records silently. `seek(…, -inf)` gives the oldest kept.
    """

    def __init__(self, root: Path, writers: Sequence[str] = ()) -> None:
        """`writers`: whose records `wait` returns for; anybody's if empty."""
        self._root = Path(root)
        self._writers = writers
        self._partitions: dict[str, segments.Partition] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._watch = FolderWatch()

    async def partitions(self, topic: str) -> list[str]:
        return self._folders()

    async def wait(self, seconds: float) -> None:
        names = self._writers or self._folders()
        await self._watch.wait([self._root, *(self._root / name for name in names)], seconds)

    def _folders(self) -> list[str]:
        if not self._root.exists():
            return []
        return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())

    # Threads run one call at a time.

    def _partition(self, name: str) -> segments.Partition:
        if self._closed:
            raise LogUnavailable(f"this reader of the log in {self._root} is closed")
        return self._partitions.setdefault(name, segments.Partition(self._root / name))

    @in_thread
    def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        if limit < 1:
            return []
        with self._lock:
            files = self._partition(partition)
            found = files.rows(topic, offset, limit)
            if not found:
                if files.end(topic) == offset:
                    return []
                found = files.rows(topic, offset, limit)  # arrived in between
        # Offsets are dense, so a first row elsewhere, or none before the end, means that records are gone.
        if not found or found[0].offset != offset or found[-1].offset - offset != len(found) - 1:
            raise LogUnavailable(f"{topic}/{partition} has no record {offset} (any more)", code="offset_lost")
        return found

    @in_thread
    def end(self, topic: str, partition: str) -> int:
        segments.table(topic)
        with self._lock:
            return self._partition(partition).end(topic)

    @in_thread
    def seek(self, topic: str, partition: str, at: float) -> int:
        with self._lock:
            files = self._partition(partition)
            end = files.end(topic)
            found = files.seek(topic, at)
        return end if found is None else found

    @in_thread
    def known(self, topic: str, partition: str, keys: Sequence[str]) -> set[str]:
        """The `keys` that have a record there. Not in the port: only the router asks, of its own log."""
        with self._lock:
            return self._partition(partition).known(topic, keys)

    @in_thread
    def first(self, topic: str, partition: str, keys: Sequence[str]) -> dict[str, Stored]:
        """The first record of each of `keys` that has any there. Not in the port, as above."""
        with self._lock:
            return self._partition(partition).first(topic, keys)

    @in_thread
    def latest_keys(self, topic: str, partition: str, least: int) -> list[str]:
        """At least so many of the keys that came last (all, if there are fewer). Not in the port, as above."""
        with self._lock:
            return self._partition(partition).latest_keys(topic, least)

    async def close(self) -> None:
        self._watch.close()
        await self._close()

    @in_thread
    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for files in self._partitions.values():
                files.close()
            self._partitions.clear()
