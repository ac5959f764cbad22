"""The OpenAPI document of a router: FastAPI's own of the operator routes, and beside it what FastAPI can't see: the two
routes that carry traffic, the records of the kernel, and every error that may come.

The features, classes and limits in it are those of the experiment that is served.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from fastapi import FastAPI

from gauntlet import service_openapi
from gauntlet.config import Config
from gauntlet.http_answers import SCHEMA
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.rollout import Control
from gauntlet.service_openapi import Json, as_json, ref
from gauntlet.status_document import Change, Document
from gauntlet.types import Label, Task
from router.event_times import MAX_TIME
from router.inference import MAX_ID_LENGTH

_LARGEST = 1.7976931348623157e308  # JSON has no greater finite number, and no infinity


def document(app: FastAPI, config: Config, schema: Schema) -> Json:
    """The whole document for `app`, which serves `config` with models of `schema`."""
    traffic: Json = {"/v1/predict": {"post": _predict(schema)}, "/v1/outcomes": {"post": _outcomes()}}
    schemas = _records() | _traffic(config, schema)
    return service_openapi.document(app, config, "/v1", partial(_complete, config), schemas, traffic)


def _complete(config: Config, path: str, method: str, operation: Json) -> None:
    """Add the experiment's name, and the operator routes' answers."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "experiment":
            parameter["schema"] = {"type": "string", "enum": [config.experiment]}
    success = _SUCCESS.get((method, path.removeprefix("/v1/experiments")))
    if success is not None:
        operation["responses"]["200"] = as_json("As asked", success)
    elif path.startswith("/v1/experiments/{experiment}/") and method == "post":
        changed = as_json("Whether anything changed, and the control record in force", ref("Changed"))
        operation["responses"]["200"] = changed


def _object(properties: Json, required: Iterable[str] | None = None, **more: Any) -> Json:
    """An object with just these properties, all of them required unless said otherwise."""
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False, **more}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


# Traffic --------------------------------------------------------------------------------------------------------------


def _predict(schema: Schema) -> Json:
    recorded = {"description": "`no`: answered, but the event could not be kept", "schema": {"const": "no"}}
    example = {"id": "case-1", "features": {f.name: _example(f) for f in schema.features}}
    many = {"instances": [{"features": example["features"]}]}
    answer = as_json("The predictions, in the order of the instances", {"anyOf": [ref("Answer"), ref("Answers")]})
    name = {"type": "string", "minLength": 1}
    arm = "The arm that answers: `champion`, `challenger`, a rollout or a version; for operators"
    return {
        "tags": ["traffic"],
        "operationId": "predict",
        "description": "Predictions for one instance, or many. An `id` makes it idempotent, and names the prediction "
        "for its outcome.",
        "parameters": [{"name": "X-Gauntlet-Arm", "in": "header", "description": arm, "schema": name}],
        "requestBody": _body("Predict", {"one": example, "many": many}),
        "responses": {"200": {**answer, "headers": {"X-Gauntlet-Recorded": recorded}}},
    }


def _outcomes() -> Json:
    one = {"id": "case-1", "value": 1}
    count = {"type": "integer", "minimum": 0}
    place = {**count, "description": "of the request's outcomes"}
    one_refused = _object({"index": place, "id": {"type": "string"}, "error": SCHEMA["properties"]["error"]})
    refused = {"type": "array", "minItems": 1, "items": one_refused}
    return {
        "tags": ["traffic"],
        "operationId": "outcomes",
        "description": "The truth for predictions. One that is malformed refuses all; of a prediction that was never "
        "made or recorded, only itself where others are accepted. With `outcomes.correction: first` one that "
        "contradicts the first one of its prediction is counted as a contradiction, changes no label, and is refused "
        "as `label_stands`; of what other replicas took in, a router does not know.",
        "requestBody": _body("Outcomes", {"one": one, "many": {"outcomes": [one]}}),
        "responses": {
            "202": as_json("All are accepted: so many", _object({"accepted": count})),
            "207": as_json("Some are accepted, others not", _object({"accepted": count, "refused": refused})),
        },
    }


