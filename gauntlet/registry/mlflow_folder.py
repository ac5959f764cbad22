"""A version as a folder at MLflow: a flavour that MLflow's users can load, and Gauntlet's own files with the checksums
of all.

    MLmodel, model.skops, requirements.txt, …   the flavour; the artifact itself is the same file for both
    gauntlet/version.json                       the version's record
    gauntlet/reference.json.gz                  its drift reference, where it has one
    gauntlet/model.joblib                       its artifact, where that is not a skops file
    gauntlet/manifest.json                      the SHA-256 of every other file; its own is a tag of the version

What comes back is checked against that before anything of it is used, and only Gauntlet's own files are: no flavour of
MLflow is ever loaded here.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import msgspec

from gauntlet.errors import ModelUnusable
from gauntlet.registry import Version
from gauntlet.registry.artifact import Schema, load, sha256
from gauntlet.types import Task

OWN = "gauntlet"
MANIFEST, RECORD, REFERENCE = "manifest.json", "version.json", "reference.json.gz"
HEAD = (MANIFEST, RECORD)
"""What tells what a version is, without its artifact."""


def pack(draft: Path, entry: Version, folder: Path) -> bytes:
    """Make `folder` from a draft with the artifact and the reference of `entry`; returns the manifest."""
    source = draft / entry.source
    if entry.checksum is not None and source.suffix == ".skops":
        _write_flavour(source, entry, folder)
    own = folder / OWN
    own.mkdir(parents=True)
    for file in draft.iterdir():
        if not (folder / file.name).exists():
            shutil.copyfile(file, own / file.name)
    (own / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(entry)))
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = msgspec.json.format(msgspec.json.encode(sums))
    (own / MANIFEST).write_bytes(manifest)
    return manifest


def _write_flavour(source: Path, entry: Version, folder: Path) -> None:
    """MLflow's scikit-learn flavour around the artifact; a model that is not an estimator gets none."""
    import sklearn
    import skops
    import skops.io
    from sklearn.base import BaseEstimator

    model = load(str(source), trusted=entry.trusted)
    if not isinstance(model, BaseEstimator):
        return
    with warnings.catch_warnings():  # of MLflow's own imports
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=skops.io.get_untrusted_types(file=source),
            # Given, because MLflow would load the model in another process to guess them.
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
            signature=_signature(entry.schema),
            pyfunc_predict_fn="predict_proba" if entry.schema.task is Task.CLASSIFICATION else "predict",
        )
    shutil.copyfile(source, folder / source.name)  # the same bytes as everywhere, with the same checksum


def _signature(schema: Schema) -> Any:
    """The features as MLflow's columns, numbers as doubles; none for a model whose only input is a list of texts."""
    if schema.input in ("column", "rows"):
        return None
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec
    from mlflow.types import Schema as Columns

    kinds = {"number": "double", "text": "string"}
    columns = [ColSpec(kinds[one.kind], one.name, required=one.required) for one in schema.features]
    return ModelSignature(inputs=Columns(columns))


def read_manifest(folder: Path, expected: str) -> dict[str, str]:
    """The checksums in the manifest in a folder. Raises `ModelUnusable` where it is not the expected one."""
    data = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        raise _changed(folder / MANIFEST)
    return msgspec.json.decode(data, type=dict[str, str])


def read_record(folder: Path, manifest: dict[str, str], version: str) -> Version:
    """The record in the folder of own files, as `version`. What it says of trust is not believed: that is for this
    machine's configuration to say. Raises `ModelUnusable`."""
    path = folder / RECORD
    if sha256(path) != manifest.get(f"{OWN}/{RECORD}"):
        raise _changed(path)
    entry = msgspec.json.decode(path.read_bytes(), type=Version)
    return msgspec.structs.replace(entry, version=version, trusted=(), allow_pickle=False)


def verify(folder: Path, manifest: dict[str, str]) -> None:
    """Raise `ModelUnusable` unless the downloaded folder has exactly the manifest's files."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    found.pop(f"{OWN}/{MANIFEST}", None)
    for name in sorted({*found} ^ {*manifest}):
        raise ModelUnusable(
            f"{folder / name}: the registry's manifest and its files do not have the same names", code="model_checksum"
        )
    for name, path in found.items():
        if path.is_symlink() or sha256(path) != manifest[name]:
            raise _changed(path)


def own_files(manifest: dict[str, str], entry: Version) -> dict[str, str]:
    """Where in the folder the files are that a version is made of here, by their name."""
    wanted = {RECORD: f"{OWN}/{RECORD}"}
    if f"{OWN}/{REFERENCE}" in manifest:
        wanted[REFERENCE] = f"{OWN}/{REFERENCE}"
    if entry.checksum is not None:
        own = f"{OWN}/{entry.source}"
        wanted[entry.source] = own if own in manifest else entry.source
        if manifest.get(wanted[entry.source]) != entry.checksum:
            raise ModelUnusable(f"{entry.version}: its record names another artifact", code="model_checksum")
    return wanted


def _changed(path: Path) -> ModelUnusable:
    return ModelUnusable(
        f"{path}: its SHA-256 is not the one that was registered: it was changed or damaged since; restore it there",
        code="model_checksum",
    )
