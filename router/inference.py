"""Inference service, independent of the transport: assign, ask the models within one deadline, fall back, record.

Order: all arms answer at once; the champion answers whatever a challenger failed; the events are on disk; the caller
gets its answer; the models that did not serve are scored in shadow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gauntlet import events, telemetry
from gauntlet.config import RouterConfig
from gauntlet.errors import BadInput, GauntletError
from gauntlet.ids import uuid7
from gauntlet.types import CHALLENGER, CHAMPION, Arm
from router import assignment
from router.breaker import CircuitBreaker
from router.event_times import EventTimes
from router.model_worker import ModelWorker, as_json, breaker_kind
from router.phantom_arm import PhantomArm
from router.recorder import Recorder
from router.repeats import Repeats
from router.routing_table import Challenger, RoutingTable
from router.shadow import ShadowRequest, ShadowScorer

MAX_ID_LENGTH = 200
_MIN_WAIT_SECONDS = 0.001  # asked after its deadline, the champion gets a moment rather than a negative timeout


class ChampionFailed(GauntletError):
    """The champion gave no valid answer in time, and no other model may serve."""

    code = "champion_failed"

    def __init__(self, message: str, *, code: str | None = None, retriable: bool = True) -> None:
        super().__init__(message, code=code)
        self.retriable = retriable


class Instance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One row to predict. `id` makes it idempotent, `unit` sticky (default: the id); `at` is for replays."""

    features: dict[str, Any]
    id: str | None = None
    unit: str | None = None
    at: float | None = None
    segments: dict[str, str] = {}


@dataclass(slots=True)
class _Case:
    """One instance with its assignment (`challenger` None: the champion, or where `holdout` is drawn the one before);
    `output`, `fallback` and `served` are filled in by the models."""

    instance: Instance
    id: str
    unit: str
    at: float
    bucket: int
    challenger: Challenger | None
    served: Arm
    output: list[float] | float | None = None
    fallback: str | None = None
    holdout: events.Holdout | None = None

    @property
    def held_out(self) -> bool:
        return self.holdout is not None and self.holdout.drawn

    @property
    def assigned(self) -> Arm:
        return CHAMPION if self.challenger is None else CHALLENGER


