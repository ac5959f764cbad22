"""Changes of concept outcome by outcome: the mean time to a false crossing, and the delay on labelled streams."""

from __future__ import annotations

import statistics
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.drift_concept import DETECTORS, gauntlet, measured
from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift import e_detector
from evaluator.drift.concept import ErrorReference, ErrorRise, look_at_errors
from evaluator.drift.e_detector import EDetector, mean_upper_bound
from evaluator.drift.monitor import Monitor
from evaluator.drift.settings import DriftSettings


@pytest.mark.parametrize("kind", ["rare", "common", "smooth"])
def test_at_the_very_mean_the_bets_are_won_no_oftener_than_they_say(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst that is no change: a mean of exactly m. Shortened to runs of 1,000, lest there be nothing to see."""
    monkeypatch.setattr(e_detector, "RUN_LENGTH", 1000.0)
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
    monkeypatch.setattr(e_detector, "RUN_LENGTH", 1000.0)
    rng = np.random.default_rng(2)
    errors = np.repeat(rng.beta(2, 6, 10_000), 20)  # runs of twenty equal errors
    crossings = [sum(b.add(e) is not None for e in errors.tolist()) for b in (EDetector(0.25, 20.0), EDetector(0.25))]
    assert crossings[0] <= 200 < crossings[1]


@pytest.mark.parametrize("mean", [0.0, 0.002, 0.05, 0.4])
def test_the_bound_on_the_references_mean_holds(mean: float) -> None:
    rng = np.random.default_rng(3)
    seen = rng.binomial(1000, mean, 500) / 1000
    bounds = np.array([mean_upper_bound(one, one * (1 - one), 1000.0) for one in seen])
    assert (bounds < mean).sum() <= 3
    assert bounds.mean() <= mean + 5 * np.sqrt(mean / 1000) + 0.011
    assert mean_upper_bound(0.1, 0.09, 50.0) > 0.15  # a thousand rows worth fifty say less


@pytest.mark.parametrize(("z", "rise", "found"), [(4.5, 0.3, True), (3.5, 0.3, False), (4.5, 0.14, False)])
def test_a_rise_needs_an_effect_and_evidence(z: float, rise: float, found: bool) -> None:
    errors: Any = SimpleNamespace(
        rises=lambda threshold: [ErrorRise(256, 0.15, rise, 0.1, 0.5, z, 1.0, rise / z)],
        since_crossing=None,
        sudden=lambda threshold: None,
    )
    assert bool(look_at_errors(errors, DriftSettings()).raised) is found


def test_independent_errors_are_hardly_ever_taken_for_dependent() -> None:
    """References of 5,000 rows hold eight of the longest blocks: their spread must not be read as dependence."""
    rng = np.random.default_rng(9)
    inflation = np.array([ErrorReference.fit((rng.random(5000) < 0.13) * 1.0).inflation for _ in range(200)])
    assert (np.diff(inflation, axis=1) >= 0).all()
    assert (inflation[:, -1] > 2.0).mean() <= 0.09  # 5 %, and two standard errors of 200


def test_a_small_change_that_comes_gradually_is_found_before_it_is_long_over() -> None:
    """A hundred of them; windows four times as long as the next shorter one, and an ADWIN beside them, found 39."""
    found = 0
    for base, new, width, streams in ((0.13, 0.17, 3000, 40), (0.05, 0.08, 2000, 60)):
        mean = np.concatenate([np.full(500, base), np.linspace(base, new, width), np.full(1000, new)])
        for seed in range(streams):
            rng = np.random.default_rng([8, seed])
            monitor = Monitor(fit_losses((rng.random(5000) < base) * 1.0))
            events = observe_losses(monitor, (rng.random(len(mean)) < mean) * 1.0, np.arange(float(len(mean))))
            found += any(event.event == "open" and event.at >= 500 for event in events)
    assert found >= 45


def test_gradual_changes_are_found_in_their_time() -> None:
    """A thousand rows of transition: 14 streams of seven families, of which one in ten may be missed."""
    count = measured(gauntlet, streams=2, still_rows=0, width=1000)["all"]
    assert len(count.delays) >= 10
    assert statistics.median(count.delays) <= 700
    assert count.false <= 1


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
    counts = measured(gauntlet, streams=6, still_rows=25_000)
    results = {family: count.figures for family, count in counts.items()}
    assert results["all"]["found"] >= 0.80
    assert results["all"]["median_delay"] <= 60
    assert results["all"]["false_alarms_per_100000"] <= 1.0
    assert results["all"]["still_rows"] > 100_000
    for family in ("sine", "mixed", "STAGGER"):
        assert results[family]["found"] == 1.0
        assert results[family]["median_delay"] <= 30
    dummy = measured(DETECTORS["dummy, every 48"], streams=2, still_rows=1000)["all"].figures
    assert dummy["false_alarms_per_100000"] > 1000


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
