"""Models by their address at MLflow: a version of Gauntlet's own registry there, loaded as everybody else would."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import mlflow_database, small_experiment

from gauntlet.errors import ModelUnusable
from gauntlet.registry import artifact, model_schema
from gauntlet.registry.artifact import Feature, Predictor
from gauntlet.registry.local import LocalRegistry
from gauntlet.registry.mlflow import MlflowRegistry
from gauntlet.registry.mlflow_server import MlflowServer
from gauntlet.types import Task

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]

FEATURES = [Feature(name=name) for name in "abc"]


def test_a_version_at_mlflow_is_loaded_and_registered_by_its_address(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mlflow_database.copy(mlflow_template, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    model = small_experiment.classifier()
    schema = model_schema.schema_of(model, Task.CLASSIFICATION, FEATURES)
    MlflowRegistry(MlflowServer(url, "turning"), tmp_path / "copies").register(model, schema, created_at=0.0)
    rows = [{"a": 1.0, "b": 0.5, "c": -1.0}]
    expected = Predictor(model, schema, "it").predict(rows)
    loaded = artifact.load("models:/turning/1")
    assert Predictor(loaded, schema, "it").predict(rows) == pytest.approx(expected)
    registry = LocalRegistry(tmp_path / "registry")
    entry = registry.register("models:/turning/1", schema, created_at=0.0)
    assert (entry.source, entry.checksum is None) == ("model.skops", False), "a copy, with its own checksum"
    assert registry.load(entry.version).predict(rows) == pytest.approx(expected)
    with pytest.raises(ModelUnusable, match="models:/turning/7: MLflow does not give it"):
        artifact.load("models:/turning/7")
