"""The state store: small versioned records, changed only by compare-and-set, each with its history.

The history is written in the same atomic step as the change, so an audit can't miss a version.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import msgspec

from gauntlet.errors import StateUnavailable

T = TypeVar("T")


class Versioned(NamedTuple):
    """A record's bytes and its version; versions count up from 1, 0 means: there is none."""

    version: int
    value: bytes


class StateStore(Protocol):
    """Every call raises `StateUnavailable` when the store does not answer in time."""

    async def get(self, key: str) -> Versioned:
        """The record, or `Versioned(0, b"")`."""

    async def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        """Write `value` if the record's version is `expected`; return the new version (`expected + 1`).

        With `keep` the new version also goes into the record's history. Raises `Conflict` when the version differs.
        """

    async def restore(self, key: str, value: bytes, version: int) -> bool:
        """Put back a record that was lost, under its version and into its history; False where the store has that
        version or a later one."""

    async def history(self, key: str, after: int = 0) -> list[Versioned]:
        """The kept versions later than `after`, oldest first."""

    async def keys(self, prefix: str) -> list[str]: ...

    async def forget(self, key: str) -> None:
        """Remove a record and its history; nothing happens where there is none."""

    async def wait(self, seconds: float) -> None:
        """Return when some record may have changed, or after `seconds`; only a hint: the caller looks again."""

    async def close(self) -> None: ...


def decoded(key: str, value: bytes, kind: type[T]) -> T:
    """The record in `value`. Raises `StateUnavailable` for bytes that are none: the store is damaged, or not ours."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise StateUnavailable(
            f"the record {key} in the state store can't be read: {error}; restore the store, or empty it: the router "
            "puts the control record back",
            code="state_damaged",
        ) from error
