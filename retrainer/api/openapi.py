"""The OpenAPI document of a retrainer: FastAPI's own, and beside it what FastAPI can't see: the documents that it
answers with, with an example of each, and every error that may come."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gauntlet.config import Config, retraining_names
from gauntlet.http_answers import AT_THE_DOOR, METRICS, SCHEMA, described
from gauntlet.retraining_document import (
    BaselineDocument,
    CheckDocument,
    CommandDocument,
    ConfiguredDocument,
    JobDocument,
    ReportDocument,
    RequestDocument,
    RetrainingStatus,
    SwitchDocument,
    TriggerDocument,
    VersionDocument,
)

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_ANYWHERE = (*AT_THE_DOOR, 403, 404, 405, 500)
_ABOUT = "/retraining/{model}"
_ANSWERS: dict[tuple[str, str], tuple[type, bool]] = {
    ("get", "/retraining/status"): (RetrainingStatus, False),
    ("post", "/retraining/configure"): (ConfiguredDocument, False),
    ("get", f"{_ABOUT}/check"): (CheckDocument, False),
    ("get", f"{_ABOUT}/jobs"): (JobDocument, True),
    ("get", f"{_ABOUT}/jobs/{{job}}"): (JobDocument, False),
    ("get", f"{_ABOUT}/report"): (ReportDocument, False),
    ("get", f"{_ABOUT}/history"): (CommandDocument, True),
    ("get", f"{_ABOUT}/versions"): (VersionDocument, True),
    ("post", f"{_ABOUT}/initialize"): (BaselineDocument, False),
    ("post", f"{_ABOUT}/trigger"): (TriggerDocument, False),
    ("post", f"{_ABOUT}/jobs/{{job}}/cancel"): (JobDocument, False),
    ("post", f"{_ABOUT}/requests/{{request_id}}/approve"): (RequestDocument, False),
    ("post", f"{_ABOUT}/start-monitoring"): (SwitchDocument, False),
    ("post", f"{_ABOUT}/stop-monitoring"): (SwitchDocument, False),
}
"""What each route answers, and whether it is a list of such."""

_WHY = {"reason": "new labels have come in"}
_BODIES: dict[str, Json] = {
    "/retraining/configure": {"performance_threshold": 0.05, "drift_threshold": 0.15, "schedule_cron": "0 2 * * 0"},
    f"{_ABOUT}/trigger": {"trigger_type": "manual", "force": False, **_WHY},
    f"{_ABOUT}/initialize": {"baseline_metrics": {"accuracy": 0.85, "log_loss": 0.42}},
    f"{_ABOUT}/jobs/{{job}}/cancel": {"reason": "the data was wrong"},
    f"{_ABOUT}/requests/{{request_id}}/approve": {"reason": "looked at the drift"},
    f"{_ABOUT}/start-monitoring": {"reason": "the feed is repaired"},
    f"{_ABOUT}/stop-monitoring": {"reason": "the feed is being repaired"},
}
"""An example of each body."""

_JOB = "retrain_20260117_001"


def document(app: FastAPI, config: Config) -> Json:
    """The whole document for `app`, which serves the retrainer of `config`."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _complete(config, path, method, operation)
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, records = msgspec.json.schema_components([kind for kind, _ in _ANSWERS.values()], ref_template=_REF)
    for record in records.values():
        if "description" in record:
            record["description"] = cleandoc(record["description"])
    schemas |= records | {"Error": SCHEMA, "Refusal": _refusal()}
    components["schemas"] = dict(sorted(schemas.items()))
    if config.keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return found


def _complete(config: Config, path: str, method: str, operation: Json) -> None:
    """Add the answers that FastAPI doesn't know of, the examples, and the keys."""
    responses: Json = operation["responses"]
    responses.pop("422", None)
    kept = path.startswith("/retraining")
    statuses = [*_ANYWHERE, *((401,) if kept else ()), *((409,) if kept and method == "post" else ())]
    for status in sorted(statuses):
        responses.setdefault(str(status), described(status))
    if kept and config.keys:
        operation["security"] = [{"bearer": []}, {"key": []}]
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "model":
            parameter["schema"] = {"type": "string", "enum": [config.experiment]}
        elif parameter["name"] == "job":
            parameter["example"] = _JOB
    if path in _BODIES and method == "post":
        operation["requestBody"]["content"]["application/json"]["example"] = _BODIES[path]
    if path == "/retraining/configure":
        operation["requestBody"]["content"]["application/json"]["schema"] = _settings(config)
    if path == "/metrics":
        responses["200"] = METRICS
    elif (answer := _ANSWERS.get((method, path))) is not None:
        responses["200"] = _json("As asked", _schema(*answer))
    if path == f"{_ABOUT}/trigger":
        responses["202"] = {**responses.pop("200"), "description": "The jobs that were started"}
        both = [{"$ref": _REF.format(name="Refusal")}, {"$ref": _REF.format(name="Error")}]
        about = "Some condition is not met: nothing was started; or the key came with another request"
        responses["409"] = _json(about, {"anyOf": both})


def _settings(config: Config) -> Json:
    """Every setting that may be given by name; what values fit says docs/retraining.md, and a refusal."""
    model = {"enum": [config.experiment]}
    known: Json = {
        name: {} for name in (*retraining_names.NAMES, *retraining_names.SCHEDULE, *retraining_names.PROMOTION)
    }
    return {
        "type": "object",
        "properties": {"model_name": model, **known},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _schema(kind: type, many: bool) -> Json:
    one = {"$ref": _REF.format(name=kind.__name__)}
    return {"type": "array", "items": one} if many else one


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusal() -> Json:
    """A trigger's document beside the error of the house's form."""
    fields = msgspec.json.schema_components([TriggerDocument], ref_template=_REF)[1]["TriggerDocument"]
    return {**fields, "title": "Refusal", "properties": {**fields["properties"], **SCHEMA["properties"]}}
