"""The OpenAPI document of a retrainer: FastAPI's own, and beside it what FastAPI can't see: the documents that it
answers with, with an example of each, and every error that may come."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from gauntlet import service_openapi
from gauntlet.config import Config, retraining_aliases
from gauntlet.http_answers import SCHEMA
from gauntlet.reason import LONGEST
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
from gauntlet.service_openapi import Json, as_json, ref

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
    ("post", "/retraining/trigger"): (TriggerDocument, False),
    ("post", f"{_ABOUT}/jobs/{{job}}/cancel"): (JobDocument, False),
    ("post", f"{_ABOUT}/requests/{{request_id}}/approve"): (RequestDocument, False),
    ("post", f"{_ABOUT}/requests/{{request_id}}/decline"): (RequestDocument, False),
    ("post", f"{_ABOUT}/start-monitoring"): (SwitchDocument, False),
    ("post", f"{_ABOUT}/stop-monitoring"): (SwitchDocument, False),
}
"""What each route answers, and whether it is a list of such."""

_TRIGGERS = (f"{_ABOUT}/trigger", "/retraining/trigger")
_BODIES: dict[str, Json] = {
    "/retraining/configure": {
        "performance_threshold": 0.05,
        "drift_threshold": 0.15,
        "schedule_cron": "0 2 * * 0",
        "reason": "fewer jobs",
    },
    **{path: {"trigger_type": "manual", "force": False, "reason": "new labels have come in"} for path in _TRIGGERS},
    f"{_ABOUT}/initialize": {"baseline_metrics": {"accuracy": 0.85, "log_loss": 0.42}, "reason": "as agreed"},
    f"{_ABOUT}/jobs/{{job}}/cancel": {"reason": "the data was wrong"},
    f"{_ABOUT}/requests/{{request_id}}/approve": {"reason": "looked at the drift"},
    f"{_ABOUT}/requests/{{request_id}}/decline": {"reason": "the labels are not in yet"},
    f"{_ABOUT}/start-monitoring": {"reason": "the feed is repaired"},
    f"{_ABOUT}/stop-monitoring": {"reason": "the feed is being repaired"},
}
"""An example of each body."""

_JOB = "retrain_20260117_001"


def document(app: FastAPI, config: Config) -> Json:
    """The whole document for `app`, which serves the retrainer of `config`."""
    schemas = service_openapi.records(kind for kind, _ in _ANSWERS.values()) | {"Refusal": _refusal()}
    return service_openapi.document(app, config, "/retraining", partial(_complete, config), schemas, {})


def _complete(config: Config, path: str, method: str, operation: Json) -> None:
    """Add the names that there are, the examples, and the answers."""
    responses: Json = operation["responses"]
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "model":
            parameter["schema"] = {"type": "string", "enum": [config.experiment]}
        elif parameter["name"] == "job":
            parameter["example"] = _JOB
    if path in _BODIES and method == "post":
        operation["requestBody"]["content"]["application/json"]["example"] = _BODIES[path]
    if path == "/retraining/configure":
        operation["requestBody"]["content"]["application/json"]["schema"] = _settings(config)
    if (answer := _ANSWERS.get((method, path))) is not None:
        responses["200"] = as_json("As asked", _schema(*answer))
    if path in _TRIGGERS:
        responses["202"] = {**responses.pop("200"), "description": "The jobs that were started"}
        both = [ref("Refusal"), ref("Error")]
        about = "Some condition is not met: nothing was started; or the key came with another request"
        responses["409"] = as_json(about, {"anyOf": both})


def _settings(config: Config) -> Json:
    """Every setting that may be given by name; what values fit says docs/retraining.md, and a refusal."""
    model = {"enum": [config.experiment]}
    known: Json = {
        name: {} for name in (*retraining_aliases.NAMES, *retraining_aliases.SCHEDULE, *retraining_aliases.PROMOTION)
    }
    return {
        "type": "object",
        "properties": {"model_name": model, "reason": {"type": "string", "maxLength": LONGEST}, **known},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _schema(kind: type, many: bool) -> Json:
    one = ref(kind.__name__)
    return {"type": "array", "items": one} if many else one


def _refusal() -> Json:
    """A trigger's document beside the error of the house's form."""
    fields = service_openapi.records([TriggerDocument])["TriggerDocument"]
    return {**fields, "title": "Refusal", "properties": {**fields["properties"], **SCHEMA["properties"]}}
