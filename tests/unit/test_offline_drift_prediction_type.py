"""What target and prediction mean together, from their values and from what was asked."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.drift.columns import Coded, Column
from evaluator.offline.drift.prediction_type import PredictionType
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError

ASKED = DriftFileSettings(target="y", prediction="p")
TEXTS = Coded(np.array([0, 1, 1, -1, 0]), ("no", "yes"))


@pytest.mark.parametrize(
    ("target", "prediction", "task", "kind", "positive"),
    [
        (np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]), "classification", "label", None),
        (np.array([0.0, 1.0, 1.0]), np.array([0.2, 1.0, 0.7]), "classification", "probability", "1"),
        (np.array([0.0, 0.0, np.nan]), np.array([0.2, 0.1, 0.7]), "classification", "probability", "1"),
        (np.array([1.0, 2.0, 2.0]), np.array([0.2, 0.1, 0.7]), "classification", "probability", "2"),
        (np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0]), "classification", "label", None),
        (np.array([0.0, 1.0, 2.0]), np.array([1.9, 1.1, 0.4]), "regression", "number", None),
        (np.array([0.5, 1.5, 2.0]), np.array([0.5, 0.1, 0.9]), "regression", "number", None),
        (TEXTS, np.array([0.2, 1.0, 0.7, 0.1, 0.1]), "classification", "probability", "yes"),
        (TEXTS, TEXTS, "classification", "label", None),
        (["a", "b", "c"], ["a", "x", "c"], "classification", "label", None),
    ],
)
def test_the_values_tell(target: Column, prediction: Column, task: str, kind: str, positive: str | None) -> None:
    found = PredictionType.infer(ASKED, target, prediction)
    assert (found.task, found.kind, found.positive) == (task, kind, positive)
    assert "'y'" in found.notes[0]
    assert "'p'" in found.notes[0]


def test_asking_wins_over_what_values_look_like() -> None:
    ones, shares = np.array([0.0, 1.0, 1.0]), np.array([0.2, 1.0, 0.7])
    regression = PredictionType.infer(DriftFileSettings(target="y", prediction="p", task="regression"), ones, shares)
    assert (regression.task, regression.kind) == ("regression", "number")
    zero = PredictionType.infer(DriftFileSettings(target="y", prediction="p", positive="0"), ones, shares)
    assert np.asarray(zero.usable_target(np.array([0.0, 1.0, np.nan]))).tolist()[:2] == [1.0, 0.0]
    assert np.isnan(np.asarray(zero.usable_target(np.array([np.nan])))[0])
    no = PredictionType.infer(DriftFileSettings(target="y", prediction="p", positive="no"), TEXTS, np.full(5, 0.3))
    assert np.asarray(no.usable_target(TEXTS)).tolist()[:3] == [1.0, 0.0, 0.0]
    assert np.isnan(np.asarray(no.usable_target(TEXTS))[3])


@pytest.mark.parametrize(
    ("target", "prediction", "settings", "message"),
    [
        (np.array([0.0, 1.0]), ["yes", "no"], ASKED, "one holds texts and the other numbers"),
        (["a", "b", "c"], np.array([0.2, 0.3, 0.1]), ASKED, "needs a target of two classes"),
        (np.array([np.nan]), np.array([0.2]), ASKED, "has no value"),
        (
            np.array([0.0, 1.0, 1.0]),
            np.array([-3.0, 4.0, 2.2]),
            ASKED,
            r"numbers from -3 to 4: .* \(percents\? logits\?\)",
        ),
        (
            np.array([1.0, 2.0]),
            np.array([3.0, 4.0]),
            ASKED,
            "nothing but 1 and 2, and the prediction has numbers from 3",
        ),
        (
            ["a", "b"],
            ["a", "b"],
            DriftFileSettings(target="y", prediction="p", task="regression"),
            "needs numbers in both",
        ),
        (
            np.array([0.0, 1.0]),
            np.array([7.5, 2.0]),
            DriftFileSettings(target="y", prediction="p", task="classification"),
            "neither one of the 2 classes nor a probability",
        ),
        (
            ["a", "b"],
            np.array([0.2, 0.3]),
            DriftFileSettings(target="y", prediction="p", positive="c"),
            "none of the target's",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    target: Column, prediction: Column, settings: DriftFileSettings, message: str
) -> None:
    with pytest.raises(DriftRequestError, match=message):
        PredictionType.infer(settings, target, prediction)
