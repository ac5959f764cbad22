"""The embedded registry: whole versions or none, several processes at once, names that are not paths."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import msgspec
import pytest
from builders import small_experiment

from gauntlet import files
from gauntlet.errors import ModelUnusable
from gauntlet.registry import Reference, Version, artifact
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.registry.local import LocalRegistry
from gauntlet.types import Task

SCHEMA = Schema(
    task=Task.CLASSIFICATION, features=tuple(Feature(name=n) for n in small_experiment.FEATURES), classes=(0, 1)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path) -> LocalRegistry:
    return LocalRegistry(root)


def code(call: object, *given: object) -> str:
    with pytest.raises(ModelUnusable) as caught:
        call(*given)  # type: ignore[operator]
    return caught.value.code


def test_a_version_comes_back_whole(registry: LocalRegistry, root: Path) -> None:
    reference = Reference(
        columns={"x1": [1.0, None]}, at=[0.0, 1.0], outputs=[None, [0.5, 0.5]], truths=[None, 1.0], losses=[None, 0.7]
    )
    made = registry.register(
        small_experiment.classifier(),
        SCHEMA,
        created_at=5.0,
        reference=reference,
        metrics={"auc": 0.7},
        parent="v0000",
        parameters={"C": "1"},
        note="why",
    )
    assert made.version == "v0001"
    again = LocalRegistry(root)
    assert again.get("v0001") == made
    assert again.reference("v0001") == reference
    assert (made.source, made.allow_pickle, made.checksum) == (
        "model.skops",
        False,
        artifact.sha256(root / "v0001" / "model.skops"),
    )
    predictor = again.load("v0001")
    rows = [small_experiment.instance(1)]
    expected = small_experiment.classifier().predict_proba([[rows[0][n] for n in small_experiment.FEATURES]])
    assert (predictor.version, predictor.predict(rows).tolist()) == ("v0001", expected.tolist())
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=6.0).version == "v0002"
    assert registry.reference("v0002") is None
    assert [v.version for v in registry.versions()] == ["v0001", "v0002"]


def test_what_was_fitted_to_the_reference_is_kept_beside_it(registry: LocalRegistry, root: Path) -> None:
    version = registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0).version
    assert registry.profile(version) is None
    registry.keep_profile(version, {"asked": {"pane": 64}, "counts": [1, 2]})
    again = LocalRegistry(root)
    assert again.profile(version) == {"asked": {"pane": 64}, "counts": [1, 2]}
    assert again.load(version).version == version
    assert code(registry.keep_profile, "v0099", {}) == code(registry.profile, "v0099") == "unknown_version"


def test_files_and_functions_are_models_too(registry: LocalRegistry, root: Path, tmp_path: Path) -> None:
    joblib.dump(small_experiment.classifier(), tmp_path / "m.joblib")
    with_pickle = registry.register(str(tmp_path / "m.joblib"), SCHEMA, created_at=0.0, allow_pickle=True)
    without = registry.register(str(tmp_path / "m.joblib"), SCHEMA, created_at=0.0)
    function = registry.register("builders.small_experiment:classifier", SCHEMA, created_at=0.0)
    (tmp_path / "m.joblib").unlink()  # the registry has its own copy
    assert registry.load(with_pickle.version).version == "v0001"
    assert code(registry.load, without.version) == "model_untrusted"
    assert (function.source, function.checksum) == ("builders.small_experiment:classifier", None)
    assert registry.load(function.version).schema == SCHEMA


def test_what_cannot_be_registered_leaves_nothing(registry: LocalRegistry, root: Path) -> None:
    assert code(lambda: registry.register("gone.skops", SCHEMA, created_at=0.0)) == "model_missing"
    with pytest.raises(TypeError):
        registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0, no_such_fact=1)
    strange = Reference(columns={"x": [object()]})
    with pytest.raises(TypeError):
        registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0, reference=strange)
    assert list(root.iterdir()) == []
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0).version == "v0001"


def test_drafts_and_strangers_are_no_versions(registry: LocalRegistry, root: Path) -> None:
    (root / ".draft-killed").mkdir()
    (root / "aliases.json.old").write_text("?")
    assert registry.versions() == []
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0).version == "v0001"
    (root / "v0007").mkdir()
    (root / "v0007" / "notes.txt").write_text("somebody was here")
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0).version == "v0008"
    assert [v.version for v in registry.versions()] == ["v0001", "v0008"]


def test_a_number_that_somebody_took_meanwhile_is_skipped(
    registry: LocalRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.register(small_experiment.classifier(), SCHEMA, created_at=1.0)
    write = files.atomic_write

    def raced(path: Path, data: bytes) -> None:
        write(path, data)
        if not (root / "v0002").exists():  # between this one's look and its rename
            shutil.copytree(root / "v0001", root / "v0002")

    monkeypatch.setattr(files, "atomic_write", raced)
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=2.0).version == "v0003"
    assert registry.get("v0002") == first


def test_after_v9999_comes_v10000(registry: LocalRegistry, root: Path) -> None:
    made = registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0)
    (root / made.version).rename(root / "v9999")
    assert registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0).version == "v10000"
    assert [v.version for v in registry.versions()] == [made.version, "v10000"]


REGISTER = """
import sys
from pathlib import Path
import msgspec
from gauntlet.registry.artifact import Schema
from gauntlet.registry import Reference
from gauntlet.registry.local import LocalRegistry
root, note, model, schema = sys.argv[1:]
schema = msgspec.json.decode(schema, type=Schema)
sys.stdin.readline()
for n in range(8):
    print(LocalRegistry(Path(root)).register(model, schema, created_at=n, note=note).version)
