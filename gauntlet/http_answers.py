"""What every service answers over HTTP: the one body of errors, and what the OpenAPI documents say of it."""

from __future__ import annotations

from typing import Any

ERRORS = {
    400: "Bad input, or no HTTP; nothing of it was kept",
    401: "No API key, or an unknown one",
    403: "The key's role is too low, or (without keys) the request came from elsewhere",
    404: "There is no such experiment, prediction, version or path",
    405: "The path takes another method; `Allow` has it",
    408: "The request did not arrive in time",
    409: "The present state does not allow it, or an id comes again with another request",
    413: "The body is too large, or has too many instances",
    415: "The body is encoded (gzip, ...): send it as it is",
    431: "The headers are too many or too large",
    500: "A fault of the service",
    503: "Not possible just now; the same request may succeed later where `retriable` is true",
}
"""What each status means, wherever it comes from."""

AT_THE_DOOR = (400, 408, 413, 415, 431, 503)
"""Answered by the server itself, before any route."""

_FIELDS = {"code": {"type": "string"}, "message": {"type": "string"}, "retriable": {"type": "boolean"}}
_ERROR = {"type": "object", "properties": _FIELDS, "required": [*_FIELDS], "additionalProperties": False}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"error": _ERROR},
    "required": ["error"],
    "additionalProperties": False,
}
"""The body of every error."""

METRICS = {"description": "In Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
"""What `/metrics` answers, in the OpenAPI documents."""


def error_body(code: str, message: str, retriable: bool) -> dict[str, Any]:
    """The JSON body of every error; `code` is machine-readable and stable."""
    return {"error": {"code": code, "message": message, "retriable": retriable}}


def described(status: int) -> dict[str, Any]:
    """The OpenAPI description of an error, whose schema is the component `Error`."""
    found: dict[str, Any] = {
        "description": ERRORS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status == 405:
        found["headers"] = {"Allow": {"required": True, "schema": {"type": "string"}}}
    if status == 503:
        found["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found
