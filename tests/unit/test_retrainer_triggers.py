"""Every condition for a job, met and not met, and what becomes of a request that has to wait."""

import msgspec
import pytest

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig, WindowLength
from gauntlet.config.section import Seconds
from gauntlet.events import Drift, DriftSignal
from gauntlet.types import Rule, Severity
from retrainer.requests import RetrainRequest, answered, by_urgency, from_drift, manual, scheduled
from retrainer.triggers import RetrainContext, check

HOUR = 3600.0
NOW = 1000 * HOUR
SETTINGS = RetrainConfig(rule=Rule.PROVE, min_interval=Seconds(6 * HOUR), cool_down=Seconds(168 * HOUR), max_attempts=3)
CONTEXT = RetrainContext(now=NOW, champion="v1")


def drift(severity: str = "HIGH", event: str = "open", **changes: object) -> Drift:
    known = Drift(
        id="d1",
        at=NOW,
        experiment="e",
        episode="ep1",
        event=event,
        severity=severity,
        confidence=0.9,
        root_cause="concept",
        action="retrain_recent",
        model="v1",
        rows=500,
        features=[DriftSignal(name="dep_hour", statistic=0.3)],
    )
    return msgspec.structs.replace(known, **changes)


def request(**changes: object) -> RetrainRequest:
    found = from_drift(drift(), None)
    assert found is not None
    return msgspec.structs.replace(found, **changes)


def test_all_conditions_met_gives_a_job_and_names_every_reason() -> None:
    trigger = check(request(), CONTEXT, SETTINGS)
    assert (trigger.should_retrain, trigger.urgent, trigger.refusals) == (True, False, [])
    assert [c.name for c in trigger.conditions] == [
        "enabled",
        "drift",
        "root cause",
        "champion",
        "approval",
        "single flight",
        "rollout",
        "bake",
        "min_interval",
        "cool_down",
        "cool_down",
        "attempts",
    ]
    assert len(trigger.reasons) == len(trigger.conditions)
    assert "dep_hour" in trigger.reasons[1]


@pytest.mark.parametrize(
    ("facts", "name", "later"),
    [
        ({"running_job": "j1"}, "single flight", True),
        ({"rollouts": ("e-r0001",)}, "rollout", True),
        ({"baking": "e-r0001"}, "bake", True),
        ({"last_job_started": NOW - 6 * HOUR + 1}, "min_interval", True),
        ({"last_job_ended": NOW - 168 * HOUR + 1}, "cool_down", True),
        ({"last_rollout_ended": NOW - 168 * HOUR + 1}, "cool_down", True),
        ({"attempts": 3}, "attempts", False),
        ({"champion": "v2"}, "champion", False),
    ],
)
def test_each_obstacle_alone_refuses_and_is_named(facts: dict[str, object], name: str, later: bool) -> None:
    trigger = check(request(), msgspec.structs.replace(CONTEXT, **facts), SETTINGS)
    assert not trigger.should_retrain
    assert [c.name for c in trigger.conditions if not c.met] == [name]
    assert trigger.later is later
    assert trigger.refusals[0].startswith(name)


@pytest.mark.parametrize(
    "facts",
    [
        {"last_job_started": NOW - 6 * HOUR},
        {"last_job_ended": NOW - 168 * HOUR},
        {"last_rollout_ended": NOW - 168 * HOUR},
        {"attempts": 2},
    ],
)
def test_at_its_limit_an_obstacle_is_gone(facts: dict[str, object]) -> None:
    assert check(request(), msgspec.structs.replace(CONTEXT, **facts), SETTINGS).should_retrain


def test_bad_data_and_mild_drift_and_a_switched_off_retrainer_never_make_a_job() -> None:
    for hopeless, settings in (
        (request(action="quarantine", severity=Severity.CRITICAL), SETTINGS),
        (request(root_cause="quality"), SETTINGS),
        (request(severity=Severity.MEDIUM), SETTINGS),
        (request(severity=Severity.CRITICAL), msgspec.structs.replace(SETTINGS, enabled=False)),
    ):
        trigger = check(hopeless, CONTEXT, settings)
        assert not trigger.should_retrain
        assert not trigger.later
    mild = msgspec.structs.replace(SETTINGS, on_severity="MEDIUM")
    assert check(request(severity=Severity.MEDIUM), CONTEXT, mild).should_retrain


