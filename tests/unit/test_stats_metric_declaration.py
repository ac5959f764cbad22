"""Declarations of metrics, and what values they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.metrics.declaration import (
    KINDS,
    ColumnError,
    Metric,
    MetricError,
    declare,
    parse_kind,
    rows_with_inputs,
)

NAN = math.nan


def arms(n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.arange(n) % 2 == 1


def test_every_kind_can_be_declared_with_its_own_direction() -> None:
    lower = {"error_rate", "quantile", "log_loss", "brier", "mae", "mse", "rmse"}
    for kind, known in KINDS.items():
        written = "p99" if kind == "quantile" else kind
        metric = declare("m", written, tuple("ab"[: len(known.inputs)]))
        assert metric.kind == kind
        assert metric.higher_is_better is (kind not in lower), kind
        assert known.meaning
        assert "\n" not in known.meaning
    assert declare("m", "mean", ("a",), higher_is_better=False).higher_is_better is False


def test_bounded_kinds_are_those_whose_values_lie_in_the_unit_interval() -> None:
    bounded = {kind for kind, known in KINDS.items() if known.bounded}
    assert bounded == {"proportion", "error_rate", "coverage", "quantile", "accuracy", "brier"}
    assert declare("m", "accuracy", ("a", "b")).bounded
    assert not declare("m", "f1", ("a", "b")).plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mean", ("mean", None, None)),
        ("p99", ("quantile", 0.99, None)),
        ("p99.9", ("quantile", 0.999, None)),
        ("p5", ("quantile", 0.05, None)),
        ("recall@2", ("recall", None, "2")),
        ("f1@spam", ("f1", None, "spam")),
        ("auc@late", ("auc", None, "late")),
    ],
)
def test_a_written_kind_is_read(text: str, expected: tuple[str, float | None, str | None]) -> None:
    kind, level, positive = parse_kind(text)
    assert (kind, positive) == (expected[0], expected[2])
    assert level == (None if expected[1] is None else pytest.approx(expected[1], abs=1e-15))


@pytest.mark.parametrize("text", ["", "p0", "p100", "quantile", "media", "recall@", "mean@2", "macro_f1@1", "p99@1"])
def test_a_kind_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(MetricError, match="kind"):
        parse_kind(text)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "median"}, "no kind 'median'"),
        ({"name": ""}, "needs a name"),
        ({"columns": ("a", "b")}, "mean needs 1 columns"),
        ({"role": "main"}, "no role 'main'"),
        ({"margin": -0.1}, "margin"),
        ({"margin": NAN}, "margin"),
        ({"min_samples": -1}, "min_samples"),
        ({"level": 0.5}, "mean has no level"),
        ({"kind": "quantile"}, "level None"),
        ({"kind": "quantile", "level": 1.0}, "level 1.0"),
        ({"positive": "1"}, "mean takes no class"),
    ],
)
def test_an_impossible_declaration_is_refused(fields: dict[str, object], says: str) -> None:
    given = {"name": "m", "kind": "mean", "columns": ("a",), "higher_is_better": True} | fields
    with pytest.raises(MetricError, match=says):
        Metric(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "columns", "index", "position", "says"),
    [
        ("mean", ([0.0, 1.0, math.inf],), 0, 2, "value inf at position 2 is not a number of usable size"),
        ("mean", ([0.0, -1e200],), 0, 1, "value"),
        ("proportion", ([0.0, 1.0, NAN, 0.5],), 0, 3, "value 0.5 at position 3 is neither 0 nor 1"),
        ("error_rate", ([2.0],), 0, 0, "neither 0 nor 1"),
        ("ratio", ([1.0, 1.0], [0.0, -1.0]), 1, 1, "denominator -1.0 at position 1 is negative"),
        ("ratio", ([1.0, -math.inf], [0.0, 1.0]), 0, 1, "numerator"),
        ("log_loss", ([0.5, 1.1], [0.0, 1.0]), 0, 1, "score 1.1 at position 1 is not a probability"),
        ("brier", ([-0.1], [0.0]), 0, 0, "score"),
        ("brier", ([0.1, 0.2], [0.0, 2.0]), 1, 1, "outcome 2.0 at position 1 is neither 0 nor 1"),
        ("auc", ([7.0, 0.2], [1.0, -1.0]), 1, 1, "outcome"),
        ("accuracy", ([1.0, math.inf], [1.0, 1.0]), 0, 1, "prediction"),
        ("rmse", ([1.0, 1e60], [1.0, 1.0]), 0, 1, "prediction"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_input_and_position(
    kind: str, columns: tuple[list[float], ...], index: int, position: int, says: str
) -> None:
    arrays = tuple(np.array(column) for column in columns)
    with pytest.raises(ColumnError, match=says) as caught:
        rows_with_inputs(kind, arms(len(arrays[0])), arrays)
    assert (caught.value.index, caught.value.position) == (index, position)
    assert isinstance(caught.value, OutcomeError)


def test_rows_with_a_missing_input_are_told_apart_and_not_refused() -> None:
    present = rows_with_inputs("ratio", arms(3), (np.array([1.0, NAN, 2.0]), np.array([1.0, 1.0, NAN])))
    assert present.tolist() == [True, False, False]
    assert rows_with_inputs("coverage", arms(3), (np.array([1.0, NAN, math.inf]),)).all()


def test_outcomes_may_be_any_label_where_a_class_is_named() -> None:
    assert rows_with_inputs("auc", arms(2), (np.array([0.1, 0.2]), np.array([7.0, 3.0])), labelled=True).all()


@pytest.mark.parametrize("columns", [(np.zeros(2),), (np.zeros(2), np.zeros(3)), (np.zeros((2, 1)), np.zeros(2))])
def test_columns_of_wrong_number_or_shape_are_refused(columns: tuple[np.ndarray, ...]) -> None:  # type: ignore[type-arg]
    with pytest.raises(StatsError):
        rows_with_inputs("ratio", arms(2), columns)
