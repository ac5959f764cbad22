"""A prediction that is of another kind than the reference's: labels for probabilities, or the reverse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import gauntlet
from evaluator.drift import Column
from evaluator.offline.drift.prediction_type import PredictionType
from evaluator.offline.drift.settings import DriftFileSettings

ROWS = 2000


def frame(seed: int, *, labels: bool, rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    score = np.round(1 / (1 + np.exp(-3 * x)), 2)  # some are exact zeros and ones
    truth = (rng.random(rows) < score).astype(int)
    return pd.DataFrame({"x": x, "y": truth, "p": (score >= 0.5).astype(int) if labels else score})


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("target", ["y", None])
def test_another_kind_of_prediction_is_damage_and_nothing_is_computed_across_kinds(
    labels: bool, target: str | None
) -> None:
    found = gauntlet.drift(frame(1, labels=labels), frame(2, labels=not labels), target=target, prediction="p")
    finding = next(f for f in found.quality.findings if f.column == "p")
    assert (finding.kind, finding.alarming) == ("type_change", True)
    assert ("probabilities, and the reference has labels" in finding.message) == labels
    assert (found.root_cause, found.action) == ("quality", "quarantine")
    assert found.performance is None
    assert {signal["kind"] for signal in found.signals} <= {"type_change", "missing"}


@pytest.mark.parametrize("labels", [True, False])
def test_a_stream_tells_the_change_and_judges_nothing_by_it(labels: bool) -> None:
    rows = pd.concat([frame(1, labels=labels), frame(2, labels=labels, rows=1000), frame(3, labels=not labels)])
    stream = gauntlet.drift_stream(rows, ROWS, target="y", prediction="p")
    events = list(stream.events())
    assert events
    assert {event.root_cause for event in events} == {"quality"}
    assert events[0].row >= 3000
    finding = next(f for f in stream.report().quality.findings if f.kind == "type_change")
    assert (finding.column, finding.alarming) == ("p", True)


@pytest.mark.parametrize("labels", [True, False])
def test_the_same_kind_is_no_finding_and_is_judged(labels: bool) -> None:
    found = gauntlet.drift(frame(1, labels=labels), frame(2, labels=labels), target="y", prediction="p")
    assert (found.severity, found.performance is None) == ("NONE", False)


def mismatches(reference: Column, *cells: float) -> int:
    known = PredictionType.infer(DriftFileSettings(prediction="p"), None, reference)
    return known.mark_mismatches(np.array(cells))[1]


def test_texts_and_numbers_of_a_regression_have_no_other_kind() -> None:
    assert mismatches(["a", "b"] * 20, 0.5, 0.2) == 0
    assert mismatches(np.arange(100.0), 0.5, 0.2) == 0  # whole, and too many to be labels
    assert mismatches(np.array([0.0, 1.0] * 4), 0.5) == 0  # too few to say
    assert mismatches(np.array([0.0, 1.0] * 40), 0.5, 1.0, np.nan) == 1
