"""Each rule of the decision by itself, with the numbers that a person will read."""

import msgspec
import pytest
from builders.decisions import CONFIG, DAY, control, decided, look, named

from gauntlet.config import EvidenceConfig, ShadowConfig
from gauntlet.decision_table import DECISION_TABLE
from gauntlet.events import Evaluation
from gauntlet.rollout import Control, Stage
from gauntlet.transitions import apply
from gauntlet.types import Rule, VerdictCause
from retrainer.decisions import decide


def test_a_win_in_the_last_stage_after_its_gate_promotes_with_numbers_baseline_and_bake() -> None:
    command = decided(control(), look())
    assert command is not None
    assert (command.name, command.rollout, command.from_stage) == ("promote", "e-r0001", 1)
    assert command.reference == {"accuracy": 0.9}
    assert command.bake_seconds == CONFIG.bake.time
    for part in ("+0.02 [+0.005, +0.035]", "24 blocks", "12,345 pairs", "62% of the planned evidence"):
        assert part in command.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"cause": VerdictCause.EVIDENCE_INCOMPLETE, "result": "inconclusive"},
        {"cause": VerdictCause.UNSAFE_WIN, "result": "inconclusive"},
        {"cause": VerdictCause.FADED_WIN},
        {"at": 12.9 * DAY},
        {"outcomes": 199},
    ],
)
def test_no_promotion_without_a_lasting_win_or_before_the_gate(changes: dict[str, object]) -> None:
    assert named(control(), look(**changes)) is None  # type: ignore[arg-type]


def test_a_rollback_for_a_guardrail_names_it() -> None:
    reason = "guardrail fallback_rate is worse by at least 0.002"
    broken = look(cause=VerdictCause.GUARDRAIL, result="worse", subject="fallback_rate", reasons=[reason])
    command = decided(control(), broken)
    assert command is not None
    assert command.name == "rollback"
    assert reason in command.reason


@pytest.mark.parametrize("stage", [-1, 0, 1])
def test_what_holds_a_rollout_holds_its_ramp_until_the_planned_evidence_is_complete(stage: int) -> None:
    """More traffic would do more of the harm; harm to all and the end of the evidence are not held up."""
    held = {
        "cause": VerdictCause.SEGMENT_HARM,
        "result": "inconclusive",
        "reasons": ["holds: worse in segment country=DE"],
    }
    assert named(control(stage), look(**held)) is None
    command = decided(control(stage), look(**held, information_fraction=1.0))
    assert command is not None
    assert command.name == "archive"
    assert "worse in segment country=DE" in command.reason
    assert named(control(stage), look(**(held | {"cause": VerdictCause.HARM, "result": "worse"}))) == "rollback"


@pytest.mark.parametrize(
    "cause", [VerdictCause.WIN, VerdictCause.FADED_WIN, VerdictCause.UNSAFE_WIN, VerdictCause.EVIDENCE_INCOMPLETE]
)
def test_every_stage_but_the_last_is_left_through_its_gate(cause: VerdictCause) -> None:
    for stage in (-1, 0):
        assert named(control(stage), look(cause=cause)) == "advance"
        assert named(control(stage), look(cause=cause, at=11.9 * DAY)) is None
    assert named(control(-1), look(pairs=99, outcomes=0)) is None
    assert named(control(-1), look(pairs=100, outcomes=0)) == "advance"
    assert named(control(0), look(pairs=99_999, outcomes=49)) is None, "on the ramp its own outcomes count"


def test_no_stage_is_left_before_gross_harm_would_have_shown() -> None:
    """Not even by a win; split traffic has no evidence before the ramp, so its shadow stage asks for no look."""
    for stage in (-1, 0, 1):
        assert named(control(stage), look(gross_harm_excluded=False)) is None
    split = {"form": "split", "gross_harm_excluded": False}
    assert named(control(-1), look(**split)) == "advance"
    assert named(control(0), look(**split)) is None


def test_evidence_that_never_comes_lapses() -> None:
    """At twice `max_duration`, whatever share of the planned evidence is in."""
    waiting = {"cause": VerdictCause.EVIDENCE_INCOMPLETE, "information_fraction": 0.1, "gross_harm_excluded": False}
    running = control(0)
    limit = running.rollouts[0].started_at + 2 * CONFIG.evidence.max_duration
    assert named(running, look(at=limit - 1, **waiting)) is None
    assert named(running, look(at=limit, **waiting)) == "archive"


def test_one_look_never_passes_two_gates_even_without_waiting_times() -> None:
    free = tuple(Stage(share=s, min_seconds=0.0) for s in (0.01, 0.1))
    running = control(0, stages=free)
    at_start = look(at=10 * DAY)
    assert named(running, at_start) is None
    later = look(at=10 * DAY + 1)
    command = decided(running, later)
    assert command is not None
    after = apply(running, command, later.at)
    assert named(after, later) is None


