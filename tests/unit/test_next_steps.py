"""What comes next and what needs somebody, told by the rules that decide."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders.operator_status import AT_LAST, CONFIG, FRESH, ON_RAMP, ONE, START, TWO, found, look, order

from gauntlet.cli import status_text
from gauntlet.config.section import Seconds
from gauntlet.decision_table import DECISION_TABLE
from gauntlet.events import Drift, Job
from gauntlet.next_steps import outlook
from gauntlet.rollout import Control
from gauntlet.status_document import Document
from gauntlet.types import VerdictCause

WIN, INCOMPLETE = VerdictCause.WIN, VerdictCause.EVIDENCE_INCOMPLETE


def codes(document: Document) -> list[str]:
    return [problem.code for problem in document.problems]


def test_a_look_at_other_models_under_the_same_name_is_old_news() -> None:
    old = msgspec.structs.replace(look(1, "v0002", 60, WIN, "better"), champion="v0000")
    (running,) = found(ON_RAMP, 61, old).rollouts
    assert (running.result, running.look) == (None, None)
    assert running.verdict.startswith("none yet")


def test_who_is_paused_is_not_told_to_wait_for_an_approval_as_well() -> None:
    waiting = order(ON_RAMP, "advance", 99)
    win = look(1, "v0002", 150, WIN, "better")
    assert codes(found(waiting, 150, win)) == ["approval_awaited"]
    assert codes(found(order(waiting, "pause", 149), 150, win)) == ["rollout_paused"]
    assert codes(found(order(waiting, "approve", 149), 150, win)) == []


def test_an_approval_is_no_problem_before_the_stage_waits_for_nothing_else() -> None:
    at_five = order(ON_RAMP, "advance", 99)
    early = found(at_five, 100, look(1, "v0002", 100, WIN, "better"))
    assert (codes(early), early.rollouts[0].waits) == ([], ["your approval"])


def test_who_waits_in_shadow_for_a_place_on_the_ramp_is_told_who_holds_it() -> None:
    full = msgspec.structs.replace(TWO, slots=1)
    wins = look(1, "v0002", 200, WIN, "better"), look(2, "v0003", 200, WIN, "better")
    waiting = found(full, 200, *wins).rollouts
    assert waiting[0].waits == ["your approval"]  # who is on the ramp has its place
    assert waiting[1].waits == ["a place on the ramp, which v0002 (shop-r0001) holds"]
    assert waiting[1].next == "goes on to 1 %"
    free = found(TWO, 200, *wins).rollouts[1]
    assert (free.waits, free.next) == ([], "goes on to 1 % at the next look")


def test_the_last_stage_waits_for_a_win_with_its_forecast() -> None:
    open_look = look(1, "v0002", 200, INCOMPLETE, "inconclusive", eta_decision=4321)
    (last,) = found(AT_LAST, 300, open_look).rollouts
    assert last.next == "is promoted"
    assert last.waits == [
        "being shown to be better (in 4,321 more outcomes, in about 2 d 21 h, if effect and traffic stay as they are)"
    ]  # 12,345 pairs in the 199 hours since the start
    (won,) = found(AT_LAST, 300, look(1, "v0002", 300, WIN, "better")).rollouts
    assert (won.next, won.waits, won.latest) == ("is promoted at the next look", [], None)


def test_a_win_that_is_not_shown_to_be_safe_waits_for_that() -> None:
    unsafe = look(1, "v0002", 200, VerdictCause.UNSAFE_WIN, "inconclusive")
    assert found(AT_LAST, 300, unsafe).rollouts[0].waits == ["being shown to be safe"]


@pytest.mark.parametrize("cause", list(VerdictCause))
def test_every_cause_has_a_next_step_and_what_holds_a_rollout_needs_somebody(cause: VerdictCause) -> None:
    document = found(AT_LAST, 300, look(1, "v0002", 300, cause, "inconclusive"))
    (running,) = document.rollouts
    action = DECISION_TABLE[cause]
    words = {"rollback": "rolled back at once", "archive": "archived at once", "pause": "paused at once"}
    assert words.get(action.command or "", "") in running.next
    held = action.command is None and not action.advances
    assert ("stays at 10 %" in running.next) == held
    assert codes(document) == ([f"held_by_{cause}"] if held else [])


@pytest.mark.parametrize("record", [ONE, ON_RAMP])
def test_a_stage_can_not_end_before_its_minimum_time_and_a_promotion_not_before_all_of_them(record: Control) -> None:
    hours = 1.0 if record is ONE else 50.0
    (running,) = found(record, hours + 1).rollouts
    assert running.not_before is not None
    assert running.not_before.timestamp() == START + (hours + 48) * 3600
    assert running.promotion is not None
    ramp = 9 if record is ONE else 7  # days
    assert running.promotion.timestamp() == START + hours * 3600 + ramp * 86_400


def test_a_stage_that_is_overdue_delays_the_promotion() -> None:
    (running,) = found(ON_RAMP, 50 + 3 * 24).rollouts
    assert running.promotion is not None
    assert running.promotion.timestamp() == START + (50 + 3 * 24) * 3600 + 5 * 86_400


def test_a_win_needs_more_time_than_a_short_ramp() -> None:
    """The ramp is left by hand: what remains is the time in which a win can be seen, five days and the horizon."""
    last = order(ONE, "ramp", 2, stage=2)
    (running,) = found(last, 3).rollouts
    assert running.promotion is not None
    assert running.promotion.timestamp() == START + 3600 + 6 * 86_400


def test_outcomes_that_count_late_delay_the_first_stage_that_needs_a_look() -> None:
    """A look comes after a day of requests and seven more: shadow is left on day 8, by pairs, or the first stage by the
    arms' own traffic, which begins on day 2."""
    for form, days in (("paired", 8 + 7), ("split", 2 + 8 + 5)):
        evidence = msgspec.structs.replace(CONFIG.evidence, form=form, outcome_horizon=Seconds(7 * 86_400))
        late = msgspec.structs.replace(CONFIG, evidence=evidence)
        on_ramp = order(ONE, "advance", 1 + 48)
        record = ONE if form == "paired" else on_ramp
        ahead = outlook(record, record.rollouts[0], None, late, START + 50 * 3600)
        assert ahead.promotion == START + 3600 + days * 86_400