"""


def test_two_processes_at_once_get_versions_of_their_own(root: Path, tmp_path: Path) -> None:
    model = artifact.save(small_experiment.classifier(), tmp_path / "model")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, str(root), note, str(model), msgspec.json.encode(SCHEMA).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for note in ("one", "two")
    ]
    for process in processes:  # both have loaded everything before either begins
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(printed[0] + printed[1]) == [f"v{n:04d}" for n in range(1, 17)]
    registry = LocalRegistry(root)
    for note, versions in zip(("one", "two"), printed, strict=True):
        assert {registry.get(v).note for v in versions} == {note}
        assert all(registry.load(v).version == v for v in versions)
    assert {p.name for p in root.iterdir()} == {f"v{n:04d}" for n in range(1, 17)}


@pytest.mark.parametrize(
    "name",
    ["v0002", "", ".", "..", "../registry/v0001", "../x", "v0001/", "/etc", "v0001/../v0001", "v\0001", "vé/..", "~"],
)
def test_what_is_no_version_is_refused(registry: LocalRegistry, root: Path, name: str) -> None:
    registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0, reference=Reference(columns={}))
    (root.parent / "x").symlink_to(root / "v0001")
    for call in (registry.get, registry.load, registry.reference):
        assert code(call, name) == "unknown_version"


def test_a_changed_file_is_refused(registry: LocalRegistry, root: Path) -> None:
    made = registry.register(small_experiment.classifier(), SCHEMA, created_at=0.0)
    path = root / made.version / made.source
    path.write_bytes(path.read_bytes() + b"\0")
    assert code(registry.load, made.version) == "model_checksum"
    path.unlink()
    assert code(registry.load, made.version) == "model_missing"


def test_aliases_and_statuses_are_kept(registry: LocalRegistry, root: Path) -> None:
    assert (registry.aliases(), registry.statuses()) == ({}, {})
    registry.set_aliases({"champion": "v0001"})
    registry.set_aliases({"champion": "v0002", "previous": "v0001"})
    registry.set_status("v0001", "production")
    registry.set_status("v0002", "staging")
    registry.set_status("v0001", "archived")
    again = LocalRegistry(root)
    assert again.aliases() == {"champion": "v0002", "previous": "v0001"}
    assert again.statuses() == {"v0001": "archived", "v0002": "staging"}
    with pytest.raises(ValueError, match="staging, canary, production, archived, not 'gone'"):
        registry.set_status("v0001", "gone")
    assert {p.name for p in root.iterdir()} == {"aliases.json", "status.json"}  # nothing aside is left


def test_a_version_is_a_typed_record() -> None:
    version = Version(version="v1", created_at=0.0, source="model.skops", checksum=None, schema=SCHEMA)
    assert (version.metrics, version.parent, version.trusted) == ({}, None, ())
