"""The embedded registry: one folder a version, made aside and renamed into place, so that none is ever half there."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import files
from gauntlet.errors import DamagedFile, ModelUnusable
from gauntlet.registry import Reference, Version, artifact, check_status, model_files, readable
from gauntlet.registry.artifact import Predictor, Schema

_LABELS_REMEDY = "remove it: the retrainer recreates it from the control record"
_REMEDIES = {
    "version.json": "restore it, or move its folder away if nothing needs that version",
    "reference.json.gz": "restore it, or remove it: drift is then told from the first rows that the version serves",
    "profile.json.gz": "remove it: it is refitted",
    "aliases.json": _LABELS_REMEDY,
    "status.json": _LABELS_REMEDY,
}
"""What to do about each file that can't be read."""

_SHOWN = 5  # of the newest versions, where one is named that there isn't

_T = TypeVar("_T")


class LocalRegistry:
    """`Registry` in a folder: `<root>/<version>/{version.json, model.*, reference.json.gz, profile.json.gz}`,
    `aliases.json`, `status.json`."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._root.mkdir(parents=True, exist_ok=True)

    def register(
        self, model: object, schema: Schema, *, created_at: float, reference: Reference | None = None, **facts: Any
    ) -> Version:
        with self.draft(model, reference, facts) as (folder, source, checksum):
            while True:  # another process may take the number first: then the next one is ours
                name = f"v{self._last() + 1:04d}"
                version = Version(
                    version=name, created_at=created_at, source=source, checksum=checksum, schema=schema, **facts
                )
                if self.place(folder, version):
                    return version

    @contextlib.contextmanager
    def draft(
        self, model: object, reference: Reference | None, facts: dict[str, Any]
    ) -> Iterator[tuple[Path, str, str | None]]:
        """A folder aside with the model's and the reference's files, safe on disk, and the model's source and checksum.
        It is gone after the block unless it was placed. Sets `allow_pickle` in `facts` for a model made here, and takes
        out the metrics that are not finite: JSON has none."""
        if "metrics" in facts:
            facts["metrics"] = {name: value for name, value in facts["metrics"].items() if math.isfinite(value)}
        with self.aside() as folder:
            source, checksum = _store(model, folder, facts)
            if reference is not None:
                (folder / "reference.json.gz").write_bytes(_packed(reference))
            for file in folder.iterdir():
                # The control record that will name this version is safe on disk: so must the version be.
                files.fsync_file(file)
            yield folder, source, checksum

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """An empty folder on the same disk, which is gone after the block unless it was placed."""
        folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def place(self, draft: Path, version: Version) -> bool:
        """Make the draft that version, in one step; False where there is one of its name."""
        files.atomic_write(draft / "version.json", msgspec.json.format(msgspec.json.encode(version)))
        try:
            draft.rename(self._root / version.version)
        except OSError:
            if not (self._root / version.version).exists():
                raise
            return False
        files.fsync_directory(self._root)
        return True

    def get(self, version: str) -> Version:
        folder = self._root / version
        if not version.isalnum() or len(version) > 64 or not folder.is_dir():
            there = ", ".join(self._names()[-_SHOWN:]) or "none"
            raise ModelUnusable(
                f"the registry {self._root} has no version {version!r}, but {there}; one that was there is to be "
                "restored with its folder",
                code="unknown_version",
            )
        path = folder / "version.json"
        if not path.exists():
            raise DamagedFile(path, "it is gone", _REMEDIES["version.json"])
        with files.reading(path, _REMEDIES["version.json"]):
            return msgspec.json.decode(path.read_bytes(), type=Version)

    def load(self, version: str, *, trusted: Sequence[str] = (), allow_pickle: bool = False) -> Predictor:
        """As of every registry; `trusted` and `allow_pickle` add to what the version itself was registered with."""
        entry = self.get(version)
        source = entry.source if entry.checksum is None else str(self._root / version / entry.source)
        model = artifact.load(
            source,
            trusted=(*entry.trusted, *trusted),
            allow_pickle=entry.allow_pickle or allow_pickle,
            checksum=entry.checksum,
        )
        return Predictor(model, entry.schema, version)

    def verify(self, version: str) -> None:
        entry = self.get(version)
        if entry.checksum is not None:
            artifact.verify(self._root / version / entry.source, entry.checksum)

    def reference(self, version: str) -> Reference | None:
        return self._unpacked(version, "reference.json.gz", Reference)

    def profile(self, version: str) -> dict[str, Any] | None:
        return self._unpacked(version, "profile.json.gz", dict[str, Any])

    def keep_profile(self, version: str, profile: dict[str, Any]) -> None:
        self.get(version)
        files.atomic_write(self._root / version / "profile.json.gz", _packed(profile))

    def _unpacked(self, version: str, name: str, kind: type[_T]) -> _T | None:
        self.get(version)
        path = self._root / version / name
        if not path.is_file():
            return None
        with files.reading(path, _REMEDIES[name]):
            return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=kind)

    def versions(self) -> list[Version]:
        return readable(*self._read_all())

    def known(self) -> list[Version]:
        return self.versions()

    def damaged(self) -> list[DamagedFile]:
        return self._read_all()[1]

    def _read_all(self) -> tuple[list[Version], list[DamagedFile]]:
        found: list[Version] = []
        damaged: list[DamagedFile] = []
        for name in self._names():
            try:
                if (self._root / name / "version.json").exists():
                    found.append(self.get(name))
            except DamagedFile as error:
                damaged.append(error)
        return found, damaged

    def aliases(self) -> dict[str, str]:
        return self._read("aliases.json")

    def set_aliases(self, aliases: dict[str, str]) -> None:
        files.atomic_write(self._root / "aliases.json", msgspec.json.encode(aliases))

    def statuses(self) -> dict[str, str]:
        return self._read("status.json")

    def set_status(self, version: str, status: str) -> None:
        check_status(status)
        try:
            before = self.statuses()
        except DamagedFile:  # the caller who goes by the control record sets them all
            before = {}
        files.atomic_write(self._root / "status.json", msgspec.json.encode({**before, version: status}))

    def _read(self, name: str) -> dict[str, str]:
        path = self._root / name
        if not path.is_file():
            return {}
        with files.reading(path, _REMEDIES[name]):
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])

    def _names(self) -> list[str]:
        found = (e.name for e in os.scandir(self._root) if e.is_dir() and not e.name.startswith("."))
        return sorted(found, key=lambda name: (len(name), name))  # v10000 comes after v9999

    def _last(self) -> int:
        return max((int(name[1:]) for name in self._names() if name[1:].isdigit()), default=0)


def _store(model: object, folder: Path, facts: dict[str, Any]) -> tuple[str, str | None]:
    """Put the model's file into `folder`; its source and checksum."""
    if isinstance(model, str) and model_files.is_module(model):
        return model, None  # a `module:function`: its code is the caller's, there is nothing to copy
    if isinstance(model, str):
        with model_files.opened(model) as path:
            artifact.verify(path, None)
            target = folder / f"model{path.suffix}"
            shutil.copyfile(path, target)
    else:
        target = artifact.save(model, folder / "model")
        facts["allow_pickle"] = target.suffix == ".joblib"
    return target.name, artifact.sha256(target)


def _packed(value: object) -> bytes:
    return gzip.compress(msgspec.json.encode(value), compresslevel=3, mtime=0)
