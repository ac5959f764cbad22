"""Every condition for a job, met and not met, and what becomes of a request that has to wait."""

import msgspec
import pytest

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig, ScheduleConfig, WindowLength
from gauntlet.config.section import Seconds
from gauntlet.config.triggers import DriftTrigger
from gauntlet.types import Rule, Severity
from retrainer.triggers.conditions import RetrainContext, check
from retrainer.triggers.requests import (
    RetrainRequest,
    after,
    answered,
    by_urgency,
    is_answered,
    manual,
    scheduled,
    taken_back,
)

HOUR = 3600.0
NOW = 1000 * HOUR
SETTINGS = RetrainConfig(rule=Rule.PROVE, min_interval=Seconds(6 * HOUR), cool_down=Seconds(168 * HOUR), max_attempts=3)
CONTEXT = RetrainContext(now=NOW, champion="v1")


def request(**changes: object) -> RetrainRequest:
    known = RetrainRequest(
        kind="drift",
        id="ep1",
        at=NOW,
        severity=Severity.HIGH,
        model="v1",
        reason="HIGH drift, root cause concept (dep_hour)",
        action="retrain_recent",
        root_cause="concept",
    )
    return msgspec.structs.replace(known, **changes)


def test_all_conditions_met_gives_a_job_and_names_every_reason() -> None:
    judged = check(request(), CONTEXT, SETTINGS)
    assert (judged.should_retrain, judged.refusals) == (True, [])
    assert [c.name for c in judged.conditions] == [
        "enabled",
        "drift",
        "root cause",
        "champion",
        "monitoring",
        "approval",
        "repeat",
        "single request",
        "single flight",
        "rollout",
        "bake",
        "min_interval",
        "cool_down",
        "cool_down",
        "attempts",
        "min_data_points",
        "rows to train on",
        "data quality",
        "hours",
    ]
    assert [c.name for c in judged.conditions if c.met is None] == [
        "min_data_points",
        "rows to train on",
        "data quality",
    ]
    assert "dep_hour" in judged.reasons[1]


@pytest.mark.parametrize(
    ("facts", "name", "later"),
    [
        ({"running_job": "j1"}, "single flight", True),
        ({"rollouts": ("e-r0001",)}, "rollout", True),
        ({"baking": "e-r0001"}, "bake", True),
        ({"last_job_started": NOW - 6 * HOUR + 1}, "min_interval", True),
        ({"last_attempt_ended": NOW - 168 * HOUR + 1}, "cool_down", True),
        ({"last_rollout_ended": NOW - 168 * HOUR + 1}, "cool_down", True),
        ({"attempts": 3}, "attempts", False),
        ({"new_samples": 99}, "min_data_points", True),
        ({"left_to_train": 99}, "rows to train on", True),
        ({"quality": 0.6999}, "data quality", True),
        ({"champion": "v2"}, "champion", False),
    ],
)
def test_each_obstacle_alone_refuses_and_is_named(facts: dict[str, object], name: str, later: bool) -> None:
    judged = check(request(), msgspec.structs.replace(CONTEXT, **facts), SETTINGS)
    assert not judged.should_retrain
    assert [c.name for c in judged.obstacles] == [name]
    assert judged.later is later
    assert judged.refusals[0].startswith(name)


def test_a_rollout_that_ended_after_the_events_read_so_far_is_no_contradiction() -> None:
    """Scenario: a rehearsal waits for 0 s, and a person has rolled back a moment ago. "0 s since, 0 s wanted" told
    nobody why it is refused."""
    facts = msgspec.structs.replace(CONTEXT, last_rollout_ended=NOW + 15)
    (refusal,) = check(request(), facts, msgspec.structs.replace(SETTINGS, cool_down=Seconds(0))).refusals
    assert refusal == "cool_down: the events read so far are 15 s older than the last rollout's end"


