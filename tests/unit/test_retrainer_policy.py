"""Each rule of the decision by itself, with the numbers that a person will read."""

import msgspec
import pytest

from gauntlet.config import BakeConfig, Config, EvidenceConfig, ShadowConfig
from gauntlet.config.load import parse
from gauntlet.events import ArmSummary, Evaluation, Health
from gauntlet.rollout import Bake, Command, Control, Rollout, Stage, apply
from retrainer.policy import decide

DAY = 86_400.0
CONFIG = parse("experiment: e\ntask: classification\nchampion: {model: m.skops}\n")
STAGES = (
    Stage(share=0.01, min_seconds=2 * DAY, min_outcomes=50),
    Stage(share=0.1, min_seconds=3 * DAY, min_outcomes=200),
)


def control(stage: int = 1, **rollout: object) -> Control:
    running = Rollout(
        id="e-r0001",
        challenger="v2",
        stages=STAGES,
        stage=stage,
        started_at=0.0,
        stage_since=10 * DAY,
        shadow=Stage(share=0.0, min_seconds=2 * DAY, min_outcomes=100),
    )
    return Control(experiment="e", champion="v1", rollouts=1, rollout=msgspec.structs.replace(running, **rollout))


def look(outcomes: int = 1000, **changes: object) -> Evaluation:
    known = Evaluation(
        id="look-1",
        at=20 * DAY,
        experiment="e",
        rollout="e-r0001",
        champion="v1",
        challenger="v2",
        form="paired",
        metric="log_loss",
        result="better",
        reasons=[],
        crossed="better",
        effect=0.02,
        lower=0.005,
        upper=0.035,
        information_fraction=0.62,
        blocks=24,
        pairs=12_345,
        arms={"challenger": ArmSummary(model="v2", exposures=1100, outcomes=outcomes, metrics={"accuracy": 0.9})},
    )
    return msgspec.structs.replace(known, **changes)


def decided(control: Control, event: Evaluation | Health, config: Config = CONFIG) -> Command | None:
    command = decide(control, event, config, event.at)
    if command is not None:  # the state machine takes every command that the rules give
        assert apply(control, command, event.at) is not control
        assert command.actor == "retrainer"
        assert command.evidence == event.id
    return command


def named(control: Control, event: Evaluation | Health, config: Config = CONFIG) -> str | None:
    command = decided(control, event, config)
    return None if command is None else command.name


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
        {"crossed": None, "result": "inconclusive"},
        {"effect": -0.001},
        {"effect": 0.0},
        {"effect": None},
        {"result": "invalid"},
        {"at": 12.9 * DAY},
        {"outcomes": 199},
    ],
)
def test_no_promotion_without_a_lasting_win_or_before_the_gate(changes: dict[str, object]) -> None:
    assert named(control(), look(**changes)) is None  # type: ignore[arg-type]


def test_a_rollback_for_a_guardrail_names_it() -> None:
    broken = look(crossed=None, result="worse", reasons=["guardrail fallback_rate is worse by at least 0.002"])
    command = decided(control(), broken)
    assert command is not None
    assert command.name == "rollback"
    assert "guardrail fallback_rate is worse by at least 0.002" in command.reason


@pytest.mark.parametrize("stage", [-1, 0, 1])
def test_what_holds_a_rollout_holds_its_ramp_until_the_planned_evidence_is_complete(stage: int) -> None:
    """More traffic would do more of the harm; harm to all and the end of the evidence are not held up."""
    held = {"crossed": None, "result": "inconclusive", "holds": ["holds: worse in segment country=DE"]}
    assert named(control(stage), look(**held)) is None
    assert named(control(stage), look(**held, information_fraction=1.0)) == "archive"
    assert named(control(stage), look(**(held | {"crossed": "worse"}))) == "rollback"


def test_a_crossing_stands_though_this_look_is_inside_the_boundary() -> None:
    assert named(control(), look(result="inconclusive")) == "promote"


@pytest.mark.parametrize("crossed", ["better", None])
def test_every_stage_but_the_last_is_left_through_its_gate(crossed: str | None) -> None:
    for stage in (-1, 0):
        assert named(control(stage), look(crossed=crossed, result="inconclusive")) == "advance"
        assert named(control(stage), look(crossed=crossed, at=11.9 * DAY)) is None
    assert named(control(-1), look(pairs=99, outcomes=0)) is None
    assert named(control(-1), look(pairs=100, outcomes=0)) == "advance"
    assert named(control(0), look(pairs=99_999, outcomes=49)) is None, "on the ramp its own outcomes count"


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
@pytest.mark.parametrize("harm", [{"crossed": "worse"}, {"result": "worse"}, {"crossed": "worse", "result": "invalid"}])
def test_harm_rolls_back_in_any_stage_paused_or_not(stage: int, paused: bool, harm: dict[str, str]) -> None:
    command = decided(control(stage, paused=paused), look(**harm))
    assert command is not None
    assert (command.name, command.rollout, command.from_stage) == ("rollback", "e-r0001", stage)


def test_a_paused_rollout_waits_even_with_a_win() -> None:
    for stage in (-1, 0, 1):
        for event in (look(), look(result="equivalent", crossed=None), look(information_fraction=3.0, crossed=None)):
            assert named(control(stage, paused=True), event) is None


def test_an_invalid_verdict_holds_and_a_sample_ratio_mismatch_pauses() -> None:
    assert named(control(), look(result="invalid", srm_p_value=0.2)) is None
    command = decided(control(0), look(result="invalid", srm_p_value=1e-6))
    assert command is not None
    assert command.name == "pause"
    assert "1e-06" in command.reason


