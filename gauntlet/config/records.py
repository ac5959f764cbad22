"""Where the records of jobs, decisions and deliveries are kept, as the configuration names it."""

from __future__ import annotations

from urllib.parse import urlsplit

from gauntlet.config.section import check

LOCAL = "local"
_SCHEMES = ("postgresql", "postgres")


def check_records(address: str) -> None:
    """Raise `ValueError` for what is neither local nor an address of PostgreSQL; no password is repeated."""
    known = address == LOCAL or address.partition("://")[0] in _SCHEMES
    check(known, f"`records` must be local or postgresql://…, not {without_password(address)!r}")
    try:
        port_known = address == LOCAL or urlsplit(address).port != 0
    except ValueError:
        port_known = False
    check(port_known, "`records`: the port must be a number from 1 to 65535; write @, / and : in a password as %40 …")


def without_password(address: str) -> str:
    """An address as it may be shown: its password as three stars."""
    scheme, mark, rest = address.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}{colon and ':***'}{at}{place}"