def test_nobody_starts_a_job_without_rows_to_train_on_and_the_refusal_says_how_long_to_wait() -> None:
    """A person's `--force` waits for no new rows, but a job with too few to train on can only fail."""
    forced = manual("m", NOW, "ann", "now", urgent=True)
    early = msgspec.structs.replace(CONTEXT, new_samples=0, left_to_train=0, trainable_in=13 * 24 * HOUR)
    judged = check(forced, early, SETTINGS)
    assert judged.later
    assert judged.refusals == [
        "rows to train on: 0 labelled rows are left, 100 wanted: the newest 14 d are held out; "
        "enough in 13 d at the earliest"
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"last_job_started": NOW - 6 * HOUR},
        {"last_attempt_ended": NOW - 168 * HOUR},
        {"last_rollout_ended": NOW - 168 * HOUR},
        {"attempts": 2},
        {"new_samples": 100},
        {"left_to_train": 100},
        {"quality": 0.70},
    ],
)
def test_at_its_limit_an_obstacle_is_gone(facts: dict[str, object]) -> None:
    assert check(request(), msgspec.structs.replace(CONTEXT, **facts), SETTINGS).should_retrain


def test_rounds_that_failed_double_the_wait_up_to_the_cool_down_and_urgency_waits_for_none() -> None:
    for failures, hours in ((0, 6), (1, 6), (2, 12), (3, 24), (6, 168), (1_000, 168)):
        context = msgspec.structs.replace(CONTEXT, failures=failures, last_job_started=NOW - hours * HOUR)
        assert check(request(), context, SETTINGS).should_retrain
        soon = msgspec.structs.replace(context, last_job_started=NOW - hours * HOUR + 1)
        assert [c.name for c in check(request(), soon, SETTINGS).obstacles] == ["min_interval"]
        assert check(request(severity=Severity.CRITICAL), soon, SETTINGS).should_retrain
        later = msgspec.structs.replace(context, last_job_started=NOW - 6 * HOUR, most=6)
        assert check(scheduled(NOW), later, REFRESH).should_retrain, "a schedule keeps its own pace"


def test_what_is_asked_once_stays_open_until_a_round_answers_it_but_for_a_persons() -> None:
    asked = {r.key: r for r in (scheduled(NOW), taken_back("r1", NOW, "v2", "worse"), manual("m1", NOW, "ann", "why"))}
    for key, kept in (("schedule", True), ("rollback", True), ("manual", False)):
        open_ = answered(asked, asked[key])
        assert (key in open_) is kept
        if kept:
            tried = open_[key]
            assert (tried.attempted, tried.urgent) == (True, False)
            assert not is_answered(tried, "retrain_20260101_001", [])
            assert not is_answered(tried, None, [tried.id])
            assert is_answered(tried, None, [])
            assert not is_answered(asked[key], None, []), "no job was tried yet"


def test_a_schedules_retry_waits_longer_with_every_failure_and_for_no_cool_down() -> None:
    failed = msgspec.structs.replace(
        CONTEXT, failures=2, last_job_started=NOW - 11 * HOUR, last_attempt_ended=NOW, most=6
    )
    tried = msgspec.structs.replace(scheduled(NOW), attempted=True)
    assert [c.name for c in check(tried, failed, REFRESH).obstacles] == ["min_interval"]
    later = msgspec.structs.replace(failed, last_job_started=NOW - 12 * HOUR)
    assert check(tried, later, REFRESH).should_retrain
    assert check(scheduled(NOW), failed, REFRESH).should_retrain, "the next time of the clock keeps its pace"


def test_an_edge_that_failed_jobs_have_met_asks_again() -> None:
    edge = msgspec.structs.replace(SETTINGS.triggers, drift=DriftTrigger(repeat="edge"))
    settings = msgspec.structs.replace(SETTINGS, triggers=edge)
    done = request(attempted=True)
    assert not check(done, CONTEXT, settings).should_retrain
    assert check(done, msgspec.structs.replace(CONTEXT, unanswered=frozenset({"ep1"})), settings).should_retrain


def test_bad_data_and_a_switched_off_retrainer_never_make_a_job() -> None:
    off = msgspec.structs.replace(SETTINGS.triggers, drift=DriftTrigger(enabled=False))
    for hopeless, settings in (
        (request(action="quarantine", severity=Severity.CRITICAL), SETTINGS),
        (request(root_cause="quality"), SETTINGS),
        (request(severity=Severity.CRITICAL), msgspec.structs.replace(SETTINGS, enabled=False)),
        (request(severity=Severity.CRITICAL), msgspec.structs.replace(SETTINGS, triggers=off)),
    ):
        judged = check(hopeless, CONTEXT, settings)
        assert not judged.should_retrain
        assert not judged.later


