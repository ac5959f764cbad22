"""Hostile tables: whatever a column holds, a named finding and never a crash or an invented cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features, finding_kinds

import gauntlet
from gauntlet.errors import BadInput

ROWS = 700


def frame(seed: int, rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.random(rows)
    answer = rng.choice(["no", "yes"], rows)
    return features(seed, rows, "a", "c").assign(
        y=(rng.random(rows) < score).astype(int),
        p=score,
        answer=answer,
        label=np.where(rng.random(rows) < 0.1, "no", answer),
    )


def damaged(column: str, cells: Any) -> pd.DataFrame:
    return frame(2).assign(**{column: cells})


@pytest.mark.parametrize(
    "table",
    [
        frame(1),
        frame(1, 10),
        frame(1, 1),
        frame(1).assign(a=np.inf),
        frame(1).assign(a=-np.inf, p=1.0),
        frame(1).assign(a=np.nan),
        frame(1).assign(a=1e308),
        frame(1).assign(a=0.0, c="x"),
        frame(1).assign(a=2**62, c=[f"v{i}" for i in range(ROWS)]),
        frame(1).assign(a=[0.5, "text"] * (ROWS // 2)),
        frame(1).assign(a=pd.date_range("2020-01-01", periods=ROWS, freq="h")),
        frame(1).assign(y=0),
        frame(1).rename(columns={"a": 'a "quoted", ünï 🚀'}),
        pd.DataFrame({"a": [None] * 60, "y": [0, 1] * 30, "p": [0.2, 0.8] * 30}),
    ],
)
@pytest.mark.parametrize("mode", ["gated", "simple"])
def test_a_table_is_like_itself(table: pd.DataFrame, mode: str) -> None:
    found = gauntlet.drift(table, table, target="y", prediction="p", mode=mode)
    assert (found.signals, found.root_cause, found.action) == ((), "none", "none")
    assert (found.severity, found.confidence) == (("UNKNOWN", None) if found.not_judged else ("NONE", 0.0))


@pytest.mark.parametrize(
    ("column", "cells", "asked"),
    [
        ("y", "hello", ("y", "p")),
        ("y", 7, ("y", "p")),
        ("y", [v if i % 3 else "hello" for i, v in enumerate(frame(2)["y"])], ("y", "p")),
        ("p", "hello", ("y", "p")),
        ("p", 37.0, ("y", "p")),
        ("p", np.inf, ("y", "p")),
        ("answer", 7, ("answer", "label")),
        ("label", 7, ("answer", "label")),
    ],
)
def test_a_target_or_prediction_that_can_be_none_is_damage_and_not_a_worse_model(
    column: str, cells: Any, asked: tuple[str, str]
) -> None:
    found = gauntlet.drift(frame(1), damaged(column, cells), target=asked[0], prediction=asked[1])
    assert (found.root_cause, found.action) == ("quality", "quarantine")
    assert {("type_change", column), ("infinite", column)} & finding_kinds(found)
    assert not {"concept", "accuracy", "prior"} & {signal["kind"] for signal in found.signals}


def test_a_few_odd_targets_are_reported_and_change_nothing() -> None:
    table = frame(2)
    cells = table["y"].astype(object)
    cells[:7] = "hello"
    found = gauntlet.drift(frame(1), table.assign(y=cells), target="y", prediction="p")
    assert found.severity == "NONE"
    assert ("type_change", "y") in finding_kinds(found)


def test_a_class_that_is_new_among_labels_is_still_a_class() -> None:
    found = gauntlet.drift(frame(1), damaged("answer", "maybe"), target="answer", prediction="label")
    assert found.action == "retrain_recent"


def test_targets_still_to_come_are_not_called_broken() -> None:
    found = gauntlet.drift(frame(1), damaged("y", None), target="y", prediction="p")
    assert found.severity == "NONE"
    assert ("no_target", "y") in finding_kinds(found)


def test_one_row_never_says_that_the_errors_rose() -> None:
    numbers = frame(1).assign(y=lambda t: t["a"], p=lambda t: t["a"] + 0.01)
    assert gauntlet.drift(numbers, numbers.head(1).assign(y=99.0), target="y", prediction="p").severity == "UNKNOWN"


def test_a_reference_without_values_has_no_type_and_no_outliers() -> None:
    empty = frame(1).assign(a=np.nan, c=None)
    found = gauntlet.drift(empty, frame(2), features=["a", "c"])
    assert (found.severity, found.signals) == ("UNKNOWN", ())
    assert {finding.column for finding in found.not_judged} == {"a", "c"}
    assert {("empty_reference", "a"), ("empty_reference", "c")} <= finding_kinds(found)


def test_a_stream_is_judged_by_its_reference_rows_and_texts_after_them_are_damage() -> None:
    table = frame(3, 3000)
    cells = table["a"].astype(object)
    cells[1500:] = "oops"
    stream = gauntlet.drift_stream(table.assign(a=cells), 1000, features=["a"])
    events = list(stream.events())
    assert events
    assert {event.root_cause for event in events} == {"quality"}
    assert events[0].row >= 1500


@pytest.mark.parametrize(("column", "cells"), [("y", "hello"), ("y", 7), ("p", "hello")])
def test_a_stream_leaves_impossible_outcomes_out_and_counts_them(column: str, cells: Any) -> None:
    table = frame(4, 4000)
    odd = table[column].astype(object)
    odd[2500:] = cells
    stream = gauntlet.drift_stream(table.assign(**{column: odd}), 2000, target="y", prediction="p")
    assert {event.root_cause for event in stream.events()} <= {"quality"}
    message = next(f.message for f in stream.report().quality.findings if (f.kind, f.column) == ("type_change", column))
    assert "1,500 values" in message


def test_a_reference_column_without_values_makes_no_stream_of_outliers() -> None:
    table = frame(5, 3000)
    table.loc[:1200, "a"] = np.nan
    stream = gauntlet.drift_stream(table, 1000, features=["a"])
    assert list(stream.events()) == []
    assert "empty_reference" in {finding.kind for finding in stream.report().quality.findings}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_delimiter_is_suggested(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frame(1).to_csv(path, index=False, sep=mark)
    with pytest.raises(BadInput, match="only commas are read"):
        gauntlet.drift(path, path)
    with pytest.raises(BadInput, match=r"no column 'y'.*only commas are read"):
        gauntlet.drift(path, path, target="y")
    found = gauntlet.drift(frame(1), path)
    assert ("delimiter", None) in finding_kinds(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-be"), "not UTF-8"),
        ("a,bé\n1,2\n".encode("latin-1"), "not UTF-8"),
        (b"a,b\n1,2\n3,x\0y\n", "NUL byte in line 3"),
        (b"a,b\n1,2\n3,4\0\n", "NUL byte in line 3"),
        (b'a,b\n1,2\n3,"4\n', "never closed, row 1"),
        (b'a,b\n1,2\n3,"4', "never closed, row 1"),
        (b'a,b\n1,2\n3,4\n5,"6\n7,8\n', "never closed"),
    ],
)
def test_a_file_that_is_no_text_or_ends_within_a_quote_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        gauntlet.drift(path, path)


@pytest.mark.parametrize("content", [b'a,b\n1,2\n3,4"\n', b'a,b\n1,"2\n2"\n'])
def test_a_quote_within_a_value_is_none_that_is_left_open(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert gauntlet.drift(path, path).severity == "UNKNOWN"  # two rows are read, and too few to judge
