"""The experiment's control record as the retrainer uses it: read once a turn, changed by compare-and-set."""

from __future__ import annotations

from gauntlet import control
from gauntlet.errors import StateUnavailable, TransitionRefused
from gauntlet.rollout import Command, Control
from gauntlet.state import StateStore
from gauntlet.structured_logging import get_logger
from gauntlet.telemetry import RollbackCause

_log = get_logger("gauntlet.retrainer")


class ControlClient:
    """The record as it was last read or written, and its version (0 before the experiment has begun)."""

    def __init__(self, state: StateStore, experiment: str) -> None:
        self._state = state
        self._experiment = experiment
        self._record: Control | None = None
        self.version = 0

    @property
    def record(self) -> Control:
        """Raises `StateUnavailable` while there is no record."""
        if self._record is None:
            raise StateUnavailable(f"there is no control record of {self._experiment}", code="unknown_experiment")
        return self._record

    async def refresh(self) -> bool:
        """Read the record; False while there is none."""
        self.version, self._record = await control.read(self._state, self._experiment)
        return self._record is not None

    async def apply(self, command: Command, at: float, cause: RollbackCause, arrived: float) -> bool:
        """Put a command into force; False, with the record read again, where the state machine refuses it.

        `at` is the event's time, `arrived` the monotonic time at which the event was read, for the time to rollback.
        """
        try:
            self.version, self._record, changed = await control.change(
                self._state, self._experiment, command, at, cause=cause, since=arrived
            )
        except TransitionRefused as refusal:
            _log.info("command_refused", command=command.name, code=refusal.code, reason=refusal, next="decided again")
            await self.refresh()
            return False
        if changed:
            _log.info("decision_in_force", command=command.name, version=self.version, reason=command.reason)
        return True
