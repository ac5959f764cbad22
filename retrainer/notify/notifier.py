"""Notifier: turns events into notices and delivers each to every target that wants it.

Each target is served independently, one attempt at a time in its own thread, so that a slow or dead target delays
neither the others nor the loop that decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from gauntlet import adapters, control, telemetry
from gauntlet.clock import pause
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.faults import Faults
from gauntlet.rollout import Control
from gauntlet.state import StateStore
from gauntlet.structured_logging import get_logger
from gauntlet.threads import detached
from gauntlet.types import Severity
from retrainer.notify import notices, open_lineage
from retrainer.notify.outbox import DEAD, PENDING, SENT, Delivery, Outbox
from retrainer.notify.targets import Target
from retrainer.notify.webhook import DeliveryFailed
from retrainer.store import JobRecord, RetrainerStore

_log = get_logger("gauntlet.retrainer")

WAITS = (5.0, 60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""Seconds from a failed try to the next; after the last one it is given up, 18 hours after the first try."""

_RESULTS = {SENT: "sent", PENDING: "retried", DEAD: "failed"}
"""What a try is counted as, by how its delivery stands after it."""

SECONDS = 30.0
"""What a target may take for one notice."""

NOT_KEPT, UNDELIVERED = "notices_not_kept", "notices_undelivered"
"""The problems that the status shows: the outbox can't be written; a target does not take its notices."""

_LOOK_SECONDS = 2.0
_LONGEST_WAIT = 86_400.0  # a receiver may ask for no more
_LONGEST_ERROR = 300


def path(data: Path) -> Path:
    """The outbox file."""
    return data / "notices.db"


class Notifier:
    """One experiment's notices. `step` is one turn: look, keep, and begin the tries that are due."""

    def __init__(
        self,
        config: Config,
        store: RetrainerStore,
        state: StateStore,
        faults: Faults,
        targets: Sequence[Target],
        *,
        clock: Callable[[], float] = time.time,
        seconds: float = SECONDS,
    ) -> None:
        self._config = config
        self._experiment = config.experiment
        self._store = store
        self._state = state
        self._faults = faults
        self._targets = targets
        self._clock = clock
        self._seconds = seconds
        self._outbox: Outbox | None = None
        self._jobs: dict[str, JobRecord] = {}
        self._alerted = 0
        self._trying: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set."""
        try:
            while not stop.is_set():
                try:
                    await self.step()
                except Exception as error:  # noqa: BLE001 - whatever it is, the loop that decides must not see it
                    self._broken(error)
                else:
                    self._faults.over(NOT_KEPT)
                await pause(stop, _LOOK_SECONDS)
        finally:
            for trying in self._trying.values():
                trying.cancel()
            self._close()

    async def step(self) -> None:
        """Take up what has happened, and begin the tries that are due."""
        version, record = await control.read(self._state, self._experiment)
        if record is None:
            return
        outbox = self._outbox or self._open()
        jobs = [job for id, job in self._store.committed.items() if self._jobs.get(id) is not job]
        alerts = self._store.alerts(self._alerted)
        decided = version if outbox.decided is None else outbox.decided
        history: list[tuple[int, Control]] = []
        if version > decided:
            history = await control.history(self._state, self._experiment, max(0, decided - 1))
        told = [
            *(notices.of_alert(alert) for _, alert in alerts),
            *(notices.of_job(self._experiment, job) for job in jobs),
            *(open_lineage.of_job(self._experiment, job) for job in jobs if any(one.lineage for one in self._targets)),
            *(notices.of_request(self._experiment, request) for request in self._store.requests.values()),
            *(notices.of_decision(number, before, after) for (_, before), (number, after) in pairwise(history)),
        ]
        outbox.take([notice for notice in told if notice is not None], version, self._targets, self._clock())
        self._jobs |= {job.id: job for job in jobs}
        self._alerted = max([self._alerted, *(number for number, _ in alerts)])
        for target in self._targets:
            if target.name not in self._trying and (delivery := outbox.due(target.name, self._clock())) is not None:
                self._trying[target.name] = asyncio.create_task(self._try(target, delivery))

    async def rest(self) -> None:
        """Wait for the tries that have begun."""
        await asyncio.gather(*self._trying.values())

    def deliveries(self, after: int) -> list[Delivery]:
        """The deliveries that changed after the change of that number."""
        return [] if self._outbox is None else self._outbox.since(after)

    def _open(self) -> Outbox:
        """Open the outbox and look at everything anew: a notice that it has is not taken twice."""
        self._outbox, self._jobs, self._alerted = Outbox(path(adapters.data(self._config))), {}, 0
        self._outbox.drop_others([target.name for target in self._targets], self._clock())
        return self._outbox

    def _broken(self, error: Exception) -> None:
        if self._outbox is not None:
            error = self._outbox.file.damage(error) or error
        self._close()
        self._faults.met(NOT_KEPT, error, "decisions go on; tried again", Severity.MEDIUM)

    def _close(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = None

    async def _try(self, target: Target, delivery: Delivery) -> None:
        """One try. While its call does not come back there is no other for this target."""
        call = asyncio.create_task(detached(target.send, delivery.notice))
        try:
            await asyncio.wait([call], timeout=self._seconds)
            if call.done():
                self._note(target, delivery, call.exception())
            else:
                self._note(target, delivery, DeliveryFailed(f"no answer within {self._seconds:g} s"))
                await asyncio.wait([call])
                call.exception()
        finally:
            call.cancel()
            self._trying.pop(target.name, None)

    def _note(self, target: Target, delivery: Delivery, error: BaseException | None) -> None:
        """Keep what became of a try."""
        after = tried(delivery, error, self._clock())
        telemetry.NOTICES.labels(self._experiment, target.channel, _RESULTS[after.status]).inc()
        with self._kept():
            if self._outbox is not None:  # else it is tried again, when there is an outbox again
                self._outbox.note(after)
        self._failing.pop(after.target, None)
        if after.error is not None:
            self._failing[after.target] = after.error
        if self._failing:
            text = "; ".join(f"{target}: {why}" for target, why in self._failing.items())
            self._faults.met(UNDELIVERED, GauntletError(f"notify: {text}"), "decisions go on", Severity.LOW)
        else:
            self._faults.over(UNDELIVERED)
        if after.status == DEAD:
            _log.error(
                "notice_given_up",
                notice=after.notice.id,
                target=after.target,
                tries=after.attempts,
                next="it stays in the delivery log",
            )

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, GauntletError) as error:
            self._broken(error)


def tried(delivery: Delivery, error: BaseException | None, now: float) -> Delivery:
    """A delivery after one more try: sent, or to be tried again, or given up."""
    tries = delivery.attempts + 1
    after = msgspec.structs.replace(delivery, status=SENT, attempts=tries, updated_at=now, error=None)
    if error is None:
        return after
    failed = error if isinstance(error, DeliveryFailed) else DeliveryFailed(f"{type(error).__name__}: {error}")
    over = failed.final or tries > len(WAITS)
    wait = 0.0 if over else max(WAITS[tries - 1], min(failed.wait or 0.0, _LONGEST_WAIT))
    return msgspec.structs.replace(
        after, status=DEAD if over else PENDING, next_at=now + wait, error=str(failed)[:_LONGEST_ERROR]
    )
