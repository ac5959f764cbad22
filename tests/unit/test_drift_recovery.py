"""A drift that ends: its episode closes soon, its rows are not found again, and the next one is news at once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from evaluator.drift.episodes import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile

REFERENCE = 2000


def classified(rng: np.random.Generator, accuracy: Any) -> tuple[Any, Any]:
    truth = rng.integers(0, 2, len(accuracy))
    return truth, np.where(rng.random(len(accuracy)) < accuracy, truth, 1 - truth)


def outcomes(seed: int, bad: list[tuple[int, int]], rows: int, level: float = 0.5) -> list[DriftEvent]:
    """The events of `rows` outcomes after the reference: nine of ten right, but for the `bad` stretches."""
    rng = np.random.default_rng(seed)
    accuracy = np.full(REFERENCE + rows, 0.9)
    for start, end in bad:
        accuracy[REFERENCE + start : REFERENCE + end] = level
    truth, prediction = classified(rng, accuracy)
    profile = Profile.fit(
        {"prediction": prediction[:REFERENCE]}, reference_id="r", prediction="prediction", targets=truth[:REFERENCE]
    )
    return Monitor(profile).observe_outcomes(truth[REFERENCE:], prediction[REFERENCE:], np.arange(float(rows)))


def kinds(events: list[DriftEvent]) -> list[tuple[str, str]]:
    return [(event.event, event.root_cause) for event in events if event.event != "escalate"]


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_a_model_that_recovered_is_left_alone(seed: int) -> None:
    """Its errors stay in the longest windows for sixteen thousand outcomes: they are past all the same."""
    events = outcomes(seed, [(4000, 6000)], 30_000)
    assert kinds(events) == [("open", "concept"), ("close", "concept")]
    assert events[0].at < 4060
    assert 6000 < events[-1].at < 7000


def test_the_second_time_is_news_within_some_rows() -> None:
    events = outcomes(1, [(4000, 6000), (8000, 10_000)], 14_000)
    assert kinds(events) == [("open", "concept"), ("close", "concept")] * 2
    second = [event for event in events if event.event == "open"][1]
    assert 8000 <= second.at < 8128


def test_a_loss_that_stays_is_one_episode_however_small() -> None:
    """Twice the misses for thirty thousand outcomes: noise in the short windows ends nothing."""
    events = outcomes(3, [(4000, 40_000)], 40_000, level=0.80)
    assert kinds(events) == [("open", "concept")]


def columns(rng: np.random.Generator, rows: int, shifted: list[tuple[int, int]], shift: float) -> dict[str, Any]:
    table = {name: rng.normal(size=rows) for name in "abc"}
    for start, end in shifted:
        table["a"][start:end] += shift
    return table


def test_columns_that_come_back_close_and_move_again_as_news() -> None:
    rng = np.random.default_rng(4)
    monitor = Monitor(Profile.fit(columns(rng, 20_000, [], 0.0), reference_id="r"))
    events = monitor.observe(columns(rng, 14_000, [(4000, 4500), (6500, 8500)], 1.0), np.arange(14_000.0))
    kinds = [(event.event, event.at) for event in events if event.event != "escalate"]
    assert [kind for kind, _ in kinds] == ["open", "close"] * 2
    opened, closed, again, over = (at for _, at in kinds)
    assert (opened - 4000, again - 6500) < (160, 160)
    assert (closed - 4500, over - 8500) < (600, 600)
    assert events[-1].features[0].feature == "a"  # a close says what it was about
    assert events[-1].signals == ()
    assert events[-1].action == "none"


def test_a_shift_at_the_threshold_that_stays_is_one_episode() -> None:
    rng = np.random.default_rng(5)
    monitor = Monitor(Profile.fit(columns(rng, 20_000, [], 0.0), reference_id="r"))
    events = monitor.observe(columns(rng, 60_000, [(4000, 60_000)], 0.5), np.arange(60_000.0))
    assert [event.event for event in events if event.event != "escalate"] == ["open"]


def test_gaps_that_end_close() -> None:
    rng = np.random.default_rng(6)
    monitor = Monitor(Profile.fit(columns(rng, 5000, [], 0.0), reference_id="r"))
    table = columns(rng, 10_000, [], 0.0)
    table["b"][4000:6000] = np.nan
    events = monitor.observe(table, np.arange(10_000.0))
    assert [event.event for event in events if event.event != "escalate"] == ["open", "close"]
    assert events[-1].severity == "CRITICAL"  # a column without a value is as good as gone
    assert events[-1].root_cause == "quality"
    assert 6000 < events[-1].at < 6600


def test_a_regression_that_recovers_closes() -> None:
    rng = np.random.default_rng(7)
    slope = np.full(16_000, 2.0)
    slope[7000:9000] = 1.0
    x = rng.normal(size=16_000)
    truth, prediction = slope * x + rng.normal(size=16_000), 2 * x
    profile = Profile.fit({"p": prediction[:2000]}, reference_id="r", prediction="p", targets=truth[:2000])
    events = Monitor(profile).observe_outcomes(truth[2000:], prediction[2000:], np.arange(14_000.0))
    assert kinds(events) == [("open", "concept"), ("close", "concept")]
    assert events[-1].at < 7000 + 1200


@pytest.mark.parametrize(("kind", "seed"), [("gaps", 1), ("gaps", 2), ("outliers", 1), ("new", 1), ("usual", 1)])
def test_partial_damage_that_ends_is_not_found_again(kind: str, seed: int) -> None:
    """A share a little over its threshold: the longest window is near it for thousands of rows after the end."""
    rng = np.random.default_rng(seed)

    def table(rows: int, first: int, end: int) -> dict[str, Any]:
        hit = np.zeros(rows, dtype=np.bool_)
        hit[first:end] = rng.random(end - first) < 0.14
        x = rng.normal(size=rows)
        if kind == "usual":  # a column that always has nearly too many
            x = np.where(rng.random(rows) < 0.03, 9.0 * np.sign(x), np.clip(x, -1.5, 1.5))
        x = np.where(hit, {"gaps": np.nan, "new": 0.0}.get(kind, 9.0), x)
        text = np.where(hit & (kind == "new"), "new", rng.choice(["a", "b"], rows))
        return {"x": x, "t": text.tolist()}

    monitor = Monitor(Profile.fit(table(20_000, 0, 0), reference_id="r"))
    events = monitor.observe(table(22_000, 6000, 10_000), np.arange(22_000.0))
    assert [event.event for event in events if event.event != "escalate"] == ["open", "close"]
    assert 10_000 < events[-1].at < 12_500


def test_no_limit_from_the_reference_is_beyond_what_can_happen() -> None:
    """A stretch of a thousand rows, all wrong, in the reference: a total failure is still far beyond its limits."""
    rng = np.random.default_rng(8)
    accuracy = np.full(8000, 0.9)
    accuracy[3000:4000] = 0.0
    truth, prediction = classified(rng, accuracy)
    profile = Profile.fit({"p": prediction}, reference_id="r", prediction="p", targets=truth)
    assert profile.truth is not None
    assert profile.truth.performance is not None
    assert profile.errors is not None
    assert all(own.limit <= 1 / 3 for own in profile.truth.performance.calibrations["accuracy"])
    worst = 1 / profile.errors.mean - 1
    assert all(2 * limit < worst for limit in profile.errors.limits)


@pytest.mark.parametrize("size", [1, 33, 700])
def test_what_is_forgotten_is_a_function_of_the_outcomes_alone(size: int) -> None:
    """In batches of any size, and through a snapshot at each: the same events and the same state."""
    rng = np.random.default_rng(11)
    accuracy = np.full(9000, 0.9)
    accuracy[3000:4500] = 0.4
    truth, prediction = classified(rng, accuracy)
    profile = Profile.fit({"p": prediction[:2000]}, reference_id="r", prediction="p", targets=truth[:2000])
    truth, prediction, at = truth[2000:], prediction[2000:], np.arange(7000.0)
    whole = Monitor(profile)
    expected = whole.observe_outcomes(truth, prediction, at)
    assert kinds(expected) == [("open", "concept"), ("close", "concept")]
    one, events = Monitor(profile), []
    for start in range(0, 7000, size):
        cut = slice(start, start + size)
        events += one.observe_outcomes(truth[cut], prediction[cut], at[cut])
        if size > 1:
            again = Monitor(profile)
            again.restore(json.loads(json.dumps(one.snapshot())))
            one = again
    assert events == expected
    assert one.snapshot() == whole.snapshot()


@pytest.mark.parametrize("seed", [30, 31, 32])
def test_a_renewed_model_that_breaks_again_is_told_though_the_inputs_have_moved_for_good(seed: int) -> None:
    """Inputs move at row 4,000 and stay; the model is wrong until it is renewed at 6,000, and again from 14,000."""
    rng = np.random.default_rng(seed)
    rows = REFERENCE + 18_000
    accuracy = np.full(rows, 0.9)
    for start, end in ((4000, 6000), (14_000, 18_000)):
        accuracy[REFERENCE + start : REFERENCE + end] = 0.5
    truth, prediction = classified(rng, accuracy)
    table = columns(rng, rows, [(REFERENCE + 4000, rows)], 2.0) | {"prediction": prediction}
    first = {name: values[:REFERENCE] for name, values in table.items()}
    monitor = Monitor(Profile.fit(first, reference_id="r", prediction="prediction", targets=truth[:REFERENCE]))
    events = []
    for start in range(REFERENCE, rows, 500):
        part, at = slice(start, start + 500), np.arange(start, start + 500) - float(REFERENCE)
        events += monitor.observe({name: values[part] for name, values in table.items()}, at)
        events += monitor.observe_outcomes(truth[part], prediction[part], at)
    assert len({event.episode for event in events}) == 1
    (calm,) = (event for event in events if event.event == "deescalate")
    assert calm.severity in ("LOW", "MEDIUM")
    assert 6000 < calm.at < 9000
    again = next(event for event in events if event.event == "escalate" and event.at > calm.at)
    assert again.severity in ("HIGH", "CRITICAL")
    assert 14_000 <= again.at < 14_000 + 1000
    assert "concept" in {signal.kind for signal in again.signals}


@pytest.mark.parametrize("width", [0, 1000])
@pytest.mark.parametrize("seed", [40, 41, 42])
def test_a_second_break_on_top_of_a_loss_that_stands_is_told(seed: int, width: int) -> None:
    """The concept breaks at row 4,000, when the inputs move too, both for good; at 12,000 it breaks again, at once or
    over a thousand rows. The episode is CRITICAL from the first break on."""
    rng = np.random.default_rng(seed)
    rows = REFERENCE + 18_000
    accuracy = np.full(rows, 0.9)
    accuracy[REFERENCE + 4000 :] = 0.65
    second = REFERENCE + 12_000
    accuracy[second:] = 0.4
    accuracy[second : second + width] = np.linspace(0.65, 0.4, width)
    truth, prediction = classified(rng, accuracy)
    table = columns(rng, rows, [(REFERENCE + 4000, rows)], 2.0) | {"prediction": prediction}
    first = {name: values[:REFERENCE] for name, values in table.items()}
    profile = Profile.fit(first, reference_id="r", prediction="prediction", targets=truth[:REFERENCE])
    monitor, events = Monitor(profile), []
    for start in range(REFERENCE, rows, 500):
        part, at = slice(start, start + 500), np.arange(start, start + 500) - float(REFERENCE)
        events += monitor.observe({name: values[part] for name, values in table.items()}, at)
        events += monitor.observe_outcomes(truth[part], prediction[part], at)
        again = Monitor(profile)
        again.restore(json.loads(json.dumps(monitor.snapshot())))
        assert again.snapshot() == monitor.snapshot()
        monitor = again
    assert len({event.episode for event in events}) == 1
    told = [event for event in events if event.at >= 6000]
    assert [(event.event, event.severity) for event in told] == [("escalate", "CRITICAL")]
    assert 12_000 <= told[0].at < 12_000 + 1000 + width
    assert told[0].action != "observe"


def test_a_loss_that_stands_as_it_is_breaks_no_second_time() -> None:
    """Eight episodes of twenty thousand outcomes: one more event in four hundred thousand outcomes is the limit."""
    told = []
    for seed in range(8):
        events = outcomes(seed, [(2000, 22_000)], 22_000, level=0.6)
        told += [event for event in events if event.event == "escalate" and event.at > 4000]
    assert told == []
