"""What one replica counts of its traffic, on a clock that the test moves."""

from __future__ import annotations

import time

import pytest

from gauntlet import recent
from router.traffic_counts import ArrivalCounter


class Machine:
    """The machine's clocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 1_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.at)
        monkeypatch.setattr(time, "monotonic", lambda: self.at)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_counts_the_last_minutes_only(machine: Machine) -> None:
    counter = ArrivalCounter()
    for _ in range(100):
        counter.predictions(2)
        machine.at += 10
    counter.refused("predict", 3, "unknown_feature")
    counter.refused("unrouted", 5, "foreign")
    found = counter.report()
    assert found.predictions.count == 2 * (recent.SECONDS / 10 - 1)
    assert (found.predictions.refused, found.predictions.refusal) == (3, "unknown_feature")
    assert (found.predictions.latest, found.predictions.longest_gap) == (machine.at - 10, 10)
    machine.at += recent.SECONDS
    found = counter.report()
    assert (found.predictions.count, found.predictions.refused, found.predictions.refusal) == (0, 0, "")


def test_the_longest_gap_is_remembered_for_a_week_and_told_when_enough_came(machine: Machine) -> None:
    counter = ArrivalCounter()
    for gap in [1.0] * 10 + [30_000.0] + [1.0] * 20:
        counter.outcomes(1)
        found = counter.report().outcomes
        machine.at += gap
    assert found.longest_gap == 30_000
    machine.at += 5 * 86_400
    counter.outcomes(1)
    machine.at += 4 * 86_400
    counter.outcomes(1)
    assert counter.report().outcomes.longest_gap == pytest.approx(5 * 86_400, rel=1e-3)
    few = ArrivalCounter()
    for _ in range(19):
        few.predictions(1)
    assert few.report().predictions.longest_gap is None


def test_it_knows_since_when_predictions_wait_for_an_outcome(machine: Machine) -> None:
    counter = ArrivalCounter()
    counter.load(0.0, 0.0)
    assert counter.report().unanswered_since == 0
    first = machine.at
    for _ in range(3):
        counter.predictions(1)
        machine.at += 60
    assert counter.report().unanswered_since == first
    counter.outcomes(1)
    assert counter.report().unanswered_since == 0


@pytest.mark.parametrize(("prediction", "outcome", "waits"), [(50.0, 40.0, 50.0), (40.0, 50.0, 0.0)])
def test_what_came_before_a_start_is_known_from_the_log(
    machine: Machine, prediction: float, outcome: float, waits: float
) -> None:
    counter = ArrivalCounter()
    counter.load(prediction, outcome)
    found = counter.report()
    assert (found.predictions.latest, found.outcomes.latest, found.unanswered_since) == (prediction, outcome, waits)
