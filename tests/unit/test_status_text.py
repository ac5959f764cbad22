"""What an operator reads in typical states, word for word."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders.operator_status import CONFIG, FRESH, HOUR, ON_RAMP, ONE, PROMOTED, START, TWO, found, look, order

from evaluator.service.promotion_ledger import lineage
from gauntlet import rollout
from gauntlet.cli import status_text
from gauntlet.config.load import parse
from gauntlet.events import Drift, DriftSignal, Evaluation, Health, Job
from gauntlet.promotion_ledger import Entry, Ledger
from gauntlet.rollout import Control
from gauntlet.status import EvaluatorProgress, FalseAlarms, Problem, RetrainerProgress, moment
from gauntlet.status_document import Reports, changes, document
from gauntlet.types import Severity, VerdictCause

INCOMPLETE = VerdictCause.EVIDENCE_INCOMPLETE


def told(record: Control, hours: float, *looks: Evaluation, **more: Any) -> str:
    return status_text.status(found(record, hours, *looks, **more))


def test_a_champion_alone() -> None:
    assert told(FRESH, 3) == (
        """\
shop at 2026-11-29 01:00:00 UTC
champion v0001 serves all of the traffic, since 2026-11-28 22:00:00 UTC (3 h ago)
no challenger runs; one comes from a retraining, or by  gauntlet challenge

nothing needs you

  last change began 3 h ago, by gauntlet: first start
"""
    )


def test_a_challenger_in_shadow_without_evidence() -> None:
    assert told(ONE, 3, behind=True) == (
        """\
shop at 2026-11-29 01:00:00 UTC
champion v0001 serves all of the traffic, since 2026-11-28 22:00:00 UTC (3 h ago)
this router is behind: it still answers with champion v0001 (change 6 of 7)

nothing needs you

challenger v0002 (shop-r0001, prove) in shadow, since 2026-11-28 23:00:00 UTC (2 h ago)
  verdict     none yet: a look needs traffic whose outcomes count, 1 d after the prediction
  next        goes on to 1 %, not before 2026-11-30 23:00:00 UTC (in 1 d 22 h)
              waits for 100 more matured outcomes; a first look at the evidence
              promoted not before 2026-12-07 23:00:00 UTC (in 8 d 22 h)

  last change began rollout shop-r0001 (v0002 against v0001, in shadow) 2 h ago, by ann: try it
"""
    )


def test_two_challengers_one_on_the_ramp() -> None:
    looks = look(1, "v0002", 110, INCOMPLETE, "inconclusive", eta_decision=4321), look(2, "v0003", 110, INCOMPLETE, "x")
    record = order(TWO, "approve", 105, rollout="shop-r0001")
    assert told(record, 110, *looks) == (
        """\
shop at 2026-12-03 12:00:00 UTC
champion v0001 serves 95 % of the traffic, since 2026-11-28 22:00:00 UTC (4 d 14 h ago)

nothing needs you

challenger v0002 (shop-r0001, prove) at 5 % (stage 1; the last is 2), since 01:00:00 UTC (11 h ago)
  verdict     inconclusive: the planned evidence is incomplete
  evidence    log_loss effect +0.0123 [-0.003, +0.0276] after 24 blocks, 12,345 pairs, 45% of the planned
              evidence; positive: the challenger is better
              the sentence of the cause
              what is missing
              latest look 0 s ago
  next        goes on to 10 %, not before 2026-12-05 01:00:00 UTC (in 1 d 13 h)
              promoted not before 2026-12-08 01:00:00 UTC (in 4 d 13 h)
              without a winner archived at the latest 2027-02-16 23:00:00 UTC (in 75 d 11 h)

challenger v0003 (shop-r0002, refresh) in shadow, since 2026-12-01 01:00:00 UTC (2 d 11 h ago)
  verdict     x: the planned evidence is incomplete
  evidence    log_loss effect +0.0123 [-0.003, +0.0276] after 24 blocks, 12,345 pairs, 45% of the planned
              evidence; positive: the challenger is better
              the sentence of the cause
              what is missing
              latest look 0 s ago
  next        goes on to 1 %, not before 2026-12-06 01:00:00 UTC (in 2 d 13 h)
              waits for being shown to be better on average, and not worse by more than 5 % of the loss
              promoted not before 2026-12-07 01:00:00 UTC (in 3 d 13 h)
              without a winner archived at the latest 2027-02-19 01:00:00 UTC (in 77 d 13 h)

  last change approved shop-r0001 (stage 1 approved) 5 h ago, by ann: try it
