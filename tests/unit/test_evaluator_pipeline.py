"""The pipeline: watermark, health, what it forgets, and that a restart leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    GUARDED,
    HORIZON,
    Make,
    batch,
    config,
    outcome,
    pipelines,
    prediction,
    shadow,
    traffic,
    treated,
)

from evaluator.service.checkpoint import EvaluatorState
from evaluator.service.pipeline import Pipeline
from gauntlet import events
from gauntlet.errors import ConfigError


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with pipelines(tmp_path) as fresh:
        yield fresh


def health(pipeline: Pipeline, found: list[Any] | None = None) -> list[events.Health]:
    out = pipeline.evaluate({}) if found is None else found
    return [event for event in out if isinstance(event, events.Health)]


def monitored(pipeline: Pipeline) -> dict[str, Any]:
    """The state of the champion's drift monitor."""
    state = pipeline.state(1, {}).drift_state
    assert state is not None
    return state["monitor"]


def test_the_watermark_is_the_slowest_partitions(make: Make) -> None:
    pipeline = make()
    assert pipeline.watermark == 0.0
    pipeline.step(batch([prediction(1, 500.0)], "predictions/a"))
    assert pipeline.watermark == 500.0
    pipeline.step(batch([prediction(2, 200.0), prediction(3, 190.0)], "predictions/b"))
    assert pipeline.watermark == 200.0
    pipeline.step(batch([shadow(2, 900.0), outcome(2, 900.0)], "predictions/b"))  # only predictions move it
    assert pipeline.watermark == 200.0
    pipeline.step(batch([prediction(4, 800.0)], "predictions/b"))
    assert pipeline.watermark == 500.0


def test_a_lagging_partition_holds_every_look_back(make: Make) -> None:
    pipeline = make()
    pipeline.step(batch([prediction(1, 1000.0), prediction(2, 9000.0)], "predictions/a"))
    pipeline.step(batch([prediction(3, 1000.0 + HORIZON + BLOCK - 0.01)], "predictions/b"))
    assert pipeline.evaluate({}) == []
    pipeline.step(batch([prediction(4, 1000.0 + HORIZON + BLOCK)], "predictions/b"))
    assert len([e for e in pipeline.evaluate({}) if isinstance(e, events.Evaluation)]) == 1


def test_health_is_reported_once_for_each_matured_block_with_its_window(make: Make) -> None:
    pipeline = make()
    found: list[events.Health] = []
    values = np.random.default_rng(3).integers(0, 2, 600)
    for i in range(600):
        pipeline.step(batch([prediction(i, 1000.0 + i), outcome(i, 1001.0 + i, int(values[i]))]))
        found += health(pipeline)
    assert [e.id for e in found] == [f"v0001/{big}" for big in range(25, 25 + len(found))]
    assert len(found) == (599 - int(HORIZON)) // int(2 * BLOCK)
    last = found[-1]
    assert (last.outcomes, last.window_outcomes) == (40, 80)
    end = int(last.at - HORIZON - 1000.0)
    assert last.metrics["accuracy"] == pytest.approx(np.mean(values[end - 40 : end] == 1))
    assert last.window["accuracy"] == pytest.approx(np.mean(values[end - 80 : end] == 1))
    assert (last.previous, last.previous_outcomes, last.previous_window) == (None, 0, {})
    assert pipeline.health == last


def test_health_is_the_same_when_all_is_read_before_the_first_judgement(make: Make) -> None:
    stream = traffic(600)
    single, whole = make(), make()
    found = []
    for event in stream:
        single.step(batch([event]))
        found += health(single)
    whole.step(batch(stream))
    assert len(found) > 10
    assert health(whole) == found


def test_the_champion_of_before_is_compared_on_the_same_window(make: Make) -> None:
    pipeline = make()
    stream: list[Any] = []
    for i in range(300):
        alone = {"rollout": None, "challenger": None, "champion": "v0002"}
        stream += [
            prediction(i, 1000.0 + i, **alone),
            outcome(i, 1001.0 + i, 1),
            shadow(i, 1000.0 + i, arm="previous", model="v0001", output=[0.9, 0.1], rollout=None),
        ]
    pipeline.step(batch(stream))
    last = health(pipeline)[-1]
    assert (last.model, last.previous) == ("v0002", "v0001")
    assert (last.window_outcomes, last.previous_outcomes) == (80, 80)
    assert (last.window["accuracy"], last.previous_window["accuracy"]) == (1.0, 0.0)
    # Rolled back to it, it is not its own predecessor.
    pipeline.step(
        batch(
            [
                e
                for i in range(300, 600)
                for e in (
                    prediction(i, 1000.0 + i, rollout=None, challenger=None, allocation=3),
                    outcome(i, 1001.0 + i, 1),
                )
            ]
        )
    )
    last = health(pipeline)[-1]
    assert (last.model, last.previous, last.previous_outcomes, last.previous_window) == ("v0001", None, 0, {})


