"""Units of running comparisons: the arm that each unit met first, in the evaluator's own SQLite file.

Later requests of a sticky unit go to the same arm and add no independent evidence; only the first is a draw.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gauntlet.events import Prediction

_TABLE = (
    "CREATE TABLE IF NOT EXISTS units (rollout TEXT, unit TEXT, arm TEXT, allocation INTEGER, moved INTEGER,"
    " PRIMARY KEY (rollout, unit)) WITHOUT ROWID"
)


class Units:
    """The table of units; the caller owns the transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute(_TABLE)

    def expose(self, event: Prediction, rollout: str, drawn: str, share: float) -> tuple[bool, bool]:
        """Record the arm `drawn` for the unit in a comparison; whether that is its first exposure, and whether it has
        moved. Its share may grow into the challenger's; under one allocation it has no reason to move."""
        if event.forced or not 0 < share < 1 or event.unit == event.id:
            return True, False
        key = (rollout, event.unit)
        now = (drawn, event.allocation)
        new = self._db.execute("INSERT OR IGNORE INTO units VALUES (?, ?, ?, ?, 0)", (*key, *now))
        if new.rowcount == 1:
            return True, False
        arm, allocation, before = self._db.execute(
            "SELECT arm, allocation, moved FROM units WHERE rollout = ? AND unit = ?", key
        ).fetchone()
        if (arm, allocation) == now:
            return False, False
        moved = not before and allocation == event.allocation
        self._db.execute(
            "UPDATE units SET arm = ?, allocation = ?, moved = ? WHERE rollout = ? AND unit = ?",
            (*now, int(moved or bool(before)), *key),
        )
        return False, moved

    def forget(self, keep: Iterable[str]) -> None:
        """Drop the units of rollouts, of rounds of the A/A slice and of reverse holdouts that are over."""
        kept = list(keep)
        marks = ",".join("?" * len(kept))
        self._db.execute(f"DELETE FROM units WHERE rollout NOT IN ({marks})", kept)  # noqa: S608 - question marks only