"""
    )


def test_a_paused_comparison_that_is_invalid_says_so_before_anything_that_went_well() -> None:
    invalid = look(1, "v0002", 60, VerdictCause.SAMPLE_RATIO, "invalid", effect=None, lower=None, upper=None)
    record = order(ON_RAMP, "pause", 60, "retrainer", "the arms' traffic does not match its shares")
    assert told(record, 61, invalid) == (
        """\
shop at 2026-12-01 11:00:00 UTC
champion v0001 serves 99 % of the traffic, since 2026-11-28 22:00:00 UTC (2 d 13 h ago)

to do, the most severe first:
  HIGH        v0002 at 1 % (stage 0; the last is 2) is paused by retrainer: the arms' traffic does not match
              its shares
              → gauntlet resume --rollout shop-r0001 --reason …, or gauntlet rollback --rollout shop-r0001
              --reason …

challenger v0002 (shop-r0001, prove) at 1 % (stage 0; the last is 2), PAUSED, since 00:00:00 UTC (11 h ago)
  verdict     INVALID: the arms' traffic does not match its shares (the sentence of the cause)
  evidence    no effect on log_loss known yet after 24 blocks, 12,345 pairs, 45% of the planned evidence
              what is missing
              latest look 1 h ago
  next        stays at 1 % (stage 0; the last is 2) until it is resumed; harm still rolls it back

  last change paused shop-r0001 1 h ago, by retrainer: the arms' traffic does not match its shares
"""
    )


def test_a_stage_that_waits_for_nothing_but_a_person() -> None:
    at_five = order(ON_RAMP, "advance", 99)
    assert told(at_five, 150, look(1, "v0002", 150, VerdictCause.WIN, "better", lower=0.001)) == (
        """\
shop at 2026-12-05 04:00:00 UTC
champion v0001 serves 95 % of the traffic, since 2026-11-28 22:00:00 UTC (6 d 6 h ago)

to do, the most severe first:
  HIGH        v0002 at 5 % (stage 1; the last is 2) waits for a person's approval, and for nothing else
              → gauntlet approve --rollout shop-r0001 --reason …, or gauntlet rollback --rollout shop-r0001
              --reason …

challenger v0002 (shop-r0001, prove) at 5 % (stage 1; the last is 2), since 2026-12-03 01:00:00 UTC (2 d 3 h
ago)
  verdict     better: the challenger is better
  evidence    log_loss effect +0.0123 [+0.001, +0.0276] after 24 blocks, 12,345 pairs, 45% of the planned
              evidence; positive: the challenger is better
              the sentence of the cause
              what is missing
              latest look 0 s ago
  next        goes on to 10 %
              waits for your approval
              promoted not before 2026-12-08 04:00:00 UTC (in 3 d)

  last change advanced shop-r0001 (1.00% → 5.00%) 2 d 3 h ago, by ann: try it
"""
    )


def test_a_bake() -> None:
    health = Health(
        id="h",
        at=START + 240 * HOUR,
        experiment="shop",
        model="v0002",
        outcomes=10,
        metrics={},
        previous="v0001",
        realised_gain=0.0112,
        realised_lower=0.002,
        realised_upper=0.0204,
        realised_pairs=4000,
    )
    assert told(PROMOTED, 248, health=health) == (
        """\
shop at 2026-12-09 06:00:00 UTC
champion v0002 serves all of the traffic, since 2026-12-07 06:00:00 UTC (2 d ago)
no challenger runs; one comes from a retraining, or by  gauntlet challenge

nothing needs you

v0002 is watched until 2026-12-21 06:00:00 UTC (in 12 d); if it falls below what it has shown, v0001 takes
over again by itself
  gain        loss lower by +0.0112 [+0.002, +0.0204] than that of v0001 on 4,000 pairs since the promotion

  ended       shop-r0001 (v0002 against v0001) promoted 2 d ago by retrainer
  last change promoted shop-r0001 (v0001 → v0002) 2 d ago, by retrainer: the challenger is better and has
              passed the whole ramp