class InferenceService:
    """The predict operation on the routing table that was in force when the request came in."""

    def __init__(
        self,
        settings: RouterConfig,
        experiment: str,
        times: EventTimes,
        recorder: Recorder,
        repeats: Repeats,
        shadow: ShadowScorer,
        breaker: CircuitBreaker,
        phantom: PhantomArm,
    ) -> None:
        self._settings = settings
        self._experiment = experiment
        self._times = times
        self._recorder = recorder
        self._repeats = repeats
        self._shadow = shadow
        self._breaker = breaker
        self._phantom = phantom
        # Looking a child up by its labels costs more than counting with it.
        self._requests = {
            (assigned, served): telemetry.REQUESTS.labels(experiment, assigned, served, "200")
            for assigned in (CHAMPION, CHALLENGER)
            for served in (CHAMPION, CHALLENGER)
        }

    async def predict(
        self, table: RoutingTable, instances: Sequence[Instance], started: float, forced: str | None = None
    ) -> tuple[list[events.Prediction], bool]:
        """The answered predictions in the order of `instances`, and whether they were on disk before this returned.

        An id that was answered before gets that answer again, from the log. `started` is the request's arrival
        (`time.monotonic`), `forced` the arm that the caller asks for. Raises `BadInput` before anything has changed, or
        `ChampionFailed`; in both cases nothing is recorded.
        """
        times = self._checked(table, instances)
        ids = {i.id for i in instances if i.id is not None}
        if not ids:
            return await self._predict(table, instances, times, started, forced)
        made: list[events.Prediction] = []
        recorded = True
        async with self._repeats.claimed(ids) as answered:
            new = self._new(instances, answered, forced)
            if new:
                made, recorded = await self._predict(
                    table, [instances[place] for place in new], [times[place] for place in new], started, forced
                )
            if answered:
                telemetry.REPEATS.labels(self._experiment).inc(len(instances) - len(new))
        by_id = answered | {prediction.id: prediction for prediction in made}
        at = dict(zip(new, made, strict=True))
        return [at.get(place) or by_id[str(instance.id)] for place, instance in enumerate(instances)], recorded

    async def _predict(
        self,
        table: RoutingTable,
        instances: Sequence[Instance],
        times: Sequence[float],
        started: float,
        forced: str | None,
    ) -> tuple[list[events.Prediction], bool]:
        """Make and record the predictions; every check of the instances has passed."""
        cases = self._cases(table, instances, times, forced)
        contenders = table.contenders if self._recorder.healthy else table.unassigned
        await self._ask(table, cases, started + self._settings.deadline)
        seconds = round(time.monotonic() - started, 6)
        predictions = [self._event(table, case, contenders, seconds, forced is not None) for case in cases]
        self._repeats.remember(prediction.id for prediction in predictions)
        recorded = await self._recorder.predictions(predictions)
        self._count(cases)
        self._offer_shadow(table, cases)
        return predictions, recorded

    def _checked(self, table: RoutingTable, instances: Sequence[Instance]) -> list[float]:
        """The times of the instances. Raises `BadInput` where one can't be answered."""
        for index, instance in enumerate(instances):
            where = f"instances[{index}]"
            table.champion.schema.check_row(instance.features, where)
            for name, value in (("id", instance.id), ("unit", instance.unit)):
                if value is not None and not 0 < len(value) <= MAX_ID_LENGTH:
                    raise BadInput(f"{where}: `{name}` must have 1 to {MAX_ID_LENGTH} characters", code=f"bad_{name}")
        return self._times.resolve([instance.at for instance in instances], "instances")

    def _new(
        self, instances: Sequence[Instance], answered: Mapping[str, events.Prediction], forced: str | None
    ) -> list[int]:
        """The places of the instances that were not answered before, each id once.

        Raises `BadInput` where an id came before, in the log or in this request, with anything else beside it.
        """
        new: list[int] = []
        seen: dict[str, events.Prediction | Instance] = {**answered}
        for index, instance in enumerate(instances):
            earlier = None if instance.id is None else seen.setdefault(instance.id, instance)
            if earlier is None or earlier is instance:
                new.append(index)
            elif differs := self._differences(earlier, instance, forced):
                raise BadInput(
                    f"instances[{index}]: the id {instance.id!r} was used before with other {' and '.join(differs)}; "
                    "an id names one request: give a new one a new id",
                    code="id_reused",
                )
        return new

    def _differences(self, earlier: events.Prediction | Instance, instance: Instance, forced: str | None) -> list[str]:
        """What a request that comes with an earlier one's id has otherwise."""
        same = {
            "features": earlier.features == instance.features,
            "unit": (earlier.unit or earlier.id) == (instance.unit or instance.id),
            "segments": earlier.segments == instance.segments,
            "at": instance.at is None or earlier.at == instance.at,
        }
        if isinstance(earlier, events.Prediction):
            same["experiment"] = earlier.experiment == self._experiment
            asked = earlier.contender
            names = {earlier.assigned, *((asked.rollout, asked.challenger) if asked else ())}
            same["x-gauntlet-arm"] = forced in names if earlier.forced else forced is None
        return [name for name, holds in same.items() if not holds]

    def _cases(
        self, table: RoutingTable, instances: Sequence[Instance], times: Sequence[float], forced: str | None
    ) -> list[_Case]:
        """Move the clock and assign. Raises `BadInput` before that where nobody is the arm that is asked for."""
        named = None if forced is None else table.named(forced)
        self._times.observe(times)
        free = forced is None and self._recorder.healthy
        cases = []
        for instance, at in zip(instances, times, strict=True):
            prediction_id = instance.id or uuid7(at)
            unit = instance.unit or prediction_id
            bucket = assignment.bucket(table.salt, unit)
            holdout = table.holdout.draw(unit) if free and table.holdout else None
            challenger = table.assigned(bucket) if free else named
            if holdout is not None and holdout.drawn:
                challenger = None
            served = CHAMPION if challenger is None else CHALLENGER
            cases.append(_Case(instance, prediction_id, unit, at, bucket, challenger, served, holdout=holdout))
        return cases

    async def _ask(self, table: RoutingTable, cases: list[_Case], deadline: float) -> None:
        """Fill in every output; what a challenger fails goes to the champion within the same deadline."""
        of_champion = [c for c in cases if c.challenger is None and not c.held_out]
        if len(of_champion) < len(cases):
            others: dict[Challenger | None, list[_Case]] = {}  # None: the champion before
            for case in cases:
                if case.challenger is not None or case.held_out:
                    others.setdefault(case.challenger, []).append(case)
            await asyncio.gather(
                self._ask_champion(table.champion, of_champion, deadline),
                *(self._ask_other(table, challenger, theirs) for challenger, theirs in others.items()),
            )
            of_champion = [c for c in cases if c.fallback is not None]
        await self._ask_champion(table.champion, of_champion, deadline)

    async def _ask_champion(self, champion: ModelWorker, cases: list[_Case], deadline: float) -> None:
        if not cases:
            return
        seconds = max(_MIN_WAIT_SECONDS, deadline - time.monotonic())
        try:
            output, valid = await champion.predict([c.instance.features for c in cases], seconds)
        except TimeoutError:
            reason = f"champion {champion.version} did not answer within router.deadline"
            raise ChampionFailed(reason, code="deadline_exceeded") from None
        except Exception as error:
            reason = f"champion {champion.version} failed: {type(error).__name__}: {error}"
            # A model that refuses these values refuses them again.
            raise ChampionFailed(reason, retriable=not isinstance(error, ValueError)) from error
        if not valid.all():
            reason = f"champion {champion.version} gave an invalid answer for instances[{int(valid.argmin())}]"
            raise ChampionFailed(reason, code="champion_invalid_output")
        for case, row in zip(cases, output, strict=True):
            case.output = as_json(row)

    async def _ask_other(self, table: RoutingTable, challenger: Challenger | None, cases: list[_Case]) -> None:
        """Ask a challenger, or (None) the champion before. Never raises: a failure becomes the cases' `fallback` reason
        and is charged to whom it was asked of."""
        if challenger is not None and self._breaker.is_open(challenger.id):
            for case in cases:
                case.fallback, case.served = "breaker_open", CHAMPION
            return
        model = challenger.model if challenger else table.previous
        assert model is not None, "units are held out only where the champion before is loaded"
        rows = [c.instance.features for c in cases]
        answers = await model.attempt(rows, self._settings.challenger_timeout)
        for index, case in enumerate(cases):
            if isinstance(answers, str):
                case.fallback = breaker_kind(answers)
            elif not answers[1][index]:
                case.fallback = "invalid_output"
            else:
                case.output = as_json(answers[0][index])
            if case.fallback is not None:
                case.served = CHAMPION
            if challenger and (index == 0 or not isinstance(answers, str)):  # a call that failed whole is one failure
                self._breaker.record(challenger.id, case.fallback)

    def _event(
        self, table: RoutingTable, case: _Case, contenders: list[events.Contender], seconds: float, forced: bool
    ) -> events.Prediction:
        return events.Prediction(
            id=case.id,
            at=case.at,
            experiment=self._experiment,
            unit=case.unit,
            bucket=case.bucket,
            assigned=case.assigned,
            served=case.served,
            allocation=table.control.allocation,
            champion=table.champion.version,
            contenders=contenders,
            rollout=case.challenger.id if case.challenger else None,
            output=case.output,
            features=case.instance.features,
            fallback=case.fallback,
            forced=forced,
            seconds=seconds,
            segments=case.instance.segments,
            phantom=None if forced or case.challenger or case.held_out else self._phantom.draw(case.unit, case.at),
            holdout=case.holdout,
        )

    def _count(self, cases: list[_Case]) -> None:
        for case in cases:
            self._requests[case.assigned, case.served].inc()
            if case.fallback is not None:
                telemetry.FALLBACKS.labels(self._experiment, case.fallback).inc()

    def _offer_shadow(self, table: RoutingTable, cases: list[_Case]) -> None:
        for case in cases:
            if case.held_out:
                continue
            if scorings := table.scorings(case.unit, case.challenger, case.served == CHAMPION):
                self._shadow.offer(ShadowRequest(case.id, case.at, case.instance.features), scorings)
