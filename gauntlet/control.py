"""The control record in the state store: read it, and change it by compare-and-set through the rollout state
machine."""

from __future__ import annotations

import msgspec

from gauntlet import keys, rollout
from gauntlet.errors import Conflict, TransitionRefused
from gauntlet.rollout import Command, Control
from gauntlet.state import StateStore

_TRIES = 20  # each lost race means that somebody else got through, so this many in a row is not contention but a fault

_decoder = msgspec.json.Decoder(Control)


async def read(store: StateStore, experiment: str) -> tuple[int, Control | None]:
    """The record's version and the record; `(0, None)` before the first start."""
    version, value = await store.get(keys.control(experiment))
    return version, _decoder.decode(value) if version else None


async def history(store: StateStore, experiment: str, after: int = 0) -> list[tuple[int, Control]]:
    """Every accepted version later than `after`, oldest first: the audit of this experiment."""
    return [(v, _decoder.decode(value)) for v, value in await store.history(keys.control(experiment), after)]


async def create(store: StateStore, control: Control) -> tuple[int, Control]:
    """Write the first record, or return the one that is there."""
    try:
        version = await store.put(keys.control(control.experiment), msgspec.json.encode(control), 0, keep=True)
    except Conflict:
        version, found = await read(store, control.experiment)
        assert found is not None, "a conflict on creation means that there is a record"
        return version, found
    return version, control


async def change(store: StateStore, experiment: str, command: Command, now: float) -> tuple[int, Control, bool]:
    """Apply `command` to the record as it is now; return its version, the record and whether anything changed.

    A lost race reads the record again and lets the state machine decide anew, so a command never acts on old news.
    Raises `TransitionRefused`, `Conflict` (after many lost races) or `StateUnavailable`.
    """
    for _ in range(_TRIES):
        version, control = await read(store, experiment)
        if control is None:
            raise TransitionRefused(f"there is no experiment {experiment!r}", code="unknown_experiment")
        after = rollout.apply(control, command, now)
        if after is control:
            return version, control, False
        try:
            version = await store.put(keys.control(experiment), msgspec.json.encode(after), version, keep=True)
        except Conflict:
            continue
        return version, after, True
    raise Conflict(f"{command.name} lost {_TRIES} races on the control record of {experiment}")
