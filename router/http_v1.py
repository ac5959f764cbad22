"""The hot routes, `POST /v1/predict` and `POST /v1/outcomes`, straight on ASGI: bytes are parsed once, into what is
used.

Bad input is answered with 4xx and `{"error": {"code", "message"}}` before anything is recorded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from gauntlet import events, ids, telemetry
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import BadInput, GauntletError, LogUnavailable, StateUnavailable, TransitionRefused
from gauntlet.types import CHALLENGER, CHAMPION, Label, Role
from gauntlet.types import Arm as ArmName
from router.auth import Keys, NotAllowed
from router.control_follower import Follower
from router.inference import Answer, ChampionFailed, Instance, Predictions, check_jump
from router.recorder import Recorder
from router.routing_table import Table

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FORCE_HEADER = b"x-gauntlet-arm"
_DRAIN_BYTES = 256 * 2**20  # a body over the limit is read to its end this far, so that its sender sees the answer


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Many instances, or the fields of one."""

    instances: list[Instance] | None = None
    experiment: str | None = None
    features: dict[str, Any] | None = None
    id: str | None = None
    unit: str | None = None
    at: float | None = None
    segments: dict[str, str] = {}


class OutcomeIn(msgspec.Struct, forbid_unknown_fields=True):
    """The truth for one prediction."""

    id: str
    value: Label
    at: float | None = None
    reward: float | None = None


class OutcomesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Many outcomes, or the fields of one."""

    outcomes: list[OutcomeIn] | None = None
    experiment: str | None = None
    id: str | None = None
    value: Label | None = None
    at: float | None = None
    reward: float | None = None


_STATUS: list[tuple[type[GauntletError], int]] = [
    (NotAllowed, 403),
    (BadInput, 400),
    (TransitionRefused, 409),
    (ChampionFailed, 503),
    (LogUnavailable, 503),
    (StateUnavailable, 503),
]
_STATUS_BY_CODE = {
    "unauthenticated": 401,
    "unknown_experiment": 404,
    "unknown_prediction": 404,
    "unknown_version": 404,
    "body_too_large": 413,
    "too_many_instances": 413,
}

_predict_decoder = msgspec.json.Decoder(PredictRequest)
_outcomes_decoder = msgspec.json.Decoder(OutcomesRequest)


def status_of(error: GauntletError) -> int:
    """The HTTP status for an error of the domain."""
    by_type = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _STATUS_BY_CODE.get(error.code, by_type)


def error_body(error: GauntletError) -> dict[str, Any]:
    """What a caller gets for an error: a stable code for machines, a sentence for people."""
    return {"error": {"code": error.code, "message": str(error), "retriable": error.retriable}}


class HotRoutes:
    """The two routes that carry traffic."""

    def __init__(
        self, config: Config, follower: Follower, predictions: Predictions, recorder: Recorder, keys: Keys, clock: Clock
    ) -> None:
        self._config = config
        self._experiment = config.experiment
        self._limit = config.router.max_body_bytes
        self._max_instances = config.router.max_instances
        self._follower = follower
        self._predictions = predictions
        self._recorder = recorder
        self._keys = keys
        self._clock = clock
        self._replayed = config.clock == "events"
        self._seconds = {
            arm: telemetry.REQUEST_SECONDS.labels(config.experiment, arm) for arm in (CHAMPION, CHALLENGER)
        }

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/predict."""
        started = time.monotonic()
        try:
            headers = dict(scope["headers"])
            self._keys.require(headers, Role.INGEST)
            forced = self._forced(headers)
            request = _decode(_predict_decoder, await self._body(headers, receive))
            self._check_experiment(request.experiment)
            instances = self._instances(request)
            table = self._follower.table
            if table is None:
                raise StateUnavailable("the router is still starting", code="starting")
            answers, recorded = await self._predictions.answer(table, instances, started, forced)
            self._follower.recent.append(instances[0].features)
            for arm in {CHAMPION if a.model == table.champion.version else CHALLENGER for a in answers}:
                self._seconds[arm].observe(time.monotonic() - started)
            shown = [_answer(table, answer) for answer in answers]
            body = {"predictions": shown} if request.instances is not None else shown[0]
            await _send(send, 200, body, [] if recorded else [(b"x-gauntlet-recorded", b"no")])
        except GauntletError as error:
            await self._refuse(send, "predict", error)

    async def outcomes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/outcomes: accepted whole, or refused whole."""
        try:
            headers = dict(scope["headers"])
            self._keys.require(headers, Role.INGEST)
            request = _decode(_outcomes_decoder, await self._body(headers, receive))
            self._check_experiment(request.experiment)
            table = self._follower.table
            if table is None:
                raise StateUnavailable("the router is still starting", code="starting")
            outcomes = [self._outcome(table, o, i) for i, o in enumerate(self._given(request))]
            await self._check_known([o.id for o in outcomes])
            await self._recorder.outcomes(outcomes)
            telemetry.OUTCOMES_RECEIVED.labels(self._experiment).inc(len(outcomes))
            await _send(send, 202, {"accepted": len(outcomes)})
        except GauntletError as error:
            await self._refuse(send, "outcomes", error)

    async def _check_known(self, ids: list[str]) -> None:
        """Behind a load balancer any replica gets the outcome, so there the evaluator counts orphans instead."""
        if self._config.router.unknown_outcomes == "accept":
            return
        unknown = await self._recorder.unknown(ids)
        if unknown:
            some = ", ".join(f"outcomes[{i}] ({ids[i]})" for i in unknown[:10])
            raise BadInput(
                f"{len(unknown)} of {len(ids)} outcomes name a prediction that was never made here: {some}",
                code="unknown_prediction",
            )

    def _forced(self, headers: dict[bytes, bytes]) -> ArmName | None:
        value = headers.get(FORCE_HEADER)
        if value is None:
            return None
        self._keys.require(headers, Role.OPERATOR)
        if value == b"champion":
            return CHAMPION
        if value == b"challenger":
            return CHALLENGER
        raise BadInput("X-Gauntlet-Arm is champion or challenger", code="bad_arm")

    def _check_experiment(self, name: str | None) -> None:
        if name is not None and name != self._experiment:
            raise BadInput(
                f"there is no experiment {name!r}; this router serves {self._experiment!r}", code="unknown_experiment"
            )

    def _instances(self, request: PredictRequest) -> list[Instance]:
        if (request.instances is None) == (request.features is None):
            raise BadInput("give either `instances` (many) or `features` (one)", code="bad_request")
        if request.instances is None:
            assert request.features is not None, "checked just above"
            return [
                Instance(
                    features=request.features,
                    id=request.id,
                    unit=request.unit,
                    at=request.at,
                    segments=request.segments,
                )
            ]
        if request.id or request.unit or request.at is not None or request.segments:
            raise BadInput("with `instances`, id, unit, at and segments stand in each instance", code="bad_request")
        if not request.instances:
            raise BadInput("`instances` is empty", code="no_instances")
        if len(request.instances) > self._max_instances:
            raise BadInput(
                f"{len(request.instances)} instances in one request, the limit is {self._max_instances}",
                code="too_many_instances",
            )
        return request.instances

    def _given(self, request: OutcomesRequest) -> list[OutcomeIn]:
        if (request.outcomes is None) == (request.id is None):
            raise BadInput("give either `outcomes` (many) or `id` and `value` (one)", code="bad_request")
        if request.outcomes is not None:
            if not request.outcomes:
                raise BadInput("`outcomes` is empty", code="no_outcomes")
            return request.outcomes
        if request.value is None or request.id is None:
            raise BadInput("an outcome needs a value", code="bad_request")
        return [OutcomeIn(id=request.id, value=request.value, at=request.at, reward=request.reward)]

    def _outcome(self, table: Table, outcome: OutcomeIn, index: int) -> events.Outcome:
        where = f"outcomes[{index}]"
        if not 0 < len(outcome.id) <= 200:
            raise BadInput(f"{where}: id has from 1 to 200 characters", code="bad_id")
        table.champion.schema.check_label(outcome.value, where)
        if outcome.reward is not None and not math.isfinite(outcome.reward):
            raise BadInput(f"{where}: reward is a finite number", code="not_finite")
        if outcome.at is not None:
            if not (math.isfinite(outcome.at) and 0 <= outcome.at < 1e11):
                raise BadInput(f"{where}: `at` is seconds since 1970", code="bad_time")
            if not self._replayed:
                raise BadInput(f"{where}: `at` is for replays (clock: events)", code="time_not_allowed")
            check_jump(self._clock, outcome.at, where)
            self._clock.observe(outcome.at)
        at = outcome.at if outcome.at is not None else self._clock.now()
        made = ids.time_of(outcome.id)
        if made is not None and made > at + 60:
            raise BadInput(f"{where}: prediction {outcome.id} lies in the future", code="unknown_prediction")
        return events.Outcome(
            id=outcome.id, at=at, experiment=self._experiment, value=outcome.value, reward=outcome.reward
        )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadInput("the caller went away before the request was complete", code="incomplete_request")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._limit:
                chunks.append(chunk)
            if not message.get("more_body", False) or size > _DRAIN_BYTES:
                break
        if size > self._limit:
            raise BadInput(f"the body is over the limit of {self._limit} bytes", code="body_too_large")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _refuse(self, send: Send, route: str, error: GauntletError) -> None:
        telemetry.REFUSED.labels(route, error.code).inc()
        status = status_of(error)
        if route == "predict":
            telemetry.REQUESTS.labels(self._experiment, "none", "none", str(status)).inc()
        await _send(send, status, error_body(error))


async def refuse(send: Send, error: GauntletError) -> None:
    """Answer a request that gets no further than the door."""
    telemetry.REFUSED.labels("door", error.code).inc()
    await _send(send, status_of(error), error_body(error))


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), code="bad_request") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"this is not JSON: {error}", code="malformed_json") from error


def _answer(table: Table, answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": answer.id, "prediction": answer.prediction, "model": answer.model}
    if answer.probabilities is not None:
        classes = table.champion.schema.classes
        shown["probabilities"] = {_name(c): p for c, p in zip(classes, answer.probabilities, strict=True)}
    return shown


def _name(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


async def _send(send: Send, status: int, body: object, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    data = msgspec.json.encode(body)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(data)).encode()),
                *(headers or []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": data})
