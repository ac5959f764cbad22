"""Events on the local log that evaluator or retrainer have not read: without them the status must not look healthy."""

from __future__ import annotations

from gauntlet import keys
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import LogUnavailable
from gauntlet.log import LogReader
from gauntlet.status import Problem, moment
from gauntlet.status_document import Reports
from gauntlet.types import Severity

GRACE_SECONDS = 30.0
"""An event that is unread for longer is not a moment's work: a service that runs reads within a second."""


class Backlog:
    """The unread events of the services, by the offsets that they report.

    Of the embedded log alone: that of Kafka has its lag in the metrics. And on the machine's clock: how old a replayed
    event is says nothing.
    """

    def __init__(self, config: Config, reader: LogReader, clock: Clock) -> None:
        self._judged = config.log == "local" and config.clock == "wall"
        self._reader = reader
        self._clock = clock

    async def problems(self, reports: Reports) -> list[Problem]:
        """One problem for each service that has left events unread for long. An unreadable log is told elsewhere."""
        if not self._judged:
            return []
        evaluator, retrainer = reports.evaluator, reports.retrainer
        found = []
        try:
            if evaluator is None or evaluator.at < self._clock.now() - GRACE_SECONDS:
                offsets = evaluator.offsets if evaluator else {}
                found.append(await self._unread("evaluator", keys.PREDICTIONS, "router", offsets, _NOTHING_COUNTED))
            offsets = retrainer.offsets if retrainer else {}
            found.append(await self._unread("retrainer", keys.EVALUATIONS, "evaluator", offsets, _NOTHING_DECIDED))
        except LogUnavailable:
            return []
        return [one for one in found if one is not None]

    async def _unread(
        self, service: str, topic: str, partition: str, offsets: dict[str, int], what: str
    ) -> Problem | None:
        offset = offsets.get(f"{topic}/{partition}")
        if offset is None:
            offset = await self._reader.seek(topic, partition, float("-inf"))
        oldest = next(iter(await self._reader.read(topic, partition, offset, 1)), None)
        if oldest is None or oldest.at > self._clock.now() - GRACE_SECONDS:
            return None
        count = await self._reader.end(topic, partition) - offset
        return Problem(
            code=f"{service}_behind",
            severity=Severity.HIGH,
            source=service,
            text=f"the {service} has left {count:,} event{'s' * (count > 1)} unread: {what}",
            remedy=f"see that it runs: `gauntlet up` starts it again, and its output says why it ended; alone it "
            f"starts with  gauntlet {service} CONFIG. If it runs, its reports don't arrive: see whether the disk of "
            "the state store is full",
            since=moment(oldest.at),
        )


_NOTHING_COUNTED = "nothing is judged"
_NOTHING_DECIDED = "no verdict is acted on"
