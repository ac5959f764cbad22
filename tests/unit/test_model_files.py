"""Models in files of other tools: ONNX, pickles, PyTorch, MLflow's folders. The same answers, no code by surprise."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from builders import onnx_file, small_experiment
from sklearn.linear_model import LogisticRegression

from gauntlet.cli import main
from gauntlet.errors import ModelUnusable
from gauntlet.registry import artifact, model_schema
from gauntlet.registry.artifact import Feature, Predictor
from gauntlet.registry.local import LocalRegistry
from gauntlet.types import Task

NAMES = ("a", "b", "c")
ROWS = [dict(zip(NAMES, row, strict=True)) for row in np.random.default_rng(0).normal(size=(20, 3)).tolist()]


def predictor(model: object, named: bool = False) -> Predictor:
    features = () if named else [Feature(name=name) for name in NAMES]
    schema = model_schema.schema_of(model, Task.CLASSIFICATION, features, [0, 1])
    return Predictor(model, schema, "it")


def expected() -> np.ndarray:
    return predictor(small_experiment.classifier()).predict(ROWS)


def refusal(source: Path | str, **how: Any) -> tuple[str, str]:
    with pytest.raises(ModelUnusable) as caught:
        artifact.load(str(source), **how)
    return caught.value.code, str(caught.value)


@pytest.fixture
def onnx() -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'gauntlet-ml[onnx]'")


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("columns", [False, True])
def test_an_onnx_file_answers_as_its_original(tmp_path: Path, columns: bool) -> None:
    original = small_experiment.classifier()
    content = onnx_file.column_model(original, NAMES) if columns else onnx_file.matrix_model(original)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    loaded = predictor(artifact.load(str(path)), named=columns)
    assert loaded.schema.input == ("frame" if columns else "matrix")
    assert loaded.predict(ROWS) == pytest.approx(expected(), abs=1e-6)
    assert loaded.valid(loaded.predict(ROWS)).all()
    registry = LocalRegistry(tmp_path / "registry")
    entry = registry.register(str(path), loaded.schema, created_at=0.0)
    assert entry.source == "model.onnx"
    assert registry.load(entry.version).predict(ROWS) == pytest.approx(expected(), abs=1e-6)


@pytest.mark.usefixtures("onnx")
def test_a_damaged_onnx_file_and_one_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file.matrix_model(small_experiment.classifier())[:-30])
    assert refusal(path)[0] == "model_broken"
    path.write_bytes(onnx_file.matrix_model(small_experiment.classifier()))
    features = [Feature(name="a"), Feature(name="b")]
    with pytest.raises(ModelUnusable, match="the model was fitted with 3 features, not 2"):
        model_schema.schema_of(artifact.load(str(path)), Task.CLASSIFICATION, features, [0, 1])


@pytest.mark.usefixtures("onnx")
def test_compare_takes_onnx_and_pickles_beside_skops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(2000, 3)), columns=list(NAMES))
    rows["y"] = (rng.random(2000) < 1 / (1 + np.exp(-1.5 * rows.a + rows.b))) * 1
    rows.to_csv("test.csv", index=False)
    skops.io.dump(LogisticRegression().fit(rows[["a"]], rows.y), "old.skops")
    better = LogisticRegression().fit(rows[list(NAMES)].to_numpy(), rows.y)
    Path("new.onnx").write_bytes(onnx_file.matrix_model(better))
    Path("new.pkl").write_bytes(pickle.dumps(better))
    words = ["compare", "--baseline", "old.skops", "--test-data", "test.csv", "--target", "y", "--no-latency"]
    improvements = []
    for candidate, more in (("new.onnx", []), ("new.pkl", ["--allow-pickle"])):
        found = ["--candidate", candidate, "--features", *NAMES, "--output", "report.json", *more]
        assert main([*words, *found]) == 0, candidate
        improvements.append(json.loads(Path("report.json").read_text())["metrics"]["auc"]["improvement"])
    assert improvements[0] == pytest.approx(improvements[1], abs=1e-4)


@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".pt", ".pth", ".pt2"])
def test_what_can_run_code_is_refused_before_anything_of_it_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not even a pickle")
    code, reason = refusal(path)
    assert (code, f"{suffix} files can run any code" in reason) == ("model_untrusted", True)


def test_a_format_whose_package_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, suffix in (("onnxruntime", ".onnx"), ("torch", ".pt")):
        monkeypatch.setitem(sys.modules, package, None)
        path = tmp_path / f"model{suffix}"
        path.write_bytes(b"x")
        code, reason = refusal(path, allow_pickle=True)
        assert (code, f"it needs {package}: pip install" in reason) == ("model_needs_package", True)


class Tensor(np.ndarray):
    """What PyTorch's has, as far as it is asked for."""

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


