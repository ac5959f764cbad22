"""What is still stays silent, what moves is found: seeded rates of false alarms and delays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import lfilter
from scipy.stats import ks_2samp

from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.distances import ks_interval
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import PANE, Profile
from evaluator.drift.table_comparison import TableComparison
from evaluator.drift.windows import Windows, count

Matrix = npt.NDArray[np.float64]
PANES = 2000


def columns(matrix: Matrix) -> dict[str, Any]:
    return {f"x{i}": matrix[:, i] for i in range(matrix.shape[1])}


def autoregressive(rng: np.random.Generator, rows: int, features: int, rho: float) -> Matrix:
    noise = rng.normal(size=(rows + 1000, features)) * np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))[1000:]


@pytest.mark.parametrize("reference", [200, 20000])
def test_two_thousand_still_panes_of_fifty_features_raise_no_alarm(reference: int) -> None:
    rng = np.random.default_rng(1)
    monitor = Monitor(Profile.fit(columns(rng.normal(size=(reference, 50))), reference_id="v1"))
    assert monitor.observe(columns(rng.normal(size=(PANES * PANE, 50))), 0.0) == []


def test_still_tables_of_all_kinds_raise_no_alarm() -> None:
    rng = np.random.default_rng(2)

    def rows(n: int) -> dict[str, Any]:
        return {
            "heavy": rng.standard_t(2, size=n),
            "skewed": rng.lognormal(0, 2, size=n),
            "flag": rng.random(n) < 0.02,
            "count": rng.poisson(3, size=n),
            "gaps": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            "zeros": np.where(rng.random(n) < 0.9, 0.0, rng.exponential(size=n)),
            "city": rng.choice([f"c{i}" for i in range(100)], size=n, p=np.full(100, 0.01)).tolist(),
            "rare": rng.choice(["a", "b", "c"], size=n, p=[0.98, 0.019, 0.001]).tolist(),
        }

    monitor = Monitor(Profile.fit(rows(10000), reference_id="v1"))
    assert monitor.observe(rows(PANES * PANE), 0.0) == []


@pytest.mark.parametrize(("rho", "reference"), [(0.9, 500), (0.98, 2000), (0.99, 20000), (0.998, 20000)])
def test_features_that_wander_as_in_the_reference_raise_no_alarm(rho: float, reference: int) -> None:
    rng = np.random.default_rng(3)
    series = autoregressive(rng, reference + PANES * PANE, 20, rho)
    monitor = Monitor(Profile.fit(columns(series[:reference]), reference_id="v1"))
    assert monitor.observe(columns(series[reference:]), 0.0) == []


def test_a_shift_of_one_sigma_in_one_feature_of_fifty_is_found_soon_and_by_name() -> None:
    rng = np.random.default_rng(4)
    profile = Profile.fit(columns(rng.normal(size=(20000, 50))), reference_id="v1")
    delays: list[int] = []
    for _ in range(20):
        monitor = Monitor(profile)
        monitor.observe(columns(rng.normal(size=(1024, 50))), 0.0)
        matrix = rng.normal(size=(1024, 50))
        matrix[:, 17] += 1.0
        events = monitor.observe(columns(matrix), 1.0)
        assert [event.features[0].feature for event in events] == ["x17"]
        delays.append(events[0].rows - 1024)
    assert np.median(delays) <= 150
    assert max(delays) <= 256


def test_a_shift_that_is_certain_but_small_is_no_drift() -> None:
    rng = np.random.default_rng(12)
    profile = Profile.fit(columns(rng.normal(size=(20000, 3))), reference_id="v1", windows=(4000,))
    monitor = Monitor(profile)
    # Not a third of sigma: distance 0.12, p below 1e-40 on 4,000 rows, and less than the threshold.
    assert monitor.observe(columns(rng.normal(0.31, 1.0, size=(10000, 3))), 0.0) == []
    assert all(0.1 < score < 0.15 for score in monitor.scores().values())


def test_one_outlier_in_the_reference_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    clean = rng.normal(size=(5000, 1))
    wild = clean.copy()
    wild[2500] = 1e5
    shifted = columns(rng.normal(0.8, 1.0, size=(1024, 1)))
    still = columns(rng.normal(size=(4096, 1)))
    found = []
    for reference in (clean, wild):
        profile = Profile.fit(columns(reference), reference_id="v1")
        assert Monitor(profile).observe(still, 0.0) == []
        event = Monitor(profile).observe(shifted, 0.0)[0]
        found.append((event.rows, event.severity, event.features[0].statistic))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == pytest.approx(found[1][2], abs=0.01)


@pytest.mark.parametrize("rows", [256, 1024, 4096])
def test_the_grid_loses_little_of_the_distance(rows: int) -> None:
    rng = np.random.default_rng(6)
    samples = {
        "normal": (rng.normal(size=20000), rng.normal(0.3, 1, size=rows)),
        "lognormal": (rng.lognormal(0, 2, size=20000), rng.lognormal(0.3, 2, size=rows)),
        "uniform": (rng.random(20000), rng.random(rows) ** 1.2),
        "cauchy": (rng.standard_cauchy(20000), rng.standard_cauchy(rows) + 0.3),
    }
    profile = Profile.fit({name: pair[0] for name, pair in samples.items()}, reference_id="v1")
    counts = count(profile, {name: pair[1] for name, pair in samples.items()}).counts
    for i, feature in enumerate(profile.features):
        span = slice(int(profile.starts[i]), int(profile.starts[i] + profile.sizes[i]))
        lower, upper = ks_interval(profile.cumulative[span], np.cumsum(counts[span]) / rows)
        exact = float(ks_2samp(*samples[feature.name]).statistic)
        assert lower <= exact <= upper
        assert exact - lower <= 0.0075
        assert upper - lower <= 0.03


def test_the_distance_of_a_slid_window_is_that_of_its_rows() -> None:
    rng = np.random.default_rng(7)
    reference, stream = rng.normal(size=(5000, 1)), rng.normal(0.1, 1.1, size=(100 * PANE, 1))
    profile = Profile.fit(columns(reference), reference_id="v1")
    windows = Windows(profile)
    for pane in range(100):
        windows.push(count(profile, columns(stream[pane * PANE : (pane + 1) * PANE])))
    view = windows.window(1024)
    assert view is not None
    lower, upper = ks_interval(profile.cumulative, np.cumsum(view.slots(slice(0, profile.slots))) / 1024)
    assert lower <= float(ks_2samp(reference[:, 0], stream[-1024:, 0]).statistic) <= upper


def errors_of(kind: str, rng: np.random.Generator, rows: int) -> Matrix:
    if kind == "miss":
        return np.asarray(rng.random(rows) < 0.2, dtype=np.float64)
    if kind == "squared":
        return np.asarray(rng.normal(size=rows) ** 2)
    if kind == "heavy":
        return np.asarray(rng.lognormal(0, 1.5, size=rows))
    return np.asarray(np.exp(autoregressive(rng, rows, 1, 0.95)[:, 0]) * rng.exponential(size=rows))


@pytest.mark.parametrize("kind", ["miss", "squared", "heavy", "correlated"])
def test_still_errors_raise_at_most_one_alarm_in_a_hundred_thousand(kind: str) -> None:
    rng = np.random.default_rng(10)
    profile = fit_losses(errors_of(kind, rng, 10000))
    events = observe_losses(Monitor(profile), errors_of(kind, rng, 100_000), 0.0)
    assert sum(event.event == "open" for event in events) <= 1


@pytest.mark.parametrize(("kind", "factor", "most"), [("miss", 2.0, 512), ("squared", 2.0, 512), ("heavy", 3.0, 2048)])
def test_errors_that_rise_are_found_soon(kind: str, factor: float, most: int) -> None:
    rng = np.random.default_rng(9)
    profile = fit_losses(errors_of(kind, rng, 10000))
    delays: list[int] = []
    for _ in range(15):
        monitor = Monitor(profile)
        observe_losses(monitor, errors_of(kind, rng, 4096), 0.0)
        worse = (rng.random(4096) < 0.2 * factor) * 1.0 if kind == "miss" else factor * errors_of(kind, rng, 4096)
        events = observe_losses(monitor, worse, 1.0)
        assert events
        delays.append(events[0].rows - 4096)
    assert np.median(delays) <= most


@pytest.mark.parametrize("reference", [1000, 5000])
def test_still_outcomes_scores_and_regimes_raise_no_alarm(reference: int) -> None:
    rng = np.random.default_rng(13)
    rows = reference + 64_000
    x = rng.normal(size=rows)
    score = 1 / (1 + np.exp(-2 * x))
    moves = np.where(rng.random(rows) < 0.2, rng.integers(1, 4, rows), 0)
    table = {"x": x, "score": score, "prediction": (score > 0.5) * 1, "state": np.cumsum(moves) % 4}
    truth = (rng.random(rows) < score) * 1
    head = {name: values[:reference] for name, values in table.items()}
    profile = Profile.fit(
        head,
        reference_id="v1",
        prediction="prediction",
        score="score",
        targets=truth[:reference],
        regimes=["state", "x"],
    )
    monitor = Monitor(profile)
    assert monitor.observe({name: values[reference:] for name, values in table.items()}, 0.0) == []
    assert monitor.observe_outcomes(truth[reference:], table["prediction"][reference:], 0.0) == []


@pytest.mark.parametrize(("values", "reference"), [(300, 2000), (1000, 5000), (3000, 20_000)])
def test_columns_of_more_values_than_slots_are_still_when_nothing_moves(values: int, reference: int) -> None:
    below, opened = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def drawn(rows: int, rng: np.random.Generator = rng) -> dict[str, list[str]]:
            return {"zip": [f"z{i}" for i in rng.integers(0, values, rows)]}

        profile = Profile.fit(drawn(reference), reference_id="v1")
        comparison = TableComparison(profile)
        comparison.add(drawn(reference))
        report = comparison.report()
        assert report.severity == "NONE"
        below += report.features[0].p_value < 0.05
        opened += len(Monitor(profile).observe(drawn(10_000), 0.0))
    assert below <= 3  # of 12: P(more) = .002 at a true level of 5 %
    assert opened == 0


def test_a_move_among_more_values_than_slots_is_found() -> None:
    rng = np.random.default_rng(4)
    before = {"zip": [f"z{i}" for i in rng.integers(0, 1000, 20_000)]}
    profile = Profile.fit(before, reference_id="v1")
    first = profile.features[0].grid.categories[0]
    moved = {"zip": [f"z{i}" if i % 2 else first for i in rng.integers(0, 1000, 4096)]}
    events = Monitor(profile).observe(moved, 0.0)
    assert events[0].features[0].feature == "zip"
    assert events[0].rows <= 512
    new = {"zip": [f"n{i}" if i % 2 else f"z{i}" for i in rng.integers(0, 1000, 4096)]}
    assert ("unseen", "zip") in {signal.key for event in Monitor(profile).observe(new, 0.0) for signal in event.signals}
