"""Consecutive slices of the current rows: boundedly many, the whole when added up, each judged by the same rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features, labelled, slow_and_quick

import gauntlet
from evaluator.offline.drift.verdict import MOST_SLICES

ROWS = 3000


def frame(seed: int, rows: int = 3000) -> pd.DataFrame:
    return labelled(features(seed, rows, "a", "c"), seed)


def test_a_drift_that_comes_and_goes_is_seen_where_it_is() -> None:
    now = frame(2)
    now.loc[1000:1999, "a"] += 2
    steps = gauntlet.drift(frame(1), now).steps
    assert len(steps) == MOST_SLICES
    loud = {step.row for step in steps if step.severity != "NONE"}
    assert loud == {step.row for step in steps if 900 < step.row < 2000}
    assert max(steps[10].scores, key=lambda name: steps[10].scores[name]) == "a"


def test_errors_that_rise_are_seen_where_they_do() -> None:
    now = frame(2)
    now.loc[1500:, "p"] = np.random.default_rng(4).integers(0, 2, 1500)
    steps = gauntlet.drift(frame(1), now, target="y", prediction="p").steps
    assert {step.severity for step in steps if step.row < 1400} == {"NONE"}
    assert {step.severity for step in steps if step.row >= 1500} <= {"HIGH", "CRITICAL"}
    assert steps[-1].error_rise is not None
    assert steps[-1].error_rise > 1


@pytest.mark.parametrize("rows", [1, 63, 64, 1000, 50_000])
def test_a_file_of_unknown_length_has_boundedly_many_and_the_same_answer(tmp_path: Path, rows: int) -> None:
    before, now = frame(1), frame(2, rows)
    now.to_csv(tmp_path / "now.csv", index=False)
    whole = gauntlet.drift(before, now, target="y", prediction="p")
    read = gauntlet.drift(before, tmp_path / "now.csv", target="y", prediction="p")
    assert len(read.steps) <= MOST_SLICES
    assert len(read.steps) >= min(MOST_SLICES // 2, -(-rows // 64))
    assert [step.row for step in read.steps] == sorted({step.row for step in read.steps})
    assert read.to_dict() == whole.to_dict()


def test_slices_of_a_slow_stationary_series_are_quiet() -> None:
    for seed in range(4):
        steps = gauntlet.drift(slow_and_quick(seed, 8000, 0.98), slow_and_quick(seed + 50, 8000, 0.98)).steps
        assert {step.severity for step in steps} == {"NONE"}
