"""The model registry: versions with their artefact, checksum, schema, metrics, lineage, reference and aliases."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.reference import MOST_ROWS, Reference

__all__ = ["ALIASES", "MOST_ROWS", "Reference", "Registry", "Version"]

ALIASES = ("champion", "challenger", "previous")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered model version. `status` is staging, canary, production or archived."""

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


class Registry(Protocol):
    """Where versions live. Registering is atomic: a version is there whole, or not at all."""

    def register(
        self,
        model: object | str,
        schema: Schema,
        *,
        created_at: float,
        reference: Reference | None = None,
        **facts: Any,
    ) -> Version:
        """Store `model` (a fitted object, or the path or `module:function` of one) as the next version."""

    def get(self, version: str) -> Version:
        """Raises `ModelUnusable` for a version that is not there."""

    def load(self, version: str) -> Predictor:
        """The version's model, checksum checked first. Raises `ModelUnusable`."""

    def reference(self, version: str) -> Reference | None:
        """The drift reference stored with the version, if there is one."""

    def profile(self, version: str) -> dict[str, Any] | None:
        """What was fitted to the reference, once `keep_profile` has stored it."""

    def keep_profile(self, version: str, profile: dict[str, Any]) -> None:
        """Store what was fitted to the version's reference, so that it is fitted once and never changes."""

    def versions(self) -> list[Version]: ...

    def aliases(self) -> dict[str, str]: ...

    def set_aliases(self, aliases: dict[str, str]) -> None: ...

    def statuses(self) -> dict[str, str]: ...

    def set_status(self, version: str, status: str) -> None: ...
