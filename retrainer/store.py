"""Durable store of the retrainer, one SQLite file: jobs, offsets, open requests, and the outbox of job events.

Commit order: everything that handling some events has changed goes into one transaction, offsets with it; only then are
job events appended to the log, and then taken off the outbox (at least once, and never before they are true).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gauntlet.events import Evaluation, Job
from gauntlet.sqlite_file import SqliteFile
from retrainer.alerts import Alert
from retrainer.command_log import CommandLog
from retrainer.jobs.job_dir import Answer
from retrainer.triggers.facts import Facts
from retrainer.triggers.requests import RetrainRequest

LIVE = ("pending", "running")
"""Statuses of a job that still has a way to go."""


_REMEDY = (
    "restore it, or move it away with its -wal and -shm: the events are then read again from the log, and earlier jobs "
    "are forgotten"
)

_FACTS = ("now", "requests", "scheduled", "clock_times", "looks", "learned", "monitoring", "baseline", "configured")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, created_at REAL NOT NULL, status TEXT NOT NULL, "
    "champion TEXT NOT NULL, record BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS offsets (topic TEXT, partition TEXT, offset INTEGER NOT NULL, "
    "PRIMARY KEY (topic, partition))",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, event BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS alerts (number INTEGER PRIMARY KEY AUTOINCREMENT, alert BLOB NOT NULL)",
)

_ALERTS_KEPT = 1_000


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of `version` from which a fall is measured, as somebody has set them; `at` is the machine's time."""

    version: str
    metrics: dict[str, float]
    by: str
    at: float


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining job as the retrainer keeps it. Times are event times but for `seconds`, which are the wall's. `by`
    names the person who asked for it or agreed to it, if any."""

    id: str
    status: str
    trigger: str
    request: str
    severity: str
    reason: str
    drift_type: str = ""
    """Root cause of the drift that asked for it."""
    conditions: list[dict[str, Any]] = []
    """What the trigger has judged, when the job was created."""
    champion: str
    recipe: str
    by: str = ""
    created_at: float
    updated_at: float
    ended_at: float | None = None
    seconds: float = 0.0
    starts: int = 0
    answer: Answer = Answer()

    @property
    def accepted(self) -> bool | None:
        """The gate's answer, None without one."""
        return self.answer.accepted if self.status == "completed" else None

    def event(self, experiment: str, step: str = "") -> Job:
        return Job(
            id=self.id,
            at=self.updated_at,
            experiment=experiment,
            status=self.status,
            trigger=self.trigger,
            severity=self.severity,
            reason=self.answer.reason or self.reason,
            champion=self.champion,
            recipe=self.recipe,
            step=step or self.status,
            version=self.answer.version,
            accepted=self.accepted,
            metrics=self.answer.metrics,
            seconds=self.seconds,
            error=self.answer.error,
        )


