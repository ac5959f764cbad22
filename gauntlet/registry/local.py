"""The embedded registry: one folder a version, made aside and renamed into place, so that none is ever half there."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import files
from gauntlet.errors import DamagedFile, ModelUnusable
from gauntlet.registry import Reference, Version, artifact
from gauntlet.registry.artifact import Predictor, Schema

_STATUSES = ("staging", "canary", "production", "archived")

_LABELS_REMEDY = "remove it: the retrainer makes it anew from the control record"
_REMEDIES = {
    "version.json": "restore it, or move its folder away if nothing needs that version",
    "reference.json.gz": "restore it, or remove it: drift is then told from the first rows that the version serves",
    "profile.json.gz": "remove it: it is fitted anew",
    "aliases.json": _LABELS_REMEDY,
    "status.json": _LABELS_REMEDY,
}
"""What to do about each file that can't be read."""

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
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._root))
        try:
            source, checksum = self._store(model, draft, facts)
            if reference is not None:
                (draft / "reference.json.gz").write_bytes(_packed(reference))
            for file in draft.iterdir():
                files.fsync_file(
                    file
                )  # the control record that will name this version is safe on disk: so must the version be
            while True:  # another process may take the number first: then the next one is ours
                name = f"v{self._last() + 1:04d}"
                version = Version(
                    version=name, created_at=created_at, source=source, checksum=checksum, schema=schema, **facts
                )
                files.atomic_write(draft / "version.json", msgspec.json.format(msgspec.json.encode(version)))
                try:
                    draft.rename(self._root / name)
                except OSError:
                    if not (self._root / name).exists():
                        raise
                    continue
                files.fsync_directory(self._root)
                return version
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _store(self, model: object, draft: Path, facts: dict[str, Any]) -> tuple[str, str | None]:
        if isinstance(model, str) and not Path(model).is_file():
            if ":" not in model:
                raise ModelUnusable(f"model {model}: there is no such file", code="model_missing")
            return model, None  # a `module:function`: its code is the caller's, there is nothing to copy
        if isinstance(model, str):
            target = draft / f"model{Path(model).suffix}"
            shutil.copyfile(model, target)
        else:
            target = artifact.save(model, draft / "model")
            facts["allow_pickle"] = target.suffix == ".joblib"
        return target.name, artifact.sha256(target)

    def get(self, version: str) -> Version:
        path = self._root / version / "version.json"
        if not version.isalnum() or len(version) > 64 or not path.is_file():
            raise ModelUnusable(f"the registry {self._root} has no version {version!r}", code="unknown_version")
        with files.reading(path, _REMEDIES["version.json"]):
            return msgspec.json.decode(path.read_bytes(), type=Version)

    def load(self, version: str) -> Predictor:
        entry = self.get(version)
        source = entry.source if entry.checksum is None else str(self._root / version / entry.source)
        model = artifact.load(source, trusted=entry.trusted, allow_pickle=entry.allow_pickle, checksum=entry.checksum)
        return Predictor(model, entry.schema, version)

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
        found, damaged = self._read_all()
        if damaged and not found:
            raise damaged[0]
        return found

    def damaged(self) -> list[DamagedFile]:
        return self._read_all()[1]

    def _read_all(self) -> tuple[list[Version], list[DamagedFile]]:
        found: list[Version] = []
        damaged: list[DamagedFile] = []
        for name in self._names():
            try:
                if (self._root / name / "version.json").is_file():
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
        if status not in _STATUSES:
            raise ValueError(f"a status must be one of {', '.join(_STATUSES)}, not {status!r}")
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


def _packed(value: object) -> bytes:
    return gzip.compress(msgspec.json.encode(value), compresslevel=3, mtime=0)
