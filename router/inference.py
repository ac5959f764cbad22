"""Answering predictions, free of any transport: assign, ask the arms inside one deadline, fall back, record, shadow.

The order is: both arms answer → the champion answers for whatever the challenger failed → the events are safe → the
caller gets its answer → the other arm is scored in the background.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gauntlet import events, telemetry
from gauntlet.clock import Clock
from gauntlet.config import RouterConfig
from gauntlet.errors import BadInput, GauntletError, InvalidOutput
from gauntlet.ids import uuid7
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS, Label, Scorer, Task
from gauntlet.types import Arm as ArmName
from router import assignment
from router.model_worker import Arm, Output, as_json
from router.recorder import Recorder
from router.routing_table import Table
from router.shadow import Shadower

_MAX_ID = 200


MAX_JUMP = 400 * 86_400.0
"""Longest gap in a replay, in seconds. One time far in the future would mature everything at once, for good."""


def check_jump(clock: Clock, at: float, where: str) -> None:
    """Raise `BadInput` when `at` is further ahead of a replay's clock than any gap in recorded traffic."""
    if 0 < clock.now() < at - MAX_JUMP:
        raise BadInput(f"{where}: `at` is {(at - clock.now()) / 86_400:.0f} days ahead of all before", code="bad_time")


class ChampionFailed(GauntletError):
    """The champion gave no valid answer, and nobody else may."""

    code = "champion_failed"
    retriable = True


class Instance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One thing to predict. `id` makes it idempotent, `unit` makes it sticky (default: the id), `at` is for replays."""

    features: dict[str, Any]
    id: str | None = None
    unit: str | None = None
    at: float | None = None
    segments: dict[str, str] = {}


@dataclass(slots=True)
class _Case:
    """One instance on its way through."""

    id: str
    unit: str
    at: float
    bucket: int
    assigned: ArmName
    served: ArmName
    propensity: float
    instance: Instance
    output: list[float] | float | None = None
    fallback: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the caller gets for one instance; `probabilities` are in the model's order of classes."""

    id: str
    prediction: Label
    probabilities: list[float] | None
    model: str


