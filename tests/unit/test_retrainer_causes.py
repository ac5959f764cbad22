"""Every trigger's conditions at their exact limits, with what is unknown, and what becomes of the request."""

import math

import msgspec
import pytest
from builders.retraining_data import drift

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import AdaptiveConfig, RecipeConfig, ScheduleConfig, WindowLength
from gauntlet.config.section import Seconds
from gauntlet.config.triggers import (
    DriftTrigger,
    PerformanceTrigger,
    QualityTrigger,
    RuleConfig,
    TriggersConfig,
    VolumeTrigger,
)
from gauntlet.types import Severity, Task
from retrainer.triggers.causes import Cause, by_the_clock, find, pace, since
from retrainer.triggers.check import check
from retrainer.triggers.conditions import RetrainContext
from retrainer.triggers.facts import ChampionFacts, Episode, Facts, OutcomeBlock, fold
from retrainer.triggers.requests import after
from retrainer.triggers.view import ChampionTraining, View, named

DAY = 86_400.0
NOW = 1_000 * DAY
EPISODE = Episode(
    id="ep1",
    since=NOW - DAY,
    worse_since=NOW - DAY,
    severity=Severity.LOW,
    root_cause="covariate",
    action="observe",
    reason="LOW drift, root cause covariate (x1)",
)


def blocks(*metrics: float, name: str = "accuracy", rows: int = 100) -> list[OutcomeBlock]:
    return [OutcomeBlock(NOW - (len(metrics) - 1 - n) * DAY, rows, {name: value}) for n, value in enumerate(metrics)]


def view(
    own: ChampionFacts | None = None,
    *,
    labelled: int | None = None,
    rows: int = 0,
    task: str = "classification",
    base: float | None = None,
) -> View:
    return View(
        own=own or ChampionFacts(),
        labelled=[] if labelled is None else [(NOW, labelled)],
        training=ChampionTraining(at=NOW - 7 * DAY, to=NOW - 7 * DAY, rows=rows),
        context=RetrainContext(now=NOW, champion="v1"),
        task=Task(task),
        horizon=0.0,
        baselines={} if base is None else {"accuracy": base, "rmse": base},
    )


def test_rows_left_to_train_on_are_within_the_window_and_older_than_those_held_out() -> None:
    seen = view(labelled=0)
    days = {1: 7, 13: 70, 14: 700, 29: 7_000, 30: 70_000, 400: 700_000}
    seen = msgspec.structs.replace(seen, labelled=[(NOW - day * DAY, rows) for day, rows in days.items()])
    month, ever = RecipeConfig(name="a", window=WindowLength(30 * DAY)), RecipeConfig(name="b", window=WindowLength(0))
    assert seen.left_to_train(RetrainConfig(recipes=[month])) == 7_700
    assert seen.left_to_train(RetrainConfig(recipes=[ever])) == 777_700
    assert seen.left_to_train(RetrainConfig(recipes=[ever, month])) == 7_700, "each recipe needs them"
    assert seen.left_to_train(RetrainConfig(recipes=[month], loader="m:f")) is None
    assert view().left_to_train(RetrainConfig()) is None


def test_a_young_experiment_has_no_rows_to_train_on_and_says_when_it_will() -> None:
    settings, hour = RetrainConfig(min_data_points=300), DAY / 24
    young = msgspec.structs.replace(view(), began=NOW - hour)
    assert (young.left_to_train(settings), young.trainable_in(settings)) == (0, 14 * DAY - hour)
    few = msgspec.structs.replace(young, labelled=[(NOW - hour / 2, 50), (NOW, 50)])  # a hundred an hour
    assert few.trainable_in(settings) == pytest.approx(14 * DAY + 2 * hour)
    many = msgspec.structs.replace(young, labelled=[(NOW - hour / 2, 300), (NOW, 300)])  # they have to get older
    assert (many.left_to_train(settings), many.trainable_in(settings)) == (0, 14 * DAY - hour / 2)
    old = msgspec.structs.replace(many, labelled=[(NOW - 15 * DAY, 300)])
    assert (old.left_to_train(settings), old.trainable_in(settings)) == (300, None)
    for unknown in (
        msgspec.structs.replace(young, began=NOW - 15 * DAY),
        msgspec.structs.replace(young, began=NOW + 1),  # a replay of an older time
    ):
        assert unknown.trainable_in(settings) is None


