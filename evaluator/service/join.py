"""Stream join of predictions, shadow scores and outcomes by prediction id, in any order, each at most once.

The first prediction, the first shadow score and the first outcome of an id win; whatever comes again is counted and
changes nothing. An outcome of more than the horizon after its prediction is late and no evidence; one that meets no
prediction is an orphan. Rows stay as tombstones until the horizon is over, so that a redelivered pair can't count
twice.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gauntlet.events import Outcome, Prediction, Shadow
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS

_NOT_ASKED = "breaker_open"  # a fallback that is no failure of the challenger's own


class Exposure(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of a prediction."""

    at: float
    assigned: str
    served: str
    propensity: float
    allocation: int
    champion: str
    challenger: str | None
    rollout: str | None
    output: list[float] | float | None
    fallback: str | None
    forced: bool
    first: bool = True
    """The unit's first exposure to the split in this rollout: only that was a draw of its own."""
    moved: bool = False
    """The unit's first exposure to the other arm under the same allocation."""
    seconds: float = 0.0
    segments: dict[str, str] = {}
    """The declared labels among the request's."""

    @property
    def other_arm(self) -> tuple[str, str | None]:
        """The arm that did not serve, and its model (None outside a rollout)."""
        return (CHALLENGER, self.challenger) if self.served == CHAMPION else (CHAMPION, self.champion)

    @property
    def is_draw(self) -> bool:
        """Whether its arm was drawn, and not before for the same unit: then it compares the arms."""
        drawn = self.rollout is not None and self.challenger is not None and not self.forced
        return drawn and self.first and 0 < self.propensity < 1

    @property
    def failed(self) -> bool:
        """Whether the challenger itself was at fault."""
        return self.fallback not in (None, _NOT_ASKED)