class Predictions:
    """The predict operation over the table that is in force when a request comes in."""

    def __init__(
        self,
        settings: RouterConfig,
        experiment: str,
        clock: Clock,
        recorder: Recorder,
        shadower: Shadower,
        on_trip: Callable[[Table], None],
        *,
        replayed: bool,
    ) -> None:
        self._settings = settings
        self._experiment = experiment
        self._clock = clock
        self._recorder = recorder
        self._shadower = shadower
        self._on_trip = on_trip
        self._replayed = replayed
        # Looking a child up by its labels costs more than counting with it.
        self._answered = {
            (assigned, served): telemetry.REQUESTS.labels(experiment, assigned, served, "200")
            for assigned in (CHAMPION, CHALLENGER)
            for served in (CHAMPION, CHALLENGER)
        }

    async def answer(
        self, table: Table, instances: Sequence[Instance], started: float, forced: ArmName | None = None
    ) -> tuple[list[Answer], bool]:
        """Answers in the order of `instances`, and whether their events were safe on disk before this returned.

        `started` is the request's arrival (time.monotonic). Raises `BadInput` before anything happened, or
        `ChampionFailed`; then nothing was recorded.
        """
        cases = [self._case(table, instance, index, forced) for index, instance in enumerate(instances)]
        await self._ask(table, cases, started + self._settings.deadline)
        seconds = time.monotonic() - started
        recorded = await self._recorder.predictions([self._event(table, c, seconds, forced) for c in cases])
        self._count(cases)
        if table.challenger is not None or table.watching is not None:
            absent: Scorer = CHALLENGER if table.challenger is not None else PREVIOUS
            self._shadower.offer(
                table,
                [
                    (c.id, c.at, c.instance.features, absent if c.served == CHAMPION else CHAMPION)
                    for c in cases
                    if c.fallback is None and assignment.shadowed(table.salt, c.unit, table.shadow_cut)
                ],
            )
        return [self._answer(table, case) for case in cases], recorded

    def _case(self, table: Table, instance: Instance, index: int, forced: ArmName | None) -> _Case:
        where = f"instances[{index}]"
        table.champion.schema.check_row(instance.features, where)
        for name, value in (("id", instance.id), ("unit", instance.unit)):
            if value is not None and not 0 < len(value) <= _MAX_ID:
                raise BadInput(f"{where}: {name} has from 1 to {_MAX_ID} characters", code=f"bad_{name}")
        if instance.at is not None:
            if not self._replayed:
                raise BadInput(
                    f"{where}: `at` is for replays; this router keeps the wall clock (clock: wall)",
                    code="time_not_allowed",
                )
            if not (math.isfinite(instance.at) and 0 <= instance.at < 1e11):
                raise BadInput(f"{where}: `at` is seconds since 1970", code="bad_time")
            check_jump(self._clock, instance.at, where)
            self._clock.observe(instance.at)
        at = instance.at if instance.at is not None else self._clock.now()
        prediction_id = instance.id or uuid7(at)
        unit = instance.unit or prediction_id
        bucket = assignment.bucket(table.salt, unit)
        healthy = self._recorder.healthy
        assigned = assignment.arm(bucket, table.cut) if healthy else CHAMPION
        if forced is not None:
            if forced == CHALLENGER and table.challenger is None:
                raise BadInput("no challenger is running, so none can be forced", code="no_challenger")
            assigned = forced
        return _Case(
            prediction_id, unit, at, bucket, assigned, assigned, table.propensity if healthy else 0.0, instance
        )

    async def _ask(self, table: Table, cases: list[_Case], deadline: float) -> None:
        """Fill in every case's output; what the challenger fails goes to the champion within the same deadline."""
        theirs = [c for c in cases if c.assigned == CHALLENGER]
        ours = [c for c in cases if c.assigned == CHAMPION]
        if theirs:
            await asyncio.gather(
                self._ask_challenger(table, theirs), self._ask_champion(table.champion, ours, deadline)
            )
            ours = [c for c in theirs if c.fallback is not None]
        await self._ask_champion(table.champion, ours, deadline)

    async def _ask_champion(self, champion: Arm, cases: list[_Case], deadline: float) -> None:
        if not cases:
            return
        try:
            output, valid = await champion.predict(
                [c.instance.features for c in cases], max(0.001, deadline - time.monotonic())
            )
        except TimeoutError:
            raise ChampionFailed(
                f"champion {champion.version} did not answer within the deadline", code="deadline_exceeded"
            ) from None
        except Exception as error:
            raise ChampionFailed(f"champion {champion.version} failed: {type(error).__name__}: {error}") from error
        if not valid.all():
            raise ChampionFailed(
                f"champion {champion.version} gave an invalid answer for instances[{int(valid.argmin())}]",
                code="champion_invalid_output",
            )
        for case, row in zip(cases, output, strict=True):
            case.output = as_json(row)

    async def _ask_challenger(self, table: Table, cases: list[_Case]) -> None:
        """Never raises: a failure becomes the cases' `fallback` reason and is charged to the challenger."""
        arm = table.challenger
        reason: str | None = None
        answers: Output | None = None
        if arm is None or table.breaker.open:
            reason = "breaker_open"
        else:
            try:
                answers = await arm.predict([c.instance.features for c in cases], self._settings.challenger_timeout)
            except TimeoutError:
                reason = "timeout"
            except InvalidOutput:
                reason = "invalid_output"
            except Exception:  # noqa: BLE001 - whatever a challenger raises, its users get the champion's answer
                reason = "error"
        for index, case in enumerate(cases):
            if answers is None:
                case.fallback = reason
            elif not answers[1][index]:
                case.fallback = "invalid_output"
            else:
                case.output = as_json(answers[0][index])
            if case.fallback is not None:
                case.served = CHAMPION
            # A call that failed as a whole is one failure, however many rows it had.
            counted = case.fallback != "breaker_open" and (answers is not None or index == 0)
            if counted and table.breaker.record(case.fallback):
                self._on_trip(table)

    def _event(self, table: Table, case: _Case, seconds: float, forced: ArmName | None) -> events.Prediction:
        return events.Prediction(
            id=case.id,
            at=case.at,
            experiment=self._experiment,
            unit=case.unit,
            bucket=case.bucket,
            assigned=case.assigned,
            served=case.served,
            propensity=case.propensity,
            allocation=table.control.allocation,
            champion=table.champion.version,
            challenger=table.challenger.version if table.challenger else None,
            rollout=table.rollout if table.challenger else None,
            output=case.output,
            features=case.instance.features,
            fallback=case.fallback,
            forced=forced is not None,
            seconds=round(seconds, 6),
            segments=case.instance.segments,
        )

    def _count(self, cases: list[_Case]) -> None:
        for case in cases:
            self._answered[case.assigned, case.served].inc()
            if case.fallback is not None:
                telemetry.FALLBACKS.labels(self._experiment, case.fallback).inc()

    def _answer(self, table: Table, case: _Case) -> Answer:
        assert case.output is not None, "every case has an answer, or ChampionFailed was raised"
        model = table.champion if case.served == CHAMPION else table.challenger
        assert model is not None, "a case is only served by an arm that is there"
        if model.schema.task is Task.REGRESSION or not isinstance(case.output, list):
            return Answer(case.id, case.output, None, model.version)  # type: ignore[arg-type]
        best = max(range(len(case.output)), key=case.output.__getitem__)
        return Answer(case.id, model.schema.classes[best], case.output, model.version)