def test_right_after_a_promotion_the_champion_of_before_is_the_one_that_it_replaced(make: Make) -> None:
    pipeline = make()
    requests = []
    for i in range(300):
        at = 1000.0 + i
        requests += [
            prediction(i, at, champion="v0002", challenger="v0003"),
            shadow(i, at, model="v0003"),
            shadow(i, at, model="v0001", arm="previous", rollout=None),
        ]
    pipeline.step(batch(requests))
    pipeline.step(batch([outcome(i, 1001.0 + i) for i in range(200)]))
    assert {(e.model, e.previous) for e in health(pipeline)} == {("v0002", "v0001")}
    # What matures after the promotion was answered before it, and v0001 was scored beside that.
    promoted = prediction(300, 1300.0 + HORIZON, champion="v0003", rollout=None, allocation=3)
    pipeline.step(batch([promoted, *(outcome(i, 1001.0 + i) for i in range(200, 300))]))
    last = health(pipeline)[-1]
    assert (last.model, last.previous) == ("v0003", "v0002")
    assert min(last.window_outcomes, last.previous_outcomes) > 0


def test_the_latest_rollouts_are_kept_by_number_not_by_spelling(make: Make) -> None:
    pipeline = make()
    for i, number in enumerate([9997, 9998, 9999, 10_000, 10_001]):
        pipeline.step(batch([prediction(i, 1000.0 * (1 + i), rollout=f"test-r{number:04d}")]))
    pipeline.evaluate({})
    assert set(pipeline.state(0, {}).accumulators["rollouts"]) == {"test-r9999", "test-r10000", "test-r10001"}  # type: ignore[index]


def test_memory_stays_bounded_over_a_long_run(tmp_path: Path, make: Make) -> None:
    """Two thousand blocks, eighty rollouts: the checkpoint is no larger at the end than after the first few."""
    pipeline = make(config(tmp_path, "drift: {reference_rows: 100, pane: 16}"))
    sizes, waiting, looks = [], [], 0
    for big in range(80):
        start = 1000.0 + big * 25 * BLOCK
        name = f"test-r{big:04d}"
        found = [
            e
            for i in range(25)
            for e in (
                treated(big * 25 + i, start + i * BLOCK, rollout=name)
                if i % 2
                else prediction(big * 25 + i, start + i * BLOCK, rollout=name),
                outcome(big * 25 + i, start + i * BLOCK + 5.0),
                outcome(10**6 + big * 25 + i, start + i * BLOCK),
            )
        ]
        pipeline.step(batch(found))
        pipeline.settle_joins()
        looks += sum(isinstance(event, events.Evaluation) for event in pipeline.evaluate({}))
        sizes.append(len(msgspec.json.encode(pipeline.state(0, {}))))
        waiting.append(pipeline.joins_held)
    assert looks > 80 * 25 - 10  # nothing was forgotten before it was looked at
    assert pipeline.counts["orphan"] > 0.9 * 80 * 25
    assert max(waiting) <= 2 * (25 + 2 * HORIZON / BLOCK + 1)
    assert max(sizes[40:]) < 1.2 * max(sizes[5:10])
    assert len(pipeline.state(0, {}).rollouts) <= 3


@pytest.mark.parametrize("cut", [1, 333, 700, 1100])
@pytest.mark.parametrize("form", ["split", "paired"])
def test_a_restart_from_json_leaves_no_trace(tmp_path: Path, make: Make, cut: int, form: str) -> None:
    stream = traffic(700)
    made = config(tmp_path, GUARDED, form=form)
    whole, first = make(made), make(made)
    whole_out: list[Any] = []
    for piece in (stream[:cut], stream[cut:]):
        whole.step(batch(piece))
        whole.settle_joins()
        whole_out += whole.evaluate({})
    first.step(batch(stream[:cut]))
    first.settle_joins()
    out: list[Any] = list(first.evaluate({}))
    second = make(made, first.state(1, {}))
    assert (second.evaluations, second.health, second.drift) == (first.evaluations, first.health, first.drift)
    second.rebuild_joins(batch(stream[:cut]))
    second.adopt(first.state(1, {}))
    second.step(batch(stream[cut:]))
    second.settle_joins()
    out += second.evaluate({})
    assert msgspec.json.encode(out) == msgspec.json.encode(whole_out)
    assert msgspec.json.encode(second.state(2, {})) == msgspec.json.encode(whole.state(2, {}))
    assert second.joins_held == whole.joins_held


