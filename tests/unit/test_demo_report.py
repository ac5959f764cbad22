"""The demo's report shows what was recorded, and names the line that does not add up."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import demo_year

from gauntlet import adapters, events
from gauntlet.cli.demo import report
from gauntlet.cli.demo.report_model import DemoReport, ReconciliationCheck
from gauntlet.cli.demo.run import SUBMISSIONS
from gauntlet.types import CHALLENGER, CHAMPION


@pytest.fixture
async def run(tmp_path: Path) -> demo_year.Run:
    return await demo_year.make(tmp_path, days=90, a_day=20)


async def collected(run: demo_year.Run) -> DemoReport:
    await run.write()
    return await report.collect(run.config, run.flights, run.sent, SUBMISSIONS, time.monotonic() - 3.0)


def check(found: DemoReport, name: str) -> ReconciliationCheck:
    return next(c for c in found.checks if c.name == name)


def failed(found: DemoReport) -> list[str]:
    return [c.name for c in found.checks if not c.passed]


async def test_a_complete_run_reconciles(run: demo_year.Run) -> None:
    found = await collected(run)
    assert failed(found) == []
    assert found.reconciled
    assert (found.flights, found.outcomes, found.never) == (1800, 1738, 62)
    assert found.per_second == pytest.approx(900)
    assert found.total_seconds >= 3.0
    assert (found.first, found.champion) == ("v0001", "v0002")


async def test_the_timeline_holds_every_step_in_order_with_actor_and_reason(run: demo_year.Run) -> None:
    found = await collected(run)
    assert [m.kind for m in found.timeline] == [
        "start",
        "drift open",
        "drift escalate",
        "job asked",
        "job completed",
        "rollout start",
        "stage",
        "stage",
        "promotion",
        "bake passed",
        "rollout start",
        "stage",
        "rollback",
        "drift open",
        "drift close",
        "job asked",
        "job rejected",
    ]
    assert [m.at for m in found.timeline] == sorted(m.at for m in found.timeline)
    handed_in = found.timeline[10]
    assert (handed_in.actor, handed_in.reason) == ("ann", "hand-made <challenger>")
    assert found.timeline[0].at == found.begin > 0, "the record is older than any flight, and has no time of its own"


async def test_rollouts_have_their_stages_and_the_look_that_decided(run: demo_year.Run) -> None:
    found = await collected(run)
    first, second = found.rollouts
    assert (first.challenger, first.champion, first.state, first.actor) == ("v0002", "v0001", "promoted", "retrainer")
    assert [(s.share, (s.until - s.since) / demo_year.DAY) for s in first.stages] == [(0.0, 5), (0.1, 4), (0.3, 9)]
    # The decision names no look of its own day (that came later), so it is the last one known by then.
    assert first.final is not None
    assert first.final.at <= (first.ended or 0)
    assert first.final.lower is not None
    assert first.final.upper is not None
    assert first.final.lower < 0.03 < first.final.upper
    assert (second.state, second.actor) == ("rolled_back", "breaker")
    of_second = [p for p in run.predictions if p.rollout == second.id]
    assert second.answers == sum(p.served == CHALLENGER for p in of_second) > 0
    assert second.fallbacks == sum(p.fallback is not None for p in of_second)
    assert second.shadow_failures == sum(s.error is not None for s in run.shadows) > 0
    assert second.answers_after == 0
    assert [step.share for step in found.ramp] == [0, 0, 0.1, 0.3, 0, 0, 0, 0.1, 0]


async def test_the_decision_is_shown_with_the_look_that_it_names(run: demo_year.Run) -> None:
    run.evaluations.append(
        msgspec.structs.replace(run.evaluations[-30], id="flights-r0001/40", rollout="flights-r0001", effect=0.0456)
    )
    found = await collected(run)
    assert found.rollouts[0].final is not None
    assert found.rollouts[0].final.effect == 0.0456


async def test_months_compare_what_was_served_with_the_first_champion_on_the_same_flights(run: demo_year.Run) -> None:
    found = await collected(run)
    first = adapters.registry(run.config).load("v0001").predict(run.flights.rows())
    known = ~np.isnan(run.flights.late)
    for month in found.months:
        inside = known & (run.flights.month == month.month)
        truth = run.flights.late[inside].astype(int)
        for_ever = -np.log(first[inside][np.arange(len(truth)), truth]).mean()
        ours = np.array([p.output for p, kept in zip(run.predictions, inside, strict=True) if kept])
        assert month.log_loss_first == pytest.approx(for_ever)
        assert month.log_loss == pytest.approx(-np.log(ours[np.arange(len(truth)), truth]).mean())
        assert month.accuracy == pytest.approx((ours.argmax(axis=1) == truth).mean())
        assert month.outcomes == inside.sum()
    assert found.months[1].served.keys() == {"v0001", "v0002"}
    assert sum(found.year.served.values()) == found.year.flights == 1800
    assert found.year.log_loss is not None
    assert found.year.log_loss_first is not None
    assert found.year.log_loss < found.year.log_loss_first - 0.01, "v0002 is better, and serves most of the time"


async def test_shares_are_counted_for_each_allocation(run: demo_year.Run) -> None:
    found = await collected(run)
    for r in found.realised:
        mine = [p for p in run.predictions if p.allocation == r.allocation]
        assert (r.requests, r.assigned) == (len(mine), sum(p.assigned == CHALLENGER for p in mine))
        assert r.high - r.share == pytest.approx(3 * (r.share * (1 - r.share) / len(mine)) ** 0.5, abs=2 / len(mine))
    assert [r.share for r in found.realised] == [0.1, 0.3, 0.1]


async def test_a_skewed_split_is_shown_outside_its_interval(run: demo_year.Run) -> None:
    allocation = next(p.allocation for p in run.predictions if p.contenders and p.contenders[0].propensity == 0.3)
    for i, p in enumerate(run.predictions):
        if p.allocation == allocation and p.assigned == CHALLENGER:
            run.predictions[i] = msgspec.structs.replace(p, assigned=CHAMPION)
    found = await collected(run)
    assert [r.inside for r in found.realised] == [True, False, True]
    assert "OUTSIDE" in report.to_text(found)


async def test_events_sent_twice_count_once(run: demo_year.Run) -> None:
    once = await collected(run)
    await demo_year.append(
        Path(run.config.data),
        "again",
        [
            ("predictions", run.predictions[100]),
            ("evaluations", run.evaluations[3]),
            ("drift", run.drift[0]),
            ("jobs", run.jobs[1]),
        ],
    )
    twice = await report.collect(run.config, run.flights, run.sent, SUBMISSIONS, time.monotonic())
    assert twice.reconciled
    assert (twice.timeline, twice.rollouts, twice.jobs) == (once.timeline, once.rollouts, once.jobs)


async def test_events_of_another_experiment_are_not_counted(run: demo_year.Run) -> None:
    run.predictions.append(msgspec.structs.replace(run.predictions[0], id="theirs", experiment="other"))
    run.outcomes.append(msgspec.structs.replace(run.outcomes[0], id="theirs", experiment="other"))
    assert (await collected(run)).reconciled


async def test_a_lost_prediction_is_named(run: demo_year.Run) -> None:
    lost = run.predictions.pop(700)
    found = await collected(run)
    assert not found.reconciled
    assert failed(found) == [
        "flights on the log",
        "routed once",
        "predictions evaluated",
        "outcomes evaluated",
        "outcomes joined",
    ]
    shown = report.to_text(found)
    assert f"1,799 of them on the log by id, 1 missing (the first: {lost.id})" in shown
    assert "NOT RECONCILED: flights on the log" in shown


async def test_an_evaluator_that_missed_a_prediction_is_named(run: demo_year.Run) -> None:
    run.counts["predictions"] -= 1
    found = await collected(run)
    assert failed(found) == ["predictions evaluated"]
    assert "1,799 distinct predictions evaluated, 1,800 on the log: NO" in report.to_text(found)


async def test_an_answer_short_is_named(run: demo_year.Run) -> None:
    run.sent.answered -= 1
    assert failed(await collected(run)) == ["flights answered"]


async def test_a_flight_routed_anew_is_named(run: demo_year.Run) -> None:
    again = msgspec.structs.replace(run.predictions[5], assigned=CHALLENGER)
    run.predictions.append(again)
    found = await collected(run)
    assert failed(found) == ["routed once"]
    assert check(found, "routed once").counts == {"rerouted": 1, "misrouted": 0}


@pytest.mark.parametrize(
    "changed",
    [
        {"contenders": [events.Contender(rollout="flights-r0001", challenger="v0003")]},
        {"rollout": "flights-r0002"},
        {"champion": "v0003"},
        {"allocation": 99},
    ],
)
async def test_an_answer_not_in_line_with_its_allocation_is_named(
    run: demo_year.Run, changed: dict[str, object]
) -> None:
    place = next(i for i, p in enumerate(run.predictions) if p.served == CHALLENGER)
    run.predictions[place] = msgspec.structs.replace(run.predictions[place], **changed)
    found = await collected(run)
    assert "routed once" in failed(found)
    assert check(found, "routed once").counts["misrouted"] == 1


async def test_a_look_after_the_end_is_not_what_decided(run: demo_year.Run) -> None:
    last = run.evaluations[-1]
    later = msgspec.structs.replace(last, id="flights-r0002/later", at=last.at + 5 * demo_year.DAY, effect=0.9)
    run.evaluations.append(later)
    found = await collected(run)
    assert found.rollouts[1].looks[-1].effect == 0.9
    assert found.rollouts[1].final is not None
    assert found.rollouts[1].final.effect == -0.05


async def test_a_challenger_that_answers_after_its_rollback_is_named(run: demo_year.Run) -> None:
    last = run.predictions[-1]
    run.predictions[-1] = msgspec.structs.replace(
        last,
        served=CHALLENGER,
        assigned=CHALLENGER,
        contenders=[events.Contender(rollout="flights-r0002", challenger="v0003")],
        rollout="flights-r0002",
    )
    found = await collected(run)
    assert failed(found) == ["routed once", "answers after the end"]
    assert found.rollouts[1].answers_after == 1
    assert "1 requests answered by a model after it was taken out (taken out: 1): v0003 1: NO" in report.to_text(found)


async def test_an_answer_of_the_old_allocation_recorded_after_the_rollback_counts_too(run: demo_year.Run) -> None:
    place = max(i for i, p in enumerate(run.predictions) if p.served == CHALLENGER)
    run.predictions.append(run.predictions.pop(place))
    found = await collected(run)
    assert failed(found) == ["answers after the end"]


async def test_outcomes_that_do_not_add_up_are_named(run: demo_year.Run) -> None:
    run.counts["joined"] -= 2
    found = await collected(run)
    assert failed(found) == ["outcomes evaluated", "outcomes joined"]
    assert "1,736 joined and 0 late; the log by itself gives 1,738 and 0: NO" in report.to_text(found)


async def test_a_lost_outcome_is_named(run: demo_year.Run) -> None:
    run.outcomes.pop()
    found = await collected(run)
    assert "outcomes on the log" in failed(found)
    assert "flights without outcome" in failed(found)


async def test_late_and_repeated_outcomes_and_those_without_a_prediction_are_accounted_for(run: demo_year.Run) -> None:
    late = msgspec.structs.replace(run.outcomes[0], at=run.outcomes[0].at + 2 * demo_year.DAY)
    run.outcomes[0] = late
    run.outcomes.append(run.outcomes[1])
    run.counts |= {"joined": 1737, "late": 1, "duplicate": 1, "outcomes": 1739}
    found = await collected(run)
    assert failed(found) == []
    counts = check(found, "outcomes evaluated").counts
    assert (counts["late"], counts["duplicate"], counts["records"]) == (1, 1, 1739)


async def test_the_text_fits_a_terminal_and_says_where_gauntlet_is_worse(run: demo_year.Run) -> None:
    for i, p in enumerate(run.predictions):
        if run.flights.month[i] == 3:
            run.predictions[i] = msgspec.structs.replace(p, output=[0.5, 0.5])
    shown = report.to_text(await collected(run))
    assert max(map(len, shown.splitlines())) <= 100
    march = next(line for line in shown.splitlines() if line.startswith("Mar  "))
    assert "WORSE" in march
    assert "Reconciled: 1,800 flights, each routed once" in shown


async def test_each_promotion_is_told_with_what_it_was_worth(run: demo_year.Run) -> None:
    found = await collected(run)
    (one,) = found.worth
    assert (one.champion, one.pairs, one.state) == ("v0002", 870, "open")
    shown = " ".join(report.to_text(found).split())
    assert "v0002 over v0001: +0.0312 [+0.0101, open] on 870 pairs, 2013-02-04 to 2013-02-27 (goes on)" in shown
    assert "together: v0001 to v0002, 1 link: +0.0312 [+0.0101, open] (1 has too few" in shown


async def test_the_json_round_trips(run: demo_year.Run) -> None:
    found = await collected(run)
    data = report.to_json(found)
    assert msgspec.json.decode(data, type=DemoReport) == found
    assert list(json.loads(data))[:4] == ["experiment", "metric", "first", "champion"]
    assert json.loads(data)["reconciled"] is True


async def test_rollouts_without_evaluations_have_no_effect(tmp_path: Path) -> None:
    run = await demo_year.make(tmp_path, days=90, a_day=20)
    run.drift, run.jobs, run.evaluations = [], [], []
    found = await collected(run)
    assert all(r.final is None for r in found.rollouts)
    assert "no effect known" in report.to_text(found)
