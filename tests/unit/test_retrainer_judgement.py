"""Champion and new model on the held-out rows: what a slower answer does to a model that the gate accepts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import retraining_data
from builders.retraining_data import NAMES, START

from gauntlet.latency import Latency
from gauntlet.registry.artifact import Feature, Predictor, Schema
from gauntlet.types import Task
from retrainer.jobs import judgement
from retrainer.jobs.dataset import JobRows


@pytest.mark.parametrize(
    ("champion_ms", "challenger_ms", "slower", "most", "fast"),
    [
        (10.0, 11.0, True, 0.1, True),
        (10.0, 11.01, True, 0.1, False),
        (10.0, 11.01, False, 0.1, True),
        (10.0, 11.01, True, None, True),
        (10.0, 11.01, True, 0.2, True),
        (0.1, 1.09, True, 0.1, True),  # ten times as slow, and less than a request costs
        (0.1, 1.11, True, 0.1, False),
    ],
)
def test_a_model_that_is_surely_slower_by_more_than_is_allowed_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    champion_ms: float,
    challenger_ms: float,
    slower: bool,
    most: float | None,
    fast: bool,
) -> None:
    asked: list[float] = []

    def timed(*calls: object) -> Latency:
        asked.append(float(str(calls[-1])))
        return Latency(champion_ms / 1e3, challenger_ms / 1e3, challenger_ms / champion_ms, slower, 100, 31)

    monkeypatch.setattr(judgement, "timed", timed)
    config = retraining_data.configuration(tmp_path, rule="refresh")
    config = msgspec.structs.replace(config, retrain=msgspec.structs.replace(config.retrain, max_latency_increase=most))
    x, y, times = retraining_data.rows(14, 30, None, 3, "classification")
    features = [dict(zip(NAMES, map(float, row), strict=True)) for row in x]
    schema = Schema(task=Task.CLASSIFICATION, features=tuple(Feature(name=name) for name in NAMES), classes=(0, 1))
    model = Predictor(retraining_data.champion_of("classification"), schema, "v1")
    rows = JobRows(features=features, targets=y.tolist(), times=(times - START).tolist())
    answer, outputs = judgement.judge_holdout(config, model, model, rows)
    assert (answer.accepted, asked) == (True, [most or 0.0]), "a successor is warned of"
    assert ("(retrain.max_latency_increase)" in "; ".join(answer.warnings)) is not fast
    assert answer.metrics["latency"]["challenger_ms"] == pytest.approx(challenger_ms)
    assert outputs == pytest.approx(np.asarray(model.predict(features)))
