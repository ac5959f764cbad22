"""The registry at an MLflow server, or in a database of MLflow's: its versions are MLflow's, number 3 is `v0003`.

What this machine has registered or met is kept in its data folder, so that a server that is away stops neither serving
nor judging. A version from elsewhere runs no code that this machine's configuration does not name.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import files
from gauntlet.errors import DamagedFile, ModelUnusable, RegistryUnavailable
from gauntlet.registry import Reference, Version, check_status, mlflow_folder, readable
from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.local import LocalRegistry
from gauntlet.registry.mlflow_server import MlflowServer, ServerVersion
from gauntlet.structured_logging import LimitedLog, get_logger

_log = LimitedLog(get_logger("gauntlet"))

ALIASES = ("champion", "challenger", "previous")
"""Those of Gauntlet; others of the same model are somebody else's, and stay."""

_MET = ".met"
_BROKEN_COPY = ("model_missing", "model_checksum")
_T = TypeVar("_T")


class MlflowRegistry:
    """`Registry` at `server`, with a copy under `root`: `<version>/` of what was registered here, `.met/<version>/` of
    what came from the server, each with its `manifest.json`."""

    def __init__(
        self,
        server: MlflowServer,
        root: Path,
        *,
        trusted: Collection[str] = (),
        allow_pickle: bool = False,
        functions: Collection[str] = (),
    ) -> None:
        """trusted, allow_pickle: what files from the server may hold. functions: `module:function` that it may name."""
        self._server = server
        self._root = Path(root)
        self._here = LocalRegistry(self._root)
        self._met = LocalRegistry(self._root / _MET)
        self._trusted = tuple(trusted)
        self._allow_pickle = allow_pickle
        self._functions = frozenset(functions)

    def register(
        self, model: object, schema: Schema, *, created_at: float, reference: Reference | None = None, **facts: Any
    ) -> Version:
        with self._here.draft(model, reference, facts) as (draft, source, checksum):
            entry = Version(version="", created_at=created_at, source=source, checksum=checksum, schema=schema, **facts)
            upload = self._root / f"{draft.name}-upload"
            try:
                manifest = mlflow_folder.pack(draft, entry, upload)
                tags = {
                    "gauntlet.model_sha256": checksum or "",
                    "gauntlet.parent": entry.parent or "",
                    "gauntlet.algorithm": entry.algorithm,
                    "gauntlet.note": entry.note,
                }
                sha256 = hashlib.sha256(manifest).hexdigest()
                number = self._server.upload(upload, sha256, tags, entry.parameters, entry.metrics)
            finally:
                shutil.rmtree(upload, ignore_errors=True)
            entry = msgspec.structs.replace(entry, version=_name(number))
            files.atomic_write(draft / mlflow_folder.MANIFEST, manifest)
            self._here.place(draft, entry)
            return entry

    def get(self, version: str) -> Version:
        return self._copy(version).get(version)

    def load(self, version: str) -> Predictor:
        copy = self._whole(version)
        if copy is self._met:
            self._require_trust(copy.get(version))
        return self._repaired(
            version, lambda copy: copy.load(version, trusted=self._trusted, allow_pickle=self._allow_pickle)
        )

    def verify(self, version: str) -> None:
        self._repaired(version, lambda copy: copy.verify(version))

    def versions(self) -> list[Version]:
        return readable(*self._read_all())

    def known(self) -> list[Version]:
        try:
            return self.versions()
        except RegistryUnavailable as error:
            copies = {entry.version: entry for copy in (self._met, self._here) for entry in copy.versions()}
            if not copies:
                raise
            _log.warning("registry_unavailable", reason=error, next="going by what this machine has of it")
            return sorted(copies.values(), key=lambda entry: _number(entry.version) or 0)

    def damaged(self) -> list[DamagedFile]:
        return self._read_all()[1]

    def _read_all(self) -> tuple[list[Version], list[DamagedFile]]:
        found: list[Version] = []
        damaged: list[DamagedFile] = []
        for one in self._server.versions():
            try:
                found.append(self._meet(one).get(_name(one.number)))
            except DamagedFile as error:
                damaged.append(error)
            except ModelUnusable as error:
                remedy = f"restore version {one.number} at {self._server.url}, or delete it there"
                damaged.append(DamagedFile(self._root / _name(one.number), error, remedy))
        return found, damaged

    def reference(self, version: str) -> Reference | None:
        return self._whole(version).reference(version)

    def profile(self, version: str) -> dict[str, Any] | None:
        """Fitted by each machine for itself, from the same rows."""
        return self._copy(version).profile(version)

    def keep_profile(self, version: str, profile: dict[str, Any]) -> None:
        self._copy(version).keep_profile(version, profile)

    def aliases(self) -> dict[str, str]:
        found = self._server.aliases()
        return {alias: _name(found[alias]) for alias in ALIASES if alias in found}

    def set_aliases(self, aliases: dict[str, str]) -> None:
        before = self.aliases()
        for alias in ALIASES:
            if alias in aliases and before.get(alias) != aliases[alias]:
                self._server.set_alias(alias, _number(aliases[alias]))
            elif alias in before and alias not in aliases:
                self._server.set_alias(alias, None)
        self._here.set_aliases(aliases)  # shows that an experiment has run in this folder, also without the server

    def statuses(self) -> dict[str, str]:
        return {_name(one.number): one.status for one in self._server.versions() if one.status is not None}

    def set_status(self, version: str, status: str) -> None:
        check_status(status)
        number = _number(version)
        if number is None:
            raise ModelUnusable(f"the registry {self._server.url} has no version {version!r}", code="unknown_version")
        self._server.set_status(number, status)

    def _copy(self, version: str) -> LocalRegistry:
        """The copy that has at least the version's record, which is fetched where there is none."""
        return self._held(version) or self._meet(self._at_server(version))

    def _held(self, version: str) -> LocalRegistry | None:
        if _number(version) is not None:
            for copy in (self._here, self._met):
                if (self._folder(copy, version) / mlflow_folder.RECORD).is_file():
                    return copy
        return None

    def _folder(self, copy: LocalRegistry, version: str) -> Path:
        return (self._root if copy is self._here else self._root / _MET) / version

    def _at_server(self, version: str) -> ServerVersion:
        number = _number(version)
        found = None if number is None else self._server.version(number)
        if found is None:
            raise ModelUnusable(f"the registry {self._server.url} has no version {version!r}", code="unknown_version")
        return found

    def _meet(self, one: ServerVersion) -> LocalRegistry:
        """The copy with the record of a version that the server has.

        Raises `ModelUnusable` where it was changed, or is another one than when this machine met it.
        """
        version = _name(one.number)
        held = self._held(version)
        if held is not None:
            mlflow_folder.read_manifest(self._folder(held, version), one.sha256)
            return held
        with self._met.aside() as loaded, self._met.aside() as draft:
            own = [self._server.download(one, f"{mlflow_folder.OWN}/{name}", loaded) for name in mlflow_folder.HEAD]
            manifest = mlflow_folder.read_manifest(own[0].parent, one.sha256)
            entry = mlflow_folder.read_record(own[0].parent, manifest, version)
            shutil.copyfile(own[0], draft / mlflow_folder.MANIFEST)
            self._met.place(draft, entry)
        return self._met

    def _whole(self, version: str) -> LocalRegistry:
        """The copy that has the version's files, which are fetched where there is only its record."""
        copy = self._copy(version)
        folder = self._folder(copy, version)
        if copy is self._met and not all((folder / name).is_file() for name in self._names(folder, copy.get(version))):
            self._fetch(version, copy)
        return copy

    def _names(self, folder: Path, entry: Version) -> dict[str, str]:
        manifest = msgspec.json.decode((folder / mlflow_folder.MANIFEST).read_bytes(), type=dict[str, str])
        return mlflow_folder.own_files(manifest, entry)

    def _fetch(self, version: str, copy: LocalRegistry) -> None:
        """Put the server's files of a version into its copy, each in one step, once all are checked."""
        one, folder = self._at_server(version), self._folder(copy, version)
        manifest = mlflow_folder.read_manifest(folder, one.sha256)
        with self._met.aside() as aside:
            loaded = self._server.download(one, "", aside)
            mlflow_folder.read_manifest(loaded / mlflow_folder.OWN, one.sha256)
            mlflow_folder.verify(loaded, manifest)
            for name, path in mlflow_folder.own_files(manifest, copy.get(version)).items():
                if name != mlflow_folder.RECORD:  # the copy's own says nothing of the server's trust
                    files.fsync_file(loaded / path)
                    (loaded / path).replace(folder / name)
            files.fsync_directory(folder)

    def _repaired(self, version: str, use: Callable[[LocalRegistry], _T]) -> _T:
        """What `use` makes of the copy; one that is damaged is fetched again, where the server answers."""
        copy = self._whole(version)
        try:
            return use(copy)
        except ModelUnusable as broken:
            if broken.code not in _BROKEN_COPY:
                raise
            try:
                self._fetch(version, copy)
            except RegistryUnavailable:
                raise broken from None
            _log.warning("model_fetched_anew", version=version, reason=broken, next="the copy is whole again")
            return use(copy)

    def _require_trust(self, entry: Version) -> None:
        if entry.checksum is None and not self._allow_pickle and entry.source not in self._functions:
            raise ModelUnusable(
                f"{entry.version} at {self._server.url} is the code {entry.source}, which runs only where this "
                "configuration names it too: set champion.allow_pickle: true if everybody who may write there may run "
                "code here",
                code="model_untrusted",
            )


def _name(number: int) -> str:
    return f"v{number:04d}"


def _number(version: str) -> int | None:
    """MLflow's number of a version; None for what is no name of one."""
    number = int(version[1:]) if re.fullmatch(r"v[0-9]{4,18}", version) else 0
    return number if number and _name(number) == version else None