@pytest.mark.parametrize("stream", [traffic(300), [outcome(1, 1000.0)]])
def test_adopting_replaces_everything_that_was_there(make: Make, stream: list[Any]) -> None:
    source, other = make(), make()
    source.step(batch(stream))
    source.evaluate({})
    other.step(batch([prediction(i, 1000.0 + i, rollout="test-r0007") for i in range(400)], "predictions/b"))
    other.evaluate({})
    saved = source.state(3, {"predictions/a": 5})
    other.adopt(msgspec.json.decode(msgspec.json.encode(saved), type=EvaluatorState))
    assert msgspec.json.encode(other.state(3, {"predictions/a": 5})) == msgspec.json.encode(saved)


def test_what_a_rebuild_brings_back_is_not_counted_again_when_it_expires(make: Make) -> None:
    stream = [*traffic(300), outcome(9999, 1000.0)]
    pipeline = make()
    pipeline.step(batch(stream))
    pipeline.settle_joins()
    assert pipeline.counts["orphan"] == 1
    again = make()
    again.rebuild_joins(batch(stream))
    again.adopt(pipeline.state(1, {}))
    again.step(batch(traffic(300, start=300)))
    again.settle_joins()
    assert again.counts["orphan"] == 1


def test_other_settings_than_the_sums_were_made_with_are_refused_by_name(tmp_path: Path, make: Make) -> None:
    pipeline = make()
    pipeline.step(batch(traffic(50)))
    saved = pipeline.state(1, {})
    make(config(tmp_path, min_samples=77, alpha=0.01), saved)  # a plan may change between rollouts
    for section, value in (("harm_block", 10.0), ("outcome_horizon", 50.0), ("metric", "brier")):
        with pytest.raises(ConfigError, match=f"evidence.{section} was") as error:
            make(config(tmp_path, **{section: value}), saved)
        assert error.value.code == "settings_changed"


def test_a_partition_that_lags_does_not_bring_the_old_champion_back(make: Make) -> None:
    pipeline = make()
    new = {"champion": "v0002", "allocation": 5, "rollout": None, "challenger": None}
    pipeline.step(batch([prediction(1, 1000.0), prediction(2, 1010.0, **new)], "predictions/a"))
    pipeline.step(batch([prediction(3, 1005.0), prediction(4, 1011.0, **new)], "predictions/b"))
    monitor = monitored(pipeline)
    assert (monitor["version"], monitor["since"], monitor["first"]["x"]) == ("v0002", 1010.0, [2.0, 4.0])
    pipeline.step(batch([prediction(5, 1020.0, allocation=6)]))  # a rollback is a newer allocation
    monitor = monitored(pipeline)
    assert (monitor["version"], monitor["since"]) == ("v0001", 1020.0)


def test_redelivered_requests_are_not_watched_twice(make: Make) -> None:
    pipeline = make()
    stream = [prediction(i, 1000.0 + i) for i in range(20)]
    pipeline.step(batch(stream))
    pipeline.step(batch(stream))
    monitor = monitored(pipeline)
    assert len(monitor["first"]["x"]) == 20


def test_an_outcome_is_judged_by_the_experiments_classes_before_the_first_prediction_and_after_a_promotion(
    make: Make,
) -> None:
    pipeline = make()
    assert pipeline.validator.validation_error(outcome(1, 5.0, "no class")) is not None
    pipeline.step(batch([prediction(1, 1000.0)]))
    pipeline.step(batch([prediction(2, 1001.0, champion="v0002", allocation=5), outcome(1, 1002.0, 1)]))
    assert pipeline.counts["joined"] == 1


