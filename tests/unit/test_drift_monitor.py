"""The monitor on broken input, on drifts one knows, and the columns of trouble by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.concept import ErrorReference
from evaluator.drift.feature_detector import look_at_features
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import LookResult
from evaluator.drift.windows import Pane, ProfileMismatchError, QuantileBounds, Windows, WindowSummary, count

Table = dict[str, Any]


def table(seed: int, rows: int, features: int = 4) -> Table:
    rng = np.random.default_rng(seed)
    columns: Table = {f"x{i}": rng.normal(size=rows) for i in range(features)}
    columns["colour"] = rng.choice(["red", "green", "blue"], size=rows, p=[0.5, 0.3, 0.2]).tolist()
    return columns


PROFILE = fit_losses(np.random.default_rng(9).exponential(size=5000), table(0, 5000))


def found(monitor: Monitor) -> set[tuple[str, str]]:
    return {(signal.kind, signal.feature) for signal in monitor.judgement.features}


def test_a_column_gone_is_quality_and_quarantine_never_retraining() -> None:
    monitor = Monitor(PROFILE)
    columns = table(1, 1024)
    del columns["x1"]
    events = monitor.observe(columns, 7.0)
    last = events[-1]
    assert (last.severity, last.root_cause, last.action) == ("CRITICAL", "quality", "quarantine")
    assert ("column_gone", "x1") in found(monitor)
    assert monitor.quality() == 0.5
    assert last.at == 7.0


def test_a_column_of_another_type_is_named() -> None:
    monitor = Monitor(PROFILE)
    columns = table(2, 1024)
    columns["x2"] = [str(value) for value in columns["x2"]]
    monitor.observe(columns, 0.0)
    assert ("type_change", "x2") in {signal.key for signal in monitor.observe(columns, 0.0)} | found(monitor)


@pytest.mark.parametrize("gap", [None, float("nan"), float("inf")])
def test_gaps_are_found_as_missing_and_are_not_drift_of_values(gap: float | None) -> None:
    monitor = Monitor(PROFILE)
    columns = table(3, 1024)
    columns["x0"] = [gap if i % 3 == 0 else value for i, value in enumerate(columns["x0"])]
    monitor.observe(columns, 0.0)
    assert found(monitor) == {("missing", "x0")}
    assert monitor.scores()["x0"] < 0.1


def test_an_unseen_category_is_found() -> None:
    monitor = Monitor(PROFILE)
    columns = table(4, 1024)
    columns["colour"] = ["violet" if i % 3 == 0 else value for i, value in enumerate(columns["colour"])]
    events = monitor.observe(columns, 0.0)
    assert found(monitor) == {("unseen", "colour")}  # the stronger of the two
    assert ("categories", "colour") in {signal.key for signal in events[-1].signals}


def test_a_burst_of_outliers_is_no_shift() -> None:
    monitor = Monitor(PROFILE)
    columns = table(5, 1024)
    columns["x3"] = np.where(np.arange(1024) % 8 == 0, 50.0, columns["x3"])
    events = monitor.observe(columns, 0.0)
    assert events[0].root_cause == "outlier_burst"
    assert found(monitor) == {("outliers", "x3")}


def test_looking_at_the_slots_of_every_feature_finds_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def events() -> list[Any]:
        monitor = Monitor(PROFILE, DriftSettings(accept_after=4096))
        seen: list[Any] = []
        for seed in range(12):
            columns = table(100 + seed, 1024)
            columns["x0"] = columns["x0"] * (1.0 + 0.2 * seed) + 0.1 * seed
            columns["x1"] += (seed % 3 == 1) * 0.5
            if seed > 6:
                columns["x2"][:200] = np.nan
                columns["x3"][::9] = 40.0
                columns["colour"][:90] = ["violet"] * 90
            if seed == 8:
                monitor.accept()
            seen += monitor.observe(columns, float(seed))
        return seen

    screened = events()
    asked: list[bool] = []

    def all_of_them(profile: Profile, bounds: QuantileBounds, summary: WindowSummary, least: Any) -> Any:
        asked.append(True)
        return np.ones(summary.present.shape, dtype=np.bool_)

    monkeypatch.setattr("evaluator.drift.feature_detector.may_reach", all_of_them)
    assert events() == screened
    assert asked
    assert len(screened) >= 4


def test_the_quick_look_holds_what_is_raised() -> None:
    windows = Windows(PROFILE)
    for pane in range(12):
        columns = table(200 + pane, 64)
        columns["x0"] += 0.55 * (pane >= 10)
        windows.push(count(PROFILE, columns))
    key = ("distribution", "x0")
    assert look_at_features(PROFILE, windows, DriftSettings()) == LookResult()
    assert look_at_features(PROFILE, windows, DriftSettings(), [key]).held == {key}


def test_texts_in_the_place_of_gaps_are_another_type() -> None:
    gaps = [None, None, 1.0, 2.0, None] * 1000
    profile = Profile.fit({"x": gaps}, reference_id="v1")
    windows = Windows(profile)
    for _ in range(4):
        windows.push(count(profile, {"x": ["a" if cell is None else cell for cell in gaps[:64]]}))
    assert ("type_change", "x") in look_at_features(profile, windows, DriftSettings()).raised


def test_one_absurd_cell_changes_nothing() -> None:
    monitor = Monitor(PROFILE)
    columns = table(6, 2048)
    columns["x0"][1000] = 1e300
    assert monitor.observe(columns, 0.0) == []


def test_rows_of_unknown_columns_only_are_rows_without_the_known() -> None:
    monitor = Monitor(PROFILE)
    monitor.observe({"other": [1.0] * 1500}, 0.0)
    assert monitor.rows == 1500
    assert monitor.severity.name == "CRITICAL"


def test_ten_rows_and_no_rows_say_nothing() -> None:
    monitor = Monitor(PROFILE)
    assert monitor.observe({}, 0.0) == []
    assert monitor.observe(table(7, 10), 0.0) == []
    assert monitor.scores() == {}
    assert monitor.quality() is None
    assert monitor.rows == 10


def test_ragged_batches_and_wrong_times_are_the_callers_error() -> None:
    monitor = Monitor(PROFILE)
    with pytest.raises(ValueError, match="differ in length"):
        monitor.observe({"x0": [1.0], "x1": [1.0, 2.0]}, 0.0)
    with pytest.raises(ValueError, match="2 rows with 3 times"):
        monitor.observe({"x0": [1.0, 2.0]}, [0.0, 1.0, 2.0])
    assert monitor.rows == 0


def test_an_event_has_the_time_of_the_row_that_completed_the_look() -> None:
    shifted = table(8, 640)
    shifted["x0"] = shifted["x0"] + 3
    event = Monitor(PROFILE).observe(shifted, np.arange(640.0))[0]
    assert event.at == event.rows - 1
    assert event.features[0].feature == "x0"
    assert event.features[0].lower <= event.features[0].upper


def test_errors_that_double_are_high_then_critical_and_a_return_closes() -> None:
    rng = np.random.default_rng(10)
    monitor = Monitor(PROFILE)
    assert observe_losses(monitor, rng.exponential(size=2000), 0.0) == []
    events = observe_losses(monitor, 4 * rng.exponential(size=1000), 1.0)
    assert {event.root_cause for event in events} == {"concept"}
    assert events[0].rows < 2000 + 200
    assert events[-1].severity == "CRITICAL"
    assert observe_losses(monitor, rng.exponential(size=40000), 2.0)[-1].event == "close"


def test_errors_that_are_no_losses_are_left_out() -> None:
    monitor, clean = Monitor(PROFILE), Monitor(PROFILE)
    observe_losses(monitor, [float("nan"), float("inf"), -1.0, 0.5] * 500, 0.0)
    observe_losses(clean, [0.5] * 500, 0.0)
    assert monitor.error_rise() == clean.error_rise() != {}
    unknown = Monitor(Profile.fit({"x": [1.0]}, reference_id="v1"))
    assert observe_losses(unknown, [1e9] * 5000, 0.0) == []


def test_one_absurd_error_is_no_concept_drift_and_hides_none() -> None:
    rng = np.random.default_rng(11)
    errors = rng.exponential(size=4000)
    errors[3980] = 1e12
    monitor = Monitor(PROFILE)
    assert observe_losses(monitor, errors, 0.0) == []
    assert max(monitor.error_rise().values()) < 1.0
    assert observe_losses(monitor, 3 * rng.exponential(size=400), 1.0)[0].root_cause == "concept"


def test_a_reference_without_a_miss_still_sees_misses() -> None:
    profile = fit_losses([0.0] * 1000)
    monitor = Monitor(profile)
    assert observe_losses(monitor, [0.0] * 5000, 0.0) == []
    assert observe_losses(monitor, [0.0, 1.0] * 500, 0.0)[-1].severity == "CRITICAL"


def test_correlated_errors_are_worth_less_and_short_windows_then_say_nothing() -> None:
    rng = np.random.default_rng(12)
    slow = np.repeat(rng.exponential(size=400), 100)
    reference = ErrorReference.fit(slow)
    assert reference.inflation[reference.windows.index(1024)] == pytest.approx(100, rel=0.5)
    monitor = Monitor(fit_losses(slow))
    observe_losses(monitor, slow[:5000], 0.0)
    assert min(monitor.error_rise()) >= 3000


def test_state_of_another_profile_is_refused() -> None:
    other = Profile.fit(table(1, 5000), reference_id="v2")
    with pytest.raises(ProfileMismatchError):
        Monitor(other).restore(Monitor(PROFILE).snapshot())
    pane = count(other, table(2, 64))
    with pytest.raises(ProfileMismatchError):
        Windows(PROFILE).push(pane)
    with pytest.raises(ValueError, match="64 rows"):
        Windows(PROFILE).push(count(PROFILE, table(2, 63)))


def test_prefix_sums_that_wrap_leave_windows_exact() -> None:
    windows = Windows(PROFILE)
    pane = count(PROFILE, table(3, 64))
    huge = Pane(pane.profile, 64, pane.counts * (2**25 - 1))
    for _ in range(200):
        windows.push(huge)
    view = windows.window(256)
    assert view is not None
    slots = slice(0, PROFILE.slots)
    assert view.slots(slots).tolist() == (4 * huge.counts[slots] % 2**32).tolist()


def test_a_snapshot_and_its_events_survive_strict_json() -> None:
    monitor = Monitor(PROFILE)
    shifted = table(8, 700)
    shifted["x0"] = shifted["x0"] + 3
    events = monitor.observe(shifted, 0.0)
    restored = Monitor(PROFILE)
    restored.restore(json.loads(json.dumps(monitor.snapshot(), allow_nan=False)))
    assert restored.snapshot() == monitor.snapshot()
    assert restored.observe(table(9, 700), 1.0) == monitor.observe(table(9, 700), 1.0)
    decoded = json.loads(json.dumps([event.to_dict() for event in events], allow_nan=False))
    assert [(one["id"], one["severity"]) for one in decoded] == [(event.id, event.severity) for event in events] != []
