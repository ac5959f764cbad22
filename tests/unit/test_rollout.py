"""The rollout state machine: every command in every state, and what it guards against."""

from __future__ import annotations

import msgspec
import pytest

from gauntlet import rollout, transitions
from gauntlet.errors import TransitionRefused
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Rollout, Stage
from gauntlet.types import Decision, Rule

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
        record = transitions.apply(record, command, now)
    return record


def refused(record: Control, command: Command) -> str:
    with pytest.raises(TransitionRefused) as caught:
        transitions.apply(record, command, 20.0)
    return caught.value.code


def only(record: Control) -> Rollout:
    (running,) = record.rollouts
    return running


FRESH = rollout.begin("e", "v1", 0.0)
IN_SHADOW = after(FRESH, order("challenge"))
FIRST = after(IN_SHADOW, order("advance"))
LAST = after(FIRST, order("ramp", stage=2))
PAUSED = after(FIRST, order("pause"))
BAKING = after(LAST, order("promote"))
SETTLED = after(BAKING, order("confirm"))
CLOSED = after(SETTLED, order("close"))
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
    "closed": CLOSED,
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
    "allocate": order("allocate", weight=0.5),
    "pause": order("pause"),
    "resume": order("resume"),
    "approve": order("approve"),
    "extend": order("extend"),
    "promote": order("promote"),
    "rollback": order("rollback"),
    "abort": order("abort"),
    "archive": order("archive"),
    "confirm": order("confirm"),
    "close": order("close"),
}
NONE = dict.fromkeys(
    ("advance", "ramp", "allocate", "pause", "resume", "approve", "extend", "promote", "abort", "archive"), "no_rollout"
)
RUNS = {
    "challenge": "same",
    "advance": "does",
    "ramp": "same",
    "allocate": "does",
    "pause": "does",
    "resume": "same",
    "approve": "does",
    "extend": "does",
    "promote": "does",
    "rollback": "does",
    "abort": "does",
    "archive": "does",
    "confirm": "same",
}
TABLE = {
    "fresh": {**NONE, "challenge": "does", "rollback": "no_previous", "confirm": "same"},
    "shadow": {**RUNS, "ramp": "does", "allocate": "in_shadow"},
    "first": RUNS,
    "last": {**RUNS, "advance": "last_stage", "ramp": "does"},
    "paused": {**RUNS, "advance": "paused", "allocate": "paused", "pause": "same", "resume": "does"},
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
    "both": {**RUNS, "challenge": "already_champion", "confirm": "does"},
}
TABLE = {state: {"close": "same", **row} for state, row in TABLE.items()}
TABLE["closed"] = TABLE["settled"]
TABLE["settled"] = {**TABLE["settled"], "close": "does"}  # a bake ends first


def test_the_table_is_whole() -> None:
    assert set(COMMANDS) == set(transitions.TRANSITIONS)
    assert set(TABLE) == set(STATES)
    assert all(set(row) == set(COMMANDS) for row in TABLE.values())


@pytest.mark.parametrize(("state", "command"), [(s, c) for s in TABLE for c in TABLE[s]])
def test_every_command_in_every_state(state: str, command: str) -> None:
    record, wish, expected = STATES[state], COMMANDS[command], TABLE[state][command]
    if expected not in ("does", "same"):
        assert refused(record, wish) == expected
        return
    changed = transitions.apply(record, wish, 20.0)
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
            assert transitions.apply(changed, wish, 30.0) is changed, "said twice, it changes once"


def test_unknown_commands_and_missing_reasons_are_refused() -> None:
    assert refused(FIRST, order("explode")) == "unknown_command"
    assert refused(FIRST, Command(name="rollback", actor="ann", reason=" ")) == "reason_missing"