def drifted(action: str = "retrain_recent", severity: str = "CRITICAL") -> Drift:
    return Drift(
        id="d", at=START + 3600, experiment="shop", episode="e", event="open", severity=severity, confidence=0.9,
        root_cause="concept", action=action, model="v0001", rows=100,
    )  # fmt: skip


def job(hours: float, status: str = "completed", version: str | None = None, **more: Any) -> Job:
    return Job(
        id="retrain_1", at=START + hours * 3600, experiment="shop", status=status, trigger="drift", severity="HIGH",
        reason="0 rows to train on", champion="v0001", version=version, accepted=version is not None, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "jobs", "settings", "remedy"),
    [
        (drifted("observe"), (), {}, "nothing to do yet"),
        (drifted("quarantine"), (job(2),), {}, "repair the data at its source"),
        (drifted(), (), {}, "nothing: a retraining starts by itself"),
        (drifted(), (job(0.5),), {}, "nothing: a retraining starts by itself"),  # before the drift
        (drifted(), (job(2, version="v0002"),), {}, "nothing: a retraining starts by itself"),
        (
            drifted(),
            (job(2),),
            {},
            "the latest retraining gave no challenger, see below; another starts after its cool-down",
        ),
        (drifted(severity="MEDIUM"), (), {}, "no retraining starts below HIGH"),
        (drifted(), (), {"enabled": False}, "retraining is switched off"),
    ],
)
def test_what_to_do_about_drift_is_what_is_so(
    event: Drift, jobs: tuple[Job, ...], settings: dict[str, Any], remedy: str
) -> None:
    retrain = msgspec.structs.replace(CONFIG.retrain, **settings)
    (problem,) = found(FRESH, 3, drift=event, jobs=jobs, retrain=retrain).problems
    assert (problem.code, problem.severity) == ("drift", event.severity)
    assert problem.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("latest", "lines"),
    [
        (job(2, "running", step="training on 900 rows"), ["retrain_1, by drift, is running: training on 900 rows"]),
        (
            job(2),
            [
                "retrain_1, by drift, gave no challenger (completed): 0 rows to train on, 1 h ago",
                "cool-down until 2026-12-06 00:00:00 UTC (in 6 d 23 h)",
            ],
        ),
        (job(-200, version="v0002"), ["retrain_1, by drift, made v0002, 8 d 11 h ago"]),
    ],
)
def test_the_latest_retraining_is_told_with_its_end(latest: Job, lines: list[str]) -> None:
    text = status_text.status(found(FRESH, 3, jobs=(latest,)))
    assert [line[14:] for line in text.split("\n\n")[-1].splitlines()[: len(lines)]] == lines
