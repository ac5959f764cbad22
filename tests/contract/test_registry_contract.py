"""The model registry's contract, the same for every backend: versions, trust, aliases, statuses, refusals.
Invariant: a test knows a backend only by the port `Registry`, and by where its files are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pytest
import skops.io
from builders import mlflow_database, small_experiment
from sklearn.base import BaseEstimator, ClassifierMixin

from gauntlet.errors import GauntletError, ModelUnusable
from gauntlet.registry import STATUSES, Reference, Registry, Version
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.registry.local import LocalRegistry
from gauntlet.registry.mlflow import MlflowRegistry
from gauntlet.registry.mlflow_server import MlflowServer
from gauntlet.types import Task

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]

SCHEMA = Schema(
    task=Task.CLASSIFICATION, features=tuple(Feature(name=n) for n in small_experiment.FEATURES), classes=(0, 1)
)
ROWS = [small_experiment.instance(i) for i in range(5)]


class Untold(ClassifierMixin, BaseEstimator):
    """An estimator that no list of trusted types has."""

    def fit(self, rows: object, targets: object) -> Untold:
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return np.full((len(rows), 2), 0.5)


@dataclass
class Backend:
    """One registry: `open(machine)` is a client with a data folder of its own."""

    kind: str
    folder: Path
    url: str = ""

    def open(self, machine: str = "a", **trust: object) -> Registry:
        if self.kind == "local":
            return LocalRegistry(self.folder / "registry")
        server = MlflowServer(self.url, "test")
        return MlflowRegistry(server, self.folder / machine, **trust)  # type: ignore[arg-type]

    def files(self, name: str) -> list[Path]:
        """Where the backend keeps the files called `name`, beyond the copies of clients."""
        root = self.folder / ("registry" if self.kind == "local" else "server")
        return sorted(root.rglob(name))


@pytest.fixture(params=["local", "mlflow"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        return Backend("local", tmp_path)
    template: Path = request.getfixturevalue("mlflow_template")
    return Backend("mlflow", tmp_path, mlflow_database.copy(template, tmp_path / "server"))


def register(registry: Registry, **facts: object) -> Version:
    given = {"model": small_experiment.classifier(), "schema": SCHEMA, "created_at": 0.0, **facts}
    return registry.register(**given)  # type: ignore[arg-type]


def code(call: object, *given: object) -> str:
    with pytest.raises(GauntletError) as caught:
        call(*given)  # type: ignore[operator]
    return caught.value.code


def test_a_version_comes_back_whole_here_and_elsewhere(backend: Backend) -> None:
    reference = Reference(columns={"x1": [1.0, None]}, at=[0.0, 1.0], losses=[None, 0.7])
    made = register(
        backend.open(),
        created_at=5.0,
        reference=reference,
        parent="v0000",
        algorithm="LogisticRegression",
        code_version="0.1.0",
        data_from=1.0,
        data_to=2.0,
        rows=7,
        parameters={"C": "1", "long": "x" * 9000},
        metrics={"auc": 0.7, "undefined": float("nan")},
        note="retrain_20260117_001",
    )
    assert made.version == "v0001"
    for registry in (backend.open(), backend.open("b")):
        found = registry.get("v0001")
        assert found == made
        assert found.metrics == {"auc": 0.7}, "a metric that is not defined is none"
        assert registry.reference("v0001") == reference
        expected = small_experiment.classifier().predict_proba([list(row.values()) for row in ROWS])
        assert np.array_equal(registry.load("v0001").predict(ROWS), expected)
        registry.verify("v0001")
        assert [v.version for v in registry.versions()] == [v.version for v in registry.known()] == ["v0001"]
        assert registry.damaged() == []
    assert register(backend.open("b")).version == "v0002"
    assert backend.open().reference("v0002") is None
    assert [v.version for v in backend.open().versions()] == ["v0001", "v0002"]


def test_an_empty_registry_has_nothing(backend: Backend) -> None:
    registry = backend.open()
    assert (registry.versions(), registry.damaged(), registry.aliases(), registry.statuses()) == ([], [], {}, {})


@pytest.mark.parametrize("name", ["v0002", "v1", "v00001", "", "..", "latest", "champion", "../server", "v0001/x"])
def test_what_is_no_version_is_refused(backend: Backend, name: str) -> None:
    registry = backend.open()
    register(registry)
    for call in (registry.get, registry.load, registry.reference, registry.verify):
        assert code(call, name) == "unknown_version"


def test_a_changed_file_is_refused_and_everything_else_goes_on(backend: Backend) -> None:
    register(backend.open())
    register(backend.open())
    damaged = backend.files("model.skops")[0]
    damaged.write_bytes(damaged.read_bytes() + b"\0")
    registry = backend.open("b")
    for call in (registry.load, registry.verify, registry.load):
        assert sorted(answer(call, version) for version in ("v0001", "v0002")) == ["", "model_checksum"]


def answer(call: Callable[[str], object], version: str) -> str:
    """The error's code; nothing where the call works."""
    try:
        call(version)
    except ModelUnusable as error:
        return error.code
    return ""


