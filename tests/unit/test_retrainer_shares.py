"""Thompson allocation as decisions: who gives shares, how much at most, how often, and when they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders.decision_loop import DecisionLoop, look

from gauntlet import control
from gauntlet.config import Config, ThompsonConfig
from gauntlet.config.load import parse
from gauntlet.config.section import Seconds
from gauntlet.errors import TransitionRefused
from gauntlet.events import Evaluation
from gauntlet.next_steps import place
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Rollout, Stage
from gauntlet.transitions import apply
from gauntlet.types import VerdictCause
from retrainer.decisions import decide

HOUR = 3_600.0
DAY = 24 * HOUR
STAGES = tuple(Stage(share=share, min_seconds=100 * DAY) for share in (0.01, 0.05, 0.10))
CONFIG = parse(
    "experiment: e\ntask: classification\nslots: 3\nchampion: {model: m.skops}\nthompson: {enabled: true, every: 6h}\n"
)


def running(number: int, stage: int = 2, **changes: Any) -> Rollout:
    made = Rollout(
        id=f"e-r{number:04d}",
        challenger=f"v{number + 1}",
        stages=STAGES,
        stage=stage,
        slot=None if stage == SHADOW_STAGE else number - 1,
        started_at=0.0,
        stage_since=10 * DAY,
        shadow=Stage(share=0.0, min_seconds=100 * DAY),
    )
    return msgspec.structs.replace(made, **changes)


def record(*rollouts: Rollout) -> Control:
    return Control(experiment="e", champion="v1", begun=len(rollouts), slots=3, rollouts=rollouts)


def told(share: float | None, number: int = 1, at: float = 20 * DAY, **changes: Any) -> Evaluation:
    return msgspec.structs.replace(
        look("e", 0.0),
        at=at,
        rollout=f"e-r{number:04d}",
        champion="v1",
        challenger=f"v{number + 1}",
        ramp_share=share,
        **changes,
    )


def ordered(now: Control, event: Evaluation, config: Config = CONFIG) -> Command | None:
    return decide(now, event, config, event.at)


def test_one_challenger_has_its_part_of_what_its_stage_allows() -> None:
    before = record(running(1))
    command = ordered(before, told(0.3))
    assert command is not None
    assert (command.name, command.weight, command.actor) == ("allocate", 0.3, "retrainer")
    assert "Thompson sampling gives it 30.0% of the ramp's 10.00%" in command.reason
    after = apply(before, command, 20 * DAY)
    assert after.share == pytest.approx(0.03)
    assert after.allocation == before.allocation + 1
    assert after.last is not None
    assert after.last.detail == "10.00% → 3.00% of 10.00%"


def test_of_several_nobody_gets_more_than_its_own_stage_allows() -> None:
    before = record(running(1), running(2, weight=0.2), running(3, stage=0))
    best = ordered(before, told(0.9, 2))
    assert best is not None
    assert best.weight == 1.0
    third = ordered(before, told(0.02, 3))
    assert third is not None
    assert third.weight == pytest.approx(0.42)  # 2 % of 0.21, of its 0.01
    first = ordered(before, told(0.01, 1))
    assert first is not None
    assert first.weight == 0.02


@pytest.mark.parametrize(
    "now",
    [
        record(running(1, stage_since=20 * DAY - 6 * HOUR + 1)),
        record(running(1, weight_since=20 * DAY - 6 * HOUR + 1)),
        record(running(1, paused=True)),
        record(running(1, stage=SHADOW_STAGE)),
        record(running(1, weight=0.33)),
        record(running(1, weight=0.27)),
    ],
    ids=["after a step", "after a change", "paused", "in shadow", "a little less", "a little more"],
)
def test_shares_stand_for_a_while_and_for_little(now: Control) -> None:
    assert ordered(now, told(0.3)) is None


def test_shares_stand_where_nothing_is_told_or_something_holds() -> None:
    assert ordered(record(running(1)), told(None)) is None
    assert ordered(record(running(1)), told(0.3, cause=VerdictCause.NO_TRAFFIC)) is None


def test_a_decision_about_the_rollout_comes_first() -> None:
    command = ordered(record(running(1)), told(0.3, result="worse", cause=VerdictCause.HARM))
    assert command is not None
    assert command.name == "rollback"


def test_switched_off_every_challenger_has_its_stage_again() -> None:
    off = msgspec.structs.replace(CONFIG, thompson=ThompsonConfig())
    command = ordered(record(running(1, weight=0.3)), told(None), off)
    assert command is not None
    assert (command.name, command.weight) == ("allocate", 1.0)
    assert ordered(record(running(1)), told(0.3), off) is None


def test_a_share_is_more_than_nothing_and_no_more_than_its_stage_allows() -> None:
    before = record(running(1))
    for weight in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(TransitionRefused, match="above 0 and at most 1"):
            apply(before, Command(name="allocate", actor="a", reason="r", weight=weight), 20 * DAY)
    part = apply(before, Command(name="allocate", actor="a", reason="r", weight=0.25), 20 * DAY)
    assert (part.rollouts[0].share, part.rollouts[0].weight_since) == (0.025, 20 * DAY)
    assert apply(part, Command(name="allocate", actor="a", reason="r", weight=0.25), 21 * DAY) is part


def test_a_step_up_keeps_the_part_and_going_back_to_shadow_forgets_it() -> None:
    before = record(running(1, stage=1, weight=0.4))
    up = apply(before, Command(name="advance", actor="a", reason="r"), 21 * DAY)
    assert up.share == pytest.approx(0.04)
    back = apply(up, Command(name="ramp", actor="a", reason="r", stage=SHADOW_STAGE), 22 * DAY)
    assert apply(back, Command(name="advance", actor="a", reason="r"), 23 * DAY).share == 0.01


def test_the_status_tells_the_part_beside_what_the_stage_allows() -> None:
    assert place(running(1, weight=0.3)) == "at 3 % of its 10 % (stage 2; the last is 2)"
    assert place(running(1)) == "at 10 % (stage 2; the last is 2)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("evidence: {form: split}\nthompson: {enabled: true}", "`thompson` needs `evidence.form: paired`"),
        ("slots: 10\nthompson: {floor: 0.1}", "`thompson.floor` must be at most 0.0909"),
        ("thompson: {every: 0s}", "`every` must be greater than 0"),
    ],
)
def test_settings_that_contradict_it_are_refused(text: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        parse(f"experiment: e\ntask: classification\nchampion: {{model: m.skops}}\n{text}\n")


@pytest.mark.asyncio
async def test_the_retrainer_puts_shares_into_the_control_record_once_in_six_hours(tmp_path: Path) -> None:
    loop = DecisionLoop(tmp_path, "shares")
    await loop.begin()
    ramp = Command(name="ramp", actor="t", reason="r", stage=2)
    start = loop.look(1.0).at
    await control.change(loop.state, "shares", ramp, start)
    await loop.worker.close()
    loop.store.close()
    loop.config = msgspec.structs.replace(
        loop.config, thompson=ThompsonConfig(enabled=True, every=Seconds(6 * HOUR), least_change=0.05)
    )
    loop.open()
    for hours, share in ((1, 0.9), (7, 0.5), (8, 0.1), (13, 0.2)):
        await loop.publish(loop.look(1.0 + hours / 24, ramp_share=share, cause=VerdictCause.EVIDENCE_INCOMPLETE))
    while await loop.worker.step():
        pass
    changes = [record for _, record in await control.history(loop.state, "shares")]
    weights = [r.rollouts[0].weight for r in changes if r.last is not None and r.last.command == "allocate"]
    assert weights == [0.5, 0.2]
    await loop.close()
