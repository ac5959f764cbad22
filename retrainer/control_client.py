"""Commands given to the rollout state machine in the retrainer's name, each counted and logged once it is in force."""

from __future__ import annotations

import logging

from gauntlet import control as records
from gauntlet.errors import StateUnavailable, TransitionRefused
from gauntlet.rollout import Command, Control
from gauntlet.state import StateStore
from gauntlet.telemetry import Cause

_log = logging.getLogger(__name__)


class Orders:
    """One experiment's control record, as the retrainer reads and changes it."""

    def __init__(self, store: StateStore, experiment: str) -> None:
        self._store = store
        self._experiment = experiment

    async def control(self) -> tuple[int, Control]:
        """The record as it is now. Raises `StateUnavailable`, also when it is gone."""
        version, control = await records.read(self._store, self._experiment)
        if control is None:
            raise StateUnavailable(f"there is no control record of {self._experiment}", code="unknown_experiment")
        return version, control

    async def give(self, command: Command, at: float, cause: Cause, arrived: float) -> Control | None:
        """Put a command into force by compare-and-set; None when the state machine refuses it (normal: old news).

        `at` is the event's time, `arrived` the monotonic time at which the event was read, for the time to rollback.
        """
        try:
            version, control, changed = await records.change(
                self._store, self._experiment, command, at, cause=cause, since=arrived
            )
        except TransitionRefused as refusal:
            _log.info("%s refused (%s): %s", command.name, refusal.code, refusal)
            return None
        if changed:
            _log.info("decision %s in force as version %d: %s", command.name, version, command.reason)
        return control