def settings(**triggers: object) -> RetrainConfig:
    return RetrainConfig(triggers=TriggersConfig(**triggers))  # type: ignore[arg-type]


def cause(key: str, seen: View, config: RetrainConfig) -> Cause:
    (found,) = [each for each in find(seen, config) if each.key == key]
    return found


def drifted(**changes: object) -> ChampionFacts:
    return ChampionFacts(episode=msgspec.structs.replace(EPISODE, **changes), episodes=1)


INPUTS = settings(drift=DriftTrigger(on_inputs=True))


@pytest.mark.parametrize(
    ("own", "met", "severity"),
    [
        (ChampionFacts(), None, Severity.NONE),  # the evaluator has told nothing yet
        (ChampionFacts(blocks=blocks(0.9)), False, Severity.NONE),
        (drifted(), False, Severity.LOW),
        (drifted(severity=Severity.HIGH), True, Severity.HIGH),
        (drifted(statistic=0.15), False, Severity.LOW),
        (drifted(statistic=0.15000001), True, Severity.LOW),
        (drifted(statistic=0.30), True, Severity.LOW),
        (drifted(statistic=0.30000001), True, Severity.CRITICAL),
        (drifted(transition=0.10), False, Severity.LOW),
        (drifted(transition=0.2 - 0.1 + 1e-9), True, Severity.LOW),
        (drifted(p_value=0.05), False, Severity.LOW),
        (drifted(p_value=0.0499), True, Severity.LOW),
        (drifted(features=5), False, Severity.LOW),
        (drifted(features=6), True, Severity.LOW),
    ],
)
def test_drift_at_its_limits(own: ChampionFacts, met: bool | None, severity: Severity) -> None:
    found = cause("drift", view(own), INPUTS)
    assert (found.met, found.severity) == (met, severity)
    names = [c.name for c in found.conditions]
    assert names == ["severity", "statistic", "transition", "features", "p_value"]
    assert all(c.limit is not None and c.detail for c in found.conditions)


def test_drift_of_inputs_alone_is_told_and_asks_for_nothing() -> None:
    found = cause("drift", view(drifted(statistic=0.4, features=9)), settings())
    assert found.met is False
    assert [(c.name, c.met, c.counts) for c in found.conditions if c.met] == [
        ("statistic", True, False),
        ("features", True, False),
    ]
    lost = cause("drift", view(drifted(severity=Severity.HIGH, statistic=0.4)), settings())
    assert (lost.met, lost.severity) == (True, Severity.HIGH), "with a loss it asks, and no more urgently"


def test_a_further_break_in_an_open_episode_asks_like_a_new_one() -> None:
    """An escalation at the severity that is known already tells of one; that event again tells nothing new."""
    open_ = drift(NOW - DAY, "CRITICAL", "open", model="v1")
    further = drift(NOW, "CRITICAL", "escalate", model="v1")
    facts = fold(Facts(), open_)
    first = cause("drift", view(facts.of("v1")), settings()).request("v1", NOW)
    answered = {"drift": msgspec.structs.replace(first, attempted=True)}
    same = cause("drift", view(fold(facts, open_).of("v1")), settings()).request("v1", NOW)
    assert after(answered, [same], settings())["drift"].attempted
    facts = fold(facts, further)
    asked = after(answered, [cause("drift", view(facts.of("v1")), settings()).request("v1", NOW)], settings())
    assert (asked["drift"].attempted, asked["drift"].urgent) == (False, True)
    assert fold(facts, further) == facts
    assert fold(facts, drift(NOW + DAY, "CRITICAL", "close", model="v1")).of("v1").episode is None


