"""Recorder: makes the records equal to the retrainer's store and the control record, beside the loop that decides.

Level-triggered: it writes what differs from what it knows is written, so an outage, a kill or a new, empty database
only means that more is written. Nothing waits for it. SQLAlchemy is imported by the first write, in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from gauntlet import adapters, control, telemetry
from gauntlet.clock import pause
from gauntlet.config import Config
from gauntlet.errors import GauntletError, RecordsUnavailable
from gauntlet.faults import Faults
from gauntlet.registry import ModelStore, Version
from gauntlet.rollout import Control
from gauntlet.state import StateStore
from gauntlet.threads import detached
from gauntlet.types import Severity
from retrainer.notify.outbox import Delivery
from retrainer.records import rows
from retrainer.records.checklist import DecisionFacts, challenger_of, checklist
from retrainer.store import JobRecord, RetrainerStore
from retrainer.triggers.requests import RetrainRequest

if TYPE_CHECKING:
    from retrainer.records.database import Database

P = ParamSpec("P")
T = TypeVar("T")

CODE = "records_behind"
"""The problem that the status shows while the records are not up to date."""

_LOOK_SECONDS = 2.0
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.2, 30.0
_SLOW_SECONDS = 10.0
_NEXT = "decisions go on; written when the database answers"


class Unwritten(NamedTuple):
    """What is not written yet; `history` begins with the last version of the control record that is."""

    jobs: list[JobRecord]
    suggestions: list[RetrainRequest]
    history: list[tuple[int, Control]]
    deliveries: list[Delivery]


class Recorder:
    """One experiment's records. `step` is one turn; everything in it is safe to repeat."""

    def __init__(
        self,
        config: Config,
        store: RetrainerStore,
        state: StateStore,
        registry: ModelStore,
        faults: Faults,
        deliveries: Callable[[int], list[Delivery]] = lambda _: [],
    ) -> None:
        """`deliveries`: those that have changed after the change of that number."""
        self._config = config
        self._store = store
        self._state = state
        self._registry = registry
        self._faults = faults
        self._deliveries = deliveries
        self._database: Database | None = None
        self._began: float | None = None
        self._jobs: dict[str, JobRecord] = {}
        self._suggested: dict[str, RetrainRequest] = {}
        self._decided = self._delivered = 0
        self._behind = False

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set."""
        backoff = _FIRST_BACKOFF
        while not stop.is_set():
            try:
                await self.step()
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop that decides must not see it
                self._forget()
                self._fallen_behind(error)
                await pause(stop, backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF)
            else:
                self._caught_up()
                backoff = _FIRST_BACKOFF
                await pause(stop, _LOOK_SECONDS)

    async def step(self) -> None:
        """Write what is new. Raises what the database or the state store raises; then nothing counts as written."""
        version, record = await control.read(self._state, self._config.experiment)
        if record is None:
            return
        if self._database is None or record.began != self._began:
            opened = await self._patiently(self._open, record.began)
            self._database, self._decided = opened
            self._began, self._jobs, self._suggested, self._delivered = record.began, {}, {}, 0
        database = self._database
        history: list[tuple[int, Control]] = []
        if version > self._decided:
            # From the last known one on, which is where the next comes from.
            history = await control.history(self._state, self._config.experiment, max(0, self._decided - 1))
        unwritten = Unwritten(
            jobs=[job for id, job in self._store.committed.items() if self._jobs.get(id) is not job],
            suggestions=[
                request
                for request in self._store.requests.values()
                if request.mode == "suggest" and self._suggested.get(request.id) != request
            ],
            history=history,
            deliveries=self._deliveries(self._delivered),
        )
        if not any(unwritten):
            return
        await self._patiently(self._write, database, record.began, unwritten)
        self._jobs |= {job.id: job for job in unwritten.jobs}
        self._suggested |= {request.id: request for request in unwritten.suggestions}
        self._decided = max(version, self._decided)
        self._delivered = max([delivery.number for delivery in unwritten.deliveries], default=self._delivered)

    async def _patiently(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """The call in a thread; one that takes long is told of, and waited for: there is never a second beside it."""
        running = asyncio.create_task(detached(call, *arguments, **options))
        try:
            done, _ = await asyncio.wait([running], timeout=_SLOW_SECONDS)
            if not done:
                slow = RecordsUnavailable(f"records: no answer for {_SLOW_SECONDS:.0f} s")
                self._fallen_behind(slow)
            return await running
        finally:
            running.cancel()

    def _open(self, began: float) -> tuple[Database, int]:
        """The database, its tables up to date, and the newest version of the control record in it."""
        from retrainer.records.database import Database

        database = Database(self._config.records, adapters.data(self._config))
        database.migrate()
        return database, database.latest_decision(**rows.origin(self._config.experiment, began))

    def _write(self, database: Database, began: float, unwritten: Unwritten) -> None:
        origin = rows.origin(self._config.experiment, began)
        events = [*map(rows.of_event, unwritten.jobs), *map(rows.of_suggestion, unwritten.suggestions)]
        database.write(
            {
                "model_retraining_events": [origin | row for row in events],
                "retraining_jobs": [origin | rows.of_job(job) for job in unwritten.jobs],
                "decisions": [origin | row for row in self._decisions(unwritten.history)],
                "deliveries": [origin | rows.of_delivery(delivery) for delivery in unwritten.deliveries],
            }
        )

    def _decisions(self, history: list[tuple[int, Control]]) -> Iterator[rows.Row]:
        """One row a version, with what the registry tells of the two models."""
        for (_, before), (version, after) in pairwise([history[0], *history] if history else []):
            if version <= self._decided:
                continue
            name = challenger_of(before, after)
            challenger = self._version(name)
            job = self._store.committed.get(challenger.note) if challenger else None
            facts = DecisionFacts(
                before=before,
                after=after,
                challenger=challenger,
                champion=self._version(before.champion),
                job=job,
                targets=len(self._config.notify),
            )
            yield rows.of_decision(version, after, name, job.id if job else "", checklist(facts))

    def _version(self, name: str | None) -> Version | None:
        with contextlib.suppress(GauntletError):
            return None if name is None else self._registry.get(name)
        return None

    def _fallen_behind(self, error: Exception) -> None:
        self._faults.met(CODE, error, _NEXT, Severity.LOW)
        telemetry.RECORDS_BEHIND.labels(self._config.experiment).set(1)
        if not self._behind:
            telemetry.RECORDS_OUTAGES.labels(self._config.experiment).inc()
        self._behind = True

    def _caught_up(self) -> None:
        self._faults.over(CODE)
        telemetry.RECORDS_BEHIND.labels(self._config.experiment).set(0)
        self._behind = False

    def _forget(self) -> None:
        """Begin anew with the next step: the database may be another by then."""
        self._database = None