def test_without_shadow_scoring_there_are_no_pairs_to_wait_for() -> None:
    split = msgspec.structs.replace(CONFIG, shadow=ShadowConfig(fraction=0.0), evidence=EvidenceConfig(form="split"))
    assert named(control(-1), look(pairs=0, outcomes=0), split) == "advance"
    assert named(control(-1), look(pairs=0, outcomes=0)) is None


@pytest.mark.parametrize("stage", [-1, 0, 1])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("cause", [VerdictCause.GROSS_HARM, VerdictCause.HARM, VerdictCause.GUARDRAIL])
def test_harm_rolls_back_in_any_stage_paused_or_not(stage: int, paused: bool, cause: VerdictCause) -> None:
    command = decided(control(stage, paused=paused), look(cause=cause, result="worse"))
    assert command is not None
    assert (command.name, command.rollout, command.from_stage) == ("rollback", "e-r0001", stage)


@pytest.mark.parametrize("cause", sorted(c for c, action in DECISION_TABLE.items() if action.command != "rollback"))
def test_a_paused_rollout_waits_whatever_is_said_but_harm(cause: VerdictCause) -> None:
    for stage in (-1, 0, 1):
        assert named(control(stage, paused=True), look(cause=cause, information_fraction=3.0, at=99 * DAY)) is None


def test_every_cause_has_its_rule() -> None:
    assert set(DECISION_TABLE) == set(VerdictCause)


def test_a_sample_ratio_mismatch_pauses_with_its_p_value() -> None:
    reason = "sample ratio mismatch: the challenger got 9 of 90 units (p = 1e-06)"
    command = decided(control(0), look(cause=VerdictCause.SAMPLE_RATIO, result="invalid", reasons=[reason]))
    assert command is not None
    assert command.name == "pause"
    assert reason in command.reason


def test_the_cause_named_for_a_pause_is_the_true_one() -> None:
    """A small sample-ratio p value above the engine's level is not a mismatch: labels are what is wrong here."""
    labels = {"cause": VerdictCause.LABEL_ARRIVAL, "result": "invalid", "srm_p_value": 0.005, "at": 6 * DAY}
    assert named(control(0), look(**labels)) is None


@pytest.mark.parametrize("cause", [VerdictCause.LABEL_ARRIVAL, VerdictCause.MULTIPLE_EXPOSURE, VerdictCause.NO_TRAFFIC])
@pytest.mark.parametrize("stage", [-1, 0, 1])
def test_a_comparison_that_stays_invalid_ends_at_the_evidence_limit_or_with_its_planned_time(
    stage: int, cause: VerdictCause
) -> None:
    """The gates' minimum times are 2 + 2 + 3 days: without them such a rollout would keep retraining waiting for ever,
    for its evidence may never be complete."""
    extend = msgspec.structs.replace(CONFIG, evidence=EvidenceConfig(inconclusive="extend"))
    invalid = {"cause": cause, "result": "invalid", "effect": None, "information_fraction": 0.0}
    for config, days in ((CONFIG, 7), (extend, 14)):
        assert named(control(stage), look(**invalid, at=days * DAY - 1), config) is None
        command = decided(control(stage), look(**invalid, at=days * DAY), config)
        assert command is not None
        assert command.name == "archive"
        assert "the first reason" in command.reason
    complete = invalid | {"information_fraction": 1.0, "at": 1 * DAY}
    assert named(control(stage), look(**complete)) == "archive"
    assert named(control(stage, stage_since=0.0), look(**complete), extend) == "extend"


def test_approval_is_waited_for_on_every_step() -> None:
    asked = tuple(Stage(share=s, min_seconds=0.0, approval=True) for s in (0.01, 0.1))
    for stage, name in ((0, "advance"), (1, "promote")):
        assert named(control(stage, stages=asked), look()) is None
        assert named(control(stage, stages=asked, approved=(stage,)), look()) == name


@pytest.mark.parametrize("cause", [VerdictCause.NO_WINNER, VerdictCause.UNSAFE_WIN])
def test_the_planned_evidence_without_a_winner_archives_or_extends_to_twice_of_it(cause: VerdictCause) -> None:
    extend = msgspec.structs.replace(CONFIG, evidence=EvidenceConfig(inconclusive="extend"))
    for fraction, at_once, extended in ((0.99, None, None), (1.0, "archive", "extend"), (2.0, "archive", "archive")):
        event = look(cause=cause, result="inconclusive", information_fraction=fraction)
        assert named(control(), event) == at_once
        assert named(control(), event, extend) == extended
    event = look(cause=cause, result="inconclusive", information_fraction=1.0)
    command = decided(control(), event, extend)
    assert command is not None
    assert "it goes on to 2 times the planned evidence" in command.reason
    after = apply(control(), command, 1.0)
    assert after.last is not None
    assert after.last.decision == "extend"
    assert after.rollouts[0].extended
    assert apply(after, command, 2.0) is after
    assert named(after, event, extend) is None, "an extension is told once"
    assert named(control(paused=True), event, extend) is None
    assert named(control(stage_since=event.at), event, extend) is None, "one look asks for one thing"


