"""The reverse holdout's units: as many as declared, sticky, only such as had the champion before, and nobody else
moves."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet import rollout, transitions
from gauntlet.rollout import Command, Control, Stage
from router import assignment
from router.routing_table import Challenger, RoutingTable

UNITS = [f"u{i}" for i in range(4000)]
STAGES = (Stage(share=0.1, min_seconds=0.0), Stage(share=0.3, min_seconds=0.0))


def order(record: Control, name: str, **more: Any) -> Control:
    command = Command(name=name, actor="a", reason="r", shadow=Stage(share=0.0, min_seconds=0.0), stages=STAGES, **more)
    return transitions.apply(record, command, 1.0)


def model(version: str) -> Any:
    return SimpleNamespace(version=version)


def answers(record: Control) -> dict[str, str]:
    """Which version each unit gets, by the routing table of this record."""
    challengers = tuple(Challenger(r, model(r.challenger), record) for r in record.rollouts)
    previous = model(record.previous) if record.promotion and record.previous else None
    table = RoutingTable(1, record, model(record.champion), challengers, previous, 1.0)
    found = {}
    for unit in UNITS:
        if table.holdout and table.holdout.draw(unit).drawn:
            found[unit] = table.holdout.model.version
        else:
            challenger = table.assigned(assignment.bucket(table.salt, unit))
            found[unit] = challenger.model.version if challenger else record.champion
    return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    share=st.sampled_from([0.01, 0.05, 0.2, 0.5]),
    stage=st.integers(0, 1),
    name=st.text("abcdef", min_size=1, max_size=6),
)
def test_who_stays_had_the_champion_before_and_nobody_else_moves(share: float, stage: int, name: str) -> None:
    on_ramp = order(order(rollout.begin(name, "v1", 0.0), "challenge", version="v2"), "ramp", stage=stage)
    before = answers(on_ramp)
    promoted = order(on_ramp, "promote", watch_seconds=100.0, holdout=share)
    after = answers(promoted)
    held = {unit for unit, version in after.items() if version == "v1"}
    assert abs(len(held) - len(UNITS) * share) < 3 * math.sqrt(len(UNITS) * share * (1 - share))
    assert all(before[unit] == "v1" for unit in held), "they stay"
    assert {after[unit] for unit in UNITS if unit not in held} == {"v2"}

    challenged = order(order(promoted, "challenge", version="v3"), "ramp", stage=stage, rollout=f"{name}-r0002")
    now = answers(challenged)
    assert {unit for unit, version in now.items() if version == "v1"} == held, "sticky while others come"
    assert challenged.allocation > promoted.allocation > on_ramp.allocation
    grown = answers(order(challenged, "ramp", stage=1))
    assert all(grown[unit] == version for unit, version in now.items() if version != "v2")

    closed = order(order(challenged, "confirm"), "close")
    assert closed.allocation == challenged.allocation + 1, "who is served by whom has changed"
    over = answers(closed)
    assert {unit for unit in UNITS if over[unit] != now[unit]} == held, "only those who were held out move"
    back = answers(order(challenged, "rollback", version="v1"))
    assert set(back.values()) == {"v1"}


def test_without_a_holdout_everybody_gets_the_new_champion() -> None:
    on_ramp = order(order(rollout.begin("e", "v1", 0.0), "challenge", version="v2"), "ramp", stage=0)
    assert set(answers(order(on_ramp, "promote", watch_seconds=100.0)).values()) == {"v2"}
    assert set(answers(order(on_ramp, "promote", holdout=0.5)).values()) == {"v2"}, "no watch, no holdout"
