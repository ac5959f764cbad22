"""The model registry, as three ports: model versions, their drift references, and their aliases and statuses."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from gauntlet.errors import DamagedFile
from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.reference import MOST_ROWS, Reference

__all__ = [
    "MOST_ROWS",
    "STATUSES",
    "ModelStore",
    "Reference",
    "ReferenceStore",
    "Registry",
    "Version",
    "VersionLabels",
    "check_status",
    "readable",
]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered model version: where its artifact came from, what it takes and gives, and its lineage."""

    version: str
    created_at: float
    source: str
    checksum: str | None
    schema: Schema
    trusted: tuple[str, ...] = ()
    allow_pickle: bool = False
    parent: str | None = None
    algorithm: str = ""
    code_version: str = ""
    data_from: float | None = None
    data_to: float | None = None
    rows: int = 0
    parameters: dict[str, str] = {}
    metrics: dict[str, float] = {}
    note: str = ""


STATUSES = ("staging", "canary", "production", "archived")
"""Of a version, in the order of its life."""


def check_status(status: str) -> None:
    """Raise ValueError unless `status` is one of `STATUSES`."""
    if status not in STATUSES:
        raise ValueError(f"a status must be one of {', '.join(STATUSES)}, not {status!r}")


def readable(found: list[Version], damaged: list[DamagedFile]) -> list[Version]:
    """What `ModelStore.versions` gives of these versions and of those that can't be read. Raises `DamagedFile`."""
    if damaged and not found:
        raise damaged[0]
    return found


class ModelStore(Protocol):
    """Model versions. Registering is atomic: a version is there whole, or not at all.

    Where a server keeps the versions, every call but `known` may raise `RegistryUnavailable` for what this machine has
    not met yet, and `RegistryRefused`.
    """

    def register(
        self, model: object, schema: Schema, *, created_at: float, reference: Reference | None = None, **facts: Any
    ) -> Version:
        """Store `model` (a fitted object, or the path or `module:function` of one) as the next version.

        `facts` are further fields of `Version`.
        """

    def get(self, version: str) -> Version:
        """Raises `ModelUnusable` for a version that is not there, `DamagedFile` for one that can't be read."""

    def load(self, version: str) -> Predictor:
        """The version's model, its checksum checked first. Raises `ModelUnusable` or `DamagedFile`."""

    def verify(self, version: str) -> None:
        """Check that the version's files are whole on this machine, so that it can serve again whatever becomes of a
        server. Raises `ModelUnusable` or `DamagedFile`."""

    def versions(self) -> list[Version]:
        """All versions that can be read, oldest first. Raises `DamagedFile` where there are others only."""

    def known(self) -> list[Version]:
        """As `versions`; where a server does not answer, those that this machine has met."""

    def damaged(self) -> list[DamagedFile]:
        """The versions that can't be read, each as the error that says why."""


class ReferenceStore(Protocol):
    """The drift reference of each version, and the profile fitted to it. Raises `ModelUnusable` without the version,
    `DamagedFile` where it can't be read."""

    def reference(self, version: str) -> Reference | None:
        """The rows stored with the version, if any."""

    def profile(self, version: str) -> dict[str, Any] | None:
        """The fitted profile, once `keep_profile` has stored it."""

    def keep_profile(self, version: str, profile: dict[str, Any]) -> None:
        """Store the fitted profile, so that it is fitted once and then stays the same."""


class VersionLabels(Protocol):
    """Names and statuses of versions, for people and other tools; Gauntlet itself goes by the control record. Raises
    `DamagedFile` where they can't be read."""

    def aliases(self) -> dict[str, str]:
        """Version by alias: champion, challenger and previous, as far as there are any."""

    def set_aliases(self, aliases: dict[str, str]) -> None:
        """Replace all of these aliases."""

    def statuses(self) -> dict[str, str]:
        """Status by version."""

    def set_status(self, version: str, status: str) -> None:
        """`status` is staging, canary, production or archived; ValueError for anything else."""


class Registry(ModelStore, ReferenceStore, VersionLabels, Protocol):
    """The whole registry, as the entry points make it; everybody else asks for the part that it needs."""
