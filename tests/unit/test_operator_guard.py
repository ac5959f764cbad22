"""Every route for operators asks who calls before it reads anything else, and no command goes without a reason."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from gauntlet.auth import ApiKeys
from gauntlet.cli.command import VERBS, main
from gauntlet.config import KeyConfig
from gauntlet.config.load import parse
from gauntlet.errors import BadInput
from gauntlet.operator_app import operator_app
from gauntlet.reason import stated
from gauntlet.types import Role
from retrainer.api.http_api import RetrainingRoutes
from retrainer.api.operations import RunningOperations
from router.admin import AdminRoutes

ENVIRON = {"VIEWER": "a-viewers-key-of-32-characters-00", "OPERATOR": "an-operators-key-of-32-characters"}
KEYS = ApiKeys([KeyConfig(name=name.lower(), role=Role(name.lower()), env=name) for name in ENVIRON], ENVIRON)
CONFIG = parse("experiment: test\ntask: classification\nchampion: {model: unused.skops}\n")
NOWHERE: Any = None
ROUTERS = {
    "retrainer": RetrainingRoutes("test", KEYS, RunningOperations()).api,
    "router": AdminRoutes(CONFIG, NOWHERE, NOWHERE, NOWHERE, KEYS, NOWHERE, NOWHERE, NOWHERE).api,
}
ROUTES = [
    (service, method, route.path)
    for service, api in ROUTERS.items()
    for route in api.routes
    if isinstance(route, APIRoute)
    for method in route.methods
]
COMMANDS = [(service, path) for service, method, path in ROUTES if method == "POST"]
BLANKS = ["", " ", "\t\n", "\u00a0\u2003"]


def app(service: str) -> FastAPI:
    found = operator_app(service)
    found.include_router(ROUTERS[service])
    return found


def ask(service: str, method: str, path: str, key: str | None, **request: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=app(service), raise_app_exceptions=False)
        headers = {"content-type": "application/json", **({"x-api-key": ENVIRON[key]} if key else {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as client:
            return await client.request(method, path, **request)

    return asyncio.run(asked())


def test_every_route_is_here() -> None:
    assert {"/retraining/configure", "/retraining/{model}/initialize", "/v1/experiments/{experiment}/promote"} <= {
        path for _, path in COMMANDS
    }


@pytest.mark.parametrize(("service", "method", "path"), ROUTES)
def test_a_stranger_is_told_so_whatever_was_sent(service: str, method: str, path: str) -> None:
    sent: list[dict[str, Any]] = [{"content": b"no JSON"}, {"json": {"strange": 1}}, {"params": {"after": "x"}}, {}]
    for request in sent:
        answer = ask(service, method, path, None, **request)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        if method == "POST":
            answer = ask(service, method, path, "VIEWER", **request)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("service", "path"), COMMANDS)
def test_who_may_command_is_told_what_does_not_fit(service: str, path: str) -> None:
    assert ask(service, "POST", path, "OPERATOR", content=b"no JSON").status_code == 400


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_reason_is_none(blank: str, capsys: pytest.CaptureFixture[str]) -> None:
    optional = ("configure", "initialize", "monitoring")
    asking = [(service, path) for service, path in COMMANDS if not path.endswith(optional)]
    assert len(asking) == 5 + 8
    for service, path in asking:
        body = {"reason": blank, **({"stage": 1} if path.endswith("ramp") else {})}
        body |= {"version": "v0002"} if path.endswith("challenge") else {}
        answer = ask(service, "POST", path, "OPERATOR", json=body)
        assert answer.status_code == 400, path
        assert "reason" in answer.json()["error"]["message"]
    with pytest.raises(BadInput, match="say why"):
        stated(blank)
    url = ("--url", "http://127.0.0.1:1", "--reason", blank)
    verbs = (["trigger"], ["cancel", "j1"], ["approve", "r1"], ["decline", "r1"])
    words = [("retrain", *each) for each in verbs]
    more = {"challenge": ("v0002",), "ramp": ("--stage", "1")}
    for command in (*words, *((verb, *more.get(verb, ())) for verb in VERBS)):
        assert main([*command, *url]) == 2
        assert "`reason` is blank: say why" in capsys.readouterr().err


def test_a_reason_is_recorded_without_blanks_around_it() -> None:
    assert stated("  new labels\n") == "new labels"
    assert stated("x" * 500) == "x" * 500
    with pytest.raises(BadInput, match="501 characters, 500 are the most"):
        stated("x" * 501)