class Score(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of a shadow score."""

    arm: str
    model: str
    output: list[float] | float | None

    def of_other_arm(self, exposure: Exposure) -> bool:
        """Whether it is of the rollout's arm that did not serve."""
        return exposure.rollout is not None and (self.arm, self.model) == exposure.other_arm


class Truth(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of an outcome."""

    at: float
    value: str | int | float | bool


class Match(msgspec.Struct, frozen=True, array_like=True):
    """A prediction that has just met its outcome in time (`score` None), or one whose shadow score is in too."""

    exposure: Exposure
    truth: Truth
    score: Score | None


class _Row(msgspec.Struct, array_like=True):
    """One id. `done` once the outcome was counted (in time or late), `paired` once the pair was."""

    at: float
    exposure: Exposure | None = None
    score: Score | None = None
    truth: Truth | None = None
    done: bool = False
    late: bool = False
    paired: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_CHUNK = 500  # parameters of one SELECT; SQLite allows many more, but parsing grows with them

_UNITS = (
    "CREATE TABLE IF NOT EXISTS units (rollout TEXT, unit TEXT, arm TEXT, allocation INTEGER, moved INTEGER,"
    " PRIMARY KEY (rollout, unit)) WITHOUT ROWID"
)
_TABLE = "CREATE TABLE IF NOT EXISTS joins (id TEXT PRIMARY KEY, at REAL NOT NULL, row BLOB NOT NULL) WITHOUT ROWID"
_UPSERT = "INSERT INTO joins VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET at = ?2, row = ?3"


class JoinResult(msgspec.Struct):
    """What one batch has joined: new predictions with their exposures, matches (exposure and outcome), pairs (a shadow
    score, too), requests that now have a shadow score (valid or not, whatever becomes of their outcome), and counts by
    kind."""

    predictions: list[Prediction]
    exposures: list[Exposure]
    matches: list[Match]
    pairs: list[Match]
    scored: list[tuple[Exposure, Score]]
    counts: Counter[str]


def _makes_pair(exposure: Exposure, score: Score) -> bool:
    """Whether the score is of the champion before, or of the arm that did not serve and the model that it had then.

    An id that was predicted again later brings another rollout's score.
    """
    if exposure.fallback is not None or exposure.forced:
        return False
    return score.arm == PREVIOUS or (score.arm, score.model) == exposure.other_arm


class JoinTable:
    """Pending and finished joins in the evaluator's own SQLite file; the caller owns the transaction."""

    def __init__(self, db: sqlite3.Connection, horizon: float, segments: Sequence[str] = ()) -> None:
        """`segments`: labels of a request that are kept."""
        self._db = db
        self._horizon = horizon
        self._segments = segments
        db.execute(_TABLE)
        db.execute(_UNITS)
        db.execute("CREATE INDEX IF NOT EXISTS joins_at ON joins (at)")
        self._greatest = self._last_id()

    def apply(self, events: Sequence[Prediction | Shadow | Outcome]) -> JoinResult:
        """Fold a batch into the table; the result does not depend on how the stream was cut into batches."""
        rows = self._load({event.id for event in events})
        known = {key: row.at for key, row in rows.items()}
        changed: dict[str, _Row] = {}
        result = JoinResult([], [], [], [], [], Counter())
        for event in events:
            row = rows.get(event.id)
            if row is None:
                row = rows[event.id] = _Row(at=event.at)
            if isinstance(event, Prediction):
                new = self._prediction(row, event, result)
            elif isinstance(event, Shadow):
                new = self._shadow(row, event, result)
            else:
                new = self._outcome(row, event, result)
            if new:
                changed[event.id] = row
                if not isinstance(event, Outcome):
                    self._score(row, result)
                self._match(row, result)
        self._store(changed, known)
        return result

    def expire(self, before: float) -> Counter[str]:
        """Drop what is older than `before` (event time); outcomes that never met a prediction are orphans."""
        counts: Counter[str] = Counter()
        for (data,) in self._db.execute("SELECT row FROM joins WHERE at < ?", (before,)):
            row = _decode(data)
            if row.exposure is None and row.truth is not None:
                counts["orphan"] += 1
        self._db.execute("DELETE FROM joins WHERE at < ?", (before,))
        self._greatest = self._last_id()
        return counts

    def forget_units(self, keep: Iterable[str]) -> None:
        """Drop the units of rollouts that are over."""
        kept = list(keep)
        marks = ",".join("?" * len(kept))
        self._db.execute(f"DELETE FROM units WHERE rollout NOT IN ({marks})", kept)  # noqa: S608 - question marks only

    def __len__(self) -> int:
        """Rows of the table, finished or not."""
        return int(self._db.execute("SELECT count(*) FROM joins").fetchone()[0])

    def _last_id(self) -> str:
        return str(self._db.execute("SELECT ifnull(max(id), '') FROM joins").fetchone()[0])

    def _load(self, ids: set[str]) -> dict[str, _Row]:
        # Ids grow with time, so most of a batch's are beyond all in the table and needn't be looked for; the others
        # are asked for in the order in which they lie there.
        wanted = sorted(key for key in ids if key <= self._greatest)
        found: dict[str, _Row] = {}
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(some))
            cursor: Iterable[tuple[str, Any]] = self._db.execute(
                f"SELECT id, row FROM joins WHERE id IN ({marks})",  # noqa: S608 - question marks only
                some,
            )
            found.update((key, _decode(data)) for key, data in cursor)
        return found

    def _store(self, changed: dict[str, _Row], known: dict[str, float]) -> None:
        """Write rows back; `known` has the time that each of the table's own was found with."""
        there, moved = [], []
        for key in sorted(changed):
            row = changed[key]
            if known.get(key) == row.at:
                there.append((_encode(row), key))
            else:
                moved.append((key, row.at, _encode(row)))
        if there:  # leaves the index alone
            self._db.executemany("UPDATE joins SET row = ? WHERE id = ?", there)
        if moved:
            self._db.executemany(_UPSERT, moved)
            self._greatest = max(self._greatest, moved[-1][0])

    def _prediction(self, row: _Row, event: Prediction, result: JoinResult) -> bool:
        if row.exposure is not None:
            result.counts["prediction_duplicate"] += 1
            return False
        row.at = event.at
        first, moved = self._expose_unit(event)
        row.exposure = Exposure(
            at=event.at,
            assigned=event.assigned,
            served=event.served,
            propensity=event.propensity,
            allocation=event.allocation,
            champion=event.champion,
            challenger=event.challenger,
            rollout=event.rollout,
            output=event.output,
            fallback=event.fallback,
            forced=event.forced,
            first=first,
            moved=moved,
            seconds=event.seconds,
            segments={name: event.segments[name] for name in self._segments if name in event.segments},
        )
        result.predictions.append(event)
        result.exposures.append(row.exposure)
        result.counts["predictions"] += 1
        return True

    def _expose_unit(self, event: Prediction) -> tuple[bool, bool]:
        """Record which arm the unit was exposed to; whether that is its first exposure, and whether it has moved.

        A sticky unit's later requests go where its first one went, so they prove nothing new. Its share may grow into
        the challenger's; under one allocation it has no reason to move.
        """
        if event.rollout is None or event.forced or not 0 < event.propensity < 1 or event.unit == event.id:
            return True, False
        key = (event.rollout, event.unit)
        now = (event.assigned, event.allocation)
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

    def _shadow(self, row: _Row, event: Shadow, result: JoinResult) -> bool:
        if row.score is not None:
            result.counts["shadow_duplicate"] += 1
            return False
        row.score = Score(event.arm, event.model, event.output)
        result.counts["shadows"] += 1
        result.counts["shadow_failed"] += event.output is None
        return True

    def _outcome(self, row: _Row, event: Outcome, result: JoinResult) -> bool:
        result.counts["outcomes"] += 1
        if row.truth is not None:
            result.counts["duplicate" if row.truth.value == event.value else "conflict"] += 1
            return False
        row.truth = Truth(event.at, event.value)
        return True

    def _score(self, row: _Row, result: JoinResult) -> None:
        if row.exposure is not None and row.score is not None and _makes_pair(row.exposure, row.score):
            result.scored.append((row.exposure, row.score))

    def _match(self, row: _Row, result: JoinResult) -> None:
        if row.exposure is None or row.truth is None:
            return
        if not row.done:
            row.done = True
            row.late = row.truth.at - row.exposure.at > self._horizon
            result.counts["late" if row.late else "joined"] += 1
            if not row.late:
                result.matches.append(Match(row.exposure, row.truth, None))
        if row.score is not None and not row.paired and not row.late:
            row.paired = True
            if row.score.output is not None and _makes_pair(row.exposure, row.score):
                result.pairs.append(Match(row.exposure, row.truth, row.score))