def test_a_rollout_from_first_to_last() -> None:
    assert (FRESH.champion, FRESH.share, FRESH.allocation) == ("v1", 0.0, 1)
    shadowed = only(IN_SHADOW)
    assert (shadowed.id, shadowed.stage, IN_SHADOW.share) == ("e-r0001", SHADOW_STAGE, 0.0)
    assert shadowed.gate is shadowed.shadow
    assert (FIRST.share, LAST.share) == (0.01, 0.1)
    assert [r.allocation for r in (FRESH, IN_SHADOW, FIRST, LAST, BAKING, SETTLED)] == [1, 2, 3, 4, 5, 5]
    assert (BAKING.champion, BAKING.previous, BAKING.rollouts, BAKING.share) == ("v2", "v1", (), 0.0)
    assert BAKING.bake == rollout.Bake(rollout="e-r0001", since=10.0, until=110.0, reference={"accuracy": 0.9})
    assert [(e.id, e.state, e.champion, e.challenger) for e in BAKING.ended] == [("e-r0001", "promoted", "v1", "v2")]
    assert after(LAST, order("promote", bake_seconds=0.0)).bake is None
    assert SETTLED.bake is None
    decisions = [r.last.decision for r in (FIRST, BAKING, ROLLED_BACK, ARCHIVED, PAUSED) if r.last]
    assert decisions == [Decision.ADVANCE, Decision.PROMOTE, Decision.ROLLBACK, Decision.ARCHIVE, Decision.HOLD]


def test_stepping_sets_the_time_and_stepping_down_is_no_advance() -> None:
    down = transitions.apply(LAST, order("ramp", stage=SHADOW_STAGE), 77.0)
    assert down.last is not None
    assert (down.share, only(down).stage_since, only(down).started_at) == (0.0, 77.0, 10.0)
    assert (down.last.decision, down.last.detail) == (Decision.HOLD, "10.00% → 0.00%")
    for stage in (-2, 3, None):
        assert refused(FIRST, order("ramp", stage=stage)) == "no_such_stage"


def test_a_gate_with_approval_waits_for_it() -> None:
    gated = msgspec.structs.replace(RAMP[0], approval=True)
    record = after(FRESH, order("challenge", stages=(gated, *RAMP[1:])), order("advance"))
    assert refused(record, order("advance")) == "approval_missing"
    approved = after(record, order("approve"))
    assert after(approved, order("advance")).share == 0.05
    assert transitions.apply(approved, order("approve"), 30.0) is approved


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
    assert after(LAST, order("rollback", rollout="e-r0001", from_stage=0)).rollouts == ()


def test_challenge_says_what_it_lacks() -> None:
    for lack in ({"version": None}, {"shadow": None}, {"stages": ()}):
        assert refused(FRESH, order("challenge", **lack)) == "incomplete_command"


class TestRollback:
    def test_takes_the_challenger_out_and_leaves_the_champion(self) -> None:
        assert (ROLLED_BACK.champion, ROLLED_BACK.share, ROLLED_BACK.rollouts) == ("v1", 0.0, ())
        assert ROLLED_BACK.ended[-1].state == "rolled_back"

    def test_said_twice_it_does_not_take_the_champion_out_too(self) -> None:
        twice = after(BAKING_AND_RUNNING, order("rollback"), order("rollback"), order("rollback"))
        assert twice.champion == "v2"

    def test_said_twice_after_a_promotion_it_does_not_bring_the_bad_one_back(self) -> None:
        assert (REVERTED.champion, REVERTED.previous, REVERTED.bake) == ("v1", "v2", None)
        assert [e.state for e in REVERTED.ended] == ["rolled_back"]
        assert transitions.apply(REVERTED, order("rollback"), 30.0) is REVERTED
        assert transitions.apply(REVERTED, order("rollback", rollout="e-r0001"), 30.0) is REVERTED

    def test_after_the_bake_it_still_goes_back(self) -> None:
        assert after(SETTLED, order("rollback")).champion == "v1"

    def test_to_the_champion_itself_ends_the_rollout(self) -> None:
        back = after(FIRST, order("rollback", version="v1"))
        assert (back.champion, back.rollouts, back.share, back.ended[-1].state) == ("v1", (), 0.0, "rolled_back")
        assert transitions.apply(back, order("rollback", version="v1"), 30.0) is back

    def test_to_a_version_ends_the_rollout_and_the_bake(self) -> None:
        back = after(BAKING_AND_RUNNING, order("rollback", version="v0"))
        assert (back.champion, back.previous, back.rollouts, back.bake, back.share) == ("v0", "v2", (), None, 0.0)
        assert [(e.id, e.state) for e in back.ended] == [("e-r0001", "rolled_back"), ("e-r0002", "rolled_back")]

    def test_of_a_watched_promotion_ends_the_rollout_that_began_since(self) -> None:
        back = after(BAKING_AND_RUNNING, order("rollback", rollout="e-r0001"))
        assert (back.champion, back.rollouts, back.share) == ("v1", (), 0.0)

    def test_of_an_ended_rollout_leaves_its_successor_alone(self) -> None:
        again = after(ROLLED_BACK, order("challenge", version="v3"), order("advance"))
        assert transitions.apply(again, order("rollback", rollout="e-r0001"), 30.0) is again

    def test_of_a_promotion_that_another_followed_is_stale_even_with_a_version(self) -> None:
        second = after(BAKING_AND_RUNNING, order("promote"))
        assert second.champion == "v3"
        for version in (None, "v1"):
            assert refused(second, order("rollback", rollout="e-r0001", version=version)) == "stale_command"


