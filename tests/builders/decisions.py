"""A rollout in its last stage, a winning look at it, and the command that the rules make of both."""

import msgspec

from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.events import ArmSummary, Evaluation, Health
from gauntlet.rollout import Command, Control, Rollout, Stage
from gauntlet.transitions import apply
from gauntlet.types import VerdictCause
from retrainer.decisions import decide

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
    return Control(experiment="e", champion="v1", begun=1, rollouts=(msgspec.structs.replace(running, **rollout),))


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
        cause=VerdictCause.WIN,
        reasons=["the first reason"],
        crossed="better",
        effect=0.02,
        lower=0.005,
        upper=0.035,
        information_fraction=0.62,
        blocks=24,
        gross_harm_excluded=True,
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
