"""HTTP API v1 for traffic, `POST /v1/predict` and `POST /v1/outcomes`, written directly on ASGI for speed.

A request is parsed once. Bad input is answered with 4xx and `{"error": {"code", "message", "retriable"}}` before
anything is recorded or any clock has moved.
"""

from __future__ import annotations

import codecs
import math
import re
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect

from gauntlet import events, ids, telemetry
from gauntlet.auth import ApiKeys
from gauntlet.config import Config
from gauntlet.errors import BadInput, GauntletError, LogUnavailable, StateUnavailable
from gauntlet.http_answers import error_answer
from gauntlet.http_server import Receive, Scope, Send
from gauntlet.types import CHALLENGER, CHAMPION, Label, Role
from router.control_follower import ControlFollower
from router.event_times import EventTimes
from router.inference import MAX_ID_LENGTH, InferenceService, Instance
from router.recorder import Recorder
from router.repeats import FirstLabels
from router.routing_table import RoutingTable
from router.traffic_counts import ArrivalCounter

_UNKNOWN, _LABEL_STANDS = "unknown_prediction", "label_stands"
_RETRY_AFTER = (b"retry-after", b"5")
_CLOCK_SKEW_SECONDS = 60.0  # by how much another replica's clock may be ahead when it makes a prediction's id


class PredictRequest(Instance, kw_only=True, forbid_unknown_fields=True):
    """The body of /v1/predict: `instances`, or itself the only instance."""

    features: dict[str, Any] | None = None  # type: ignore[assignment]
    instances: list[Instance] | None = None
    experiment: str | None = None


class OutcomeIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The truth for one prediction."""

    id: str
    value: Label
    at: float | None = None
    reward: float | None = None


class OutcomesRequest(OutcomeIn, kw_only=True, forbid_unknown_fields=True):
    """The body of /v1/outcomes: `outcomes`, or itself the only outcome."""

    id: str | None = None  # type: ignore[assignment]
    value: Label | None = None  # type: ignore[assignment]
    outcomes: list[OutcomeIn] | None = None
    experiment: str | None = None


_predict_decoder = msgspec.json.Decoder(PredictRequest)
_outcomes_decoder = msgspec.json.Decoder(OutcomesRequest)


def require_experiment(named: str | None, served: str) -> None:
    """Raises `BadInput` when a request names another experiment than the one that this router serves."""
    if named is not None and named != served:
        raise BadInput(f"no experiment {named!r} here; this router serves {served!r}", code="unknown_experiment")


class InferenceRoutes:
    """The two routes that carry traffic."""

    def __init__(
        self,
        config: Config,
        follower: ControlFollower,
        service: InferenceService,
        recorder: Recorder,
        labels: FirstLabels | None,
        api_keys: ApiKeys,
        times: EventTimes,
        arrivals: ArrivalCounter,
    ) -> None:
        """`labels`: None where the first outcome is not the label for good."""
        self._config = config
        self._experiment = config.experiment
        self._follower = follower
        self._service = service
        self._recorder = recorder
        self._labels = labels
        self._api_keys = api_keys
        self._times = times
        self._arrivals = arrivals
        self._seconds = {
            arm: telemetry.REQUEST_SECONDS.labels(config.experiment, arm) for arm in (CHAMPION, CHALLENGER)
        }

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        count = 1
        try:
            headers = dict(scope["headers"])
            self._api_keys.require(headers, Role.INGEST)
            forced = self._forced(headers)
            body = await _body(receive)
            started = time.monotonic()  # a caller that sends slowly has only itself to wait for
            request = _decode(_predict_decoder, body)
            require_experiment(request.experiment, self._experiment)
            instances = self._instances(request)
            count = len(instances)
            table = self._table()
            predictions, recorded = await self._service.predict(table, instances, started, forced)
            self._follower.recent_rows.append(instances[0].features)
            self._arrivals.predictions(len(predictions))
            for arm in {prediction.served for prediction in predictions}:
                self._seconds[arm].observe(time.monotonic() - started)
            answers = [_answer(table, prediction) for prediction in predictions]
            answer = {"predictions": answers} if request.instances is not None else answers[0]
            await _send(send, 200, answer, [] if recorded else [(b"x-gauntlet-recorded", b"no")])
        except GauntletError as error:
            await self.refuse(send, "predict", error, count=count)

    async def outcomes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/outcomes: a malformed one refuses all. One of an unknown prediction is refused by itself (207),
        like one that contradicts the label in use."""
        count = 1
        try:
            headers = dict(scope["headers"])
            self._api_keys.require(headers, Role.INGEST)
            request = _decode(_outcomes_decoder, await _body(receive))
            require_experiment(request.experiment, self._experiment)
            given = self._given_outcomes(request)
            count = len(given)
            times = self._times.resolve([o.at for o in given], "outcomes")
            table = self._table()
            outcomes = [self._outcome(table, o, at, i) for i, (o, at) in enumerate(zip(given, times, strict=True))]
            unknown = await self._unknown(outcomes)
            if len(unknown) == len(outcomes):
                raise self._none_known(outcomes, unknown)
            places = [i for i in range(len(outcomes)) if i not in unknown]
            self._times.observe([times[i] for i in places])
            contradicting = await self._recorded([outcomes[i] for i in places])
            refused = {i: BadInput(why, code=_UNKNOWN) for i, why in unknown.items()}
            refused |= {places[k]: BadInput(why, code=_LABEL_STANDS) for k, why in contradicting.items()}
            if len(outcomes) == len(contradicting) == 1:
                raise refused[0]
            for error in refused.values():
                telemetry.REFUSED.labels("outcomes", error.code).inc()
                self._arrivals.refused("outcomes", 1, error.code)
            body: dict[str, Any] = {"accepted": len(outcomes) - len(refused)}
            if refused:
                body["refused"] = [
                    {"index": i, "id": outcomes[i].id, "error": error_answer(error)[1]["error"]}
                    for i, error in sorted(refused.items())
                ]
            await _send(send, 207 if refused else 202, body)
        except GauntletError as error:
            await self.refuse(send, "outcomes", error, count=count)

    def _table(self) -> RoutingTable:
        if self._follower.table is None:
            raise StateUnavailable("the router is still starting", code="starting")
        return self._follower.table

    async def _recorded(self, outcomes: list[events.Outcome]) -> dict[int, str]:
        """Record the outcomes; returns the indexes of those that change no label, and why.

        They are recorded as well: labels that are contradicted for one arm more often than for the other make the
        comparison invalid.
        """
        contradicted = {} if self._labels is None else await self._labels.contradicted(outcomes)
        await self._recorder.outcomes(outcomes)
        if self._labels is not None:
            self._labels.remember(outcomes)
        telemetry.OUTCOMES_RECEIVED.labels(self._experiment).inc(len(outcomes))
        self._arrivals.outcomes(len(outcomes))
        return {
            index: f"the label is {first.value!r}, the first outcome of this prediction; {outcomes[index].value!r} is "
            "counted as a contradiction and changes nothing (`outcomes.correction: last` lets corrections count)"
            for index, first in contradicted.items()
        }

    async def _unknown(self, outcomes: list[events.Outcome]) -> dict[int, str]:
        """The indexes of outcomes whose prediction this replica never made, or never recorded, and why.

        With `unknown_outcomes: accept` (several replicas behind a load balancer) the evaluator counts orphans instead.
        """
        found = {
            index: f"the id {outcome.id} carries a time in the future; is the clock off?"
            for index, outcome in enumerate(outcomes)
            if (made := ids.time_of(outcome.id)) is not None and made > outcome.at + _CLOCK_SKEW_SECONDS
        }
        if self._config.router.unknown_outcomes != "accept":
            for index in await self._recorder.unknown([outcome.id for outcome in outcomes]):
                found.setdefault(index, "a prediction with this id was never made here, or could not be recorded")
        return dict(sorted(found.items()))

    def _none_known(self, outcomes: list[events.Outcome], refused: dict[int, str]) -> GauntletError:
        if not self._recorder.healthy:
            return LogUnavailable("nothing can be recorded just now, nor could some predictions: send it again later")
        some = ", ".join(f"outcomes[{i}] ({outcomes[i].id}): {why}" for i, why in list(refused.items())[:10])
        return BadInput(f"no outcome names a known prediction: {some}", code=_UNKNOWN)

    def _forced(self, headers: dict[bytes, bytes]) -> str | None:
        """The arm that an operator asks for: `champion`, `challenger`, or a rollout or version."""
        value = headers.get(b"x-gauntlet-arm")
        if value is None:
            return None
        self._api_keys.require(headers, Role.OPERATOR)
        return value.decode("latin-1")

    def _instances(self, request: PredictRequest) -> list[Instance]:
        if (request.instances is None) == (request.features is None):
            raise BadInput("give either `instances` (many) or `features` (one)", code="bad_request")
        if request.instances is None:
            return [request]
        if request.id or request.unit or request.at is not None or request.segments:
            raise BadInput("give `id`, `unit`, `at` and `segments` inside each of `instances`", code="bad_request")
        if not request.instances:
            raise BadInput("`instances` is empty", code="no_instances")
        count, limit = len(request.instances), self._config.router.max_instances
        if count > limit:
            raise BadInput(f"{count} instances; router.max_instances is {limit}", code="too_many_instances")
        return request.instances

    def _given_outcomes(self, request: OutcomesRequest) -> list[OutcomeIn]:
        if (request.outcomes is None) == (request.id is None):
            raise BadInput("give either `outcomes` (many) or `id` and `value` (one)", code="bad_request")
        if request.outcomes is not None:
            if not request.outcomes:
                raise BadInput("`outcomes` is empty", code="no_outcomes")
            return request.outcomes
        if request.value is None:
            raise BadInput("an outcome needs a `value`", code="bad_request")
        return [request]

    def _outcome(self, table: RoutingTable, outcome: OutcomeIn, at: float, index: int) -> events.Outcome:
        where = f"outcomes[{index}]"
        if not 0 < len(outcome.id) <= MAX_ID_LENGTH:
            raise BadInput(f"{where}: `id` must have 1 to {MAX_ID_LENGTH} characters", code="bad_id")
        table.champion.schema.check_label(outcome.value, where)
        if outcome.reward is not None and not math.isfinite(outcome.reward):
            raise BadInput(f"{where}: `reward` must be a finite number", code="not_finite")
        return events.Outcome(
            id=outcome.id, at=at, experiment=self._experiment, value=outcome.value, reward=outcome.reward
        )

    async def refuse(
        self, send: Send, route: str, error: GauntletError, *headers: tuple[bytes, bytes], count: int = 1
    ) -> None:
        """Answer with `error` and count it under `route`: `count` predictions or outcomes were sent."""
        telemetry.REFUSED.labels(route, error.code).inc()
        if not isinstance(error, LogUnavailable):  # a problem of its own, and not the callers'
            self._arrivals.refused(route, count, error.code)
        status, body = error_answer(error)
        if route == "predict":
            telemetry.REQUESTS.labels(self._experiment, "none", "none", str(status)).inc()
        later = [_RETRY_AFTER] if status == 503 and error.retriable else []
        await _send(send, status, body, [*headers, *later])


