"""Times that are odd, whatever they are odd by, are told in both forms; the same oddity in the reference is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features

import gauntlet
from evaluator.offline.drift.data_findings import TimestampStats
from evaluator.offline.drift.result import Finding
from gauntlet.errors import BadInput

ROWS = 600
START = 1_700_000_000.0
Change = Callable[[np.ndarray], np.ndarray]


def times(later: bool) -> np.ndarray:
    return START + 60.0 * (np.arange(ROWS) + ROWS * later)


def frame(seed: int, at: object) -> pd.DataFrame:
    return features(seed, ROWS, "a").assign(when=at)


def time_findings(findings: tuple[Finding, ...]) -> dict[str, bool]:
    return {f.kind: f.alarming for f in findings if f.column == "when"}


def gap(at: np.ndarray) -> np.ndarray:
    return at + np.where(np.arange(ROWS) >= 400, 36_000.0, 0.0)


def still(at: np.ndarray) -> np.ndarray:
    return np.where((np.arange(ROWS) >= 200) & (np.arange(ROWS) < 260), at[200], at)


def swapped(at: np.ndarray) -> np.ndarray:
    at = at.copy()
    at[[100, 101]] = at[[101, 100]]
    return at


CHANGES: list[tuple[Change, dict[str, bool], str]] = [
    (lambda at: at, {}, ""),
    (lambda at: np.where(np.arange(ROWS) % 10 == 0, np.nan, at), {"time_unknown": False}, "60 of 600 rows"),
    (swapped, {"time_disorder": False}, "0.2% of rows are earlier"),
    (lambda at: np.random.default_rng(1).permutation(at), {"time_disorder": True, "time_gap": False}, "% of rows"),
    (still, {"time_still": False, "time_gap": False}, "2023-11-15 11:33:20 for 60 rows from row"),
    (lambda at: np.full(ROWS, at[0]), {"time_still": True}, "for 600 rows from row"),
    (gap, {"time_gap": False}, "10 h 1 min without a row before row"),
    (lambda at: at - 86_400.0 * 3, {"time_old": False}, "600 of 600 rows are older"),
]


@pytest.mark.parametrize(("change", "kinds", "message"), CHANGES)
@pytest.mark.parametrize("texts", [False, True])
def test_odd_times_are_reported_by_two_files(change: Change, kinds: dict[str, bool], message: str, texts: bool) -> None:
    sides = [frame(1, times(False)), frame(2, change(times(True)))]
    if texts:
        sides = [side.assign(when=pd.to_datetime(side["when"], unit="s").dt.strftime("%FT%TZ")) for side in sides]
    found = gauntlet.drift(*sides, time="when")
    assert time_findings(found.quality.findings) == kinds
    assert found.severity == "NONE"
    assert [feature.name for feature in found.features] == ["a"]
    assert any(message in f.message for f in found.quality.findings) or not kinds


@pytest.mark.parametrize(("change", "kinds", "message"), CHANGES[:-1])
def test_odd_times_are_reported_by_a_stream_with_the_row_of_the_file(
    change: Change, kinds: dict[str, bool], message: str
) -> None:
    rows = pd.concat([frame(1, times(False)), frame(2, change(times(True)))])
    stream = gauntlet.drift_stream(rows, ROWS, time="when")
    assert list(stream.events()) == []
    findings = stream.report().quality.findings
    assert time_findings(findings) == kinds
    if "time_gap" in kinds and change is gap:
        assert any("before row 1,000" in f.message for f in findings)


@pytest.mark.parametrize("change", [change for change, _, _ in CHANGES[:-1]])
def test_what_the_reference_does_too_is_nothing_to_tell(change: Change) -> None:
    before, now = frame(1, change(times(False))), frame(2, change(times(True)))
    assert time_findings(gauntlet.drift(before, now, time="when").quality.findings) == {}


def test_however_the_rows_come_the_statistics_are_the_same() -> None:
    at = gap(still(swapped(times(False))))
    at[::7] = np.nan
    whole = TimestampStats()
    whole.add(at)
    for size in (1, 7, 64):
        parts = TimestampStats()
        for first in range(0, ROWS, size):
            parts.add(at[first : first + size])
        for name in ("rows", "unknown", "first", "last", "falls", "run", "gap"):
            assert getattr(parts, name) == getattr(whole, name), name


def test_a_column_without_any_time_is_refused_and_one_that_is_gone_is_reported() -> None:
    with pytest.raises(BadInput, match="no timestamp"):
        gauntlet.drift(frame(1, "soon"), frame(2, "soon"), time="when")
    found = gauntlet.drift(frame(1, times(False)), frame(2, times(True)).drop(columns="when"), time="when")
    assert time_findings(found.quality.findings) == {"column_gone": False}