"""
    )


def test_after_a_rollback_nothing_of_the_old_rollout_is_told_as_present() -> None:
    back = order(ON_RAMP, "rollback", 60, "retrainer", "the challenger does harm", rollout="shop-r0001")
    harm = look(1, "v0002", 60, VerdictCause.HARM, "worse", effect=-0.2)
    assert told(back, 61, harm) == (
        """\
shop at 2026-12-01 11:00:00 UTC
champion v0001 serves all of the traffic, since 2026-11-28 22:00:00 UTC (2 d 13 h ago)
no challenger runs; one comes from a retraining, or by  gauntlet challenge

nothing needs you

  ended       shop-r0001 (v0002 against v0001) rolled back 1 h ago by retrainer
  last change rolled back shop-r0001 (v0002 is out at 1.00%) 1 h ago, by retrainer: the challenger does harm
"""
    )


def drift(model: str, hours: float, event: str = "open") -> Drift:
    return Drift(
        id="d",
        at=START + hours * HOUR,
        experiment="shop",
        episode="e",
        event=event,
        severity="CRITICAL",
        confidence=0.9,
        root_cause="concept",
        action="retrain_recent",
        model=model,
        rows=100,
        features=[DriftSignal(name="price", statistic=0.5)],
    )


def test_everything_that_needs_somebody_stands_in_one_list_the_most_severe_first() -> None:
    full = Problem(code="disk", severity=Severity.HIGH, source="router", text="the disk is full", remedy="free some")
    failed = Job(
        id="j1", at=START, experiment="shop", status="failed", trigger="drift", severity="HIGH", reason="r",
        champion="v0001", error="too few rows",
    )  # fmt: skip
    text = told(FRESH, 3, drift=drift("v0001", 1), problems=(full,), jobs=(failed,))
    assert text.split("\n\n")[1] == (
        """\
to do, the most severe first:
  CRITICAL    concept drift is open; what moved most: price (2 h ago)
              → nothing: a retraining starts by itself, and what it makes has to pass the same gates
  HIGH        the disk is full
              → free some
  MEDIUM      the latest retraining failed: too few rows
              → see the reason; the next trigger starts another job"""
    )


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (PROMOTED, drift("v0001", 190)),  # the champion of before
        (PROMOTED, drift("v0001", 210)),  # of it too, told late
        (order(PROMOTED, "rollback", 220), drift("v0001", 190)),  # the same version in an earlier reign
        (FRESH, drift("v0001", 1, "close")),
    ],
)
def test_drift_that_is_over_or_of_another_champion_is_no_problem(record: Control, event: Drift) -> None:
    assert "drift" not in told(record, 250, drift=event)


def test_a_version_that_serves_again_shows_its_new_drift() -> None:
    assert "concept drift is open" in told(order(PROMOTED, "rollback", 220), 250, drift=drift("v0001", 230))


def test_the_history_tells_each_change_and_control_characters_drive_no_terminal() -> None:
    records = [(1, FRESH), (2, order(FRESH, "challenge", 1, version="v0002", reason="a\x1b[31mred")), (9, PROMOTED)]
    entry = Entry(
        promotion="shop-r0001",
        champion="v0002",
        previous="v0001",
        number=1,
        since=START + 225 * HOUR,
        until=START + 330 * HOUR,
        pairs=4000,
        gain=0.0112,
        alpha=0.05,
        lower=0.002,
        upper=0.0204,
    )
    assert status_text.history(changes(records, Ledger(entries=[entry])), None) == (
        """\
   1  2026-11-28 22:00:00 UTC  began, by gauntlet: first start
   2  2026-11-28 23:00:00 UTC  began rollout shop-r0001 (v0002 against v0001, in shadow), by ann: a\\x1b[31mred
   9  2026-12-07 06:00:00 UTC  promoted shop-r0001 (v0001 → v0002), by retrainer: the challenger is better and
                               has passed the whole ramp
                               realised gain: v0002 over v0001: +0.0112 [+0.002, +0.0204] on 4,000 pairs,
                               2026-12-08 to 2026-12-12 (goes on)
"""
    )


def test_the_status_tells_what_promotions_were_worth_and_all_together() -> None:
    """The first is closed, the second has too few blocks for an interval, and so has the sum."""
    known = {"since": START, "until": START + 99 * HOUR, "alpha": 0.05}
    first = Entry(
        promotion="shop-r0000",
        champion="v0001",
        previous="v0000",
        number=1,
        pairs=9000,
        gain=0.02,
        lower=0.01,
        upper=0.03,
        lineage_lower=0.005,
        lineage_upper=0.035,
        **known,
    )
    second = Entry(promotion="shop-r0001", champion="v0002", previous="v0001", number=2, pairs=40, gain=-0.001, **known)
    for entries, interval in (([first], ""), ([first, second], "v0000 to v0002, 2 links added: +0.019 [no interval]")):
        ledger = Ledger(entries=entries, lineage=lineage(entries, entries[-1].champion))
        reports = Reports(evaluator=EvaluatorProgress(at=START, worth=ledger))
        record = msgspec.structs.replace(PROMOTED, champion=entries[-1].champion)
        made = document(CONFIG, 9, record, None, reports, (), {}, START + 248 * HOUR)
        text = " ".join(status_text.status(made).split())
        assert "v0001 over v0000: +0.02 [+0.01, +0.03] on 9,000 pairs, 2026-11-28 to 2026-12-03 (over)" in text
        assert interval in text
        assert "1 link" not in text, "one link is the promotion itself"
    assert (
        "-0.001 [no interval] on 40 pairs, 2026-11-28 to 2026-12-03, too few blocks for an interval (goes on)" in text
    )
    assert (
        "(each measured in its own time: one that wears off counts in full; 1 has too few blocks for an interval)"
        in text
    )


def test_times_that_no_event_has_are_not_known() -> None:
    """A replay's clock stands at 0 before its first event."""
    started = rollout.begin("shop", "v0001", 0.0)
    made = document(CONFIG, 1, started, None, Reports(), (), {}, 0.0)
    assert (made.at, made.champion_since, made.last and made.last.at) == (None, None, None)
    assert "since a time that is not known" in status_text.status(made)


def test_the_document_holds_no_seconds_since_the_epoch() -> None:
    looks = (look(1, "v0002", 110, INCOMPLETE, "inconclusive"),)
    progress = EvaluatorProgress(at=START, watermark=START, evaluations={one.rollout: one for one in looks})
    reports = Reports(evaluator=progress, retrainer=RetrainerProgress(at=START))
    made = msgspec.to_builtins(document(CONFIG, 7, TWO, None, reports, (), {}, START))

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict | list):
            return [n for each in (value.values() if isinstance(value, dict) else value) for n in numbers(each)]
        return [value] if isinstance(value, int | float) else []

    assert made["schema"] == 1
    assert made["evaluator"]["watermark"] == "2026-11-28T22:00:00Z"
    assert made["rollouts"][0]["look"]["at"] == "2026-12-03T12:00:00Z"
    assert max(numbers(made)) < 1e9
    assert made["evaluator"].keys().isdisjoint({"problems", "evaluations", "drift"})


