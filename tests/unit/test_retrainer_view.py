"""The facts that users' rules name, with their units and where they are not known, and when there are rows enough."""

from __future__ import annotations

import msgspec
import pytest

from gauntlet.config import RetrainConfig
from gauntlet.config.triggers import PerformanceTrigger
from gauntlet.types import Task
from retrainer.triggers.conditions import RetrainContext
from retrainer.triggers.facts import ChampionFacts, OutcomeBlock
from retrainer.triggers.view import ChampionTraining, View, named

DAY, HOUR = 86_400.0, 3_600.0
NOW = 1_000 * DAY
LIMITS = PerformanceTrigger(min_outcomes=10)
VIEW = View(
    own=ChampionFacts(),
    labelled=[],
    training=ChampionTraining(at=NOW - 7 * DAY, to=NOW - 7 * DAY),
    context=RetrainContext(now=NOW, champion="v1", last_job_started=NOW - 2 * HOUR),
    task=Task.REGRESSION,
    horizon=0.0,
)


def told(*blocks: OutcomeBlock, base: float = 10.0) -> View:
    return msgspec.structs.replace(VIEW, own=ChampionFacts(blocks=list(blocks)), baselines={"rmse": base})


def test_times_are_in_hours_and_days_also_where_they_pass_faster() -> None:
    facts = named(VIEW, LIMITS)
    assert (facts["hours_since_job"], facts["days_since_training"]) == (2.0, 7.0)
    faster = named(msgspec.structs.replace(VIEW, speed=10.0), LIMITS)
    assert (faster["hours_since_job"], faster["days_since_training"]) == (20.0, 70.0)
    none = msgspec.structs.replace(VIEW.context, last_job_started=None)
    assert named(msgspec.structs.replace(VIEW, context=none), LIMITS)["hours_since_job"] is None


def test_before_the_evaluator_has_told_anything_nothing_is_known() -> None:
    unknown = ("outcomes", "rmse", "rmse_rise", "drift_statistic", "drift_count", "drift_severity", "new_samples")
    facts = named(VIEW, LIMITS)
    assert {name: facts[name] for name in unknown} == dict.fromkeys(unknown)
    known = named(told(OutcomeBlock(NOW, 10, {"rmse": 11.0})), LIMITS)
    assert [known[name] for name in unknown[:6]] == [10.0, 11.0, pytest.approx(0.1), 0.0, 0.0, 0.0]


def test_enough_outcomes_are_those_of_the_window() -> None:
    old = OutcomeBlock(NOW - 7 * DAY, 100, {"rmse": 50.0})
    facts = named(told(old, OutcomeBlock(NOW, 9, {"rmse": 11.0})), LIMITS)
    assert (facts["outcomes"], facts["rmse"]) == (9.0, None), "a block from before the window is not one of it"
    assert named(told(old, OutcomeBlock(NOW, 10, {"rmse": 11.0})), LIMITS)["rmse"] == pytest.approx(11.0)


@pytest.mark.parametrize(("base", "rise"), [(0.0, None), (0.5, 21.0), (22.0, -0.5)])
def test_a_rise_above_nothing_is_unknown(base: float, rise: float | None) -> None:
    assert named(told(OutcomeBlock(NOW, 10, {"rmse": 11.0}), base=base), LIMITS)["rmse_rise"] == rise


def test_when_there_are_rows_enough_is_not_told_where_they_leave_the_window() -> None:
    settings = RetrainConfig(min_data_points=300)  # a window of 60 days
    for oldest, known in ((60.0, True), (60.1, False)):
        labelled = [(NOW - oldest * DAY, 100), (NOW, 100)]
        seen = msgspec.structs.replace(VIEW, labelled=labelled, began=NOW - oldest * DAY)
        assert (seen.trainable_in(settings) is not None) is known
