"""A process's own SQLite file: several statements in one step or not at all, and damage with its remedy."""

import sqlite3
from pathlib import Path

import pytest

from gauntlet.errors import DamagedFile
from gauntlet.sqlite_file import SqliteFile

TABLES = ("CREATE TABLE IF NOT EXISTS notes (text TEXT NOT NULL)",)


def notes(db: sqlite3.Connection) -> list[str]:
    return [text for (text,) in db.execute("SELECT text FROM notes")]


def write(db: sqlite3.Connection, *texts: str | None) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO notes VALUES (?)", [(text,) for text in texts])


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    db = SqliteFile(tmp_path / "deep" / "n.db", "restore it", TABLES).db
    write(db, "kept")
    with pytest.raises(sqlite3.IntegrityError):
        write(db, "undone", None)
    assert notes(db) == ["kept"]
    assert not db.in_transaction
    db.close()


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    path.write_text("no database " * 100)
    with pytest.raises(DamagedFile, match="restore it"):
        SqliteFile(path, "restore it", TABLES)


def test_an_error_that_shows_no_damage_stays_what_it_is(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "n.db", "restore it", TABLES)
    with pytest.raises(sqlite3.OperationalError) as raised, file.loading():
        file.db.execute("SELECT nothing FROM notes")
    assert file.damage(raised.value) is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        file.db.execute("SELECT 1")