def test_equivalent_keeps_the_champion_and_so_does_a_win_that_did_not_last() -> None:
    assert named(control(0), look(cause=VerdictCause.EQUIVALENT, result="equivalent")) == "archive"
    assert named(control(), look(cause=VerdictCause.FADED_WIN, information_fraction=1.5)) == "extend"
    assert named(control(), look(cause=VerdictCause.FADED_WIN, information_fraction=2.0)) == "archive"
    assert named(control(), look(information_fraction=2.0)) == "promote"


@pytest.mark.parametrize("old", [{"rollout": "e-r0000"}, {"champion": "v0"}, {"challenger": "v9"}])
def test_old_news_asks_for_nothing(old: dict[str, str]) -> None:
    assert named(control(), look(**old)) is None
    assert named(control(), look(**old, cause=VerdictCause.HARM)) is None
    assert named(msgspec.structs.replace(control(), rollouts=()), look(cause=VerdictCause.HARM)) is None


def two(**on_ramp: object) -> Control:
    """One successor on the ramp, in the only slot, and a younger one whose shadow is over."""
    older = control(0, rule=Rule.REFRESH, slot=0, **on_ramp)
    (first,) = older.rollouts
    second = msgspec.structs.replace(
        first, id="e-r0002", challenger="v3", stage=-1, slot=None, stage_since=0.0, paused=False
    )
    return msgspec.structs.replace(older, rollouts=(first, second), begun=2)


AHEAD = look(rollout="e-r0002", challenger="v3", cause=VerdictCause.NOT_WORSE)
FADED = look(id="look-0", result="inconclusive", cause=VerdictCause.FADED_WIN, effect=-0.01)


def test_a_successor_that_is_no_longer_ahead_leaves_the_ramp_to_the_one_that_waits() -> None:
    """It had passed its shadow before the concept changed, and would hold the only slot to the end of its plan."""
    before = two()
    command = decide(before, AHEAD, CONFIG, AHEAD.at, {"e-r0001": FADED, "e-r0002": AHEAD})
    assert command is not None
    assert (command.name, command.rollout, command.stage, command.evidence) == ("ramp", "e-r0001", -1, "look-0")
    assert "v3 may take its place on the ramp" in command.reason
    after = apply(before, command, AHEAD.at)
    assert not after.on_ramp
    assert after.running("e-r0001") is not None, "it goes on in shadow"
    following = decide(after, AHEAD, CONFIG, AHEAD.at, {"e-r0001": FADED, "e-r0002": AHEAD})
    assert following is not None
    assert (following.name, following.rollout) == ("advance", "e-r0002")


@pytest.mark.parametrize(
    ("on_ramp", "its_look", "waiting"),
    [
        ({}, look(cause=VerdictCause.NOT_WORSE), AHEAD),
        ({}, look(), AHEAD),
        ({}, None, AHEAD),
        ({}, msgspec.structs.replace(FADED, champion="v0"), AHEAD),
        ({}, msgspec.structs.replace(FADED, form="split"), AHEAD),
        ({"paused": True}, FADED, AHEAD),
        ({}, FADED, msgspec.structs.replace(AHEAD, cause=VerdictCause.EVIDENCE_INCOMPLETE)),
    ],
    ids=["still ahead", "a win", "not looked at", "of another champion", "split", "paused", "the other isn't ahead"],
)
def test_who_may_still_be_promoted_or_nobody_waits_for_stays_on_the_ramp(
    on_ramp: dict[str, object], its_look: Evaluation | None, waiting: Evaluation
) -> None:
    looks = {"e-r0002": waiting} | ({} if its_look is None else {"e-r0001": its_look})
    assert decide(two(**on_ramp), waiting, CONFIG, waiting.at, looks) is None


def test_a_model_by_hand_keeps_its_place() -> None:
    before = two()
    first = msgspec.structs.replace(before.rollouts[0], rule=Rule.PROVE)
    before = msgspec.structs.replace(before, rollouts=(first, before.rollouts[1]))
    assert decide(before, AHEAD, CONFIG, AHEAD.at, {"e-r0001": FADED, "e-r0002": AHEAD}) is None
