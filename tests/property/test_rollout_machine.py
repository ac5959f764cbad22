"""Whatever is commanded, in whatever order: the promises of the rollout state machine hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet import rollout
from gauntlet.errors import TransitionRefused
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Stage

VERSIONS = ("v1", "v2", "v3", "v4")
ROLLOUTS = (None, "e-r0001", "e-r0002", "e-r0003")
CHANGES_CHAMPION = ("promote", "rollback")

shares = st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    ramp = draw(shares)
    approval = st.sampled_from([False, False, True])
    return Command(
        name=draw(st.sampled_from([*rollout.TRANSITIONS, "challenge", "advance", "promote", "rollback"])),
        actor="a",
        reason="r",
        rollout=draw(st.sampled_from([None, None, *ROLLOUTS])),
        from_stage=draw(st.sampled_from([None, None, None, -1, 0, 1])),
        stage=draw(st.sampled_from([None, -2, -1, 0, 1, 2, 9])),
        version=draw(st.sampled_from([None, *VERSIONS])),
        shadow=Stage(share=0.0, min_seconds=0, approval=draw(approval)),
        stages=tuple(Stage(share=share / 1000, min_seconds=0, approval=draw(approval)) for share in ramp),
        bake_seconds=draw(st.sampled_from([0.0, 100.0])),
    )


def serving(record: Control) -> tuple[str, str | None, float]:
    return record.champion, record.rollout.challenger if record.rollout else None, record.share


def apply(record: Control, command: Command, now: float) -> Control | None:
    """The record after `command`; None where it is refused."""
    try:
        return rollout.apply(record, command, now)
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
        allowed = {0.0} if after.rollout is None else {0.0, *(stage.share for stage in after.rollout.stages)}
        assert after.share in allowed
        if after.rollout is not None and after.rollout.stage == SHADOW_STAGE:
            assert after.share == 0.0
        assert after.allocation - record.allocation == (serving(after) != serving(record))
        if after.champion != record.champion:
            assert wish.name in CHANGES_CHAMPION
            assert after.previous == record.champion
        if after.rollout is not None:
            assert after.rollout.challenger != after.champion
            assert after.rollout.id not in {e.id for e in after.ended}
        ids = [e.id for e in after.ended]
        assert len(set(ids)) == len(ids)
        assert ids[: len(record.ended)] == [e.id for e in record.ended]
        assert after.bake is None or after.bake.rollout in ids
        assert after.rollouts - record.rollouts == (wish.name == "challenge")
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
    if record.rollout is None:
        record = rollout.apply(
            record,
            Command(name="challenge", actor="a", reason="r", version="v9", shadow=last.shadow, stages=last.stages),
            2.0,
        )
    assert record.rollout is not None
    for named in (None, record.rollout.id):
        for version in (None, last.version, record.champion):
            out = rollout.apply(
                record,
                Command(
                    name="rollback", actor="a", reason="r", rollout=named, version=version, from_stage=last.from_stage
                ),
                3.0,
            )
            assert (out.share, out.rollout, out.allocation) == (0.0, None, record.allocation + 1)
            assert (out.ended[-1].id, out.ended[-1].state) == (record.rollout.id, "rolled_back")
            assert out.champion == (version or record.champion)
