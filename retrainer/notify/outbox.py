"""Outbox of notices in one SQLite file: each notice once, with the state of its delivery to each target.

A notice and its deliveries are written in one transaction before anything is sent. A delivery interrupted by a kill is
retried with the same id (at least once).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gauntlet.sqlite_file import SqliteFile
from retrainer.notify.notices import Notice
from retrainer.notify.targets import Target

PENDING, SENT, DEAD = "pending", "sent", "dead"

_REMEDY = "restore it, or move it away with its -wal and -shm: what was not delivered yet is then not told any more"

_TABLES = (
    "CREATE TABLE IF NOT EXISTS notices (id TEXT PRIMARY KEY, notice BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS deliveries (notice TEXT, target TEXT, status TEXT NOT NULL, attempts INTEGER NOT NULL, "
    "next_at REAL NOT NULL, updated_at REAL NOT NULL, error TEXT, number INTEGER NOT NULL, "
    "PRIMARY KEY (notice, target))",
    "CREATE UNIQUE INDEX IF NOT EXISTS changes ON deliveries (number)",
    "CREATE INDEX IF NOT EXISTS waiting ON deliveries (target, next_at) WHERE status = 'pending'",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)

_BEGIN = (
    "INSERT INTO deliveries VALUES (?, ?, 'pending', 0, ?, ?, NULL, "
    "(SELECT COALESCE(MAX(number), 0) + 1 FROM deliveries))"
)
_CHANGE = (
    "UPDATE deliveries SET status = ?, attempts = ?, next_at = ?, updated_at = ?, error = ?, "
    "number = (SELECT MAX(number) + 1 FROM deliveries) WHERE notice = ? AND target = ?"
)
_SELECT = (
    "SELECT n.notice, d.target, d.status, d.attempts, d.next_at, d.updated_at, d.error, d.number "
    "FROM deliveries d JOIN notices n ON n.id = d.notice WHERE "
)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One notice on its way to one target. Times are the machine's; `number` counts the changes of all deliveries."""

    notice: Notice
    target: str
    status: str
    attempts: int
    next_at: float
    updated_at: float
    error: str | None = None
    number: int = 0


class Outbox:
    """Blocking, and quick: the file is small. Every method may raise `sqlite3.Error`, or `DamagedFile`."""

    def __init__(self, path: Path) -> None:
        """Raises `DamagedFile`."""
        self.file = SqliteFile(path, _REMEDY, _TABLES)
        self._db = self.file.db
        with self.file.loading():
            self.decided = self._fact("decided")
            """The version of the control record up to which decisions are taken; None before the first `take`."""
            self._known = {str(id) for (id,) in self._db.execute("SELECT id FROM notices")}

    def _fact(self, name: str) -> int | None:
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else int(found[0])

    def take(self, notices: Sequence[Notice], decided: int, targets: Sequence[Target], now: float) -> None:
        """Keep the notices that are new, for each target that wants them, and that decisions up to
        version `decided` are among them.

        What has happened before there was an outbox is not told: the first call only notes it down.
        """
        if decided == self.decided and all(notice.id in self._known for notice in notices):
            return
        told = [] if self.decided is None else targets
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for notice in notices:
                known = self._db.execute(
                    "INSERT OR IGNORE INTO notices VALUES (?, ?)", (notice.id, msgspec.json.encode(notice))
                )
                for target in told if known.rowcount else ():
                    if target.wants(notice):
                        self._db.execute(_BEGIN, (notice.id, target.name, now, now))
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('decided', ?)", (decided,))
        self.decided = decided
        self._known |= {notice.id for notice in notices}

    def drop_others(self, targets: Iterable[str], now: float) -> None:
        """Give up what waits for a target that is not in the configuration any more."""
        known, error = set(targets), "there is no such target any more"
        for waiting in self._select("d.status = ?", PENDING):
            if waiting.target not in known:
                self.note(msgspec.structs.replace(waiting, status=DEAD, updated_at=now, error=error))

    def due(self, target: str, now: float) -> Delivery | None:
        """The delivery to this target whose next try has been due for longest; None where none is."""
        which = "d.target = ? AND d.status = 'pending' AND d.next_at <= ? ORDER BY d.next_at, d.number LIMIT 1"
        found = self._select(which, target, now)
        return found[0] if found else None

    def since(self, number: int) -> list[Delivery]:
        """The deliveries that have changed after the change of that number, in the order in which they did."""
        newest = self._db.execute("SELECT COALESCE(MAX(number), 0) FROM deliveries").fetchone()[0]
        if newest == number:
            return []
        return self._select(
            "d.number > ? ORDER BY d.number", number if number < newest else 0
        )  # a new file counts again

    def note(self, delivery: Delivery) -> None:
        """Write down where a delivery stands now."""
        key = (delivery.notice.id, delivery.target)
        changes = (delivery.status, delivery.attempts, delivery.next_at, delivery.updated_at, delivery.error)
        self._db.execute(_CHANGE, (*changes, *key))

    def _select(self, where: str, *values: object) -> list[Delivery]:
        rows = self._db.execute(_SELECT + where, values).fetchall()
        with self.file.reading():
            return [
                Delivery(
                    notice=msgspec.json.decode(notice, type=Notice),
                    target=target,
                    status=status,
                    attempts=attempts,
                    next_at=next_at,
                    updated_at=updated_at,
                    error=error,
                    number=number,
                )
                for notice, target, status, attempts, next_at, updated_at, error, number in rows
            ]

    def close(self) -> None:
        self._db.close()
