"""What every service answers over HTTP: the single error format, and its description in the OpenAPI documents."""

from __future__ import annotations

from typing import Any

from gauntlet.errors import (
    BadInput,
    Conflict,
    DamagedFile,
    GauntletError,
    LogUnavailable,
    NotAllowed,
    RegistryRefused,
    RegistryUnavailable,
    StateUnavailable,
    TransitionRefused,
)

ERRORS = {
    400: "Bad input, or no HTTP; nothing of it was kept",
    401: "No API key, or an unknown one",
    403: "The key's role is too low, or (without keys) the request came from elsewhere",
    404: "There is no such experiment, prediction, version, model, job, request or path",
    405: "The path takes another method; `Allow` has it",
    408: "The request did not arrive in time",
    409: "The present state does not allow it, or an id comes again with another request or outcome",
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
    text = message.encode(errors="backslashreplace").decode()  # half a surrogate pair, quoted from a request
    return {"error": {"code": code, "message": text, "retriable": retriable}}


_STATUS: list[tuple[type[GauntletError], int]] = [
    (NotAllowed, 403),
    (BadInput, 400),
    (TransitionRefused, 409),
    (Conflict, 409),
    (LogUnavailable, 503),
    (RegistryUnavailable, 503),
    (RegistryRefused, 503),
    (StateUnavailable, 503),
    (DamagedFile, 503),
]
_STATUS_BY_CODE = {
    "unauthenticated": 401,
    "unknown_experiment": 404,
    "unknown_prediction": 404,
    "unknown_version": 404,
    "unknown_model": 404,
    "unknown_job": 404,
    "unknown_request": 404,
    "method_not_allowed": 405,
    "too_many_instances": 413,
    "id_reused": 409,
    "label_stands": 409,
    "bad_arm": 404,
    "no_challenger": 409,
    "champion_failed": 503,
    "champion_invalid_output": 503,
    "deadline_exceeded": 503,
}


def error_answer(error: GauntletError) -> tuple[int, dict[str, Any]]:
    """The HTTP status of a domain error, by its code or else its type, and its JSON body."""
    by_type = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _STATUS_BY_CODE.get(error.code, by_type), error_body(error.code, str(error), error.retriable)


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
