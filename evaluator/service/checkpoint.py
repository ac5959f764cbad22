"""The checkpoint: joins, sums, looks, drift, offsets and outbox change in one transaction, fenced against zombies.

Commit order: (scaled out: the shared state by compare-and-set first, then) the local SQLite file, then the outbox is
sent. A crash between the two leaves the local file one commit behind: the join table is brought up to the shared
offsets by reading the log again, and the outbox comes from the shared state. A crash before it was sent sends it again,
and its readers know its ids.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gauntlet import events
from gauntlet.errors import Conflict
from gauntlet.log import Record
from gauntlet.sqlite_file import SqliteFile

_CACHE_KIB = 64 * 1024  # SQLite's own 2 MB hold the joins of a few thousand requests; each look-up would read the disk

_REMEDY = "restore it, or move it away with its -wal and -shm: everything is then counted again from the log"

_TABLES = (
    "CREATE TABLE IF NOT EXISTS saved (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER, data BLOB)",
    "CREATE TABLE IF NOT EXISTS outbox"
    " (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, key TEXT, at REAL, value BLOB)",
)


class EvaluatorState(msgspec.Struct, kw_only=True):
    """What one commit holds besides the join table. `commit` counts commits and is the fence.

    settings: those that the sums were made with, which mean nothing under others. latest, jumped, behind, went_back: of
    the watermark. settled: the event time up to which outcomes that waited were counted. rollouts: the state of each
    rollout's tests; gross_harm, rates: of its watches; aa: of the continuous A/A slice. budgets: levels of each
    champion's retrained successors. worth: the ledger of promotions with its tests. evaluations: the latest of each
    rollout that is kept. drift_pending: events that are found and not in an outbox yet. outbox: what was not sent yet;
    only the shared state needs it, for the local file has a table of its own.
    """

    commit: int = 0
    settings: dict[str, Any] = {}
    offsets: dict[str, int] = {}
    latest: dict[str, float] = {}
    jumped: dict[str, tuple[float, float]] = {}
    behind: dict[str, tuple[int, float]] = {}
    went_back: dict[str, float] = {}
    settled: float = 0.0
    counts: dict[str, int] = {}
    accumulators: dict[str, Any] | None = None
    rollouts: dict[str, dict[str, Any]] = {}
    budgets: dict[str, dict[str, Any]] = {}
    gross_harm: dict[str, Any] = {}
    rates: dict[str, Any] = {}
    aa: dict[str, Any] = {}
    health_block: int | None = None
    champion: str | None = None
    previous: str | None = None
    worth: dict[str, Any] | None = None
    drift_state: dict[str, Any] | None = None
    drift_pending: list[events.Drift] = []
    evaluations: dict[str, events.Evaluation] = {}
    health: events.Health | None = None
    drift: events.Drift | None = None
    outbox: list[Record] = []


class Checkpoint:
    """The evaluator's own file. Not thread-safe; the worker uses it from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises `DamagedFile`."""
        self._file = SqliteFile(path, _REMEDY, _TABLES, synchronous="NORMAL")
        self.db = self._file.db
        with self._file.loading():
            self.db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            row = self.db.execute("SELECT data FROM saved").fetchone()
            self.saved = msgspec.json.decode(row[0], type=EvaluatorState) if row else EvaluatorState()

    def begin(self) -> None:
        """Open the transaction that the next `commit` ends; the join table may be changed from here on.

        Raises `Conflict` when another process is in the middle of one for longer than a commit ever takes.
        """
        if self.db.in_transaction:
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise Conflict("another evaluator is writing this one's file; this one stops") from error

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Roll back what was not committed if the body fails. A file that is found damaged is a `DamagedFile`."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self.db.rollback()
            if (damage := self._file.damage(error)) is not None:
                raise damage from error
            raise

    def commit(self, data: bytes, number: int, outbox: Sequence[Record], *, after: int) -> None:
        """Write commit `number` on top of commit `after` and end the transaction.

        Raises `Conflict` when the file is at another commit: then another process works on it.
        """
        self.begin()
        row = self.db.execute("SELECT number FROM saved").fetchone()
        found = row[0] if row else 0
        if found != after:
            self.db.rollback()
            raise Conflict(f"another evaluator has made commit {found}; this one, at {after}, stops")
        self.db.execute("INSERT OR REPLACE INTO saved VALUES (1, ?, ?)", (number, data))
        self.db.executemany(
            "INSERT INTO outbox (topic, key, at, value) VALUES (?, ?, ?, ?)",
            [(r.topic, r.key, r.at, r.value) for r in outbox],
        )
        self.db.execute("COMMIT")

    def outbox(self) -> list[tuple[int, Record]]:
        """What has been committed and perhaps not sent, in order."""
        return [
            (seq, Record(topic, key, at, value))
            for seq, topic, key, at, value in self.db.execute(
                "SELECT seq, topic, key, at, value FROM outbox ORDER BY seq"
            )
        ]

    def sent(self, upto: int) -> None:
        """Forget the outbox up to and including `upto`: the log has it."""
        self.db.execute("DELETE FROM outbox WHERE seq <= ?", (upto,))

    def forget_outbox(self) -> None:
        """Drop all of it, within the transaction that is open."""
        self.db.execute("DELETE FROM outbox")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # of a damaged file or on a full disk: closing undoes it as well
            self.db.rollback()
        self.db.close()
