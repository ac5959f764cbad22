"""Whatever is commanded, in whatever order: the promises of the rollout state machine hold."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet import rollout, transitions
from gauntlet.errors import TransitionRefused
from gauntlet.rollout import Command, Control, Stage
from gauntlet.types import Rule

VERSIONS = ("v1", "v2", "v3", "v4")
ROLLOUTS = (None, "e-r0001", "e-r0002", "e-r0003")
CHANGES_CHAMPION = ("promote", "rollback")

shares = st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    ramp = draw(shares)
    approval = st.sampled_from([False, False, True])
    return Command(
        name=draw(st.sampled_from([*transitions.TRANSITIONS, "challenge", "advance", "promote", "rollback"])),
        actor="a",
        reason="r",
        rollout=draw(st.sampled_from([None, None, *ROLLOUTS])),
        from_stage=draw(st.sampled_from([None, None, None, -1, 0, 1])),
        stage=draw(st.sampled_from([None, -2, -1, 0, 1, 2, 9])),
        version=draw(st.sampled_from([None, *VERSIONS])),
        recipe=draw(st.sampled_from([None, "a", "b"])),
        rule=draw(st.sampled_from(list(Rule))),
        most=draw(st.integers(1, 3)),
        slots=draw(st.integers(1, 3)),
        weight=draw(st.sampled_from([1.0, 0.5, 0.01, 0.0, 1.5])),
        shadow=Stage(share=0.0, min_seconds=0, approval=draw(approval)),
        stages=tuple(Stage(share=share / 1000, min_seconds=0, approval=draw(approval)) for share in ramp),
        bake_seconds=draw(st.sampled_from([0.0, 100.0])),
        watch_seconds=draw(st.sampled_from([0.0, 50.0, 300.0])),
    )


def serving(record: Control) -> tuple[object, ...]:
    return record.champion, *((r.challenger, r.share) for r in record.rollouts)


def ranges(record: Control) -> list[tuple[float, float]]:
    """The part of the buckets that each challenger on the ramp has."""
    starts = [((r.slot or 0) / record.slots, r.share) for r in record.on_ramp]
    return sorted((start, start + share) for start, share in starts)


def apply(record: Control, command: Command, now: float) -> Control | None:
    """The record after `command`; None where it is refused."""
    try:
        return transitions.apply(record, command, now)
    except TransitionRefused as error:
        refused = error.code
    assert refused != "transition_refused", "a refusal names its own reason"
    return None


@settings(max_examples=300, deadline=None)
@given(st.lists(commands(), max_size=30))
def test_the_promises_hold_in_any_order_of_commands(wishes: list[Command]) -> None:
    record = rollout.begin("e", "v1", 0.0)
    for now, wish in enumerate(wishes, start=1):
        after = apply(record, wish, float(now))
        if after is None or after is record:
            continue
        for running in after.rollouts:
            assert running.in_shadow == (running.slot is None)
            assert running.challenger != after.champion
            assert running.share <= running.gate.share, "nobody has more than its stage allows"
            assert running.in_shadow or running.share > 0
            assert running.id not in {e.id for e in after.ended}
            before = record.running(running.id)
            if before is not None and before.slot is not None and running.slot is not None:
                assert (running.slot, after.slots, after.salt) == (before.slot, record.slots, record.salt)
        taken = ranges(after)
        assert all(end <= start + 1e-9 for (_, end), (start, _) in itertools.pairwise(taken)), "shares do not overlap"
        assert not taken or taken[-1][1] <= 1 + 1e-9
        assert len({r.challenger for r in after.rollouts}) == len({r.id for r in after.rollouts}) == len(after.rollouts)
        if serving(after) == serving(record):
            assert after.allocation - record.allocation in (0, 1)
        else:
            assert after.allocation == record.allocation + 1
        if after.champion != record.champion:
            assert wish.name in CHANGES_CHAMPION
            assert after.previous == record.champion
        ids = [e.id for e in after.ended]
        assert len(set(ids)) == len(ids)
        assert ids[: len(record.ended)] == [e.id for e in record.ended]
        assert after.bake is None or after.bake.rollout in ids
        assert (after.promotion is None) or (after.promotion.rollout in ids and after.previous is not None)
        if after.bake is not None:
            assert after.promotion is not None
            assert (after.promotion.rollout, after.promotion.since) == (after.bake.rollout, after.bake.since)
            assert after.promotion.until >= after.bake.until
        assert after.begun - record.begun == len({r.id for r in after.rollouts} - {r.id for r in record.rollouts})
        record = after


@settings(max_examples=300, deadline=None)
@given(st.lists(commands(), max_size=12), commands())
def test_a_command_said_twice_changes_once(wishes: list[Command], wish: Command) -> None:
    """All but a bare `advance`, which asks for one step more each time and is therefore sent with its stage."""
    record = rollout.begin("e", "v1", 0.0)
    for step in wishes:
        record = apply(record, step, 1.0) or record
    after = apply(record, wish, 2.0)
    if after is None or after is record or (wish.name == "advance" and wish.from_stage is None):
        return
    again = apply(after, wish, 3.0)
    assert again is None or again is after


@settings(max_examples=300, deadline=None)
@given(st.lists(commands(), max_size=12), commands())
def test_a_rollback_never_fails_while_a_rollout_runs(wishes: list[Command], last: Command) -> None:
    record = rollout.begin("e", "v1", 0.0)
    for step in wishes:
        record = apply(record, step, 1.0) or record
    if not record.rollouts:
        wish = Command(name="challenge", actor="a", reason="r", version="v9", shadow=last.shadow, stages=last.stages)
        record = transitions.apply(record, wish, 2.0)
    for version in (None, last.version, record.champion):
        out = transitions.apply(record, rolled_back(None, version, last), 3.0)
        assert (out.share, out.rollouts, out.allocation) == (0.0, (), record.allocation + 1)
        ends = {(e.id, e.state) for e in out.ended}
        assert {(r.id, "rolled_back") for r in record.rollouts} <= ends
        assert out.champion == (version or record.champion)
    for running in record.rollouts:
        out = transitions.apply(record, rolled_back(running.id, None, last), 3.0)
        assert out.rollouts == tuple(r for r in record.rollouts if r is not running)
        assert (out.ended[-1].id, out.ended[-1].state) == (running.id, "rolled_back")


def rolled_back(named: str | None, version: str | None, like: Command) -> Command:
    return Command(name="rollback", actor="a", reason="r", rollout=named, version=version, from_stage=like.from_stage)