def test_drift_that_was_not_reported_yet_is_saved(make: Make) -> None:
    """A commit may come before the outcomes are read: what was found by then is drift after a restart too."""
    pipeline = make()
    stream = [prediction(i, 1000.0 + i, features={"x": float(i % 7)}) for i in range(5200)]
    outcomes = [outcome(i, 1000.0 + i + 0.5, i % 2) for i in range(5200)]
    pipeline.step(batch([*stream, *outcomes]))
    moved = [prediction(i, 1000.0 + i, features={"x": 50.0 + i % 7}) for i in range(5200, 8000)]
    pipeline.step(batch(moved))
    saved = msgspec.json.decode(msgspec.json.encode(pipeline.state(1, {})), type=EvaluatorState)
    assert [event.event for event in saved.drift_pending][:1] == ["open"]
    again = make()
    again.adopt(saved)
    drift = [event for event in again.evaluate({}) if isinstance(event, events.Drift)]
    assert drift == [event for event in pipeline.evaluate({}) if isinstance(event, events.Drift)] != []
    assert again.state(2, {}).drift_pending == []


def test_the_quality_of_the_latest_requests_is_known_while_no_episode_reports_it(make: Make) -> None:
    pipeline = make()
    assert pipeline.quality is None
    stream = [prediction(i, 1000.0 + i, features={"x": float(i % 7)}) for i in range(5000)]
    pipeline.step(batch([*stream, *(outcome(i, 1000.0 + i + 0.5, i % 2) for i in range(5000))]))
    assert pipeline.quality is None, "the first rows are the reference"
    pipeline.step(batch([prediction(i, 1000.0 + i, features={"x": float(i % 7)}) for i in range(5000, 7000)]))
    assert [event for event in pipeline.evaluate({}) if isinstance(event, events.Drift)] == []
    assert pipeline.quality is not None
    assert (pipeline.quality.model, round(pipeline.quality.score, 2)) == ("v0001", 1.0)
    holes = [prediction(i, 1000.0 + i, features={"x": None if i % 2 else 1.0}) for i in range(7000, 9000)]
    pipeline.step(batch(holes))
    assert pipeline.quality.score < 0.7


def test_the_champion_of_before_is_compared_where_both_were_scored_though_it_has_served_before(make: Make) -> None:
    """It was right while it served alone, and both are wrong since: what it showed in better times is no way back."""
    pipeline = make()
    stream: list[Any] = []
    for i in range(400):
        alone: dict[str, Any] = {"rollout": None, "challenger": None, "output": [0.1, 0.9]}
        at, promoted = 1000.0 + i, i >= 210
        if promoted:
            alone |= {"champion": "v0002", "allocation": 2}
            score = {"arm": "previous", "model": "v0001", "output": [0.2, 0.8], "rollout": "test-r0001"}
            stream.append(shadow(i, at, **score))
        stream += [prediction(i, at, **alone), outcome(i, at + 1.0, 0 if promoted else 1)]
    pipeline.step(batch(sorted(stream, key=lambda event: event.at)))
    found = {event.id: event for event in health(pipeline)}
    soon = found["v0002/30"]  # requests 200 to 239 of a window of 80
    assert soon.previous == "v0001"
    assert soon.previous_outcomes == soon.window_outcomes
    assert (soon.window["accuracy"], soon.previous_window["accuracy"]) == (0.0, 0.0)


def test_what_both_were_scored_on_before_the_promotion_counts_too(make: Make) -> None:
    """One bad day right after it is no reason to go back to a model that was worse on all the days before."""
    pipeline = make()
    stream: list[Any] = []
    for i in range(250):
        at, promoted = 1000.0 + i, i >= 220
        right, wrong = [0.1, 0.9], [0.9, 0.1]
        alone: dict[str, Any] = {"rollout": None, "challenger": None, "champion": "v0002", "allocation": 3}
        if promoted:
            scored = shadow(i, at, arm="previous", model="v0001", output=right)
            stream += [prediction(i, at, **alone, output=wrong), scored]
        else:
            stream += [prediction(i, at, output=wrong), shadow(i, at, output=right)]
        stream.append(outcome(i, at + 1.0, 1))
    stream.append(prediction(999, 1250.0 + HORIZON + BLOCK, **alone))
    pipeline.step(batch(sorted(stream, key=lambda event: event.at)))
    last = next(e for e in health(pipeline) if e.model == "v0002" and e.promotion is not None)
    assert (last.previous, last.window_outcomes, last.previous_outcomes) == ("v0001", 80, 80)
    assert last.window["accuracy"] > 0.5 > last.previous_window["accuracy"]
