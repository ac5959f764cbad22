"""Authentication by API keys with roles, compared in constant time, and the guard of a service without keys.

Without keys only this machine is served: every caller on the loopback address is an admin.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gauntlet.config import KeyConfig
from gauntlet.errors import NotAllowed
from gauntlet.preflight import secrets
from gauntlet.types import Role


@dataclass(frozen=True)
class Caller:
    """The name and role of a caller, for the audit."""

    name: str
    role: Role


_LOOPBACK_CALLER = Caller("loopback", Role.ADMIN)
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


class ApiKeys:
    """The keys of the configuration, read once at start from the environment variables that it names."""

    def __init__(self, configured: Sequence[KeyConfig], environ: Mapping[str, str] = os.environ) -> None:
        found = zip(secrets(configured, environ), configured, strict=True)
        self._keys = [(secret.encode(), Caller(key.name, key.role)) for secret, key in found]

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """The caller behind `authorization: Bearer …` or `x-api-key`. Raises `NotAllowed`."""
        if not self._keys:
            return _LOOPBACK_CALLER
        sent = headers.get(b"x-api-key", b"")
        bearer = headers.get(b"authorization", b"")
        if bearer[:7].lower() == b"bearer ":
            sent = bearer[7:].strip()
        match: Caller | None = None
        for secret, caller in self._keys:  # every key is compared, so that the time taken does not depend on the match
            if hmac.compare_digest(secret, sent):
                match = caller
        if match is None:
            raise NotAllowed("send an API key: `Authorization: Bearer …` or `X-API-Key: …`", code="unauthenticated")
        return match

    def require(self, headers: Mapping[bytes, bytes], role: Role) -> Caller:
        """The caller, if its role is at least `role`. Raises `NotAllowed`."""
        caller = self.caller(headers)
        if caller.role.rank < role.rank:
            raise NotAllowed(f"this needs the role {role}; key {caller.name!r} has {caller.role}")
        return caller


def cross_origin(headers: Iterable[tuple[bytes, bytes]]) -> NotAllowed | None:
    """The refusal of a request that names another host than this machine, or None.

    Without keys the loopback address is the only guard, and any page in a browser on this machine can send to it: by a
    form (Origin), or by a name that it points here (Host).
    """
    for name, value in headers:
        if name in (b"host", b"origin"):
            host = value.decode("latin-1").rpartition("//")[2]
            host = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
            if host not in _LOOPBACK_HOSTS:
                return NotAllowed(
                    f"without keys only this machine is served, and {name.decode()} is {host!r}; "
                    "set `keys` to serve other hosts"
                )
    return None
