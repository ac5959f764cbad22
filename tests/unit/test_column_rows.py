"""Rows kept by column are the rows that they stand for, to people, to models, and in any part of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from gauntlet.registry.artifact import Feature, Predictor, Schema
from gauntlet.registry.column_rows import ColumnRows
from gauntlet.types import Task

PLAIN: list[dict[str, Any]] = [
    {"size": 1.5, "country": "de"},
    {"size": None, "country": "fr"},
    {"size": -2.0, "country": None},
    {"size": 0.0, "country": "us"},
]


def by_column(rows: list[dict[str, Any]] = PLAIN) -> ColumnRows:
    sizes = np.array([np.nan if row["size"] is None else row["size"] for row in rows])
    return ColumnRows({"size": sizes, "country": np.array([row["country"] for row in rows], dtype=object)})


def test_they_are_the_rows() -> None:
    rows = by_column()
    assert [*rows] == PLAIN
    assert (len(rows), rows[0], rows[-2]) == (4, PLAIN[0], PLAIN[2])
    assert [*rows[1:3]] == PLAIN[1:3]
    assert [*(rows[2:] + rows[:2])] == PLAIN[2:] + PLAIN[:2]
    with pytest.raises(IndexError):
        rows[4]


class Echo:
    """A model that keeps what it was given."""

    def predict(self, given: Any) -> Any:
        self.given = given
        return np.zeros(len(given))


@pytest.mark.parametrize(("form", "names"), [("matrix", "size"), ("frame", "size country"), ("rows", "size country")])
def test_a_model_gets_the_same_from_either(form: str, names: str) -> None:
    features = [Feature(name=name, kind="number" if name == "size" else "text") for name in names.split()]
    predictor = Predictor(Echo(), Schema(task=Task.REGRESSION, features=tuple(features), input=form), "echo")
    expected, given = predictor.inputs(PLAIN), predictor.inputs(by_column())
    if form == "frame":
        pd.testing.assert_frame_equal(given, expected)
    elif form == "matrix":
        np.testing.assert_array_equal(given, expected)
        assert given.flags.c_contiguous
    else:
        assert given == expected


@pytest.mark.parametrize("name", ["size", "country"])
def test_the_only_feature_as_a_column(name: str) -> None:
    kind = "number" if name == "size" else "text"
    schema = Schema(task=Task.REGRESSION, features=(Feature(name=name, kind=kind),), input="column")
    predictor = Predictor(Echo(), schema, "echo")
    np.testing.assert_array_equal(predictor.inputs(by_column()), predictor.inputs(PLAIN))
