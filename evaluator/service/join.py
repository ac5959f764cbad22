"""Stream join of predictions, shadow scores and outcomes by prediction id, in any order, each at most once.

The first prediction and the first shadow score of an id win. Of its outcomes the first one is the label, at once; or,
with the correction `last`, the latest by its time within the horizon, once that is over. Whatever comes again is
counted and changes nothing. An outcome of more than the horizon after its prediction is late and no evidence; one that
meets no prediction is an orphan. Rows stay as tombstones until the horizon is over, so that a redelivered pair can't
count twice.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from evaluator.service.join_records import (
    MOST_REPORTS,
    Contest,
    Contradiction,
    Draw,
    Exposure,
    HoldoutDraw,
    JoinResult,
    Match,
    Pair,
    Rivals,
    Score,
    Scored,
    Truth,
    aa_name,
    holdout_name,
    settled_label,
)
from evaluator.service.units import Units
from gauntlet.events import Outcome, Prediction, Shadow
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS


class _Row(msgspec.Struct, array_like=True):
    """All that came for one id, and what of it was reported.

    done: the label was reported, in time or late. scored, paired: bit n is set once the exposure's contest n was
    reported as such (of `paired` the bit after them: the champion before); rated: bit n, once shadow score n was.
    contradicted: when the first outcome came that contradicts the label; told: that was reported. reports: outcomes
    that wait for the horizon to be over, in the order in which they came; waiting: the row is in the table of those;
    arrived: an outcome in time was reported.
    """

    at: float
    exposure: Exposure | None = None
    scores: list[Score] = []
    truth: Truth | None = None
    done: bool = False
    late: bool = False
    scored: int = 0
    paired: int = 0
    rated: int = 0
    contradicted: float | None = None
    told: bool = False
    reports: list[Truth] = []
    waiting: bool = False
    arrived: bool = False

    def champion(self) -> Score | None:
        """The champion's answer, served or scored."""
        assert self.exposure is not None
        if self.exposure.served == CHAMPION:
            return Score(CHAMPION, self.exposure.champion, self.exposure.output)
        return self._score(CHAMPION, self.exposure.champion)

    def challenger(self, contest: Contest) -> Score | None:
        """A challenger's answer, served or scored."""
        exposure = self.exposure
        assert exposure is not None
        if exposure.served == CHALLENGER and exposure.rollout == contest.rollout:
            return Score(CHALLENGER, contest.challenger, exposure.output)
        return self._score(CHALLENGER, contest.challenger)

    @property
    def previous(self) -> Score | None:
        return next((score for score in self.scores if score.arm == PREVIOUS), None)

    def _score(self, arm: str, model: str) -> Score | None:
        """An id that was predicted again later brings other models' scores."""
        for score in self.scores:  # asked so often that a generator shows
            if score.model == model and score.arm == arm:
                return score
        return None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_CHUNK = 500  # parameters of one SELECT; SQLite allows many more, but parsing grows with them

_TABLE = "CREATE TABLE IF NOT EXISTS joins (id TEXT PRIMARY KEY, at REAL NOT NULL, row BLOB NOT NULL) WITHOUT ROWID"
_WAITING = "CREATE TABLE IF NOT EXISTS waiting (at REAL, id TEXT, PRIMARY KEY (at, id)) WITHOUT ROWID"
_UPSERT = "INSERT INTO joins VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET at = ?2, row = ?3"


