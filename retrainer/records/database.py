"""The records' database: opened, migrated under a lock, written by idempotent upserts. Blocking.

Each call opens a new connection, so a restart of the server goes unnoticed. Database errors become
`RecordsUnavailable`, without the password in their text; a broken SQLite file is `DamagedFile`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from gauntlet import files
from gauntlet.config.records import LOCAL, without_password
from gauntlet.errors import DamagedFile, RecordsUnavailable
from retrainer.records import tables

Row = Mapping[str, Any]

MIGRATION_OPTIONS: dict[str, Any] = {
    "render_as_batch": True,  # SQLite can't alter a table
    "version_table": "gauntlet_records_version",
    "compare_type": True,
    "compare_server_default": True,
}

_MIGRATION_LOCK = 4_287_510  # any number that nobody else takes
_LOCK_SECONDS = 30.0
_REMEDY = "restore it, or move it away with its -wal and -shm: it is then recreated from the retrainer's own store"

_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "prepare_threshold": None,  # a pooler in between may give each transaction another server
}


def path(data: Path) -> Path:
    """The SQLite file of `records: local`."""
    return data / "records.db"


class Database:
    """The records at `address`, the configuration's `records`, with `data` as the folder of the local ones."""

    def __init__(self, address: str, data: Path) -> None:
        """Raises `RecordsUnavailable` where PostgreSQL's driver is missing. Nothing is opened yet."""
        self._path = path(data) if address == LOCAL else None
        self._shown = without_password(address)
        with self._translated():
            if self._path is not None:
                url = sa.URL.create("sqlite", database=str(self._path))
                self._engine = sa.create_engine(url, poolclass=NullPool, json_serializer=_json)
                sa.event.listen(self._engine, "connect", _set_up_sqlite)
                return
            url = make_url(address).set(drivername="postgresql+psycopg")
            self._password = url.password
            try:
                self._engine = sa.create_engine(url, poolclass=NullPool, json_serializer=_json, connect_args=_CONNECT)
            except ImportError as error:
                raise RecordsUnavailable(
                    f"records: {self._shown} needs psycopg: pip install 'gauntlet-ml[postgres]'"
                ) from error

    _password: str | Any | None = None

    def migrate(self) -> None:
        """Bring the tables up to date; of several processes one does it, and the others wait."""
        with self._translated(), contextlib.ExitStack() as held:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                lock = files.lock(self._path.with_suffix(".lock"), "process", seconds=_LOCK_SECONDS)
                held.callback(lock.release)
            with self._engine.begin() as connection:
                if self._path is None:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                settings = alembic.config.Config()
                settings.set_main_option("script_location", "retrainer.records:migrations")
                settings.attributes["connection"] = connection
                alembic.command.upgrade(settings, "head")

    def is_made(self) -> bool:
        """Whether the tables are there."""
        with self.connected() as connection:
            return sa.inspect(connection).has_table(tables.events.name)

    def write(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Put rows into their tables, by name, in one transaction; a row with a key that is there replaces it."""
        with self._translated(), self._engine.begin() as connection:
            for name, some in rows.items():
                if some:
                    connection.execute(_upsert(tables.metadata.tables[name], connection.dialect.name), list(some))

    def latest_decision(self, experiment: str, began: datetime) -> int:
        """The newest version of the control record that is written down; 0 without one."""
        of = tables.decisions.c
        newest = sa.select(sa.func.max(of.version)).where(of.experiment == experiment, of.began == began)
        return int(self.read(newest)[0]["max_1"] or 0)

    def read(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self._translated(), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextlib.contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """A connection to look around with."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
            if self._path is not None and isinstance(cause, sqlite3.Error):
                if (damage := files.damage(cause, self._path)) is not None:
                    raise DamagedFile(self._path, damage, _REMEDY) from error
                raise RecordsUnavailable(f"records: {files.cause(cause, self._path)}") from error
            said = " ".join(str(cause).split())
            if self._password:
                said = said.replace(str(self._password), "***")
            # The driver's own message repeats what it was called with: not `from error`.
            raise RecordsUnavailable(f"records: {self._shown}: {said}") from None


def _upsert(table: sa.Table, dialect: str) -> sa.Insert:
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    unique = next((c for c in table.constraints if isinstance(c, sa.UniqueConstraint)), table.primary_key)
    keys = [column.name for column in unique.columns]
    others = {
        c.name: insert.excluded[c.name] for c in table.columns if c.name not in keys and c.autoincrement is not True
    }
    return insert.on_conflict_do_update(index_elements=keys, set_=others)


def _json(value: Any) -> str:
    """SQLite takes a NaN, and from then on fails every query that looks into the column."""
    return json.dumps(value, allow_nan=False)


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=5000")