class RetrainerStore:
    """The retrainer's state: in memory what is on disk and what is not committed yet; `commit` makes the two equal."""

    def __init__(self, folder: Path, experiment: str) -> None:
        """Raises `DamagedFile`."""
        self._experiment = experiment
        self._jsonl = folder / "retraining_jobs.jsonl"
        self.file = SqliteFile(folder / "retrainer.db", _REMEDY, _TABLES)
        self._db = self.file.db
        with self.file.loading():
            self._load()
        self.committed = dict(self.jobs)
        """The jobs as they are on disk: what others may be told of."""
        self._changed: dict[str, JobRecord] = {}
        self._new_events: list[Job] = []
        self._new_alerts: list[Alert] = []
        self._dirty = False

    def _load(self) -> None:
        rows = self._db.execute("SELECT record FROM jobs ORDER BY created_at, id")
        self.jobs = {j.id: j for j in (msgspec.json.decode(row[0], type=JobRecord) for row in rows)}
        self.offsets: dict[tuple[str, str], int] = {
            (topic, partition): offset
            for topic, partition, offset in self._db.execute("SELECT topic, partition, offset FROM offsets")
        }
        facts = dict(self._db.execute("SELECT name, value FROM facts"))
        self.now = msgspec.json.decode(facts.get("now", b"0"), type=float)
        self.requests = msgspec.json.decode(facts.get("requests", b"{}"), type=dict[str, RetrainRequest])
        self.scheduled = msgspec.json.decode(facts.get("scheduled", b"null"), type=float | None)
        self.clock_times = msgspec.json.decode(facts.get("clock_times", b"null"), type=str | None)
        self.looks = msgspec.json.decode(facts.get("looks", b"{}"), type=dict[str, Evaluation])
        self.learned = msgspec.json.decode(facts.get("learned", b"{}"), type=Facts)
        self.monitoring = msgspec.json.decode(facts.get("monitoring", b"true"), type=bool)
        self.baseline = msgspec.json.decode(facts.get("baseline", b"null"), type=Baseline | None)
        self.configured = msgspec.json.decode(facts.get("configured", b"{}"), type=dict[str, Any])
        self.commands = CommandLog(self._db)

    @property
    def live_jobs(self) -> list[JobRecord]:
        """The jobs that are not over, the oldest first."""
        return [job for job in self.jobs.values() if job.status in LIVE]

    @property
    def live(self) -> JobRecord | None:
        """The oldest job that is not over."""
        return next(iter(self.live_jobs), None)

    def handled(self, topic: str, partition: str, offset: int, at: float | None) -> None:
        """The record at `offset` is done with; `at` moves the events' clock, which never runs backwards."""
        self.offsets[topic, partition] = offset + 1
        if at is not None:
            self.now = max(self.now, at)
        self._dirty = True

    def advance(self, at: float) -> None:
        """It is at least `at` now: where events come by the machine's clock, that goes on without them."""
        self.now = max(self.now, at)
        self._dirty = True

    def monitor(self, on: bool) -> None:
        """Whether triggers may start jobs by themselves."""
        self.monitoring = on
        self._dirty = True

    def set_baseline(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self._dirty = True

    def configure(self, settings: dict[str, Any]) -> None:
        """Settings of retraining, under their known names, that hold over those of the configuration file."""
        self.configured = settings
        self._dirty = True

    def keep(self, requests: dict[str, RetrainRequest]) -> None:
        """These, by their keys, are the open requests now."""
        if requests != self.requests:
            self.requests = requests
            self._dirty = True

    def open_request(self, request: RetrainRequest) -> None:
        """Open it, or put it in the place of the one with its key."""
        self.keep({**self.requests, request.key: request})

    def close_request(self, key: str) -> None:
        self.keep({known: request for known, request in self.requests.items() if known != key})

    def learn(self, facts: Facts) -> None:
        """Replace the facts that the triggers go by."""
        if facts != self.learned:
            self.learned = facts
            self._dirty = True

    def schedule(self, at: float, clock_times: str) -> None:
        """The schedule's latest job was due at `at`; before the first, the time from which it counts. `clock_times`
        are the schedule's, by which a later one is seen to be another."""
        self.scheduled, self.clock_times = at, clock_times
        self._dirty = True

    def saw(self, look: Evaluation, running: Iterable[str]) -> None:
        """Keep the latest look of each running rollout."""
        kept = set(running)
        self.looks = {name: old for name, old in {**self.looks, look.rollout: look}.items() if name in kept}
        self._dirty = True

    def put(self, job: JobRecord) -> None:
        """A job's new state, with its event for the outbox."""
        self.jobs[job.id] = job
        self._changed[job.id] = job
        self._new_events.append(job.event(self._experiment))
        self._dirty = True

    def alert(self, alert: Alert) -> None:
        self._new_alerts.append(alert)
        self._dirty = True

    def alerts(self, after: int = 0) -> list[tuple[int, Alert]]:
        """The committed alerts with a number greater than `after`, in the order in which they came."""
        rows = self._db.execute("SELECT number, alert FROM alerts WHERE number > ? ORDER BY number", (after,))
        with self.file.reading():
            return [(number, msgspec.json.decode(alert, type=Alert)) for number, alert in rows.fetchall()]

    def next_id(self, day: str) -> str:
        """`retrain_<day>_<number from 001>`; `day` is YYYYMMDD."""
        taken = [int(job[-3:]) for job in self.jobs if job.startswith(f"retrain_{day}_")]
        return f"retrain_{day}_{max(taken, default=0) + 1:03d}"

    def commit(self) -> bool:
        """Make every change since the last commit durable in one step; False when there was none."""
        if not self._dirty and not self.commands.waiting:
            return False
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?)",
                [(j.id, j.created_at, j.status, j.champion, msgspec.json.encode(j)) for j in self._changed.values()],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", [(*place, o) for place, o in self.offsets.items()]
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, msgspec.json.encode(getattr(self, name))) for name in _FACTS],
            )
            self._db.executemany(
                "INSERT INTO outbox (event) VALUES (?)", [(msgspec.json.encode(event),) for event in self._new_events]
            )
            self._db.executemany(
                "INSERT INTO alerts (alert) VALUES (?)", [(msgspec.json.encode(alert),) for alert in self._new_alerts]
            )
            self._db.execute("DELETE FROM alerts WHERE number <= (SELECT MAX(number) FROM alerts) - ?", (_ALERTS_KEPT,))
            self.commands.write()
        self.committed |= self._changed
        self._changed.clear()
        self._new_events.clear()
        self._new_alerts.clear()
        self.commands.written()
        self._dirty = False
        return True

    def outbox(self) -> list[tuple[int, Job]]:
        rows = self._db.execute("SELECT number, event FROM outbox ORDER BY number").fetchall()
        with self.file.reading():
            return [(number, msgspec.json.decode(event, type=Job)) for number, event in rows]

    def confirm(self, number: int) -> None:
        """Every job event up to `number` is on the log."""
        self._db.execute("DELETE FROM outbox WHERE number <= ?", (number,))

    def write_line(self, job: str) -> None:
        """Append an ended job to `retraining_jobs.jsonl`, unless it is its last line already."""
        line = msgspec.json.encode(_line(self.jobs[job])) + b"\n"
        with self._jsonl.open("ab+") as file:
            file.seek(max(0, file.tell() - len(line)))
            if file.read() == line:
                return
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        self._db.close()


def _line(job: JobRecord) -> dict[str, object]:
    """An ended job as the job log writes it."""
    answer = job.answer
    return {
        "job_id": job.id,
        "trigger": job.trigger,
        "trigger_value": job.reason,
        "severity": job.severity,
        "champion": job.champion,
        "recipe": job.recipe,
        "challenger": answer.version,
        "champion_metrics": answer.metrics.get("champion", {}),
        "challenger_metrics": answer.metrics.get("challenger", {}),
        "holdout": answer.metrics.get("holdout", {}),
        "split": answer.split,
        "training_seconds": answer.training_seconds,
        "warnings": answer.warnings,
        "seconds": job.seconds,
        "status": job.status,
        "decision": {None: job.status, True: "accept the challenger", False: "keep the champion"}[job.accepted],
        "decision_reason": answer.reason,
        "triggered_at": job.created_at,
        "decided_at": job.ended_at,
        "error": answer.error,
    }