def test_critical_drift_skips_the_waiting_times_once_and_nothing_else() -> None:
    waiting = msgspec.structs.replace(
        CONTEXT, last_job_started=NOW - 1, last_job_ended=NOW - 1, last_rollout_ended=NOW - 1
    )
    urgent = request(severity=Severity.CRITICAL)
    trigger = check(urgent, waiting, SETTINGS)
    assert (trigger.should_retrain, trigger.urgent) == (True, True)
    answered = msgspec.structs.replace(urgent, attempted=True)
    again = check(answered, waiting, SETTINGS)
    assert (again.should_retrain, again.urgent, again.later) == (False, False, True)
    for hard in ({"running_job": "j1"}, {"rollouts": ("r1",)}, {"attempts": 3}):
        assert not check(urgent, msgspec.structs.replace(waiting, **hard), SETTINGS).should_retrain


def test_an_episode_opens_escalates_and_closes_its_demand() -> None:
    opened = from_drift(drift(), None)
    assert opened is not None
    answered = msgspec.structs.replace(opened, attempted=True)
    same = from_drift(drift(event="escalate"), answered)
    assert same is not None
    assert same.attempted, "no worse than when its job was made"
    worse = from_drift(drift("CRITICAL", "escalate"), answered)
    assert worse is not None
    assert (worse.severity, worse.attempted) == (Severity.CRITICAL, False)
    calmer = from_drift(drift("LOW", "deescalate"), answered)
    assert calmer is not None
    assert calmer.attempted
    second = from_drift(drift("HIGH", "escalate"), calmer)
    assert second is not None
    assert not second.attempted, "a new loss in an open episode asks as a new episode does"
    assert from_drift(drift(event="close"), worse) is None
    assert from_drift(drift(event="close", episode="ep0"), worse) == worse
    other = from_drift(drift(episode="ep2"), answered)
    assert other is not None
    assert (other.id, other.attempted) == ("ep2", False)


def test_a_person_may_ask_and_waits_like_everybody_unless_urgent() -> None:
    waiting = msgspec.structs.replace(CONTEXT, last_job_ended=NOW - 1)
    asked = check(manual("m1", NOW, "ann", "new labels"), CONTEXT, SETTINGS)
    assert asked.should_retrain
    assert "manual: ann: new labels" in asked.reasons
    assert not check(manual("m1", NOW, "ann", "new labels"), waiting, SETTINGS).should_retrain
    assert check(manual("m1", NOW, "ann", "new labels", urgent=True), waiting, SETTINGS).should_retrain


def test_a_suggestion_starts_nothing_and_an_approval_counts_for_one_round_of_jobs() -> None:
    for asked in (request(mode="suggest", severity=Severity.CRITICAL), request(mode="approve")):
        trigger = check(asked, CONTEXT, SETTINGS)
        assert [c.name for c in trigger.conditions if not c.met] == ["approval"]
        assert trigger.later
    agreed = request(mode="approve", approved_by="ann")
    trigger = check(agreed, CONTEXT, SETTINGS)
    assert trigger.should_retrain
    assert "approval: approved by ann" in trigger.reasons
    kept = from_drift(drift(event="escalate"), agreed)
    assert kept is not None
    assert kept.approved_by == "ann"
    fresh = from_drift(drift(episode="ep2"), agreed)
    assert fresh is not None
    assert fresh.approved_by is None, "nobody has agreed to this one"
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
    recipes=[RecipeConfig(name="60d"), RecipeConfig(name="all", window=WindowLength(0))], min_interval=Seconds(6 * HOUR)
)


def test_the_schedule_waits_for_no_cool_down_and_for_no_bake() -> None:
    busy = msgspec.structs.replace(
        CONTEXT, baking="e-r0001", last_job_ended=NOW - 7 * HOUR, last_rollout_ended=NOW, attempts=99, most=6
    )
    trigger = check(scheduled(NOW), busy, REFRESH)
    assert trigger.should_retrain, trigger.refusals
    assert not check(request(severity=Severity.HIGH), busy, REFRESH).should_retrain, "drift still does"
    soon = msgspec.structs.replace(busy, last_job_started=NOW - HOUR)
    assert check(scheduled(NOW), soon, REFRESH).later
    assert check(scheduled(NOW), msgspec.structs.replace(busy, running_job="j1"), REFRESH).later
    off = msgspec.structs.replace(REFRESH, enabled=False)
    assert not check(scheduled(NOW), busy, off).later


@pytest.mark.parametrize(
    ("running", "replaceable", "room"),
    [(0, 0, True), (4, 0, True), (5, 0, False), (5, 1, True), (6, 2, True), (6, 1, False)],
)
def test_new_models_run_beside_others_as_far_as_there_is_room(running: int, replaceable: int, room: bool) -> None:
    """Two recipes, at most six challengers; a new model takes the place of an older one of its recipe in shadow."""
    rollouts = tuple(f"r{n}" for n in range(running))
    context = msgspec.structs.replace(CONTEXT, rollouts=rollouts, replaceable=replaceable, most=6)
    trigger = check(scheduled(NOW), context, REFRESH)
    assert (trigger.should_retrain, trigger.later) == (room, not room)
