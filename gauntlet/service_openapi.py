"""Shared parts of all services' OpenAPI documents: FastAPI's own document, completed by possible errors, keys, and
msgspec records, which FastAPI can't see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gauntlet.config import Config
from gauntlet.http_answers import AT_THE_DOOR, METRICS, SCHEMA, described

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_ANYWHERE = (*AT_THE_DOOR, 403, 404, 405, 500)


def document(
    app: FastAPI, config: Config, api: str, complete: Callable[[str, str, Json], None], schemas: Json, first: Json
) -> Json:
    """The whole document for `app`.

    api: how the paths begin that take a key; complete: adds to an operation what its service alone knows, given its
    path and method; schemas: the service's own; first: paths that FastAPI does not know.
    """
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    paths: Json = {**first, **found["paths"]}
    for path, operations in paths.items():
        for method, operation in operations.items():
            _errors_and_keys(config, path.startswith(api), method, operation)
            complete(path, method, operation)
            operation["summary"] = _headline(operation["description"])
            if path == "/metrics":
                operation["responses"]["200"] = METRICS
    components = found.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        known.pop(unused, None)
    components["schemas"] = dict(sorted({**known, **schemas, "Error": SCHEMA}.items()))
    if config.keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return {**found, "paths": paths}


def _headline(description: str) -> str:
    """What stands beside the path while an operation is folded: the first clause of its description."""
    return re.split(r"[.:;]\s|\.$", description, maxsplit=1)[0].replace("\n", " ")


def _errors_and_keys(config: Config, kept: bool, method: str, operation: Json) -> None:
    responses: Json = operation["responses"]
    responses.pop("422", None)
    statuses = [*_ANYWHERE, *((401,) if kept else ()), *((409,) if kept and method == "post" else ())]
    for status in sorted(statuses):
        responses.setdefault(str(status), described(status))
    if kept and config.keys:
        operation["security"] = [{"bearer": []}, {"key": []}]


def records(kinds: Iterable[type]) -> Json:
    """The schemas of these records by their names, and of those within them."""
    _, found = msgspec.json.schema_components(kinds, ref_template=_REF)
    for record in found.values():
        if "description" in record:
            record["description"] = cleandoc(record["description"])
    return found


def ref(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def as_json(description: str, schema: Json) -> Json:
    """A response with a body of this schema."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}
