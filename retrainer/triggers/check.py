"""The check: every trigger and constraint with its numbers, and whether a job would start now. Pure, JSON-able."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gauntlet.config import RetrainConfig
from retrainer.triggers import conditions
from retrainer.triggers.causes import Cause
from retrainer.triggers.conditions import Condition, RetrainContext
from retrainer.triggers.requests import ONCE, RetrainRequest, by_urgency, manual


class TriggerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`triggered`: keys of the triggers whose cause is there; `should_retrain`: a job would start now, for `reasons`;
    `waits`: by the key of an open request, what it waits for. `at` is event time.

    The constraints are those of the request that would start, else of the most urgent one, else of a person who asks.
    """

    champion: str
    at: float
    should_retrain: bool
    urgent: bool
    triggered: list[str]
    reasons: list[str]
    conditions: list[Condition]
    waits: dict[str, list[str]]


def check(
    context: RetrainContext, settings: RetrainConfig, causes: Iterable[Cause], requests: Mapping[str, RetrainRequest]
) -> TriggerCheck:
    """Look at every trigger and constraint, and change nothing."""
    causes, asked = list(causes), by_urgency(requests)
    judged = {request.key: conditions.check(request, context, settings) for request in asked}
    starting = [request for request in asked if judged[request.key].should_retrain]
    person = manual("check", context.now, "nobody", "a person would meet these")
    first = next(iter([*starting, *asked]), person)
    shown = [condition for cause in causes for condition in cause.conditions]
    return TriggerCheck(
        champion=context.champion,
        at=context.now,
        should_retrain=bool(starting),
        urgent=any(request.urgent for request in starting),
        triggered=[*dict.fromkeys([*(c.key for c in causes if c.met), *(r.key for r in asked if r.kind in ONCE)])],
        reasons=[f"{request.key}: {request.reason}" for request in starting],
        conditions=[*shown, *conditions.check(first, context, settings).conditions],
        waits={key: trigger.refusals for key, trigger in judged.items()},
    )