def test_a_rehearsal_says_so_first() -> None:
    config = parse("experiment: e\ntask: regression\nprofile: rehearsal\nchampion: {model: m.skops}\n")
    made = document(config, 1, rollout.begin("e", "v0001", START), None, Reports(), (), {}, START)
    assert made.profile == "rehearsal"
    assert status_text.status(made).startswith(
        """\
e at 2026-11-28 22:00:00 UTC
REHEARSAL, never for production: a day passes in 10 s, and an outcome counts 10 s after its prediction;
verdicts hold for the traffic of these minutes only
champion v0001 serves all of the traffic
"""[:-1]
    )
    assert document(CONFIG, 1, None, None, Reports(), (), {}, START).notice is None


@pytest.mark.parametrize(
    ("rounds", "text"),
    [
        ({}, "none is finished yet; 7.5% of them may cross a boundary"),
        (
            {"rounds": 9, "alarms": 2, "rate": 2 / 9, "lower": 0.011, "upper": 0.7},
            "2 of 9 crossed a boundary: 22.2% [1.1%, 70.0%], where 7.5% may",
        ),
    ],
)
def test_the_false_alarm_rate_of_the_aa_slice_stands_beside_its_level(rounds: dict[str, Any], text: str) -> None:
    ends = moment(START + 50 * HOUR)
    aa = FalseAlarms(level=0.075, share=0.05, round_ends=ends, information_fraction=0.4, **rounds)
    assert told(FRESH, 3, false_alarms=aa).endswith(
        f"""
  A/A tests   {text}
              the next is at 40% and ends 2026-12-01 00:00:00 UTC (in 1 d 23 h)
"""
    )
    assert "A/A" not in told(FRESH, 3)