def test_approval_is_waited_for_on_every_step() -> None:
    asked = tuple(Stage(share=s, min_seconds=0.0, approval=True) for s in (0.01, 0.1))
    for stage, name in ((0, "advance"), (1, "promote")):
        assert named(control(stage, stages=asked), look()) is None
        assert named(control(stage, stages=asked, approved=(stage,)), look()) == name


def test_the_planned_evidence_without_a_winner_archives_or_extends_to_twice_of_it() -> None:
    extend = msgspec.structs.replace(CONFIG, evidence=EvidenceConfig(inconclusive="extend"))
    for fraction, at_once, extended in ((0.99, None, None), (1.0, "archive", None), (2.0, "archive", "archive")):
        event = look(crossed=None, result="inconclusive", information_fraction=fraction)
        assert named(control(), event) == at_once
        assert named(control(), event, extend) == extended


def test_equivalent_keeps_the_champion_and_so_does_a_win_that_did_not_last() -> None:
    assert named(control(0), look(crossed=None, result="equivalent")) == "archive"
    assert named(control(), look(effect=-0.01, information_fraction=1.5)) is None
    assert named(control(), look(effect=-0.01, information_fraction=2.0)) == "archive"
    assert named(control(), look(information_fraction=2.0)) == "promote"


@pytest.mark.parametrize("old", [{"rollout": "e-r0000"}, {"champion": "v0"}, {"challenger": "v9"}])
def test_old_news_asks_for_nothing(old: dict[str, str]) -> None:
    assert named(control(), look(**old)) is None
    assert named(control(), look(**old, crossed="worse")) is None
    assert named(msgspec.structs.replace(control(), rollout=None), look(crossed="worse")) is None


def watched(**changes: object) -> Control:
    bake = Bake(rollout="e-r0001", since=10 * DAY, until=24 * DAY, reference={"accuracy": 0.9, "rmse": 2.0})
    known = Control(experiment="e", champion="v2", previous="v1", bake=bake)
    return msgspec.structs.replace(known, **changes)


def health(accuracy: float, at: float = 15 * DAY, outcomes: int = 500, **changes: object) -> Health:
    known = Health(
        id="h1",
        at=at,
        experiment="e",
        model="v2",
        outcomes=100,
        metrics={},
        window_outcomes=outcomes,
        window={"accuracy": accuracy, "rmse": 3 - accuracy},
    )
    return msgspec.structs.replace(known, **changes)


def test_a_fall_during_the_bake_takes_the_promotion_back() -> None:
    command = decided(watched(), health(0.8499))
    assert command is not None
    assert (command.name, command.rollout, command.version) == ("rollback", "e-r0001", None)
    assert apply(watched(), command, 15 * DAY).champion == "v1"
    assert "0.9000 to 0.8499" in command.reason
    assert named(watched(), health(0.8501)) is None
    assert named(watched(), health(0.5, outcomes=499)) is None, "too few outcomes to judge"
    assert named(watched(), health(0.5, model="v1")) is None, "that was the champion before"
    assert named(watched(), health(0.5, at=9 * DAY)) is None, "that was before the promotion"
    assert named(watched(bake=None), health(0.5)) is None


def test_a_fall_that_the_champion_of_before_shares_is_the_world_and_not_a_reason_to_go_back() -> None:
    def both(previous: str, outcomes: int, accuracy: float) -> Health:
        return health(
            0.5,
            previous=previous,
            previous_outcomes=outcomes,
            previous_window={"accuracy": accuracy, "rmse": 3 - accuracy},
        )

    regression = parse("experiment: e\ntask: regression\nchampion: {model: m.skops}\n")
    for config in (CONFIG, regression):
        assert named(watched(), both("v1", 500, 0.5), config) is None
        assert named(watched(), both("v1", 500, 0.51), config) == "rollback", "it does better"
        assert named(watched(), both("v1", 499, 0.4), config) == "rollback", "too few to know"
        assert named(watched(), both("v0", 500, 0.4), config) == "rollback", "that is somebody else"


def test_a_fall_during_the_bake_ends_the_next_rollout_with_it() -> None:
    busy = watched(rollout=msgspec.structs.replace(control().rollout, id="e-r0002", challenger="v3"))  # type: ignore[type-var]
    command = decided(busy, health(0.5))
    assert command is not None
    after = apply(busy, command, 15 * DAY)
    assert (after.champion, after.rollout) == ("v1", None)


def test_the_bake_is_settled_when_its_time_is_up() -> None:
    assert named(watched(), health(0.9, at=24 * DAY - 1)) is None
    assert named(watched(), health(0.9, at=24 * DAY)) == "settle"
    assert named(watched(), health(0.5, at=24 * DAY)) == "rollback"
    assert named(watched(), health(0.9, at=24 * DAY, outcomes=0)) == "settle"


def test_a_regression_is_watched_by_the_relative_rise_of_its_rmse() -> None:
    regression = parse("experiment: e\ntask: regression\nchampion: {model: m.skops}\n")
    regression = msgspec.structs.replace(regression, bake=BakeConfig(max_drop=0.1))
    assert named(watched(), health(0.79), regression) == "rollback"  # RMSE 2.21 against 2.0
    assert named(watched(), health(0.81), regression) is None
    squared = health(0.9, window={"squared_error": 4.9})
    assert named(watched(), squared, regression) == "rollback"  # RMSE 2.2136


def test_a_manual_promotion_is_measured_against_the_champion_before() -> None:
    bake = Bake(rollout="e-r0001", since=10 * DAY, until=24 * DAY, reference={})
    before = {"previous": "v1", "previous_outcomes": 500, "previous_window": {"accuracy": 0.8, "rmse": 2.0}}
    assert named(watched(bake=bake), health(0.5, **before)) == "rollback"
    assert named(watched(bake=bake), health(0.79, **before)) is None
