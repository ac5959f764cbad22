"""One long table in time order: which rows say something, and what."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features, labelled

import gauntlet
from evaluator.offline.drift.result import StreamEvent
from gauntlet.errors import BadInput

REFERENCE = 4000


def stream_rows(rows: int = 12_000, seed: int = 4) -> pd.DataFrame:
    return labelled(features(seed, rows, "a", "b", "c"), seed)


def watched(rows: pd.DataFrame, **asked: str) -> list[StreamEvent]:
    return list(gauntlet.drift_stream(rows, REFERENCE, **asked).events())


def test_a_still_stream_is_quiet() -> None:
    stream = gauntlet.drift_stream(stream_rows(), REFERENCE, target="y", prediction="p")
    assert list(stream.events()) == []
    report = stream.report()
    assert (report.severity, report.final_severity, report.rows) == ("NONE", "NONE", 12_000)
    assert report.quality.score == 1.0
    assert report.steps  # what the plot is made of


def test_a_shift_opens_soon_after_it_begins_names_its_feature_and_closes_after_it_ends() -> None:
    rows = stream_rows()
    rows.loc[6000:7999, "a"] += 1.5
    events = watched(rows)
    assert 6000 <= events[0].row < 6400
    assert events[0].event == "open"
    assert [feature["name"] for feature in events[0].features] == ["a"]
    assert events[0].root_cause == "covariate"
    assert events[-1].event == "close"
    assert 8000 < events[-1].row < 12_000
    answer = json.loads(json.dumps(events[0].to_dict(), allow_nan=False))
    wanted = {"row", "event", "severity", "confidence", "root_cause", "features", "signals", "action"}
    assert wanted <= set(answer)
    assert {"name", "statistic", "lower", "upper", "p_value"} <= set(answer["features"][0])


def test_labels_that_begin_to_miss_are_concept_drift_while_inputs_stand_still() -> None:
    rows = stream_rows()
    turned = np.arange(12_000) >= 8000
    rows["y"] = np.where(turned & (np.arange(12_000) % 2 == 0), 1 - rows["y"], rows["y"])
    events = watched(rows, target="y", prediction="p")
    assert 8000 <= events[0].row < 8300
    assert events[0].severity in ("HIGH", "CRITICAL")
    assert (events[0].root_cause, events[0].action) == ("concept", "retrain_recent")
    without = watched(rows.drop(columns="y"), prediction="p")
    assert without == []  # inputs and answers stand still: only labels can tell


def test_rows_without_a_label_yet_are_left_out() -> None:
    rows = stream_rows()
    rows["y"] = rows["y"].astype(float).where(np.arange(12_000) < 9000)
    assert watched(rows, target="y", prediction="p") == []


def test_a_column_that_breaks_late_is_quality_and_no_crash() -> None:
    rows = stream_rows(20_000)
    spelled = rows["a"].astype(str)
    spelled[15_000:] = "ERR"
    events = watched(rows.assign(a=spelled))
    assert 15_000 <= events[0].row < 15_400
    assert (events[0].root_cause, events[0].action) == ("quality", "quarantine")


def test_events_do_not_depend_on_the_rows_that_follow() -> None:
    rows = stream_rows()
    rows.loc[6000:, "a"] += 1.5
    whole, part = watched(rows), watched(rows[:9000])
    assert part == [event for event in whole if event.row < 9000]


def test_a_shift_too_small_to_matter_alarms_the_simple_mode_alone() -> None:
    rows = stream_rows()
    rows.loc[5000:, "a"] += 0.1
    assert watched(rows[["a", "b"]]) == []
    simple = watched(rows[["a", "b"]], mode="simple")
    assert "a" in {feature["name"] for event in simple for feature in event.features}


@pytest.mark.parametrize(
    ("reference", "message"),
    [(10, "reference_rows must be at least 100"), (12_000, "none is left to watch"), (50_000, "none is left")],
)
def test_a_reference_that_does_not_fit_is_refused(reference: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        gauntlet.drift_stream(stream_rows(), reference)


def test_a_file_that_turns_out_too_short_is_refused(tmp_path: object) -> None:
    path = f"{tmp_path}/short.csv"
    stream_rows(500).to_csv(path, index=False)
    with pytest.raises(BadInput, match="fewer rows than the 4,000"):
        list(gauntlet.drift_stream(path, REFERENCE).events())


@pytest.mark.parametrize(("mode", "noted"), [("gated", True), ("simple", False)])
def test_a_column_whose_windows_can_hardly_speak_is_noted(mode: str, noted: bool) -> None:
    rng = np.random.default_rng(8)
    rows = pd.DataFrame({"slow": np.cumsum(rng.normal(size=6000)), "quick": rng.normal(size=6000)})
    stream = gauntlet.drift_stream(rows, REFERENCE, mode=mode)
    list(stream.events())
    notes = [note for note in stream.report().notes if "depend on each other so much in 1 columns" in note]
    assert bool(notes) == noted
    assert all("slow: " in note and "quick" not in note for note in notes)


@pytest.mark.parametrize("rows", ["200", 200.5, None])
def test_a_number_of_reference_rows_that_is_none_is_refused(rows: object) -> None:
    with pytest.raises(BadInput, match="whole number"):
        gauntlet.drift_stream(stream_rows(), rows)  # type: ignore[arg-type]


def test_any_kind_of_whole_number_will_do() -> None:
    assert gauntlet.drift_stream(stream_rows(), np.int64(REFERENCE)).reference_rows == REFERENCE  # type: ignore[arg-type]


def test_a_report_reads_the_rows_that_no_event_was_asked_for() -> None:
    rows = stream_rows()
    rows.loc[6000:7999, "a"] += 1.5
    expected = watched(rows)
    unread = gauntlet.drift_stream(rows, REFERENCE)
    assert list(unread.report().events) == expected
    begun = gauntlet.drift_stream(rows, REFERENCE)
    assert next(begun.events()) == expected[0]
    report = begun.report()
    assert (list(report.events), report.rows) == (expected, 12_000)


def test_a_second_iteration_goes_on_where_the_first_one_stopped() -> None:
    rows = stream_rows()
    rows.loc[6000:7999, "a"] += 1.5
    stream = gauntlet.drift_stream(rows, REFERENCE)
    first = next(stream.events())
    assert [first, *stream.events()] == watched(rows)