def test_drift_asks_after_as_many_episodes_as_are_wanted_and_when_it_has_lasted() -> None:
    lost = drifted(severity=Severity.HIGH)
    third = settings(drift=DriftTrigger(episodes=3))
    assert cause("drift", view(msgspec.structs.replace(lost, episodes=2)), third).met is False
    assert cause("drift", view(msgspec.structs.replace(lost, episodes=3)), third).met is True
    patient = settings(drift=DriftTrigger(lasting=Seconds(DAY)))
    for begun, met in ((NOW - DAY + 1, False), (NOW - DAY, True)):
        held = msgspec.structs.replace(lost, since={"drift": begun})
        assert cause("drift", view(held), patient).met is met
    assert cause("drift", view(lost), patient).met is False, "it begins now"
    assert since([cause("drift", view(lost), patient)], {}, NOW) == {"drift": NOW}
    assert since([cause("drift", view(lost), patient)], {"drift": 5.0}, NOW) == {"drift": 5.0}
    assert since([cause("drift", view(ChampionFacts()), patient)], {"drift": 5.0}, NOW) == {"drift": 5.0}
    assert since([cause("drift", view(ChampionFacts(blocks=blocks(0.9))), patient)], {"drift": 5.0}, NOW) == {}


BARE = PerformanceTrigger(confidence=0.5)


@pytest.mark.parametrize(
    ("accuracy", "met", "severity"),
    [
        (0.82, False, Severity.HIGH),  # 0.87 - 0.82 is 0.05, whatever the machine makes of it
        (0.8199999, True, Severity.HIGH),
        (0.77, True, Severity.HIGH),
        (0.7699999, True, Severity.CRITICAL),
        (0.9, False, Severity.HIGH),
    ],
)
def test_a_fall_of_accuracy_at_its_limits(accuracy: float, met: bool, severity: Severity) -> None:
    own = ChampionFacts(blocks=blocks(accuracy))
    found = cause("performance", view(own, base=0.87), settings(performance=BARE))
    assert (found.met, found.severity) == (met, severity)


@pytest.mark.parametrize(("rmse", "met"), [(11.0, False), (11.000001, True)])
def test_a_rise_of_rmse_at_its_limit(rmse: float, met: bool) -> None:
    own = ChampionFacts(blocks=blocks(rmse, name="rmse"))
    found = cause("performance", view(own, task="regression", base=10.0), settings(performance=BARE))
    assert found.met is met
    assert [c.name for c in found.conditions] == ["rmse_rise", "r2_fall"]
    assert found.conditions[0].detail.startswith("0.1")
    two = ChampionFacts(blocks=blocks(11.0, 12.0, name="rmse"))
    shown = cause("performance", view(two, task="regression", base=10.0), settings())
    assert shown.conditions[0].detail.startswith("at 95% confidence at least ")


@pytest.mark.parametrize(("fall", "met"), [(0.05, False), (0.0500001, True)])
def test_a_fall_of_r2_that_drift_has_shown(fall: float, met: bool) -> None:
    own = ChampionFacts(blocks=blocks(10.0, name="rmse"), episode=msgspec.structs.replace(EPISODE, r2_fall=fall))
    seen = view(own, task="regression", base=10.0)
    assert cause("performance", seen, settings(performance=BARE)).met is met


@pytest.mark.parametrize(
    ("fall", "severity"), [(0.10, Severity.HIGH), (0.8 - 0.7, Severity.HIGH), (0.1000001, Severity.CRITICAL)]
)
def test_a_fall_of_r2_by_more_than_twice_its_limit_is_urgent(fall: float, severity: Severity) -> None:
    own = ChampionFacts(blocks=blocks(10.0, name="rmse"), episode=msgspec.structs.replace(EPISODE, r2_fall=fall))
    found = cause("performance", view(own, task="regression", base=10.0), settings(performance=BARE))
    assert (found.met, found.severity) == (True, severity)


def test_floors_and_ceilings_hold_without_a_baseline() -> None:
    limits = PerformanceTrigger(confidence=0.5, floors={"accuracy": 0.85}, min_outcomes=200)
    for value, met in ((0.85, False), (0.8499, True)):
        found = cause("performance", view(ChampionFacts(blocks=blocks(value, value))), settings(performance=limits))
        assert [c.met for c in found.conditions] == [None, met]
        assert found.met is (met or None), "the fall is not known without a baseline"
    capped = settings(performance=PerformanceTrigger(confidence=0.5, ceilings={"rmse": 12.5}))
    for value, met in ((12.5, None), (12.51, True)):
        seen = view(ChampionFacts(blocks=blocks(value, name="rmse")), task="regression")
        assert cause("performance", seen, capped).met is met


