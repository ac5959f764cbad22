"""Outcomes, scores and regimes as they come: what each rule finds in a stream, and what stays silent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluator.drift.feature_detector import is_certain
from evaluator.drift.markov import Transitions
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import Signal

Rows = dict[str, Any]


def labelled(rng: np.random.Generator, rows: int, shift: float = 0.0, *, flat: float = 1.0) -> tuple[Rows, Any]:
    x = rng.normal(shift, 1.0, rows)
    score = 1 / (1 + np.exp(-2 * x))
    shown = 0.5 + (score - 0.5) * flat
    return {"x": x, "score": shown, "prediction": (score > 0.5) * 1}, (rng.random(rows) < score) * 1


def chain(rng: np.random.Generator, rows: int, leave: float = 0.2) -> Any:
    return np.cumsum(np.where(rng.random(rows) < leave, rng.integers(1, 4, rows), 0)) % 4


@pytest.fixture(scope="module")
def classifier() -> Profile:
    columns, truth = labelled(np.random.default_rng(0), 10_000)
    return Profile.fit(columns, reference_id="r", prediction="prediction", score="score", targets=truth)


def test_accuracy_that_falls_is_high_and_returns(classifier: Profile) -> None:
    rng = np.random.default_rng(1)
    monitor = Monitor(classifier)
    columns, truth = labelled(rng, 8000)
    assert monitor.observe_outcomes(truth, columns["prediction"], 0.0) == []
    columns, truth = labelled(rng, 6000)
    wrong = np.where(rng.random(6000) < 0.15, 1 - truth, truth)
    events = monitor.observe_outcomes(wrong, columns["prediction"], np.arange(6000.0))
    assert events[0].severity in ("HIGH", "CRITICAL")
    assert events[0].root_cause == "concept"
    assert {signal.kind for event in events for signal in event.signals} >= {"concept", "accuracy"}


@pytest.mark.parametrize("noise", [0.5, 0.6])
def test_rmse_and_r2_of_a_regression(noise: float) -> None:
    rng = np.random.default_rng(2)

    def rows(n: int, scale: float) -> tuple[Any, Any]:
        prediction = rng.normal(size=n)
        return prediction + rng.normal(scale=scale, size=n), prediction

    truth, prediction = rows(10_000, 0.5)
    monitor = Monitor(Profile.fit({"prediction": prediction}, reference_id="r", prediction="prediction", targets=truth))
    events = monitor.observe_outcomes(*rows(20_000, noise), 0.0)
    found = {signal.kind for event in events for signal in event.signals}
    assert ("rmse" in found) is (noise > 0.5)
    assert bool(events) is (noise > 0.5)


def test_outcomes_that_moved_are_prior_drift(classifier: Profile) -> None:
    rng = np.random.default_rng(3)
    monitor = Monitor(classifier)
    events = monitor.observe_outcomes((rng.random(3000) < 0.9) * 1, [None] * 3000, 0.0)
    assert [(event.event, event.root_cause, event.severity) for event in events] == [("open", "prior", "LOW")]
    assert events[0].action == "observe"
    assert events[0].features == ()  # no input is to blame


def test_what_the_model_says_moves_with_its_inputs(classifier: Profile) -> None:
    rng = np.random.default_rng(4)
    monitor = Monitor(classifier)
    assert monitor.observe(labelled(rng, 6400)[0], 0.0) == []
    events = monitor.observe(labelled(rng, 3000, 0.8)[0], 1.0)
    assert events[0].root_cause == "covariate"
    assert {signal.kind for signal in events[-1].signals} >= {"distribution", "prediction"}
    assert {signal.feature for signal in events[-1].features} == {"x"}


def test_unsure_scores_are_an_estimated_loss_and_never_critical(classifier: Profile) -> None:
    rng = np.random.default_rng(5)
    monitor = Monitor(classifier)
    events = monitor.observe(labelled(rng, 6000, flat=0.2)[0], 0.0)
    assert "estimated_accuracy" in {signal.kind for event in events for signal in event.signals}
    assert {event.severity for event in events} <= {"LOW", "MEDIUM"}
    assert events[-1].severity == "MEDIUM"


@pytest.mark.parametrize("mode", ["gated", "simple"])
def test_transitions_that_change_are_a_regime(mode: Any) -> None:
    rng = np.random.default_rng(6)
    profile = Profile.fit({"state": chain(rng, 20_000)}, reference_id="r", regimes=["state"])
    monitor = Monitor(profile, DriftSettings(mode=mode))
    still = monitor.observe({"state": chain(rng, 12_800)}, 0.0)
    assert bool(still) is (mode == "simple")
    events = monitor.observe({"state": chain(rng, 6400, 0.5)}, 1.0)
    if mode == "gated":
        assert [(event.event, event.root_cause) for event in events] == [("open", "regime")]
        assert events[0].features[0].statistic > 0.1


def test_transitions_across_panes_and_batches_are_all_counted() -> None:
    rng = np.random.default_rng(9)
    profile = Profile.fit({"state": chain(rng, 20_000)}, reference_id="r", regimes=["state"])
    monitor, path = Monitor(profile), chain(rng, 256)
    for start in range(0, 256, 50):
        monitor.observe({"state": path[start : start + 50]}, 0.0)
    counted = np.array(monitor.snapshot()["transitions"]["panes"][0]).sum(axis=0)[:4, :4]
    assert counted.tolist() == Transitions.from_states(path, 4).counts.tolist()


def test_a_number_cut_into_states_remembers_more_and_raises_no_false_regimes() -> None:
    rng = np.random.default_rng(10)
    walk = np.abs((np.cumsum(rng.normal(size=60_000) * 0.2) % 20) - 10)
    profile = Profile.fit({"walk": walk[:20_000]}, reference_id="r", regimes=["walk"])
    assert profile.regimes[0].inflation > 2
    events = Monitor(profile).observe({"walk": walk[20_000:]}, 0.0)
    assert "regime" not in {signal.kind for event in events for signal in event.signals}


def test_what_is_certain_is_far_and_beyond_chance() -> None:
    far = Signal("distribution", "x", 0.4, 0.4, 0.4, 0.15, 1e-12, 128)
    assert is_certain(far, 200, DriftSettings())
    assert not is_certain(replace(far, p_value=1e-8), 200, DriftSettings())  # few independent rows
    assert not is_certain(replace(far, statistic=0.25), 200, DriftSettings())
    assert not is_certain(replace(far, kind="displaced", p_value=0.0), 200, DriftSettings())


def test_a_far_shift_needs_one_look_and_a_near_one_two() -> None:
    rng = np.random.default_rng(7)
    profile = Profile.fit({"x": rng.normal(size=20_000)}, reference_id="r")
    assert profile.quick == 128
    delays = []
    for shift in (1.2, 0.6):
        monitor = Monitor(profile)
        monitor.observe({"x": rng.normal(size=1024)}, 0.0)
        delays.append(monitor.observe({"x": rng.normal(shift, 1.0, 1024)}, 1.0)[0].rows - 1024)
    assert delays[0] <= 128 < delays[1]
    assert Profile.fit({"x": [1.0, 2.0]}, reference_id="r", pane=256).quick is None


def test_without_targets_outcomes_are_not_judged_and_lengths_must_agree(classifier: Profile) -> None:
    monitor = Monitor(Profile.fit({"x": [1.0, 2.0]}, reference_id="r"))
    assert monitor.observe_outcomes([1, 0], [0, 0], 0.0) == []
    with pytest.raises(ValueError, match="2 targets with 1 predictions"):
        Monitor(classifier).observe_outcomes([1, 0], [0], 0.0)
    with pytest.raises(ValueError, match="2 rows with 1 times"):
        Monitor(classifier).observe_outcomes([1, 0], [0, 1], [0.0])


def test_odd_outcomes_scores_and_states_crash_nothing(classifier: Profile) -> None:
    monitor = Monitor(classifier)
    odd: list[Any] = [None, float("nan"), float("inf"), "text", 1e300, -5, True]
    for value in odd:
        monitor.observe({"x": [value] * 300, "score": [value] * 300, "prediction": [value] * 300}, 0.0)
        monitor.observe_outcomes([value] * 300, [value] * 300, 0.0)
        monitor.observe_outcomes([1] * 300, [value] * 300, 0.0)
    monitor.observe({"x": [1.0] * 300}, 0.0)
    json.dumps(monitor.snapshot(), allow_nan=False)
    few = Profile.fit({"p": ["a"] * 10}, reference_id="r", prediction="p", targets=["b"] * 10, regimes=["p"])
    assert few.errors is None
    assert Monitor(few).observe_outcomes(["a"] * 1000, ["a"] * 1000, 0.0) != []


def test_what_was_accepted_is_the_new_normal_and_a_further_move_is_news() -> None:
    rng = np.random.default_rng(8)
    profile = Profile.fit({"x": rng.normal(size=20_000), "c": ["a", "b"] * 10_000}, reference_id="r")

    def rows(n: int, shift: float) -> Rows:
        return {"x": rng.normal(shift, 1.0, n), "c": rng.choice(["a", "b"], n).tolist()}

    monitor = Monitor(profile)
    assert not monitor.accept()
    assert monitor.observe(rows(8000, 1.0), 0.0)[-1].event == "open"
    assert monitor.accept()
    assert monitor.accepted
    restored = Monitor(profile)
    restored.restore(json.loads(json.dumps(monitor.snapshot())))
    assert restored.snapshot() == monitor.snapshot()
    still, far = rows(12_800, 1.0), rows(2000, 2.0)
    for one in (monitor, restored):
        assert [event.event for event in one.observe(still, 1.0)] == ["close"]
        assert one.scores()["x"] > 0.3
        assert one.accepted
        event = one.observe(far, 2.0)[0]
        assert (event.event, event.features[0].feature) == ("open", "x")


def test_accepted_outliers_and_gaps_are_no_news() -> None:
    rng = np.random.default_rng(11)
    monitor = Monitor(Profile.fit({"x": rng.normal(size=20_000)}, reference_id="r"))

    def rows(n: int) -> Rows:
        spiked = np.where(rng.random(n) < 0.1, 9.0, rng.normal(size=n))
        return {"x": np.where(rng.random(n) < 0.2, np.nan, spiked)}

    assert {signal.kind for signal in monitor.observe(rows(8000), 0.0)[-1].signals} == {"missing", "outliers"}
    monitor.accept()
    assert monitor.observe(rows(8000), 0.0)[-1].event == "close"


def test_outliers_end_where_the_reference_had_nearly_too_many() -> None:
    rng = np.random.default_rng(12)

    def rows(n: int, share: float) -> Rows:
        return {"x": np.where(rng.random(n) < share, 30.0, rng.uniform(-1, 1, n))}

    monitor = Monitor(Profile.fit(rows(20_000, 0.004), reference_id="r"))
    assert monitor.observe(rows(6400, 0.08), 0.0)[0].root_cause == "outlier_burst"
    assert monitor.accept()
    # A tenth more than was accepted is too little to begin with, and too little to hold on.
    assert [event.event for event in monitor.observe(rows(6400, 0.09), 0.0)] == ["close"]
