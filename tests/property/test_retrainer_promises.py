"""Whatever the evidence says in whatever order: the decision's promises hold, driven through the real state machine."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.config import Config, EvidenceConfig
from gauntlet.config.load import parse
from gauntlet.events import ArmSummary, Evaluation, Health
from gauntlet.rollout import Bake, Command, Control, Promotion, Rollout, Stage, begin
from gauntlet.transitions import apply
from gauntlet.types import VerdictCause
from retrainer.decisions import decide

HOUR = 3600.0
CONFIG = parse("experiment: e\ntask: classification\nchampion: {model: m.skops}\n")
INVALID = (VerdictCause.SAMPLE_RATIO, VerdictCause.MULTIPLE_EXPOSURE, VerdictCause.LABEL_ARRIVAL)
EXTEND = msgspec.structs.replace(CONFIG, evidence=EvidenceConfig(inconclusive="extend"))

stages = st.builds(
    Stage,
    share=st.just(0.0),
    min_seconds=st.sampled_from([0.0, HOUR, 5 * HOUR]),
    min_outcomes=st.sampled_from([0, 50]),
    approval=st.sampled_from([False, False, False, True]),
)
looks = st.fixed_dictionaries(
    {
        "wait": st.sampled_from([0.0, 60.0, HOUR, 6 * HOUR]),
        "cause": st.sampled_from([VerdictCause.WIN, VerdictCause.WIN, VerdictCause.EVIDENCE_INCOMPLETE, *VerdictCause]),
        "information_fraction": st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        "pairs": st.sampled_from([0, 49, 50]),
        "gross_harm_excluded": st.sampled_from([True, True, True, False]),
        "outcomes": st.sampled_from([0, 49, 50]),
        "operator": st.sampled_from([None, None, None, "pause", "resume", "approve"]),
        "stale": st.sampled_from([False, False, False, True]),
    }
)


def started(shadow: Stage, ramp: list[Stage]) -> Control:
    rising = tuple(msgspec.structs.replace(s, share=(i + 1) / 10) for i, s in enumerate(ramp))
    challenge = Command(name="challenge", actor="t", reason="r", version="v2", shadow=shadow, stages=rising)
    return apply(begin("e", "v1", 0.0), challenge, 0.0)


def evaluation(number: int, at: float, rollout: Rollout, drawn: dict[str, object]) -> Evaluation:
    evidence = {k: drawn[k] for k in ("cause", "information_fraction", "pairs", "gross_harm_excluded")}
    arm = ArmSummary(model="v2", exposures=100, outcomes=int(str(drawn["outcomes"])), metrics={"accuracy": 0.9})
    return Evaluation(
        id=f"look-{number}",
        at=at,
        experiment="e",
        rollout="e-r0000" if drawn["stale"] else rollout.id,
        champion="v1",
        challenger="v2",
        form="paired",
        metric="log_loss",
        result="",
        reasons=[],
        arms={"challenger": arm},
        **evidence,
    )


@settings(max_examples=400, deadline=None)
@given(
    shadow=stages,
    ramp=st.lists(stages, min_size=1, max_size=3),
    drawn=st.lists(looks, min_size=1, max_size=12),
    config=st.sampled_from([CONFIG, EXTEND]),
)
def test_promises_over_a_whole_rollout(shadow: Stage, ramp: list[Stage], drawn: list[dict], config: Config) -> None:
    control, now = started(shadow, ramp), 0.0
    for number, one in enumerate(drawn):
        if not control.rollouts:
            break
        now += one["wait"]
        if one["operator"] is not None:
            control = apply(control, Command(name=one["operator"], actor="op", reason="r"), now)
        (rollout,) = control.rollouts
        assert rollout is not None
        look = evaluation(number, now, rollout, one)
        command = decide(control, look, config, now)
        if one["stale"]:
            assert command is None
            continue
        harm = look.cause in (VerdictCause.HARM, VerdictCause.GUARDRAIL)
        if harm:
            assert command is not None
            assert command.name == "rollback"
        if command is None:
            continue
        if rollout.paused:
            assert command.name == "rollback"
        if look.cause in INVALID:
            assert command.name in ("pause", "archive", "extend")
        if command.name in ("advance", "promote"):
            assert not harm
            assert look.gross_harm_excluded
            assert now - rollout.stage_since >= rollout.gate.min_seconds
            assert now > rollout.stage_since
            assert not rollout.gate.approval or rollout.stage in rollout.approved
        if command.name == "promote":
            assert rollout.last_stage
            assert look.cause in (VerdictCause.WIN, VerdictCause.NOT_WORSE)
            assert one["outcomes"] >= rollout.gate.min_outcomes
        if command.name == "advance":
            assert not rollout.last_stage
        after = apply(control, command, now)  # never refused: the rules know the state machine
        assert after is not control
        again = decide(after, look, config, now)  # the same look says nothing more: at most one command a stage
        assert again is None
        if after.rollouts:
            assert after.rollouts[0].stage - rollout.stage in (0, 1)
        control = after


@settings(max_examples=300, deadline=None)
@given(
    accuracy=st.floats(0, 1),
    shown=st.floats(0, 1),
    outcomes=st.integers(0, 1000),
    at=st.floats(0, 30),
    model=st.sampled_from(["v1", "v2"]),
)
def test_the_watch_reverts_only_a_fallen_champion_with_enough_outcomes(
    accuracy: float, shown: float, outcomes: int, at: float, model: str
) -> None:
    bake = Bake(rollout="e-r0001", since=10.0, until=20.0, reference={"accuracy": shown})
    promotion = Promotion(rollout="e-r0001", since=10.0, until=20.0)
    control = Control(experiment="e", champion="v2", previous="v1", bake=bake, promotion=promotion)
    health = Health(
        id="h",
        at=at,
        experiment="e",
        model=model,
        outcomes=1,
        metrics={},
        window_outcomes=outcomes,
        window={"accuracy": accuracy},
    )
    command = decide(control, health, CONFIG, at)
    mine = model == "v2" and at >= 10
    fallen = mine and outcomes >= CONFIG.bake.min_outcomes and accuracy < shown - CONFIG.bake.max_drop
    expected = "rollback" if fallen else "confirm" if mine and at >= 20 else None
    assert (command.name if command else None) == expected
