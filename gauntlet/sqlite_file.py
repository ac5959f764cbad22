"""A process's own SQLite file: opened durably, and damage reported with what to do about it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from gauntlet import files
from gauntlet.errors import DamagedFile


class SqliteFile:
    """An open file, in WAL mode. One thread may use `db` at a time.

    Each statement commits by itself. For several in one step: `with file.db:`, and `BEGIN IMMEDIATE` first; they are
    committed at the end, or undone where the body raises.
    """

    def __init__(
        self,
        path: Path,
        remedy: str,
        tables: Sequence[str] = (),
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        patience: float = 5.0,
    ) -> None:
        """remedy: what to do about a damaged file. tables: the statements that make what is missing. patience: seconds
        to wait for another process's transaction. Raises `DamagedFile`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._remedy = path, remedy
        with self.reading():
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=patience)
        with self.loading():
            for statement in ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}", *tables):
                self.db.execute(statement)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Around reading and decoding what the file holds: what shows it damaged is raised as `DamagedFile`."""
        return files.reading(self._path, self._remedy)

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """As `reading`, for what its owner goes on from: where that fails, the file is closed again."""
        try:
            with self.reading():
                yield
        except BaseException:
            self.db.close()
            raise

    def damage(self, error: BaseException) -> DamagedFile | None:
        """What to raise instead of an error that shows the file damaged; None for any other."""
        if isinstance(error, sqlite3.Error) and files.damaged(error):
            return DamagedFile(self._path, error, self._remedy)
        return None