def test_critical_drift_skips_the_waiting_times_once_and_nothing_else() -> None:
    waiting = msgspec.structs.replace(
        CONTEXT, last_job_started=NOW - 1, last_attempt_ended=NOW - 1, last_rollout_ended=NOW - 1
    )
    urgent = request(severity=Severity.CRITICAL)
    judged = check(urgent, waiting, SETTINGS)
    assert judged.should_retrain
    answered = msgspec.structs.replace(urgent, attempted=True)
    again = check(answered, waiting, SETTINGS)
    assert (again.should_retrain, again.later) == (False, True)
    for hard in ({"running_job": "j1"}, {"rollouts": ("r1",)}, {"attempts": 3}):
        assert not check(urgent, msgspec.structs.replace(waiting, **hard), SETTINGS).should_retrain


def test_a_cause_that_lasts_keeps_its_request_until_it_is_worse_or_gone() -> None:
    def then(before: RetrainRequest, *causes: RetrainRequest | str) -> RetrainRequest | None:
        return after({before.key: before}, causes, SETTINGS).get("drift")

    opened = request(at=NOW - HOUR, attempted=True, approved_by="ann")
    same = then(opened, request())
    assert same == opened, "no worse than when its job was made"
    worse = then(opened, request(severity=Severity.CRITICAL))
    assert worse is not None
    assert (worse.severity, worse.attempted, worse.at) == (Severity.CRITICAL, False, NOW - HOUR)
    calmer = then(opened, request(severity=Severity.MEDIUM))
    assert calmer is not None
    assert calmer.attempted
    second = then(calmer, request())
    assert second is not None
    assert not second.attempted, "a new loss in an open episode asks as a new episode does"
    other = then(opened, request(id="ep2"))
    assert other is not None
    assert (other.attempted, other.approved_by) == (False, None)
    assert then(opened, "drift") == opened, "nobody can tell: it stays"
    assert then(opened) is None
    person = manual("m1", NOW, "ann", "new labels")
    assert after({"manual": person, "rule:gone": request(kind="rule", name="gone")}, ["rule:gone"], SETTINGS) == {
        "manual": person
    }, "people are not answered by a cause, and a rule that is no longer there asks no more"


def test_requests_go_by_the_settings_as_they_are_now() -> None:
    mild = msgspec.structs.replace(SETTINGS.triggers, drift=DriftTrigger(mode="approve", repeat="edge"))
    settings = msgspec.structs.replace(SETTINGS, triggers=mild)
    (asked,) = after({"drift": request()}, [request()], settings).values()
    assert asked.mode == "approve"
    agreed = msgspec.structs.replace(asked, approved_by="ann")
    assert check(agreed, CONTEXT, settings).should_retrain
    done = msgspec.structs.replace(agreed, attempted=True)
    assert [c.name for c in check(done, CONTEXT, settings).obstacles] == ["repeat"]


def test_a_person_may_ask_and_waits_like_everybody_unless_urgent() -> None:
    waiting = msgspec.structs.replace(CONTEXT, last_attempt_ended=NOW - 1)
    asked = check(manual("m1", NOW, "ann", "new labels"), CONTEXT, SETTINGS)
    assert asked.should_retrain
    assert "manual: ann: new labels" in asked.reasons
    assert not check(manual("m1", NOW, "ann", "new labels"), waiting, SETTINGS).should_retrain
    assert check(manual("m1", NOW, "ann", "new labels", urgent=True), waiting, SETTINGS).should_retrain


def test_a_second_request_of_a_person_waits_until_the_first_is_closed() -> None:
    asked = msgspec.structs.replace(CONTEXT, asked="m1")
    assert check(manual("m1", NOW, "ann", "new labels"), asked, SETTINGS).should_retrain
    judged = check(manual("m2", NOW, "bob", "me too", urgent=True), asked, SETTINGS)
    assert judged.refusals == ["single request: m1 is open already: approve it or decline it"]
    assert judged.later
    assert check(request(), asked, SETTINGS).should_retrain, "other triggers have requests of their own"


def test_a_suggestion_starts_nothing_and_an_approval_counts_for_one_round_of_jobs() -> None:
    for asked in (request(mode="suggest", severity=Severity.CRITICAL), request(mode="approve")):
        judged = check(asked, CONTEXT, SETTINGS)
        assert [c.name for c in judged.obstacles] == ["approval"]
        assert judged.later
    agreed = request(mode="approve", approved_by="ann")
    judged = check(agreed, CONTEXT, SETTINGS)
    assert judged.should_retrain
    assert "approval: approved by ann" in judged.reasons
    assert answered({"drift": agreed}, agreed)["drift"].approved_by is None


