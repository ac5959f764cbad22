"""What is MLflow's alone: whom a version from elsewhere must have the trust of, whose aliases stay, and outages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pandas as pd
import parts
import pytest
import skops.io
from builders import mlflow_database, small_experiment
from contract.test_registry_contract import ROWS, Untold, code, register
from mlflow import MlflowClient

from gauntlet import adapters
from gauntlet.config import load as configs
from gauntlet.errors import ConfigError, RegistryRefused, RegistryUnavailable
from gauntlet.registry.mlflow import MlflowRegistry
from gauntlet.registry.mlflow_server import MlflowServer

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]


@pytest.fixture
def url(mlflow_template: Path, tmp_path: Path) -> str:
    return mlflow_database.copy(mlflow_template, tmp_path / "server")


def open_registry(url: str, folder: Path, **trust: object) -> MlflowRegistry:
    return MlflowRegistry(MlflowServer(url, "test"), folder, **trust)  # type: ignore[arg-type]


@pytest.fixture
def registry(url: str, tmp_path: Path) -> MlflowRegistry:
    return open_registry(url, tmp_path / "here")


# Trust


def test_code_from_elsewhere_runs_only_where_this_configuration_names_it(url: str, tmp_path: Path) -> None:
    joblib.dump(small_experiment.classifier(), tmp_path / "m.joblib")
    skops.io.dump(Untold().fit(None, None), tmp_path / "m.skops")
    types = tuple(skops.io.get_untrusted_types(file=tmp_path / "m.skops"))
    there = open_registry(url, tmp_path / "there")
    pickled = register(there, model=str(tmp_path / "m.joblib"), allow_pickle=True).version
    typed = register(there, model=str(tmp_path / "m.skops"), trusted=types).version
    named = register(there, model="builders.small_experiment:classifier").version
    everywhere = open_registry(url, tmp_path / "here")
    for version in (pickled, typed, named):
        assert code(everywhere.load, version) == "model_untrusted"
        assert there.load(version).version == version, "whoever registered it has said so"
    assert open_registry(url, tmp_path / "here", allow_pickle=True).load(pickled).version == pickled
    assert open_registry(url, tmp_path / "here", trusted=types).load(typed).version == typed
    names = ["builders.small_experiment:classifier"]
    assert open_registry(url, tmp_path / "here", functions=names).load(named).version == named


def test_what_the_server_says_of_trust_is_not_believed(url: str, tmp_path: Path) -> None:
    joblib.dump(small_experiment.classifier(), tmp_path / "m.joblib")
    version = register(
        open_registry(url, tmp_path / "there"), model=str(tmp_path / "m.joblib"), allow_pickle=True
    ).version
    here = open_registry(url, tmp_path / "here")
    assert (here.get(version).allow_pickle, here.get(version).trusted) == (False, ())


def test_a_file_more_or_less_is_a_changed_version(url: str, registry: MlflowRegistry, tmp_path: Path) -> None:
    register(registry)
    register(registry)
    models = sorted((tmp_path / "server").rglob("MLmodel"))
    (models[0].parent / "extra.py").write_text("raise SystemExit")
    (models[1].parent / "requirements.txt").unlink()
    for version in ("v0001", "v0002"):
        assert code(open_registry(url, tmp_path / "other").load, version) == "model_checksum"


def test_a_record_changed_at_the_server_is_refused_also_by_who_has_met_it(
    url: str, registry: MlflowRegistry, tmp_path: Path
) -> None:
    register(registry)
    other = open_registry(url, tmp_path / "other")
    assert other.get("v0001").version == "v0001"
    MlflowClient(url, url).set_model_version_tag("test", "1", "gauntlet.sha256", "0" * 64)
    for one in (registry, other, open_registry(url, tmp_path / "third")):
        with pytest.raises(Exception, match=r"SHA-256 is not the one that was registered.*v0001|version 1 at"):
            one.versions()


# What MLflow's own users see


@pytest.mark.filterwarnings("ignore")
def test_mlflow_loads_the_model_and_answers_the_same(url: str, registry: MlflowRegistry) -> None:
    register(registry, note="nightly", metrics={"auc": 0.7, "lost": float("nan")}, parameters={"C": "1"})
    registry.set_aliases({"champion": "v0001"})
    mlflow.set_tracking_uri(url)
    try:
        model = mlflow.pyfunc.load_model("models:/test@champion")
    finally:
        mlflow.set_tracking_uri(None)
    assert np.array_equal(model.predict(pd.DataFrame(ROWS)), registry.load("v0001").predict(ROWS))
    version = MlflowClient(url, url).get_model_version("test", "1")
    run = MlflowClient(url, url).get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("test: nightly", "FINISHED")
    assert (run.data.metrics, run.data.params) == ({"auc": 0.7}, {"C": "1"})


def test_versions_and_aliases_of_others_are_left_alone(url: str, registry: MlflowRegistry) -> None:
    register(registry)
    client = MlflowClient(url, url)
    client.create_model_version("test", "runs:/none/model")
    client.set_registered_model_alias("test", "blue", "2")
    client.set_registered_model_alias("test", "previous", "2")
    registry.set_aliases({"champion": "v0001"})
    assert registry.aliases() == {"champion": "v0001"}
    aliases = client.get_registered_model("test").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 1, "blue": 2}
    assert [v.version for v in registry.versions()] == ["v0001"]
    assert code(registry.load, "v0002") == "unknown_version"
    assert register(registry).version == "v0003", "no number comes again"


def test_nothing_of_mlflow_is_told_or_kept_beside(url: str, tmp_path: Path) -> None:
    """No global state, no output, no `mlruns` or database where the process happens to run."""
    script = (
        "from pathlib import Path; import sys\n"
        "from contract.test_registry_contract import register\n"
        "from unit.test_registry_mlflow import open_registry\n"
        "registry = open_registry(sys.argv[1], Path(sys.argv[2]))\n"
        "register(registry); registry.set_aliases({'champion': 'v0001'})\n"
        "open_registry(sys.argv[1], Path('b')).load('v0001')"
    )
    (tmp_path / "cwd").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, url, str(tmp_path / "here")],
        cwd=tmp_path / "cwd",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in (tmp_path / "cwd").iterdir()] == ["b"]


# Outages


def test_what_this_machine_has_met_serves_without_the_server(url: str, tmp_path: Path) -> None:
    register(open_registry(url, tmp_path / "there"))
    register(open_registry(url, tmp_path / "there"))
    here = open_registry(url, tmp_path / "here")
    here.load("v0001")
    gone = open_registry(f"http://127.0.0.1:{parts.free_port()}", tmp_path / "here")
    assert gone.load("v0001").predict(ROWS).shape == (5, 2)
    assert [v.version for v in gone.known()] == ["v0001"]
    gone.verify("v0001")
    for call in (gone.versions, gone.aliases, gone.statuses, lambda: gone.load("v0002"), lambda: register(gone)):
        with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1"):
            call()
    with pytest.raises(RegistryUnavailable):
        open_registry(f"http://127.0.0.1:{parts.free_port()}", tmp_path / "fresh").known()


def test_a_damaged_copy_is_fetched_anew(url: str, tmp_path: Path) -> None:
    there = open_registry(url, tmp_path / "there")
    register(there)
    here = open_registry(url, tmp_path / "here")
    here.load("v0001")
    for folder, one in (("here/.met", here), ("there", there)):
        copy = tmp_path / folder / "v0001" / "model.skops"
        copy.write_bytes(copy.read_bytes()[:-1])
        gone = open_registry(f"http://127.0.0.1:{parts.free_port()}", tmp_path / folder.removesuffix("/.met"))
        assert code(gone.verify, "v0001") == "model_checksum"
        assert one.load("v0001").predict(ROWS).shape == (5, 2)
        copy.unlink()
        one.verify("v0001")


def test_a_read_only_registry_says_so(
    url: str, registry: MlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow makes the folders of what it takes for a relative path
    register(registry)
    file = url.removeprefix("sqlite:///")
    locked = open_registry(f"sqlite:///file:{file}?mode=ro&uri=true", tmp_path / "other")
    for call in (lambda: register(locked), lambda: locked.set_aliases({"champion": "v0001"})):
        with pytest.raises(RegistryRefused, match="is read-only"):
            call()
    assert locked.load("v0001").version == "v0001"
    assert [v.version for v in registry.versions()] == ["v0001"]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "body"), [(403, b"Permission denied"), (401, b"You are not authenticated")])
def test_a_missing_right_names_where_it_comes_from(tmp_path: Path, status: int, body: bytes) -> None:
    with answering(status, body) as url, pytest.raises(RegistryRefused, match="MLFLOW_TRACKING_TOKEN"):
        open_registry(url, tmp_path).versions()


# Configuration


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("mlflow", "must be local"),
        ("mlflow+sqlite://x.db", "must be local"),
        ("mlflow+sqlite:///", "must be local"),
        ("mlflow+https://", "must be local"),
        ("mlflow+postgresql://host/db", "must be local"),
        ("mlflow+https://me:secret@host", "must have no user or password"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"config.yaml:\d+: .*`registry` {reason}"):
        configs.load(small_experiment.write(tmp_path, registry=address))


def test_a_relative_database_lies_beside_the_configuration(tmp_path: Path) -> None:
    config = configs.load(small_experiment.write(tmp_path, registry="mlflow+sqlite:///m/x.db"))
    assert config.registry == f"mlflow+sqlite:///{tmp_path}/m/x.db"
    absolute = f"mlflow+sqlite:///{tmp_path}/y.db"
    assert configs.load(small_experiment.write(tmp_path, registry=absolute)).registry == absolute


def test_without_mlflow_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs.load(small_experiment.write(tmp_path, registry="mlflow+http://127.0.0.1:1"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'gauntlet-ml\[mlflow\]'"):
        adapters.registry(config)
