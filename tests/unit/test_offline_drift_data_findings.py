"""What is said about the data beside the judgement: true, once, and the same in text and JSON."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features, labelled

import gauntlet
from evaluator.drift.performance import MetricChange
from evaluator.offline.drift.result import DriftReport, Finding, Performance

ROWS = 1200


def frame(seed: int, rows: int = ROWS) -> pd.DataFrame:
    return labelled(features(seed, rows, "a", "c"), seed)


def of(found: DriftReport, kind: str, column: str | None) -> list[Finding]:
    return [f for f in found.quality.findings if (f.kind, f.column) == (kind, column)]


def test_rare_values_that_are_counted_together_are_not_called_unknown() -> None:
    rng = np.random.default_rng(1)
    zips = [f"z{i}" for i in range(2000)]
    before, now = (pd.DataFrame({"zip": rng.choice(zips, 20_000)}) for _ in range(2))
    assert of(gauntlet.drift(before, now), "unseen_values", "zip") == []
    new = now.assign(zip=np.where(np.arange(20_000) % 2 == 0, "new", now["zip"]))
    (finding,) = of(gauntlet.drift(before, new), "unseen_values", "zip")
    assert "256 most frequent" in finding.message
    assert "counted together" in finding.message


def test_rows_that_choose_the_most_frequent_values_do_not_say_how_frequent_they_are() -> None:
    rng = np.random.default_rng(5)
    for _ in range(3):
        before, now = (pd.DataFrame({"zip": [f"z{i}" for i in rng.integers(0, 1000, 5000)]}) for _ in range(2))
        found = gauntlet.drift(before, now)
        assert found.severity == "UNKNOWN"
        assert not found.signals
        assert found.features[0].p_value > 0.001


def test_numbers_that_hardly_repeat_in_the_reference_are_not_unseen_in_the_current_rows() -> None:
    assert of(gauntlet.drift(frame(1, 50), frame(2, 300)), "unseen_values", "a") == []
    few = frame(1).assign(a=np.arange(ROWS) % 4)
    assert of(gauntlet.drift(few, frame(2).assign(a=np.arange(ROWS) % 5)), "unseen_values", "a")


@pytest.mark.parametrize("asked", [{}, {"target": "y"}, {"target": "y", "prediction": "p"}])
def test_no_column_without_a_name_is_ever_reported(asked: dict[str, str]) -> None:
    broken = pd.DataFrame({"a;c;y;p": ["1;2;3;4"] * 300})
    found = gauntlet.drift(frame(1), broken, **asked)
    assert all(f.column != "" and "column  " not in f.message for f in found.quality.findings)
    assert all(feature.name for feature in found.features)
    alone = gauntlet.drift(frame(1)[["y"]], frame(2)[["y"]], target="y")
    assert alone.features == ()
    assert all(f.column != "" for f in alone.quality.findings)


def test_the_headline_counts_the_rows_that_say_yes() -> None:
    now = frame(2).assign(a=np.nan, k=1)
    now.loc[::8, "c"] = None  # a rule speaks of missing values, and no distribution moved
    found = gauntlet.drift(frame(1), now, prediction="p")
    assert found.drifted == ("a",)
    lines = gauntlet.to_text(found).splitlines()
    count = next(int(match[1]) for line in lines if (match := re.search(r"(\d+) of \d+ features drifted", line)))
    assert count == sum("YES" in line for line in lines) == 1
    assert any(line.startswith("  c ") and "no, but missing values" in line for line in lines)


def test_drifted_features_stand_above_an_unmoved_prediction_and_target() -> None:
    found = gauntlet.drift(frame(1), frame(2).assign(a=lambda t: t["a"] + 1), target="y", prediction="p")
    names = [line.split()[0] for line in gauntlet.to_text(found).splitlines()[5:9]]
    assert names[0] == "a"
    assert set(names[1:3]) == {"p", "y"}


def test_wrong_cells_in_a_stream_are_findings() -> None:
    rows = frame(3, 4000)
    cells = rows["a"].astype(object)
    cells[3000] = "ERR"
    stream = gauntlet.drift_stream(rows.assign(a=cells), 2000)
    assert list(stream.events()) == []
    (finding,) = [f for f in stream.report().quality.findings if f.kind == "type_change"]
    assert (finding.column, finding.alarming) == ("a", False)
    assert "1 of 2,000" in finding.message
    assert "row 3,000" in finding.message


def test_targets_that_are_missing_far_more_often_are_reported_in_both_forms() -> None:
    rows = frame(4, 4000).astype({"y": float})
    rows.loc[2000::2, "y"] = np.nan
    found = gauntlet.drift(rows[:2000], rows[2000:], target="y", prediction="p")
    (finding,) = of(found, "missing_target", "y")
    assert "50.0%" in finding.message
    assert found.target is not None
    assert found.target.missing == (0.0, 0.5)
    stream = gauntlet.drift_stream(rows, 2000, target="y", prediction="p")
    list(stream.events())
    assert "missing_target" in {f.kind for f in stream.report().quality.findings}
    assert of(gauntlet.drift(rows[:2000], rows[:2000], target="y"), "missing_target", "y") == []


def test_a_change_from_next_to_no_error_is_reported_in_its_own_units() -> None:
    far = MetricChange("rmse", 1e-4, 0.0751, 750.0, 0.1, 700.0, 0.0, 1000, False, True, True)
    near = MetricChange("rmse", 1.0, 1.5, 0.5, 0.1, 0.4, 0.0, 1000, False, True, True)
    performance = Performance("regression", "number", None, (far, near))
    quiet = gauntlet.drift(frame(1), frame(2))
    finding = replace(quiet, performance=performance)
    assert "(+0.075; matters from +10%, 99 % bound +0.07" in gauntlet.to_text(finding)
    assert "(+50.0%; matters from +10%, 99 % bound +40.0%" in gauntlet.to_text(finding)
    assert "75000" not in gauntlet.to_text(finding)


CITIES = np.array(["New York", "São Paulo", "Oslo", "Rome"])[np.random.default_rng(7).integers(0, 4, ROWS)]


@pytest.mark.parametrize(
    ("respell", "said"),
    [
        (str.upper, "'ROME' for 'Rome'"),
        (lambda city: f"{city} ", "'New York ' for 'New York'"),
        (lambda city: unicodedata.normalize("NFD", city), f"{unicodedata.normalize('NFD', 'São Paulo')!r} for 'São"),
        (lambda city: city if city != "Oslo" else "OSLO", "'OSLO' for 'Oslo'"),
    ],
)
def test_values_in_another_spelling_are_told_with_the_one_that_is_known(
    respell: Callable[[str], str], said: str
) -> None:
    """Two tables, and a stream of the first and the second."""
    before, now = pd.DataFrame({"city": CITIES}), pd.DataFrame({"city": [respell(city) for city in CITIES]})
    respelt = int((before["city"] != now["city"]).sum())
    (finding,) = of(gauntlet.drift(before, now), "respelt_values", "city")
    assert finding.message.startswith(
        f"{respelt:,} of {ROWS:,} values of city are the reference's in another spelling: "
    )
    assert said in finding.message
    assert finding.alarming
    (streamed,) = of(
        gauntlet.drift_stream(pd.concat([before, now]), reference_rows=ROWS).report(), "respelt_values", "city"
    )
    assert streamed.message == finding.message


def test_spellings_that_the_reference_has_and_new_values_are_not_respelt() -> None:
    before = pd.DataFrame({"city": np.where(np.arange(ROWS) % 2, "Rome", "rome")})
    now = pd.DataFrame({"city": np.where(np.arange(ROWS) % 2, "rome", "Paris")})
    assert of(gauntlet.drift(before, now), "respelt_values", "city") == []
    assert of(gauntlet.drift(before, before), "respelt_values", "city") == []