def test_settling_an_earlier_bake_leaves_the_later_one() -> None:
    second = after(BAKING_AND_RUNNING, order("promote"))
    assert transitions.apply(second, order("confirm", rollout="e-r0001"), 30.0) is second
    assert after(second, order("confirm", rollout="e-r0002")).bake is None


def test_only_the_latest_fifty_ends_are_kept() -> None:
    record = FRESH
    for _ in range(60):
        record = after(record, order("challenge"), order("rollback"))
    assert [e.id for e in record.ended] == [f"e-r{n:04d}" for n in range(11, 61)]


def many(*versions: str, most: int = 6, slots: int = 2) -> Control:
    """These versions in shadow, the first ones on the ramp as far as there are slots."""
    record = FRESH
    for now, version in enumerate(versions, start=10):
        record = transitions.apply(record, order("challenge", version=version, most=most), float(now))
    for running in record.rollouts[:slots]:
        record = after(record, order("advance", rollout=running.id, slots=slots))
    return record


class TestSeveralChallengers:
    def test_as_many_run_as_may(self) -> None:
        record = many("v2", "v3", "v4", most=3, slots=0)
        assert [r.id for r in record.rollouts] == ["e-r0001", "e-r0002", "e-r0003"]
        assert refused(record, order("challenge", version="v5", most=3)) == "rollout_running"
        assert transitions.apply(record, order("challenge", version="v3", most=3), 30.0) is record

    def test_each_on_the_ramp_has_a_slot_and_the_rest_wait(self) -> None:
        record = many("v2", "v3", "v4")
        assert [(r.challenger, r.slot) for r in record.rollouts] == [("v2", 0), ("v3", 1), ("v4", None)]
        assert (record.salt, record.slots, record.share) == ("e-r0001", 2, 0.02)
        assert refused(record, order("advance", rollout="e-r0003", slots=2)) == "no_slot"
        freed = after(record, order("rollback", rollout="e-r0001"), order("advance", rollout="e-r0003", slots=9))
        assert [(r.challenger, r.slot) for r in freed.rollouts] == [("v3", 1), ("v4", 0)]
        assert (freed.salt, freed.slots) == ("e-r0001", 2), "while anybody is on the ramp, nobody is moved"

    def test_an_empty_ramp_begins_with_a_new_salt(self) -> None:
        record = after(many("v2", "v3"), order("rollback"), order("challenge", version="v4"), order("advance"))
        assert (record.salt, record.slots, only(record).slot) == ("e-r0003", 1, 0)

    def test_a_stage_must_fit_into_its_slot(self) -> None:
        wide = (Stage(share=0.4, min_seconds=1), Stage(share=0.6, min_seconds=1))
        record = after(FRESH, order("challenge", stages=wide), order("advance", slots=2))
        assert refused(record, order("advance")) == "slot_full"

    @pytest.mark.parametrize("name", ["advance", "ramp", "resume", "approve", "promote"])
    def test_what_goes_up_must_name_its_rollout(self, name: str) -> None:
        assert refused(many("v2", "v3"), order(name, stage=1)) == "rollout_unnamed"

    def test_what_is_safe_concerns_all(self) -> None:
        record = many("v2", "v3", "v4")
        assert [r.paused for r in after(record, order("pause")).rollouts] == [True] * 3
        out = after(record, order("rollback"))
        assert (out.rollouts, out.share, out.champion) == ((), 0.0, "v1")
        assert [e.state for e in out.ended] == ["rolled_back"] * 3
        assert [e.state for e in after(record, order("archive")).ended] == ["archived"] * 3

    def test_one_goes_and_the_others_stay_as_they_are(self) -> None:
        record = many("v2", "v3", "v4")
        out = after(record, order("rollback", rollout="e-r0002"))
        assert out.rollouts == (record.rollouts[0], record.rollouts[2])

    def test_three_of_a_recipe_are_candidates_and_the_youngest_gives_way(self) -> None:
        """However fast new models come, those that were there first are judged: else a drift that asks every six hours
        would throw each away before it could pass."""
        record = FRESH
        for number in range(2, 40):
            record = after(record, order("challenge", version=f"v{number}", recipe="60d", most=6))
        assert [r.challenger for r in record.rollouts] == ["v2", "v3", "v39"]
        assert (record.ended[-1].challenger, record.ended[-1].state) == ("v38", "archived")
        by_hand = after(record, order("challenge", version="v40", most=6))
        assert len(by_hand.rollouts) == 4

    def test_where_there_is_no_room_the_youngest_with_an_older_sibling_makes_some(self) -> None:
        record = FRESH
        for version, recipe in (("v2", "all"), ("v3", "60d"), ("v4", "60d")):
            record = after(record, order("challenge", version=version, recipe=recipe, most=3))
        by_hand = after(record, order("challenge", version="v5", most=3))
        assert [r.challenger for r in by_hand.rollouts] == ["v2", "v3", "v5"]
        assert by_hand.ended[-1].challenger == "v4"
        assert refused(by_hand, order("challenge", version="v6", most=3)) == "rollout_running"

    def test_the_only_one_of_a_recipe_in_shadow_keeps_its_place(self) -> None:
        first = after(FRESH, order("challenge", recipe="60d"))
        assert refused(first, order("challenge", version="v3", recipe="60d")) == "rollout_running"
        other = after(first, order("challenge", version="v3", recipe="all", most=2))
        assert len(other.rollouts) == 2
        assert refused(other, order("challenge", version="v4", recipe="60d", most=2)) == "rollout_running"
        ramping = after(first, order("advance"))
        assert refused(ramping, order("challenge", version="v3", recipe="60d")) == "rollout_running"

    def test_after_a_promotion_the_others_go_on_in_shadow_against_the_new_champion(self) -> None:
        """Their time in shadow counts, and they keep their age."""
        record = many("v2", "v3")
        record = transitions.apply(record, order("advance", rollout="e-r0002"), 30.0)
        retrained = order("challenge", version="v4", rule=Rule.REFRESH, most=6)
        record = transitions.apply(record, retrained, 50.0)
        record = transitions.apply(record, order("promote", rollout="e-r0001"), 60.0)
        assert (record.champion, record.share) == ("v2", 0.0)
        again = [(r.id, r.challenger, r.stage, r.slot, r.started_at, r.stage_since) for r in record.rollouts]
        assert again == [
            ("e-r0004", "v3", SHADOW_STAGE, None, 11.0, 11.0),
            ("e-r0005", "v4", SHADOW_STAGE, None, 50.0, 50.0),
        ]
        assert record.begun == 5
        assert [(e.id, e.state) for e in record.ended] == [
            ("e-r0001", "promoted"),
            ("e-r0002", "archived"),
            ("e-r0003", "archived"),
        ]

    def test_a_retrained_one_that_is_no_younger_than_the_new_champion_is_archived(self) -> None:
        record = FRESH
        for version in ("v2", "v3"):
            wish = order("challenge", version=version, rule=Rule.REFRESH, recipe=version, most=6)
            record = transitions.apply(record, wish, 50.0)
        record = transitions.apply(record, order("promote", rollout="e-r0002"), 60.0)
        assert (record.champion, record.rollouts) == ("v3", ())
        assert [(e.challenger, e.state) for e in record.ended] == [("v3", "promoted"), ("v2", "archived")]
