"""Reports of a router's replicas in the state store: each replica writes its own and renews it while it runs.

A replica that stops removes its report. One that was killed leaves it behind: it counts as silent after three beats,
and an hour later the next reader removes it.
"""

from __future__ import annotations

import time

from gauntlet import keys, status
from gauntlet.errors import GauntletError
from gauntlet.state import StateStore, decoded
from gauntlet.status import Problem, RouterProgress, moment
from gauntlet.structured_logging import get_logger
from gauntlet.types import Severity

_log = get_logger("gauntlet.router")

BEAT_SECONDS = 60.0
SILENT_SECONDS = 3 * BEAT_SECONDS
FORGOTTEN_SECONDS = 3600.0


class ReplicaReports:
    """One replica's way to the reports of all. Times are the machines', which must agree to a minute or two."""

    def __init__(self, state: StateStore, experiment: str, replica: str) -> None:
        self._state = state
        self._all = keys.router_progress(experiment, "")
        self._own = keys.router_progress(experiment, replica)
        self._published = float("-inf")

    @property
    def due(self) -> bool:
        """Whether it is time to publish the report again."""
        return time.monotonic() - self._published >= BEAT_SECONDS

    async def publish(self, report: RouterProgress) -> None:
        """Replace this replica's report. A failure is told in the log: serving comes first."""
        self._published = time.monotonic()
        try:
            await status.publish(self._state, self._own, report)
        except GauntletError as error:
            _log.warning("acknowledgement_failed", version=report.version, error=error, next="serving all the same")

    async def withdraw(self) -> None:
        """Take this replica's report away: it stops."""
        try:
            await self._state.forget(self._own)
        except GauntletError as error:
            _log.warning("report_not_withdrawn", error=error, next="it is forgotten in an hour")

    async def read(self) -> tuple[list[RouterProgress], list[Problem]]:
        """The reports of the replicas that run, and a problem for each that fell silent within the last hour."""
        heard, silent, now = [], [], time.time()
        for key in await self._state.keys(self._all):
            version, value = await self._state.get(key)
            if not version:
                continue  # withdrawn since it was listed
            report = decoded(key, value, RouterProgress)
            age = now - report.seen
            if age <= SILENT_SECONDS:
                heard.append(report)
            elif age <= FORGOTTEN_SECONDS:
                silent.append(_silence(report))
            else:
                await self._state.forget(key)
        return heard, silent


def _silence(report: RouterProgress) -> Problem:
    return Problem(
        code="router_silent",
        severity=Severity.MEDIUM,
        source=report.replica,
        text=f"router {report.replica} is not heard of any more: it was killed, or can't reach the state store",
        remedy="start it again; if it is gone for good, nothing: it is forgotten after an hour",
        since=moment(report.seen),
    )