def test_the_most_urgent_of_several_requests_comes_first_and_its_jobs_answer_suggestions() -> None:
    routine, person = scheduled(NOW - HOUR), manual("m1", NOW, "ann", "new labels")
    drifted = request(severity=Severity.CRITICAL)
    idea = request(kind="rule", name="late", severity=Severity.MEDIUM, mode="suggest")
    requests = {r.key: r for r in (routine, person, idea, drifted)}
    assert list(requests) == ["schedule", "manual", "rule:late", "drift"]
    assert [r.key for r in by_urgency(requests)] == ["drift", "manual", "rule:late", "schedule"]
    after = answered(requests, drifted)
    assert list(after) == ["schedule", "manual", "rule:late", "drift"], "these are judged again"
    assert [key for key, r in after.items() if r.attempted] == ["rule:late", "drift"]
    assert [r.key for r in by_urgency(after)] == ["drift", "manual", "rule:late", "schedule"]
    assert list(answered(after, person)) == ["schedule", "rule:late", "drift"]


REFRESH = RetrainConfig(
    schedule=ScheduleConfig(every=Seconds(168 * HOUR)),
    recipes=[RecipeConfig(name="60d"), RecipeConfig(name="all", window=WindowLength(0))],
    min_interval=Seconds(6 * HOUR),
)


def test_the_schedule_waits_for_no_cool_down_and_for_no_bake() -> None:
    busy = msgspec.structs.replace(
        CONTEXT, baking="e-r0001", last_attempt_ended=NOW - 7 * HOUR, last_rollout_ended=NOW, attempts=99, most=6
    )
    judged = check(scheduled(NOW), busy, REFRESH)
    assert judged.should_retrain, judged.refusals
    assert not check(request(severity=Severity.HIGH), busy, REFRESH).should_retrain, "drift still does"
    soon = msgspec.structs.replace(busy, last_job_started=NOW - HOUR)
    assert check(scheduled(NOW), soon, REFRESH).later
    assert check(scheduled(NOW), msgspec.structs.replace(busy, running_job="j1"), REFRESH).later
    off = msgspec.structs.replace(REFRESH, enabled=False)
    assert not check(scheduled(NOW), busy, off).later


def test_a_schedule_at_its_critical_pace_ends_at_the_cap() -> None:
    """Each of its rounds takes the place of the youngest in shadow: without an end jobs would train for nothing."""
    tried = msgspec.structs.replace(CONTEXT, attempts=REFRESH.max_attempts, most=6)
    assert check(scheduled(NOW), tried, REFRESH).should_retrain
    judged = check(scheduled(NOW, urgent=True), tried, REFRESH)
    assert [c.name for c in judged.obstacles] == ["attempts"]
    assert not judged.later


@pytest.mark.parametrize(
    ("running", "replaceable", "room"),
    [(0, 0, True), (4, 0, True), (5, 0, False), (5, 1, True), (6, 2, True), (6, 1, False)],
)
def test_new_models_run_beside_others_as_far_as_there_is_room(running: int, replaceable: int, room: bool) -> None:
    """Two recipes, at most six challengers; a new model takes the place of one in shadow that may give way."""
    rollouts = tuple(f"r{n}" for n in range(running))
    context = msgspec.structs.replace(CONTEXT, rollouts=rollouts, replaceable=replaceable, most=6)
    judged = check(scheduled(NOW), context, REFRESH)
    assert (judged.should_retrain, judged.later) == (room, not room)


def test_with_monitoring_stopped_only_what_a_person_asks_for_or_agreed_to_starts() -> None:
    stopped = msgspec.structs.replace(CONTEXT, monitoring=False)
    trigger = check(request(severity=Severity.CRITICAL), stopped, SETTINGS)
    assert [c.name for c in trigger.obstacles] == ["monitoring"]
    assert trigger.later
    assert check(request(mode="approve", approved_by="ann"), stopped, SETTINGS).should_retrain
    assert check(manual("m1", NOW, "ann", "new labels"), stopped, SETTINGS).should_retrain
