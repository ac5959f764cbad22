"""Where a model's file is, and what its format asks for: a file, a folder of MLflow's, or a version or a run at MLflow.

.skops              loading runs no code of the file
.onnx               no code either; needs `gauntlet-ml[onnx]`
.joblib, .pkl       pickles: only where they are allowed by name
.pt, .pth, .pt2     PyTorch's modules, which are pickles, too; need `gauntlet-ml[torch]`
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gauntlet.errors import ModelUnusable

PICKLES = (".joblib", ".pkl", ".pt", ".pth", ".pt2")
"""Formats that can run any code when loaded."""
FORMATS = (".skops", ".onnx", *PICKLES)
AT_MLFLOW = ("models:/", "runs:/")
"""How addresses of models at MLflow begin; the server is that of MLFLOW_TRACKING_URI."""

_MLMODEL = "MLmodel"
_NEEDS = {"mlflow": "gauntlet-ml[mlflow]", "onnxruntime": "gauntlet-ml[onnx]", "torch": "gauntlet-ml[torch]"}


def is_module(source: str) -> bool:
    """Whether a model's source is `module:function`, and no file."""
    return ":" in source and not source.startswith(AT_MLFLOW) and not Path(source).exists()


@contextlib.contextmanager
def opened(source: str) -> Iterator[Path]:
    """The file that holds the model. What comes from MLflow is there until the end of the block.

    Raises `ModelUnusable`.
    """
    if not source.startswith(AT_MLFLOW):
        path = Path(source)
        yield _in_folder(path, source) if (path / _MLMODEL).is_file() else path
        return
    require("mlflow", source)
    with tempfile.TemporaryDirectory(prefix="gauntlet-model-") as folder:
        yield _in_folder(_downloaded(source, folder), source)


def require(package: str, source: str) -> None:
    """Raise `ModelUnusable` unless the package is installed that reads `source`."""
    if importlib.util.find_spec(package) is None:
        needed = _NEEDS[package]
        raise ModelUnusable(f"model {source}: it needs {package}: pip install '{needed}'", code="model_needs_package")


def _downloaded(source: str, folder: str) -> Path:
    from gauntlet.registry.mlflow_server import be_quiet

    be_quiet()
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(artifact_uri=source, dst_path=folder))
    except Exception as error:  # MLflow's, or those of the server and of what keeps its files
        raise ModelUnusable(f"model {source}: MLflow does not give it: {error}", code="model_missing") from error


def _in_folder(folder: Path, source: str) -> Path:
    """The model's file in a folder of MLflow's: no flavour of MLflow is loaded, only the file that it is about."""
    import yaml

    try:
        document = yaml.safe_load((folder / _MLMODEL).read_text(encoding="utf-8"))
        flavours: Mapping[str, Any] = document["flavors"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = f"model {source}: its {_MLMODEL} can't be read: {type(error).__name__}: {error}"
        raise ModelUnusable(reason, code="model_broken") from error
    for flavour, key, inside in (
        ("sklearn", "pickled_model", ""),
        ("onnx", "data", ""),
        ("pytorch", "model_data", "model.pth"),
    ):
        if flavour in flavours:
            found = (folder / str(flavours[flavour].get(key)) / inside).resolve()
            if not found.is_relative_to(folder.resolve()):
                raise ModelUnusable(f"model {source}: its {_MLMODEL} names a file outside", code="model_broken")
            return found
    raise ModelUnusable(
        f"model {source}: of its flavours ({', '.join(flavours)}) none is read here: sklearn, onnx and pytorch are; "
        "name the model's own file, or a module:function that loads it",
        code="model_format",
    )
