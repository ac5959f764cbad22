"""The rollout state machine: every command in every state, what it guards against, and its change under contention."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest
from builders.samples import sample

from gauntlet import control, rollout, telemetry
from gauntlet.errors import Conflict, TransitionRefused
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Stage
from gauntlet.state import Versioned
from gauntlet.state.local import LocalState
from gauntlet.types import Decision

RAMP = tuple(Stage(share=share, min_seconds=60) for share in (0.01, 0.05, 0.1))
SHADOW = Stage(share=0.0, min_seconds=60)


def order(name: str, **given: object) -> Command:
    if name == "challenge":
        given = {"version": "v2", "shadow": SHADOW, "stages": RAMP, **given}
    if name == "promote":
        given = {"bake_seconds": 100.0, "reference": {"accuracy": 0.9}, **given}
    return Command(name=name, actor="ann", reason="because", **given)  # type: ignore[arg-type]


def after(record: Control, *commands: Command, now: float = 10.0) -> Control:
    for command in commands:
        record = rollout.apply(record, command, now)
    return record


def refused(record: Control, command: Command) -> str:
    with pytest.raises(TransitionRefused) as caught:
        rollout.apply(record, command, 20.0)
    return caught.value.code


FRESH = rollout.begin("e", "v1", 0.0)
IN_SHADOW = after(FRESH, order("challenge"))
FIRST = after(IN_SHADOW, order("advance"))
LAST = after(FIRST, order("ramp", stage=2))
PAUSED = after(FIRST, order("pause"))
BAKING = after(LAST, order("promote"))
SETTLED = after(BAKING, order("confirm"))
ROLLED_BACK = after(FIRST, order("rollback"))
ARCHIVED = after(FIRST, order("archive"))
REVERTED = after(BAKING, order("rollback"))
BAKING_AND_RUNNING = after(BAKING, order("challenge", version="v3"), order("advance"))

STATES = {
    "fresh": FRESH,
    "shadow": IN_SHADOW,
    "first": FIRST,
    "last": LAST,
    "paused": PAUSED,
    "baking": BAKING,
    "settled": SETTLED,
    "rolled_back": ROLLED_BACK,
    "archived": ARCHIVED,
    "reverted": REVERTED,
    "both": BAKING_AND_RUNNING,
}

# What each command does in each state: "does" changes the record, "same" leaves the very record, else a refusal's code.
COMMANDS = {
    "challenge": order("challenge"),
    "advance": order("advance"),
    "ramp": order("ramp", stage=0),
    "pause": order("pause"),
    "resume": order("resume"),
    "approve": order("approve"),
    "promote": order("promote"),
    "rollback": order("rollback"),
    "abort": order("abort"),
    "archive": order("archive"),
    "confirm": order("confirm"),
}
NONE = dict.fromkeys(("advance", "ramp", "pause", "resume", "approve", "promote", "abort", "archive"), "no_rollout")
RUNS = {
    "challenge": "same",
    "advance": "does",
    "ramp": "same",
    "pause": "does",
    "resume": "same",
    "approve": "does",
    "promote": "does",
    "rollback": "does",
    "abort": "does",
    "archive": "does",
    "confirm": "same",
}
TABLE = {
    "fresh": {**NONE, "challenge": "does", "rollback": "no_previous", "confirm": "same"},
    "shadow": {**RUNS, "ramp": "does"},
    "first": RUNS,
    "last": {**RUNS, "advance": "last_stage", "ramp": "does"},
    "paused": {**RUNS, "advance": "paused", "pause": "same", "resume": "does"},
    "baking": {**NONE, "challenge": "already_champion", "promote": "same", "rollback": "does", "confirm": "does"},
    "settled": {**NONE, "challenge": "already_champion", "promote": "same", "rollback": "does", "confirm": "same"},
    "rolled_back": {
        **NONE,
        "challenge": "does",
        "rollback": "same",
        "abort": "same",
        "archive": "same",
        "confirm": "same",
    },
    "archived": {
        **NONE,
        "challenge": "does",
        "rollback": "no_previous",
        "abort": "same",
        "archive": "same",
        "confirm": "same",
    },
    "reverted": {
        **NONE,
        "challenge": "does",
        "rollback": "same",
        "abort": "same",
        "archive": "same",
        "confirm": "same",
    },
    "both": {**RUNS, "challenge": "rollout_running", "confirm": "does"},
}


def test_the_table_is_whole() -> None:
    assert set(COMMANDS) == set(rollout.TRANSITIONS)
    assert set(TABLE) == set(STATES)
    assert all(set(row) == set(COMMANDS) for row in TABLE.values())


@pytest.mark.parametrize(("state", "command"), [(s, c) for s in TABLE for c in TABLE[s]])
def test_every_command_in_every_state(state: str, command: str) -> None:
    record, wish, expected = STATES[state], COMMANDS[command], TABLE[state][command]
    if expected not in ("does", "same"):
        assert refused(record, wish) == expected
        return
    changed = rollout.apply(record, wish, 20.0)
    assert (changed is record) == (expected == "same")
    if expected == "does":
        assert changed != record
        assert changed.last is not None
        assert (changed.last.command, changed.last.actor, changed.last.reason, changed.last.at) == (
            command,
            "ann",
            "because",
            20.0,
        )
        assert msgspec.json.decode(msgspec.json.encode(changed), type=Control) == changed
        if command != "advance":  # which asks for one step more, and is therefore sent with its stage
            assert rollout.apply(changed, wish, 30.0) is changed, "said twice, it changes once"


def test_unknown_commands_and_missing_reasons_are_refused() -> None:
    assert refused(FIRST, order("explode")) == "unknown_command"
    assert refused(FIRST, Command(name="rollback", actor="ann", reason=" ")) == "reason_missing"


def test_a_rollout_from_first_to_last() -> None:
    assert (FRESH.champion, FRESH.share, FRESH.allocation) == ("v1", 0.0, 1)
    assert IN_SHADOW.rollout is not None
    assert (IN_SHADOW.rollout.id, IN_SHADOW.rollout.stage, IN_SHADOW.share) == ("e-r0001", SHADOW_STAGE, 0.0)
    assert IN_SHADOW.rollout.gate is IN_SHADOW.rollout.shadow
    assert (FIRST.share, LAST.share) == (0.01, 0.1)
    assert [r.allocation for r in (FRESH, IN_SHADOW, FIRST, LAST, BAKING, SETTLED)] == [1, 2, 3, 4, 5, 5]
    assert (BAKING.champion, BAKING.previous, BAKING.rollout, BAKING.share) == ("v2", "v1", None, 0.0)
    assert BAKING.bake == rollout.Bake(rollout="e-r0001", since=10.0, until=110.0, reference={"accuracy": 0.9})
    assert [(e.id, e.state, e.champion, e.challenger) for e in BAKING.ended] == [("e-r0001", "promoted", "v1", "v2")]
    assert after(LAST, order("promote", bake_seconds=0.0)).bake is None
    assert SETTLED.bake is None
    decisions = [r.last.decision for r in (FIRST, BAKING, ROLLED_BACK, ARCHIVED, PAUSED) if r.last]
    assert decisions == [Decision.ADVANCE, Decision.PROMOTE, Decision.ROLLBACK, Decision.ARCHIVE, Decision.HOLD]


def test_stepping_sets_the_time_and_stepping_down_is_no_advance() -> None:
    down = rollout.apply(LAST, order("ramp", stage=SHADOW_STAGE), 77.0)
    assert down.rollout is not None
    assert down.last is not None
    assert (down.share, down.rollout.stage_since, down.rollout.started_at) == (0.0, 77.0, 10.0)
    assert (down.last.decision, down.last.detail) == (Decision.HOLD, "10.00% → 0.00%")
    for stage in (-2, 3, None):
        assert refused(FIRST, order("ramp", stage=stage)) == "no_such_stage"


def test_a_gate_with_approval_waits_for_it() -> None:
    gated = msgspec.structs.replace(RAMP[0], approval=True)
    record = after(FRESH, order("challenge", stages=(gated, *RAMP[1:])), order("advance"))
    assert refused(record, order("advance")) == "approval_missing"
    approved = after(record, order("approve"))
    assert after(approved, order("advance")).share == 0.05
    assert rollout.apply(approved, order("approve"), 30.0) is approved


def test_pause_keeps_the_share_and_harm_still_ends_it() -> None:
    assert PAUSED.share == FIRST.share
    assert after(PAUSED, order("rollback")).share == 0.0
    assert after(PAUSED, order("resume"), order("advance")).share == 0.05


@pytest.mark.parametrize("name", ["advance", "ramp", "pause", "resume", "approve", "promote", "rollback", "archive"])
def test_a_command_that_names_a_rollout_never_hits_another(name: str) -> None:
    assert refused(FIRST, order(name, rollout="e-r0009", stage=1)) == "stale_command"


@pytest.mark.parametrize("name", ["advance", "ramp", "pause", "resume", "approve", "promote", "archive"])
def test_a_command_for_an_earlier_stage_is_old_news(name: str) -> None:
    assert refused(LAST, order(name, from_stage=0, stage=1)) == "stale_command"


def test_harm_seen_in_an_earlier_stage_rolls_back_all_the_same() -> None:
    assert after(LAST, order("rollback", rollout="e-r0001", from_stage=0)).rollout is None


def test_challenge_says_what_it_lacks() -> None:
    for lack in ({"version": None}, {"shadow": None}, {"stages": ()}):
        assert refused(FRESH, order("challenge", **lack)) == "incomplete_command"


class TestRollback:
    def test_takes_the_challenger_out_and_leaves_the_champion(self) -> None:
        assert (ROLLED_BACK.champion, ROLLED_BACK.share, ROLLED_BACK.rollout) == ("v1", 0.0, None)
        assert ROLLED_BACK.ended[-1].state == "rolled_back"

    def test_said_twice_it_does_not_take_the_champion_out_too(self) -> None:
        twice = after(BAKING_AND_RUNNING, order("rollback"), order("rollback"), order("rollback"))
        assert twice.champion == "v2"

    def test_said_twice_after_a_promotion_it_does_not_bring_the_bad_one_back(self) -> None:
        assert (REVERTED.champion, REVERTED.previous, REVERTED.bake) == ("v1", "v2", None)
        assert [e.state for e in REVERTED.ended] == ["rolled_back"]
        assert rollout.apply(REVERTED, order("rollback"), 30.0) is REVERTED
        assert rollout.apply(REVERTED, order("rollback", rollout="e-r0001"), 30.0) is REVERTED

    def test_after_the_bake_it_still_goes_back(self) -> None:
        assert after(SETTLED, order("rollback")).champion == "v1"

    def test_to_the_champion_itself_ends_the_rollout(self) -> None:
        back = after(FIRST, order("rollback", version="v1"))
        assert (back.champion, back.rollout, back.share, back.ended[-1].state) == ("v1", None, 0.0, "rolled_back")
        assert rollout.apply(back, order("rollback", version="v1"), 30.0) is back

    def test_to_a_version_ends_the_rollout_and_the_bake(self) -> None:
        back = after(BAKING_AND_RUNNING, order("rollback", version="v0"))
        assert (back.champion, back.previous, back.rollout, back.bake, back.share) == ("v0", "v2", None, None, 0.0)
        assert [(e.id, e.state) for e in back.ended] == [("e-r0001", "rolled_back"), ("e-r0002", "rolled_back")]

    def test_of_a_watched_promotion_ends_the_rollout_that_began_since(self) -> None:
        back = after(BAKING_AND_RUNNING, order("rollback", rollout="e-r0001"))
        assert (back.champion, back.rollout, back.share) == ("v1", None, 0.0)

    def test_of_an_ended_rollout_leaves_its_successor_alone(self) -> None:
        again = after(ROLLED_BACK, order("challenge", version="v3"), order("advance"))
        assert rollout.apply(again, order("rollback", rollout="e-r0001"), 30.0) is again

    def test_of_a_promotion_that_another_followed_is_stale_even_with_a_version(self) -> None:
        second = after(BAKING_AND_RUNNING, order("promote"))
        assert second.champion == "v3"
        for version in (None, "v1"):
            assert refused(second, order("rollback", rollout="e-r0001", version=version)) == "stale_command"


def test_settling_an_earlier_bake_leaves_the_later_one() -> None:
    second = after(BAKING_AND_RUNNING, order("promote"))
    assert rollout.apply(second, order("confirm", rollout="e-r0001"), 30.0) is second
    assert after(second, order("confirm", rollout="e-r0002")).bake is None


def test_only_the_latest_fifty_ends_are_kept() -> None:
    record = FRESH
    for _ in range(60):
        record = after(record, order("challenge"), order("rollback"))
    assert [e.id for e in record.ended] == [f"e-r{n:04d}" for n in range(11, 61)]


class Racing:
    """A store in which somebody else gets through before each of the first `races` puts."""

    def __init__(self, inner: LocalState, other: LocalState, commands: list[Command]) -> None:
        self._inner, self._other, self._commands = inner, other, commands

    async def get(self, key: str) -> Versioned:
        return await self._inner.get(key)

    async def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        if self._commands:
            await control.change(self._other, "e", self._commands.pop(0), 15.0)
        return await self._inner.put(key, value, expected, keep=keep)


class TestContention:
    @pytest.fixture
    async def stores(self, tmp_path: Path):  # type: ignore[no-untyped-def]
        stores = [LocalState(tmp_path / "s.db") for _ in range(2)]
        await control.create(stores[0], FRESH)
        yield stores
        for store in stores:
            await store.close()

    async def test_the_first_record_is_made_once(self, stores: list[LocalState]) -> None:
        version, found = await control.create(stores[1], rollout.begin("e", "v9", 1.0))
        assert (version, found) == (1, FRESH)
        assert await control.read(stores[1], "other") == (0, None)
        with pytest.raises(TransitionRefused, match="no experiment") as caught:
            await control.change(stores[0], "other", order("rollback"), 1.0)
        assert caught.value.code == "unknown_experiment"

    async def test_a_lost_race_decides_anew(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("rollback")])
        with pytest.raises(TransitionRefused) as caught:  # it was decided in shadow, and the rollback came first
            await control.change(racing, "e", order("advance", rollout="e-r0001", from_stage=-1), 11.0)  # type: ignore[arg-type]
        assert caught.value.code == "no_rollout"
        version, record = await control.read(stores[0], "e")
        assert record is not None
        assert (version, record.share, record.rollout) == (3, 0.0, None)

    async def test_a_lost_race_to_the_same_effect_changes_nothing(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("rollback")])
        version, record, changed = await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert (version, record.rollout, changed) == (3, None, False)

    async def test_each_change_in_force_is_counted_once_and_a_rollback_with_its_cause(
        self, stores: list[LocalState]
    ) -> None:
        def counts() -> tuple[float | None, ...]:
            return (
                sample("gauntlet_decisions_total", experiment="e", decision="rollback"),
                sample("gauntlet_rollback_total", experiment="e", cause="breaker"),
                sample("gauntlet_time_to_rollback_seconds_count", experiment="e"),
            )

        telemetry.initialise("e", "router")
        before = counts()
        await control.change(stores[0], "e", order("challenge"), 10.0)
        assert counts() == before
        racing = Racing(stores[0], stores[1], [order("ramp", stage=1)])
        for _ in range(2):  # the second changes nothing
            await control.change(racing, "e", order("rollback"), 11.0, cause="breaker")  # type: ignore[arg-type]
        assert counts() == tuple(count + 1 for count in before if count is not None)

    async def test_a_rollback_wins_against_a_crowd_of_steps(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        crowd = [order("ramp", stage=n % 3) for n in range(10)]
        racing = Racing(stores[0], stores[1], crowd)
        _, record, changed = await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert (record.share, changed, crowd) == (0.0, True, [])

    async def test_races_without_an_end_are_a_conflict(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("ramp", stage=n % 3) for n in range(100)])
        with pytest.raises(Conflict) as caught:
            await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert caught.value.retriable

    async def test_interleaved_changes_are_all_in_the_history_once(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        done = await asyncio.gather(
            *(control.change(stores[n % 2], "e", order("ramp", stage=n % 3), 20.0 + n) for n in range(12))
        )
        kept = await control.history(stores[0], "e")
        assert [version for version, _ in kept] == list(range(1, len(kept) + 1))
        changed = [version for version, _, new in done if new]
        assert sorted(changed) == list(range(3, len(kept) + 1))
        for (_, before), (_, record) in itertools.pairwise(kept):
            assert record.allocation == before.allocation + 1
        assert [v for v, _ in await control.history(stores[1], "e", after=2)] == list(range(3, len(kept) + 1))
