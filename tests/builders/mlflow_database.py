"""MLflow in a database of its own per test, from one template: making its tables takes seconds, a copy nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gauntlet.registry.mlflow_server import MlflowServer

WARNINGS = [pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")]
"""Marks for what MLflow's own code makes its libraries warn of."""


@contextmanager
def template() -> Iterator[Path]:
    """The folder of an empty database, `mlflow.db`."""
    with tempfile.TemporaryDirectory() as folder:
        assert MlflowServer(address(Path(folder)), "nothing").versions() == []
        yield Path(folder)


def copy(template: Path, folder: Path) -> str:
    """A database of its own in `folder`; its address as `registry` has it, without `mlflow+`."""
    folder.mkdir(parents=True)
    shutil.copyfile(template / "mlflow.db", folder / "mlflow.db")
    return address(folder)


def address(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"
