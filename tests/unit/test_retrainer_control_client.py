"""The control record as the retrainer uses it: read once a turn, and again where a command is refused."""

from __future__ import annotations

import pytest
from builders.evaluator_events import MemoryState

from gauntlet import control
from gauntlet.errors import StateUnavailable
from gauntlet.rollout import Command, Stage, begin
from retrainer.control_client import ControlClient

pytestmark = pytest.mark.asyncio

STAGES = tuple(Stage(share=share, min_seconds=0.0) for share in (0.01, 0.1))


def command(name: str, **fields: object) -> Command:
    return Command(**({"name": name, "actor": "t", "reason": "r", **fields}))  # type: ignore[arg-type]


async def challenged() -> tuple[MemoryState, ControlClient]:
    state = MemoryState()
    await control.create(state, begin("e", "v1", 0.0))
    client = ControlClient(state, "e")
    assert await client.refresh()
    challenge = command("challenge", version="v2", shadow=Stage(share=0.0, min_seconds=0.0), stages=STAGES)
    assert await client.apply(challenge, 1.0, "evidence", 0.0)
    return state, client


async def test_without_a_record_there_is_nothing_to_decide_on() -> None:
    client = ControlClient(MemoryState(), "e")
    assert not await client.refresh()
    with pytest.raises(StateUnavailable, match="no control record of e"):
        _ = client.record


async def test_what_is_applied_is_the_record_from_then_on() -> None:
    _, client = await challenged()
    assert (client.version, client.record.rollouts[0].challenger) == (2, "v2")


async def test_a_command_refused_on_an_old_record_leaves_the_new_one_to_decide_on() -> None:
    """Somebody else has moved the rollout on since the turn began."""
    state, client = await challenged()
    await control.change(state, "e", command("advance"), 2.0)
    assert client.version == 2
    assert not await client.apply(command("advance", from_stage=-1, rollout="e-r0001"), 3.0, "evidence", 0.0)
    assert (client.version, client.record.rollouts[0].stage) == (3, 0)
    assert await client.apply(command("advance", from_stage=0, rollout="e-r0001"), 3.0, "evidence", 0.0)
