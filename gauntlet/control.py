"""The control record in the state store: changed only by compare-and-set, through the rollout state machine.

Invariant: every accepted change is in the record's history, and is counted once, by the process that made it.
"""

from __future__ import annotations

import time

import msgspec

from gauntlet import keys, telemetry, transitions
from gauntlet.errors import Conflict, TransitionRefused
from gauntlet.rollout import Command, Control
from gauntlet.state import StateStore, decoded
from gauntlet.telemetry import RollbackCause
from gauntlet.types import Decision

_TRIES = 20  # each lost race is another writer's success; so many in a row are a fault and no contention


async def read(store: StateStore, experiment: str) -> tuple[int, Control | None]:
    """The record's version and the record; `(0, None)` before the first start."""
    key = keys.control(experiment)
    version, value = await store.get(key)
    return version, decoded(key, value, Control) if version else None


async def history(store: StateStore, experiment: str, after: int = 0) -> list[tuple[int, Control]]:
    """Every accepted version later than `after`, oldest first: the audit of this experiment."""
    key = keys.control(experiment)
    return [(version, decoded(key, value, Control)) for version, value in await store.history(key, after)]


async def create(store: StateStore, control: Control) -> tuple[int, Control]:
    """Write the first record, or return the one that is there."""
    try:
        version = await store.put(keys.control(control.experiment), msgspec.json.encode(control), 0, keep=True)
    except Conflict:
        version, found = await read(store, control.experiment)
        assert found is not None, "a conflict on creation means that there is a record"
        return version, found
    return version, control


async def restore(store: StateStore, version: int, control: Control) -> bool:
    """Put back a record that the store has lost; False where it has that version or a later one."""
    return await store.restore(keys.control(control.experiment), msgspec.json.encode(control), version)


async def change(
    store: StateStore,
    experiment: str,
    command: Command,
    now: float,
    *,
    cause: RollbackCause = "operator",
    since: float | None = None,
) -> tuple[int, Control, bool]:
    """Apply `command` to the current record; return its version, the record and whether anything changed.

    A lost race reads the record again and lets the state machine decide again, so no command acts on a stale record.
    A decision that is in force is counted here and nowhere else: a rollback with its `cause` and the time since
    `since`, the monotonic time of the deciding event (default: the call).
    Raises `TransitionRefused`, `Conflict` (after many lost races) or `StateUnavailable`.
    """
    since = time.monotonic() if since is None else since
    for _ in range(_TRIES):
        version, control = await read(store, experiment)
        if control is None:
            raise TransitionRefused(f"there is no experiment {experiment!r}", code="unknown_experiment")
        after = transitions.apply(control, command, now)
        if after is control:
            return version, control, False
        try:
            version = await store.put(keys.control(experiment), msgspec.json.encode(after), version, keep=True)
        except Conflict:
            continue
        _count(after, cause, time.monotonic() - since)
        return version, after, True
    raise Conflict(
        f"{command.name}: others changed the control record of {experiment} {_TRIES} times meanwhile; try again"
    )


def _count(control: Control, cause: RollbackCause, seconds: float) -> None:
    assert control.last is not None, "every change leaves a transition"
    telemetry.DECISIONS.labels(control.experiment, control.last.decision).inc()
    if control.last.decision is Decision.ROLLBACK:
        telemetry.ROLLBACKS.labels(control.experiment, cause).inc()
        telemetry.TIME_TO_ROLLBACK.labels(control.experiment).observe(seconds)
