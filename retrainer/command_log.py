"""The record of commands that people and programs gave the retrainer, and the answers kept under idempotency keys.

Both live in the store's database and are written in its transactions: a command is recorded with what it has changed,
or not at all.
"""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime

import msgspec

from gauntlet.retraining_document import CommandDocument

_COMMANDS_KEPT = 10_000
_ANSWERS_KEPT = 10_000


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered to a request with an idempotency key: its HTTP status and body, and the request's digest."""

    digest: str
    status: int
    body: msgspec.Raw


class _Command(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    command: str
    actor: str
    reason: str
    outcome: str
    about: list[str]


class CommandLog:
    """The newest commands by their numbers, and the newest answers by actor and key."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._commands: list[_Command] = []
        self._answers: dict[tuple[str, str], KeptAnswer] = {}
        db.execute(
            "CREATE TABLE IF NOT EXISTS commands (number INTEGER PRIMARY KEY AUTOINCREMENT, record BLOB NOT NULL)"
        )
        db.execute(
            "CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY AUTOINCREMENT, actor TEXT NOT NULL, "
            "key TEXT NOT NULL, answer BLOB NOT NULL, UNIQUE (actor, key))"
        )

    def add(self, command: str, actor: str, reason: str, outcome: str, about: list[str] | None = None) -> None:
        """Record a command, once the store commits."""
        self._commands.append(
            _Command(at=time.time(), command=command, actor=actor, reason=reason, outcome=outcome, about=about or [])
        )

    def keep(self, actor: str, key: str, answer: KeptAnswer) -> None:
        """Answer the same to the same request of this actor from now on, once the store commits."""
        self._answers[actor, key] = answer

    def answer(self, actor: str, key: str) -> KeptAnswer | None:
        """The answer to this actor under this key, given already or once the log is written."""
        if (actor, key) in self._answers:
            return self._answers[actor, key]
        row = self._db.execute("SELECT answer FROM answers WHERE actor = ? AND key = ?", (actor, key)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=KeptAnswer)

    def after(self, number: int, limit: int) -> list[CommandDocument]:
        """Committed commands later than `number`, the oldest first; of more than `limit` the newest."""
        rows = self._db.execute(
            "SELECT number, record FROM commands WHERE number > ? ORDER BY number DESC LIMIT ?", (number, limit)
        ).fetchall()
        return [_document(number, msgspec.json.decode(record, type=_Command)) for number, record in reversed(rows)]

    def write(self) -> None:
        """Write what is new, in the caller's transaction."""
        self._db.executemany(
            "INSERT INTO commands (record) VALUES (?)", [(msgspec.json.encode(c),) for c in self._commands]
        )
        self._db.executemany(
            "INSERT INTO answers (actor, key, answer) VALUES (?, ?, ?)",
            [(*place, msgspec.json.encode(answer)) for place, answer in self._answers.items()],
        )
        for table, kept in (("commands", _COMMANDS_KEPT), ("answers", _ANSWERS_KEPT)):
            self._db.execute(f"DELETE FROM {table} WHERE number <= (SELECT MAX(number) FROM {table}) - ?", (kept,))  # noqa: S608

    def written(self) -> None:
        """The transaction is committed."""
        self._commands.clear()
        self._answers.clear()

    @property
    def waiting(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._commands or self._answers)


def _document(number: int, found: _Command) -> CommandDocument:
    return CommandDocument(
        number=number,
        at=datetime.fromtimestamp(found.at, UTC),
        command=found.command,
        actor=found.actor,
        reason=found.reason,
        outcome=found.outcome,
        about=found.about,
    )