class Module:
    """A module: its call, and `eval`."""

    def eval(self) -> Module:
        return self

    def __call__(self, rows: Tensor) -> Tensor:
        assert rows.dtype == np.float32
        return small_experiment.classifier().predict_proba(rows).astype(np.float32).view(Tensor)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """PyTorch's part is played: its package has five gigabytes. tests/integration/test_torch_models.py has the real
    one."""
    found: Any = ModuleType("torch")
    found.__spec__ = SimpleNamespace(name="torch")
    found.inference_mode = contextlib.nullcontext
    found.as_tensor = lambda rows: rows.view(Tensor)
    found.load = lambda path, **_: found.held
    found.export = SimpleNamespace(load=lambda path: SimpleNamespace(module=Module))
    found.held = Module()
    monkeypatch.setitem(sys.modules, "torch", found)
    return found


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2"])
def test_a_module_of_pytorch_answers_as_it_stands(tmp_path: Path, torch: SimpleNamespace, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"a module")
    loaded = predictor(artifact.load(str(path), allow_pickle=True))
    assert loaded.predict(ROWS) == pytest.approx(expected(), abs=1e-6)


def test_weights_alone_are_no_model(tmp_path: Path, torch: SimpleNamespace) -> None:
    torch.held = {"0.weight": 1.0}
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    code, reason = refusal(path, allow_pickle=True)
    assert (code, "it holds weights and no module: save the whole module" in reason) == ("model_format", True)


def mlflow_folder(folder: Path, flavours: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(f"flavors:\n{flavours}")
    return folder


def test_a_folder_of_mlflows_is_read_by_its_own_file(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "m", "  python_function: {}\n  sklearn: {pickled_model: model.skops}\n")
    skops.io.dump(small_experiment.classifier(), folder / "model.skops")
    assert predictor(artifact.load(str(folder))).predict(ROWS) == pytest.approx(expected())
    registry = LocalRegistry(tmp_path / "registry")
    schema = predictor(artifact.load(str(folder))).schema
    assert registry.register(str(folder), schema, created_at=0.0).source == "model.skops"
    mlflow_folder(folder, "  sklearn: {pickled_model: model.pkl}\n")
    joblib.dump(small_experiment.classifier(), folder / "model.pkl")
    assert refusal(folder)[0] == "model_untrusted"
    assert type(artifact.load(str(folder), allow_pickle=True)) is LogisticRegression


@pytest.mark.parametrize(
    ("flavours", "code", "said"),
    [
        ("  python_function: {loader_module: evil}\n", "model_format", "of its flavours (python_function) none is"),
        ("  sklearn: {pickled_model: ../../outside.skops}\n", "model_broken", "names a file outside"),
        ("  - not a mapping\n  : {", "model_broken", "MLmodel can't be read"),
        ("  sklearn: {pickled_model: gone.skops}\n", "model_missing", "there is no such file"),
    ],
)
def test_a_folder_of_mlflows_that_names_no_file_to_read_is_refused(
    tmp_path: Path, flavours: str, code: str, said: str
) -> None:
    found = refusal(mlflow_folder(tmp_path / "m", flavours), allow_pickle=True)
    assert (found[0], said in found[1]) == (code, True), found