async def _body(receive: Receive) -> bytes:
    """The whole body; the server bounds its size and its time. Raises `ClientDisconnect` if the rest won't come."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), code="bad_request") from error
    except RecursionError as error:
        raise BadInput(
            "the body is nested too deeply: a request needs four levels of lists and objects, hundreds are read",
            code="nested_too_deeply",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the body is not JSON: {error}{_json_hint(body)}", code="malformed_json") from error


def _json_hint(body: bytes) -> str:
    """What often makes a body no JSON."""
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "; it begins with a byte order mark: send UTF-8 without one"
    if re.search(rb"[:\[,]\s*-?(NaN|Infinity)\b", body):
        return "; JSON has no NaN and no Infinity: send null, or leave the value out"
    return ""


def _answer(table: RoutingTable, prediction: events.Prediction) -> dict[str, Any]:
    """What the caller gets for one prediction: the most probable class and all probabilities, or the number."""
    output = prediction.output
    if not isinstance(output, list):
        return {"id": prediction.id, "prediction": output, "model": prediction.model}
    return {
        "id": prediction.id,
        "prediction": table.champion.schema.classes[output.index(max(output))],
        "model": prediction.model,
        "probabilities": dict(zip(table.class_names, output, strict=True)),
    }


async def _send(send: Send, status: int, body: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    data = msgspec.json.encode(body)
    length = (b"content-length", str(len(data)).encode())
    fields = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})
