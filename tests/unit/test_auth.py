"""API keys: who is who, what each role may do, and what is refused at start."""

from __future__ import annotations

import pytest

from gauntlet.auth import ApiKeys
from gauntlet.config import KeyConfig
from gauntlet.errors import ConfigError, NotAllowed
from gauntlet.types import Role

ENVIRON = {role.value.upper(): f"{role.value}-secret-0123456789" for role in Role}
KEYS = [KeyConfig(name=role.value, role=role, env=role.value.upper()) for role in Role]


def code(keys: ApiKeys, headers: dict[bytes, bytes], role: Role = Role.VIEWER) -> str:
    with pytest.raises(NotAllowed) as caught:
        keys.require(headers, role)
    return caught.value.code


@pytest.mark.parametrize("has", list(Role))
@pytest.mark.parametrize("needed", list(Role))
def test_a_role_may_do_what_the_roles_before_it_may(has: Role, needed: Role) -> None:
    keys = ApiKeys(KEYS, ENVIRON)
    headers = {b"x-api-key": ENVIRON[has.value.upper()].encode()}
    if list(Role).index(has) < list(Role).index(needed):
        assert code(keys, headers, needed) == "forbidden"
    else:
        caller = keys.require(headers, needed)
        assert (caller.name, caller.role) == (has.value, has)


def test_the_order_of_roles() -> None:
    assert list(Role) == ["viewer", "ingest", "operator", "admin"]
    assert [role.rank for role in Role] == [0, 1, 2, 3]


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_a_bearer_token_is_a_key(scheme: bytes) -> None:
    keys = ApiKeys(KEYS, ENVIRON)
    assert keys.require({b"authorization": scheme + ENVIRON["ADMIN"].encode()}, Role.ADMIN).name == "admin"
    both = {b"authorization": scheme + ENVIRON["VIEWER"].encode(), b"x-api-key": ENVIRON["ADMIN"].encode()}
    assert keys.caller(both).name == "viewer"
    assert keys.caller({b"authorization": b"Basic abc", b"x-api-key": ENVIRON["ADMIN"].encode()}).name == "admin"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-api-key": b""},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer"},
        {b"x-api-key": b"admin-secret-012345678"},
        {b"x-api-key": b"admin-secret-01234567890"},
        {b"x-api-key": b"ADMIN-SECRET-0123456789"},
        {b"authorization": b"Basic admin-secret-0123456789"},
        {b"authorization": b"admin-secret-0123456789"},
        {b"x-api-key": "adminß".encode()},
        {b"x-api-key": b"\xff" * 30},
    ],
)
def test_any_other_key_is_nobodys(headers: dict[bytes, bytes]) -> None:
    assert code(ApiKeys(KEYS, ENVIRON), headers) == "unauthenticated"


def test_without_keys_everybody_on_loopback_is_its_admin() -> None:
    caller = ApiKeys([], {}).require({}, Role.ADMIN)
    assert (caller.name, caller.role) == ("loopback", Role.ADMIN)


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def digest(secret: bytes, sent: bytes) -> bool:
        compared.append(secret)
        return secret == sent

    monkeypatch.setattr("gauntlet.auth.hmac.compare_digest", digest)
    keys = ApiKeys(KEYS, ENVIRON)
    for secret in ENVIRON.values():
        compared.clear()
        keys.caller({b"x-api-key": secret.encode()})
        assert compared == [s.encode() for s in ENVIRON.values()]


@pytest.mark.parametrize("environ", [{}, {"VIEWER": ""}, {"VIEWER": "fifteen-letters"}])
def test_a_key_without_a_real_secret_stops_the_start(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="'viewer': the environment variable VIEWER must hold at least 16"):
        ApiKeys(KEYS[:1], environ)


def test_two_keys_with_one_secret_stop_the_start() -> None:
    with pytest.raises(ConfigError, match="'admin': ADMIN holds the secret of another key") as caught:
        ApiKeys([KEYS[0], KEYS[-1]], {"VIEWER": "the-same-secret-twice", "ADMIN": "the-same-secret-twice"})
    assert "the-same" not in str(caught.value)