def test_with_too_few_outcomes_nothing_is_known() -> None:
    own = ChampionFacts(blocks=blocks(0.5, rows=99))
    assert cause("performance", view(own, base=0.9), settings(performance=BARE)).met is None
    own = ChampionFacts(blocks=blocks(0.5, rows=100))
    assert cause("performance", view(own, base=0.9), settings(performance=BARE)).met is True
    old = [OutcomeBlock(NOW - 7 * DAY, 100, {"accuracy": 0.5})]
    assert cause("performance", view(ChampionFacts(blocks=old), base=0.9), settings(performance=BARE)).met is None


def test_a_fall_must_be_shown_and_not_only_seen() -> None:
    """Two days of 0.70 and 0.90 have a mean below the limit of 0.82, and say nothing at 95 %."""
    noisy = ChampionFacts(blocks=blocks(0.70, 0.90))
    steady = ChampionFacts(blocks=blocks(*[0.79, 0.80, 0.81] * 2))
    for own, met in ((noisy, False), (steady, True)):
        assert cause("performance", view(own, base=0.87), settings(performance=PerformanceTrigger())).met is met
    once = ChampionFacts(blocks=blocks(0.5))
    assert cause("performance", view(once, base=0.87), settings()).met is None, "one day does not say how days differ"


@pytest.mark.parametrize(("score", "met"), [(None, None), (0.80, False), (0.7999, True), (0.70, True)])
def test_data_quality_at_its_limit(score: float | None, met: bool | None) -> None:
    assert cause("quality", view(drifted(quality=score)), settings()).met is met
    live = msgspec.structs.replace(view(), live_quality=score)
    assert cause("quality", live, settings()).met is met, "without any episode, too"
    assert cause("quality", view(), settings()).met is None


def test_an_episode_of_low_quality_says_more_than_the_latest_requests() -> None:
    recovered = msgspec.structs.replace(view(drifted(quality=0.7)), live_quality=0.99)
    assert cause("quality", recovered, settings()).met is True
    elsewhere = msgspec.structs.replace(view(drifted()), live_quality=0.99)
    (condition,) = cause("quality", elsewhere, settings()).conditions
    assert (condition.met, condition.value) == (False, 0.99)


@pytest.mark.parametrize(
    ("new", "rows", "met"), [(None, 100, None), (10_000, 0, None), (10_000, 20_000, False), (10_001, 0, True)]
)
def test_volume_at_its_limits(new: int | None, rows: int, met: bool | None) -> None:
    config = settings(volume=VolumeTrigger(growth=0.5))
    assert cause("volume", view(labelled=new, rows=rows), config).met is met
    assert cause("volume", view(labelled=10_000, rows=19_999), config).met is True, "more than half"


def test_rows_of_before_the_training_are_not_new() -> None:
    seen = view(rows=100)
    counted = msgspec.structs.replace(seen, labelled=[(NOW - 7 * DAY, 5), (NOW - 7 * DAY + 1, 7)])
    assert counted.new_samples == 7
    assert msgspec.structs.replace(counted, horizon=1.0).new_samples == 0, "a block is told after its horizon"


def test_rules_ask_by_their_names_and_what_is_unknown_asks_nothing() -> None:
    rules = [
        RuleConfig(name="both", condition="accuracy < 0.85 and drift_count > 5", severity="CRITICAL"),
        RuleConfig(name="old", condition="days_since_training >= 7", action="notify"),
        RuleConfig(name="off", condition="days_since_training >= 7", enabled=False),
    ]
    config = settings(rules=rules)
    own = msgspec.structs.replace(drifted(features=6), blocks=blocks(0.84))
    assert [c.key for c in find(view(own), config)][-2:] == ["rule:both", "rule:old"]
    both = cause("rule:both", view(own), config)
    assert (both.met, both.severity) == (True, Severity.CRITICAL)
    assert "accuracy 0.84, drift_count 6" in both.reason
    assert cause("rule:both", view(), config).met is None
    asked = after({}, [both.request("v1", NOW), cause("rule:old", view(own), config).request("v1", NOW)], config)
    assert {key: r.mode for key, r in asked.items()} == {"rule:both": "automatic", "rule:old": "suggest"}
    spaced = msgspec.structs.replace(cause("rule:old", view(own), config), key="rule:too old")
    assert spaced.request("v1", NOW).id == f"rule:too-old-{NOW:.0f}", "one word, to be typed in a command"


