"""Tables as people write them: numbers with units and marks, columns whose names are spelt anew."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import gauntlet
from gauntlet.errors import BadInput


def _tables(written: str, *, digits: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """x moves by two standard deviations, z does not; `written` is how x is written."""
    rng = np.random.default_rng(23)
    before, now = (
        pd.DataFrame(
            {"x": [written.format(v) for v in rng.normal(mean, 200, 1500).round(digits)], "z": rng.normal(size=1500)}
        )
        for mean in (900, 1300)
    )
    return before, now


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("CHF {:,.2f}", "without the 'CHF'"),
        ("{:.2f} kg", "without the 'kg'"),
        ("{:.2f}km/h", "without the 'km/h'"),
        ("{:.2f} °C", "without the '°C'"),
        ("{:,.2f}", "between thousands"),  # those below 1,000 are numbers
    ],
)
def test_numbers_with_units_and_marks_are_no_names_of_rows(written: str, hint: str) -> None:
    """They were left out as names of rows, and the answer was NONE."""
    before, now = _tables(written, digits=2)
    found = gauntlet.drift(before, now)
    assert found.severity == "UNKNOWN"
    (doubt,) = found.not_judged
    assert (doubt.kind, doubt.column) == ("unreadable", "x")
    assert hint in doubt.message
    with pytest.raises(BadInput, match=hint):
        gauntlet.drift(before, now, features=["x"])


@pytest.mark.parametrize("written", ["INV {:.2f}", "{:.0f} Oak", "{:.0f}A"])
def test_names_with_numbers_in_them_stay_names(written: str) -> None:
    before, now = _tables(written, digits=2)
    places = [" Oak", " Elm", " Ash", " Fir", " Yew"]
    for table in (before, now):
        table["x"] = [text.replace(" Oak", places[i % 5]) for i, text in enumerate(table.x)]
    found = gauntlet.drift(before.drop_duplicates("x"), now.drop_duplicates("x"))
    assert found.severity == "NONE"
    assert not [one for one in found.quality.findings if one.kind in ("unreadable", "judged_as_texts")]


@pytest.mark.parametrize(
    ("written", "hint"),
    [("{:.0f} kg", "write it without the 'kg'"), ("\u2212{:.0f}", "its minus is no hyphen"), ("({:.0f})", "brackets")],
)
def test_numbers_that_are_judged_as_texts_are_told(written: str, hint: str) -> None:
    rng = np.random.default_rng(24)
    before, now = (
        pd.DataFrame({"x": [written.format(v) for v in rng.integers(20, 90, 1500)], "z": rng.normal(size=1500)})
        for _ in range(2)
    )
    (told,) = [one for one in gauntlet.drift(before, now).quality.findings if one.column == "x"]
    assert told.kind == "judged_as_texts"
    assert hint in told.message


@pytest.mark.parametrize("mark", ["-", "?", ".", "#DIV/0!", "<30"])
def test_a_mark_for_no_number_that_makes_a_column_one_of_texts_is_told(mark: str) -> None:
    rng = np.random.default_rng(25)
    values = [rng.integers(20, 90, 1500).astype(str) for _ in range(2)]
    before, now = (
        pd.DataFrame({"x": np.where(rng.random(1500) < 0.2, mark, one), "z": rng.normal(size=1500)}) for one in values
    )
    share = (before.x == mark).mean()
    (told,) = [one for one in gauntlet.drift(before, now).quality.findings if one.column == "x"]
    assert told.kind == "judged_as_texts"
    assert f"{share:.1%} of its cells are no numbers, such as {mark!r}" in told.message


@pytest.mark.parametrize(("before", "now"), [("age", "Age"), ("Passenger age", "passenger_age"), (" age", "age")])
def test_a_column_that_is_spelt_anew_is_told_so(before: str, now: str) -> None:
    """It was gone, and another one new, without a word on the two."""
    rng = np.random.default_rng(26)
    old, new = (pd.DataFrame({name: rng.normal(size=500), "z": rng.normal(size=500)}) for name in (before, now))
    for asked in (None, [before]):
        found = gauntlet.drift(old, new, features=asked)
        assert found.severity == "CRITICAL"
        (told,) = [one for one in found.quality.findings if one.column == now]
        assert told.kind == "respelt_column"
        assert f"spells it {before!r}" in told.message


def test_labels_under_a_name_that_is_spelt_anew_are_told_so() -> None:
    rng = np.random.default_rng(27)
    old, new = (pd.DataFrame({name: rng.integers(0, 2, 500), "z": rng.normal(size=500)}) for name in ("late", "Late"))
    found = gauntlet.drift(old, new, features=["z"], target="late")
    assert {"no_target", "respelt_column"} <= {one.kind for one in found.quality.findings}