class JoinTable:
    """Pending and finished joins in the evaluator's own SQLite file; the caller owns the transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        horizon: float,
        segments: Sequence[str] = (),
        correction: Literal["first", "last"] = "first",
    ) -> None:
        """`segments`: labels of a request that are kept; `correction`: which of several outcomes is the label."""
        self._db = db
        self._horizon = horizon
        self._segments = segments
        self._waits = correction == "last"
        self.units = Units(db)
        db.execute(_TABLE)
        db.execute(_WAITING)
        db.execute("CREATE INDEX IF NOT EXISTS joins_at ON joins (at)")
        self._greatest = self._last_id()

    def apply(self, events: Sequence[Prediction | Shadow | Outcome]) -> JoinResult:
        """Fold a batch into the table; the result does not depend on how the stream was cut into batches."""
        rows = self._load({event.id for event in events})
        known = {key: row.at for key, row in rows.items()}
        changed: dict[str, _Row] = {}
        result = JoinResult.nothing()
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
                if self._waits and not row.done:
                    self._wait(event.id, row, result)
                else:
                    self._match(row, result)
        self._store(changed, known)
        return result

    def settle(self, now: float) -> JoinResult:
        """Let the outcomes count whose horizon is over at the event time `now`. All outcomes up to then must have been
        read."""
        result = JoinResult.nothing()
        before = now - self._horizon
        found = "SELECT id, row FROM waiting JOIN joins USING (id) WHERE waiting.at < ? ORDER BY waiting.at, id"
        settled = []
        for key, data in self._db.execute(found, (before,)).fetchall():
            row = _decode(data)
            assert row.exposure is not None, "what waits has a prediction"
            row.truth, row.contradicted, counts = settled_label(row.reports, row.exposure.at, self._horizon)
            row.reports = []
            result.counts += counts
            self._match(row, result)
            settled.append((_encode(row), key))
        self._db.executemany("UPDATE joins SET row = ? WHERE id = ?", settled)
        self._db.execute("DELETE FROM waiting WHERE at < ?", (before,))
        return result

    def expire(self, before: float) -> Counter[str]:
        """Drop what is older than `before` (event time); outcomes that never met a prediction are orphans."""
        counts: Counter[str] = Counter()
        for (data,) in self._db.execute("SELECT row FROM joins WHERE at < ?", (before,)):
            row = _decode(data)
            if row.exposure is None and (row.truth is not None or row.reports):
                counts["orphan"] += 1
        self._db.execute("DELETE FROM joins WHERE at < ?", (before,))
        self._greatest = self._last_id()
        return counts

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
        row.exposure = Exposure(
            at=event.at,
            assigned=event.assigned,
            served=event.served,
            allocation=event.allocation,
            champion=event.model if event.held_out else event.champion,
            rollout=event.rollout,
            contests=[] if event.held_out else self._contests(event),
            output=event.output,
            fallback=event.fallback,
            forced=event.forced,
            seconds=event.seconds,
            segments={name: event.segments[name] for name in self._segments if name in event.segments},
            phantom=self._draw(event),
            holdout=self._held_out(event),
        )
        result.predictions.append(event)
        result.exposures.append(row.exposure)
        result.counts["predictions"] += 1
        return True

    def _contests(self, event: Prediction) -> list[Contest]:
        """The comparisons that the request belongs to, one for each contender."""
        if not event.contenders:
            return []
        to_champion = 1.0 - sum(contender.propensity for contender in event.contenders)
        found = []
        for contender in event.contenders:
            share, p = 0.0, contender.propensity
            if p > 0.0 and (event.assigned == CHAMPION or event.rollout == contender.rollout):
                share = p / (p + to_champion) if len(event.contenders) > 1 else p
            first, moved = self.units.expose(event, contender.rollout, event.assigned, share)
            found.append(Contest(contender.rollout, contender.challenger, share, str(contender.rule), first, moved))
        return found

    def _draw(self, event: Prediction) -> Draw | None:
        """The unit's draw in the A/A slice; None for one that comes back within the round."""
        phantom = event.phantom
        if phantom is None or event.forced or event.assigned != CHAMPION or not 0 < phantom.propensity < 1:
            return None
        arm = "phantom" if phantom.drawn else CHAMPION
        first, _ = self.units.expose(event, aa_name(phantom.round), arm, phantom.propensity)
        return Draw(phantom.round, phantom.propensity, phantom.drawn) if first else None

    def _held_out(self, event: Prediction) -> HoldoutDraw | None:
        """The unit's draw in the reverse holdout; None for one that comes back."""
        draw = HoldoutDraw.of(event)
        if draw is None:
            return None
        arm = draw.previous if draw.drawn else draw.champion
        first, _ = self.units.expose(event, holdout_name(draw.promotion), arm, draw.share)
        return draw if first else None

    def _shadow(self, row: _Row, event: Shadow, result: JoinResult) -> bool:
        if any(score.model == event.model for score in row.scores):
            result.counts["shadow_duplicate"] += 1
            return False
        row.scores = [*row.scores, Score(event.arm, event.model, event.output, event.rollout)]
        result.counts["shadows"] += 1
        result.counts["shadow_failed"] += event.output is None
        return True

    def _outcome(self, row: _Row, event: Outcome, result: JoinResult) -> bool:
        result.counts["outcomes"] += 1
        report = Truth(event.at, event.value)
        if self._waits and not row.done:
            result.counts["duplicate"] += len(row.reports) >= MOST_REPORTS
            row.reports = [*row.reports, report][-MOST_REPORTS:]
            return True
        if row.truth is None:
            row.truth = report
            return True
        superseded = self._waits and event.at <= row.truth.at
        if row.truth.value == event.value or superseded:
            result.counts["duplicate"] += 1
            return False
        result.counts["conflict"] += 1
        first = row.contradicted is None
        row.contradicted = event.at if row.contradicted is None else row.contradicted
        return first

    def _wait(self, key: str, row: _Row, result: JoinResult) -> None:
        """Let an outcome that has met its prediction wait until no other can come in time."""
        if row.exposure is None or not row.reports:
            return
        if not row.waiting:
            row.waiting = True
            self._db.execute("INSERT INTO waiting VALUES (?, ?)", (row.exposure.at, key))
        if not row.arrived and (in_time := [r for r in row.reports if self._in_time(row.exposure, r)]):
            row.arrived = True
            result.arrivals.append(Match(row.exposure, min(in_time, key=lambda report: report.at), None))

    def _in_time(self, exposure: Exposure, truth: Truth) -> bool:
        return truth.at - exposure.at <= self._horizon

    def _score(self, row: _Row, result: JoinResult) -> None:
        """Report the comparisons whose two models have both been asked."""
        exposure = row.exposure
        if exposure is None or not row.scores or exposure.fallback is not None or exposure.forced:
            return
        champion = row.champion()
        if champion is None:
            return
        for number, contest in enumerate(exposure.contests):
            if row.scored >> number & 1 or (challenger := row.challenger(contest)) is None:
                continue
            row.scored |= 1 << number
            valid = champion.output is not None, challenger.output is not None
            result.scored.append(Scored(exposure, contest, *valid))

    def _match(self, row: _Row, result: JoinResult) -> None:
        if row.exposure is None or row.truth is None:
            return
        if not row.done:
            row.done = True
            row.late = not self._in_time(row.exposure, row.truth)
            result.counts["late" if row.late else "joined"] += 1
            if not row.late:
                match = Match(row.exposure, row.truth, None)
                result.matches.append(match)
                if not row.arrived:
                    row.arrived = True
                    result.arrivals.append(match)
        if row.contradicted is not None and not row.told and not row.late:
            row.told = True
            known = max(row.exposure.at, row.contradicted - self._horizon)
            result.contradictions.append(Contradiction(row.exposure, known))
        if row.scores and not row.late and row.exposure.fallback is None and not row.exposure.forced:
            self._pair(row, row.exposure, row.truth, result)

    def _pair(self, row: _Row, exposure: Exposure, truth: Truth, result: JoinResult) -> None:
        """Report what the shadow scores have made whole: their own losses, and pairs with the champion."""
        ours = {exposure.champion, *(contest.challenger for contest in exposure.contests)}
        for number, score in enumerate(row.scores):
            if not row.rated >> number & 1:
                row.rated |= 1 << number
                if score.output is not None and (score.arm == PREVIOUS or score.model in ours):
                    result.rated.append(Match(exposure, truth, score))
        champion = row.champion()
        if champion is None:
            return
        contests: list[Contest | None] = [*exposure.contests, None]
        for number, contest in enumerate(contests):
            if row.paired >> number & 1:
                continue
            other = row.previous if contest is None else row.challenger(contest)
            if other is None:
                continue
            if contest is not None:
                self._rivals(row, exposure, truth, number, result)
            row.paired |= 1 << number
            if champion.output is not None and other.output is not None:
                before = (other.model, other.rollout) if contest is None else (None, None)
                result.pairs.append(Pair(exposure, contest, truth, champion.output, other.output, *before))

    def _rivals(self, row: _Row, exposure: Exposure, truth: Truth, new: int, result: JoinResult) -> None:
        """Report the pairs of a challenger that is about to be paired with those that were before it."""
        for number, contest in enumerate(exposure.contests):
            if row.paired >> number & 1:
                found = [(c.challenger, row.challenger(c)) for c in (contest, exposure.contests[new])]
                (first, one), (second, two) = sorted(found, key=lambda each: each[0])
                if one is not None and two is not None and one.output is not None and two.output is not None:
                    result.rivals.append(Rivals(exposure, truth, first, second, (one.output, two.output)))