def test_every_fact_that_a_rule_may_name_is_there() -> None:
    from gauntlet.config.rules import FACTS

    own = msgspec.structs.replace(drifted(), blocks=blocks(0.84))
    known = named(view(own, base=0.9, labelled=500, rows=1000), PerformanceTrigger())
    assert set(known) == set(FACTS)
    assert math.isclose(known["accuracy_fall"] or 0, 0.06)
    assert (known["new_samples"], known["data_growth"], known["days_since_training"]) == (500, 0.5, 7)


def test_days_in_a_condition_are_those_of_the_rehearsal() -> None:
    rehearsal = msgspec.structs.replace(view(), speed=10.0)
    assert named(rehearsal, PerformanceTrigger())["days_since_training"] == 70


def test_a_switched_off_trigger_is_not_looked_at() -> None:
    off = settings(
        drift=DriftTrigger(enabled=False),
        performance=PerformanceTrigger(enabled=False),
        quality=QualityTrigger(enabled=False),
        volume=VolumeTrigger(enabled=False),
    )
    assert find(view(drifted(severity=Severity.CRITICAL)), off) == []
    assert [c.key for c in find(view(), settings())] == ["drift", "performance", "quality", "volume"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (ChampionFacts(blocks=blocks(0.9)), "calm"),
        (drifted(), "drifting"),
        (drifted(severity=Severity.HIGH), "degrading"),
        (drifted(severity=Severity.CRITICAL), "critical"),
        (ChampionFacts(blocks=blocks(0.8)), "degrading"),
        (ChampionFacts(blocks=blocks(0.7)), "critical"),
    ],
)
def test_the_pace_of_an_adaptive_schedule(own: ChampionFacts, expected: str) -> None:
    seen = view(own, base=0.87)
    assert pace(seen, find(seen, settings(performance=BARE))) == expected


def test_the_schedule_is_shown_with_the_time_at_which_it_is_due() -> None:
    assert by_the_clock(view(), settings(), 0.0, "calm") is None
    adaptive = msgspec.structs.replace(settings(), schedule=ScheduleConfig(adaptive=AdaptiveConfig()))
    for pace_now, met in (("calm", False), ("drifting", True)):
        found = by_the_clock(view(), adaptive, NOW - 7 * DAY, pace_now)
        assert found is not None
        (due,) = found.conditions
        assert (found.key, due.name, due.met, due.value) == ("schedule", "due", met, NOW)
        assert due.detail == f"next at {'1972-09-27' if met else '1972-10-20'}T00:00+00:00, while things are {pace_now}"


def test_a_check_lists_everything_and_is_json() -> None:
    config = settings(rules=[RuleConfig(name="old", condition="days_since_training >= 7")])
    seen = view(drifted(severity=Severity.HIGH, quality=0.75))
    causes = find(seen, config)
    open_now = after({}, [c.request("v1", NOW) for c in causes if c.met], config)
    found = check(seen.context, config, causes, open_now)
    assert (found.should_retrain, found.urgent, found.triggered) == (True, False, ["drift", "quality", "rule:old"])
    assert found.reasons == ["drift: LOW drift, root cause covariate (x1)", f"rule:old: {causes[-1].reason}"]
    assert {c.trigger for c in found.conditions} == {
        "drift",
        "performance",
        "quality",
        "volume",
        "rule:old",
        "constraint",
    }
    assert found.waits["quality"] == ["approval: a suggestion only; trigger a job by hand to follow it"]
    assert found.waits["drift"] == []
    told = msgspec.json.decode(msgspec.json.encode(found))
    assert {"trigger", "name", "value", "limit", "met", "detail", "passing", "counts"} == set(told["conditions"][0])
    nothing = check(seen.context, config, find(view(), config), {})
    assert (nothing.should_retrain, nothing.reasons) == (False, [])
    assert any(c.met is None for c in nothing.conditions)
