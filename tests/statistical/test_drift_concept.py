"""Changes of concept outcome by outcome: the mean time to a false crossing, and the delay on labelled streams."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from river.drift import ADWIN

from benchmarks.drift_concept import DETECTORS, gauntlet, measured
from benchmarks.labelled_streams import FAMILIES
from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift import change_detection
from evaluator.drift.change_detection import Adwin, EDetector, mean_upper_bound
from evaluator.drift.concept import ErrorRise, look_at_errors
from evaluator.drift.monitor import Monitor
from evaluator.drift.settings import DriftSettings


@pytest.mark.parametrize("kind", ["rare", "common", "smooth"])
def test_at_the_very_mean_the_bets_are_won_no_oftener_than_they_say(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst that is no change: a mean of exactly m. Shortened to runs of 1,000, lest there be nothing to see."""
    monkeypatch.setattr(change_detection, "RUN_LENGTH", 1000.0)
    rng = np.random.default_rng(1)
    rows = 200_000
    errors, null = {
        "rare": ((rng.random(rows) < 0.02) * 1.0, 0.02),
        "common": ((rng.random(rows) < 0.3) * 1.0, 0.3),
        "smooth": (rng.beta(2, 6, rows), 0.25),
    }[kind]
    bets = EDetector(null)
    crossings = sum(bets.add(error) is not None for error in errors.tolist())
    assert 1 <= crossings <= rows / 1000


def test_correlated_errors_at_the_mean_win_no_oftener_with_their_inflation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_detection, "RUN_LENGTH", 1000.0)
    rng = np.random.default_rng(2)
    errors = np.repeat(rng.beta(2, 6, 10_000), 20)  # runs of twenty equal errors
    crossings = [sum(b.add(e) is not None for e in errors.tolist()) for b in (EDetector(0.25, 20.0), EDetector(0.25))]
    assert crossings[0] <= 200 < crossings[1]


@pytest.mark.parametrize("mean", [0.0, 0.002, 0.05, 0.4])
def test_the_bound_on_the_references_mean_holds(mean: float) -> None:
    rng = np.random.default_rng(3)
    bounds = np.array([mean_upper_bound((rng.random(1000) < mean) * 1.0, 1000.0) for _ in range(500)])
    assert (bounds < mean).sum() <= 3
    assert bounds.mean() <= mean + 5 * np.sqrt(mean / 1000) + 0.011
    assert mean_upper_bound((rng.random(1000) < 0.1) * 1.0, 50.0) > 0.15  # a thousand rows worth fifty say less


def test_adwin_is_rivers_and_survives_a_snapshot() -> None:
    rng = np.random.default_rng(4)
    errors = np.concatenate([(rng.random(3000) < 0.1) * 1.0, (rng.random(3000) < 0.4) * 1.0])
    ours, theirs = Adwin(), ADWIN()
    detected = []
    for row, error in enumerate(errors.tolist()):
        if row % 500 == 499:
            restored = Adwin()
            restored.restore(json.loads(json.dumps(ours.snapshot())))
            ours = restored
        risen = ours.add(error)
        theirs.update(error)
        if risen:
            detected.append(row)
        if row < 4000:
            assert risen == theirs.drift_detected
    assert 3000 <= detected[0] < 3200
    assert ours.rose_within(6000 - detected[0])
    assert not ours.rose_within(10)


def test_adwin_that_began_anew_still_knows_what_was_before() -> None:
    rng = np.random.default_rng(7)
    adwin = Adwin()
    assert not any(adwin.add(error) for error in ((rng.random(4096) < 0.1) * 1.0).tolist())
    assert any(adwin.add(error) for error in ((rng.random(200) < 0.6) * 1.0).tolist())
    assert len(adwin.snapshot()["fed"]) < 2000


@pytest.mark.parametrize(
    ("z", "voted", "found"), [(4.5, False, True), (3.5, False, False), (3.5, True, True), (2.5, True, False)]
)
def test_a_second_opinion_lowers_the_evidence_asked_for(z: float, voted: bool, found: bool) -> None:
    errors: Any = SimpleNamespace(
        rises=lambda threshold: [ErrorRise(256, 0.15, 0.3, 0.1, 0.5, z, 1.0, 0.3 / z)],
        adwin=SimpleNamespace(rose_within=lambda within: voted),
        since_crossing=None,
        sudden=lambda threshold: None,
    )
    assert bool(look_at_errors(errors, DriftSettings()).raised) is found


def test_a_slow_rise_is_found_by_the_windows() -> None:
    rng = np.random.default_rng(5)
    profile = fit_losses(rng.gamma(2.0, 0.5, 5000))
    monitor = Monitor(profile)
    observe_losses(monitor, rng.gamma(2.0, 0.5, 4000), 0.0)
    slow = rng.gamma(2.0, 0.5, 3000) * np.linspace(1.0, 1.4, 3000)
    event = observe_losses(monitor, slow, np.arange(3000.0))[0]
    assert event.root_cause == "concept"
    assert event.at < 2800
    assert event.signals[0].window >= 256


def test_abrupt_changes_are_found_soon_and_stillness_is_quiet() -> None:
    results = measured(gauntlet, streams=6, still_rows=25_000)
    assert results["all"]["found"] >= 0.80
    assert results["all"]["median_delay"] <= 30
    assert results["all"]["false_alarms_per_100000"] <= 1.0
    assert results["all"]["still_rows"] > 100_000
    for family in set(FAMILIES) - {"SEA"}:
        assert results[family]["found"] == 1.0
        assert results[family]["median_delay"] <= 30
    dummy = measured(DETECTORS["dummy, every 48"], streams=2, still_rows=1000)
    assert dummy["all"]["false_alarms_per_100000"] > 1000


def test_a_sudden_change_opens_at_the_outcome_that_won_and_says_when_it_began() -> None:
    rng = np.random.default_rng(6)
    profile = fit_losses((rng.random(5000) < 0.02) * 1.0)
    monitor = Monitor(profile)
    assert observe_losses(monitor, (rng.random(1000) < 0.02) * 1.0, 0.0) == []
    event = observe_losses(monitor, np.ones(20), np.arange(20.0))[0]
    assert event.event == "open"
    assert event.severity == "HIGH"
    assert event.at < 8
    assert event.signals[0].window == event.at + 1  # the stretch since the first bad outcome
    assert event.signals[0].lower > event.signals[0].threshold


def test_one_false_win_ends_by_itself() -> None:
    profile = fit_losses([1.0, *[0.0] * 49] * 20)
    monitor = Monitor(profile)
    observe_losses(monitor, [0.0] * 500, 0.0)
    events = observe_losses(monitor, [1.0] * 6 + [0.0] * 3000, 0.0)
    assert [event.event for event in events] == ["open", "close"]
    assert 256 <= events[1].rows - events[0].rows <= 1500
