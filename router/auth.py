"""Who is calling: API keys with roles, compared in constant time. Without any keys, only the loopback address is
served."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gauntlet.config import KeyConfig
from gauntlet.errors import ConfigError, GauntletError
from gauntlet.types import Role


class NotAllowed(GauntletError):
    """No key, an unknown key (`unauthenticated`), or a key whose role may not do this (`forbidden`)."""

    code = "forbidden"


@dataclass(frozen=True)
class Caller:
    """Who does something, for the audit."""

    name: str
    role: Role


_LOOPBACK = Caller("loopback", Role.ADMIN)


class Keys:
    """The keys of the configuration, read from their environment variables once at start."""

    def __init__(self, configured: Sequence[KeyConfig], environ: Mapping[str, str] = os.environ) -> None:
        self._keys: list[tuple[bytes, Caller]] = []
        for key in configured:
            secret = environ.get(key.env, "")
            if len(secret) < 16:
                raise ConfigError(
                    f"key {key.name!r}: the environment variable {key.env} must hold at least 16 characters"
                )
            if any(secret.encode() == known for known, _ in self._keys):
                raise ConfigError(f"key {key.name!r}: {key.env} holds the secret of another key")
            self._keys.append((secret.encode(), Caller(key.name, key.role)))

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who sent these headers (`authorization: Bearer …` or `x-api-key`). Raises `NotAllowed`."""
        if not self._keys:
            return _LOOPBACK
        sent = headers.get(b"x-api-key", b"")
        bearer = headers.get(b"authorization", b"")
        if bearer[:7].lower() == b"bearer ":
            sent = bearer[7:].strip()
        found: Caller | None = None
        for secret, caller in self._keys:  # every key is compared, so that time tells nothing about which one matched
            if hmac.compare_digest(secret, sent):
                found = caller
        if found is None:
            raise NotAllowed("an API key is needed: Authorization: Bearer …, or X-API-Key", code="unauthenticated")
        return found

    def require(self, headers: Mapping[bytes, bytes], role: Role) -> Caller:
        """The caller, if its role is at least `role`. Raises `NotAllowed`."""
        if not self._keys:
            return _LOOPBACK
        caller = self.caller(headers)
        if caller.role.rank < role.rank:
            raise NotAllowed(f"this needs the role {role}, key {caller.name!r} has {caller.role}")
        return caller