def _body(name: str, examples: Json) -> Json:
    named = {key: {"value": value} for key, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": ref(name), "examples": named}}}


def _traffic(config: Config, schema: Schema) -> Json:
    """What the traffic's bodies and answers look like."""
    name = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
    at: Json = {"type": "null", "description": "only with the setting `clock: events`"}
    if config.clock == "events":
        seconds = "seconds since 1970, at most 400 days after the latest event"
        at = _or_null({"type": "number", "minimum": 0, "exclusiveMaximum": MAX_TIME, "description": seconds})
    experiment = {"enum": [config.experiment, None]}
    instance = {
        "features": _features(schema.features),
        "id": _or_null({**name, "description": "yours, or made here; with it a request may be repeated"}),
        "unit": _or_null({**name, "description": "what is assigned to an arm for good; the id, if not given"}),
        "at": at,
        "segments": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    label: Json = {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}
    if schema.task is Task.CLASSIFICATION:
        label = {"enum": [same for label in schema.classes for same in _same(label)]}
    outcome = {"id": name, "value": label, "at": at, "reward": _or_null({"type": "number"})}
    answer = {"id": {"type": "string"}, "prediction": label, "model": {"type": "string"}}
    if schema.task is Task.CLASSIFICATION:
        answer["probabilities"] = {"type": "object", "additionalProperties": {"type": "number"}}
    instances = {"type": "array", "items": ref("Instance"), "minItems": 1, "maxItems": config.router.max_instances}
    outcomes = {"type": "array", "items": ref("Outcome"), "minItems": 1}
    return {
        "Instance": _object(instance, ["features"]),
        "Predict": {
            "anyOf": [
                _object({**instance, "experiment": experiment}, ["features"], title="One instance"),
                _object({"instances": instances, "experiment": experiment}, ["instances"], title="Many instances"),
            ]
        },
        "Answer": _object(answer),
        "Answers": _object({"predictions": {"type": "array", "items": ref("Answer")}}),
        "Outcome": _object(outcome, ["id", "value"]),
        "Outcomes": {
            "anyOf": [
                _object({**outcome, "experiment": experiment}, ["id", "value"], title="One outcome"),
                _object({"outcomes": outcomes, "experiment": experiment}, ["outcomes"], title="Many outcomes"),
            ]
        },
    }


def _features(features: Iterable[Feature]) -> Json:
    """One row; features that the model does not know are recorded, and it never sees them."""
    number = {"type": ["number", "boolean"], "minimum": -_LARGEST, "maximum": _LARGEST}
    kinds = {f.name: number if f.kind == "number" else {"type": "string"} for f in features}
    properties = {f.name: kinds[f.name] if f.required else _or_null(kinds[f.name]) for f in features}
    return _object(properties, [f.name for f in features if f.required], additionalProperties=True)


def _same(label: Label) -> list[Label]:
    """How JSON may write a label: true is 1 and false is 0."""
    if isinstance(label, str) or label not in (0, 1):
        return [label]
    return [int(label), bool(label)]


def _example(feature: Feature) -> float | str:
    return 0.5 if feature.kind == "number" else "text"


# Operators ------------------------------------------------------------------------------------------------------------

_NUMBER: Json = {"type": "integer"}
_SUCCESS: dict[tuple[str, str], Json] = {
    ("get", ""): {"type": "array", "items": {"type": "string"}},
    ("get", "/{experiment}"): ref("Document"),
    ("get", "/{experiment}/history"): {"type": "array", "items": ref("Change")},
    ("get", "/readyz"): _object(
        {
            "ready": {"type": "boolean"},
            "version": _NUMBER,
            "recording": {"type": "boolean"},
            "problem": _or_null({"type": "string"}),
        }
    ),
}
"""What the operator routes answer, by method and path."""


def _records() -> Json:
    """The kernel's records that stand in answers."""
    changed = {"changed": {"type": "boolean"}, "version": _NUMBER, "control": ref("Control")}
    return service_openapi.records([Control, Document, Change]) | {"Changed": _object(changed)}
