"""The HTTP application of a service that serves nothing but its metrics: `/metrics`, and its OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import gauntlet
from gauntlet.http_answers import AT_THE_DOOR, METRICS, SCHEMA, described, error_body
from gauntlet.http_server import App, Receive, Scope, Send, as_get


def metrics_app(name: str) -> App:
    """The application of the service `name`."""
    document = msgspec.json.encode(openapi(name))
    pages: dict[str, Callable[[], tuple[str, bytes]]] = {
        "/metrics": lambda: (CONTENT_TYPE_LATEST, generate_latest()),
        "/openapi.json": lambda: ("application/json", document),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        page = pages.get(scope["path"])
        if page is None:
            body = error_body("not_found", f"nothing is here; {' and '.join(pages)} are", False)
            await _send(send, 404, "application/json", msgspec.json.encode(body))
        elif as_get(scope)["method"] != "GET":
            body = error_body("method_not_allowed", "only GET and HEAD are answered here", False)
            await _send(send, 405, "application/json", msgspec.json.encode(body), {b"allow": b"GET, HEAD"})
        else:
            await _send(send, 200, *page())

    return app


def openapi(name: str) -> dict[str, Any]:
    """The OpenAPI document of that application."""
    errors = {str(status): described(status) for status in sorted((*AT_THE_DOOR, 405, 500))}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Gauntlet {name}", "version": gauntlet.__version__},
        "paths": {"/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": METRICS, **errors}}}},
        "components": {"schemas": {"Error": SCHEMA}},
    }


async def _send(
    send: Send, status: int, content_type: str, data: bytes, headers: Mapping[bytes, bytes] | None = None
) -> None:
    fields = [(b"content-type", content_type.encode()), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fields, *(headers or {}).items()]})
    await send({"type": "http.response.body", "body": data})