def test_what_cannot_be_registered_leaves_nothing(backend: Backend, tmp_path: Path) -> None:
    registry = backend.open()
    assert code(lambda: register(registry, model="gone.skops")) == "model_missing"
    with pytest.raises(TypeError):
        register(registry, no_such_fact=1)
    assert registry.versions() == []
    assert register(registry).version == "v0001"


def test_a_pickle_is_loaded_only_where_it_was_allowed(backend: Backend, tmp_path: Path) -> None:
    joblib.dump(small_experiment.classifier(), tmp_path / "m.joblib")
    refused = register(backend.open(), model=str(tmp_path / "m.joblib")).version
    allowed = register(backend.open(), model=str(tmp_path / "m.joblib"), allow_pickle=True).version
    (tmp_path / "m.joblib").unlink()  # the registry has its own copy
    assert code(backend.open().load, refused) == "model_untrusted"
    assert backend.open().load(allowed).version == allowed


def test_a_type_is_loaded_only_where_it_is_listed(backend: Backend, tmp_path: Path) -> None:
    skops.io.dump(Untold().fit(None, None), tmp_path / "m.skops")
    types = tuple(skops.io.get_untrusted_types(file=tmp_path / "m.skops"))
    registry = backend.open()
    listed = register(registry, model=str(tmp_path / "m.skops"), trusted=types).version
    assert registry.load(listed).version == listed


def test_a_function_is_a_model_too(backend: Backend) -> None:
    made = register(backend.open(), model="builders.small_experiment:classifier")
    assert (made.source, made.checksum) == ("builders.small_experiment:classifier", None)
    registry = backend.open()
    registry.verify(made.version)
    assert registry.load(made.version).schema == SCHEMA


def test_aliases_name_one_version_each(backend: Backend) -> None:
    registry = backend.open()
    for _ in range(3):
        register(registry)
    registry.set_aliases({"champion": "v0001", "challenger": "v0002"})
    registry.set_aliases({"champion": "v0002", "previous": "v0001"})
    assert backend.open("b").aliases() == {"champion": "v0002", "previous": "v0001"}
    registry.set_aliases({"champion": "v0001", "previous": "v0002"})
    registry.set_aliases({"champion": "v0001", "previous": "v0002"})
    assert registry.aliases() == {"champion": "v0001", "previous": "v0002"}


def test_a_life_from_staging_to_archived(backend: Backend) -> None:
    registry = backend.open()
    for _ in range(2):
        register(registry)
    for status in STATUSES:
        registry.set_status("v0001", status)
        assert backend.open("b").statuses() == {"v0001": status}
    registry.set_status("v0002", "production")
    assert registry.statuses() == {"v0001": "archived", "v0002": "production"}
    with pytest.raises(ValueError, match="staging, canary, production, archived, not 'gone'"):
        registry.set_status("v0001", "gone")


def test_any_kept_version_serves_again(backend: Backend) -> None:
    registry = backend.open()
    for _ in range(3):
        registry.set_status(register(registry).version, "archived")
    again = backend.open("b")
    for version in ("v0001", "v0003", "v0002"):
        again.verify(version)
        assert again.load(version).predict(ROWS).shape == (5, 2)


def test_the_profile_is_kept(backend: Backend) -> None:
    version = register(backend.open()).version
    assert backend.open().profile(version) is None
    backend.open().keep_profile(version, {"asked": {"pane": 64}, "counts": [1, 2]})
    assert backend.open().profile(version) == {"asked": {"pane": 64}, "counts": [1, 2]}
    assert code(backend.open().keep_profile, "v0099", {}) == code(backend.open().profile, "v0099") == "unknown_version"


REGISTER = """
import sys
from pathlib import Path
import msgspec
from gauntlet.registry.artifact import Schema
from gauntlet.registry.local import LocalRegistry
from gauntlet.registry.mlflow import MlflowRegistry
from gauntlet.registry.mlflow_server import MlflowServer
url, folder, note, schema = sys.argv[1:]
schema = msgspec.json.decode(schema, type=Schema)
registry = MlflowRegistry(MlflowServer(url, "test"), Path(folder)) if url else LocalRegistry(Path(folder))
print([version.version for version in registry.versions()], flush=True)
sys.stdin.readline()
for n in range(4):
    print(registry.register("builders.samples:model", schema, created_at=n, note=note).version)
"""


def test_two_processes_at_once_get_versions_of_their_own(backend: Backend) -> None:
    schema = msgspec.json.encode(SCHEMA).decode()
    folders = {note: backend.folder / (note if backend.url else "registry") for note in ("one", "two")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, backend.url, str(folder), note, schema],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for note, folder in folders.items()
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "[]\n"
    for process in processes:  # both have loaded everything before either begins
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sorted(printed[0] + printed[1]) == [f"v{n:04d}" for n in range(1, 9)]
    registry = backend.open("three")
    for note, versions in zip(("one", "two"), printed, strict=True):
        assert {registry.get(v).note for v in versions} == {note}
