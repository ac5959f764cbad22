"""The causes for new models: each trigger's conditions on the facts, met, not met or not known. Pure.

A cause that is there becomes a request (`requests.after`), and what that may do is for the constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from gauntlet.clock import lasting
from gauntlet.config import RetrainConfig
from gauntlet.config.rules import RuleCondition
from gauntlet.config.triggers import PerformanceTrigger, RuleConfig
from gauntlet.types import Severity, Task, TriggerKind
from retrainer.triggers.conditions import Condition
from retrainer.triggers.requests import RetrainRequest, policy
from retrainer.triggers.schedules import Pace, next_due
from retrainer.triggers.view import View, loss_beyond, named

_CRITICAL = 2.0
"""Multiple of a loss's limit from which it is critical, as drift has it."""

_rule = lru_cache(maxsize=256)(RuleCondition)


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One trigger looked at: whether its cause is there, how bad it is, and every condition with its numbers."""

    key: str
    kind: TriggerKind
    met: bool | None
    conditions: tuple[Condition, ...]
    severity: Severity = Severity.NONE
    id: str = ""
    """Of this occurrence; empty for the time since which it is there."""
    reason: str = ""
    name: str = ""
    action: str = ""
    root_cause: str = ""

    def request(self, champion: str, since: float) -> RetrainRequest:
        """The request of a cause that is there `since` then. Its mode is that of the settings (`requests.after`)."""
        return RetrainRequest(
            kind=self.kind,
            name=self.name,
            id=self.id or f"{self.key.replace(' ', '-')}-{since:.0f}",  # one word: people type it
            at=since,
            severity=self.severity,
            model=champion,
            reason=self.reason,
            action=self.action,
            root_cause=self.root_cause,
        )


def find(view: View, settings: RetrainConfig) -> list[Cause]:
    """Every trigger that is switched on, but for the schedule and people, looked at."""
    causes = [_drift(view, settings), _performance(view, settings), _quality(view, settings), _volume(view, settings)]
    known = named(view, settings.triggers.performance)
    causes += [_of_rule(rule, known) for rule in settings.triggers.rules]
    return [_lasting(cause, view, settings) for cause in causes if policy(cause.key, settings) is not None]


def by_the_clock(view: View, settings: RetrainConfig, last: float, pace: Pace) -> Cause | None:
    """Whether the schedule is due, for a person to see; None without one. `last`: when it was due last."""
    if settings.schedule is None:
        return None
    at = next_due(settings.schedule, last, pace)
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes")
    detail = f"next at {when}" + (f", while things are {pace}" if settings.schedule.adaptive else "")
    due = Condition("due", view.context.now >= at, detail, trigger="schedule", value=view.context.now, limit=at)
    return Cause(key="schedule", kind="schedule", met=due.met, conditions=(due,), severity=Severity.LOW, reason=detail)


def since(causes: Iterable[Cause], before: Mapping[str, float], now: float) -> dict[str, float]:
    """The time since which each cause is there; one that nobody can tell of is as before."""
    kept = {}
    for cause in causes:
        if _there(cause) or (_there(cause) is None and cause.key in before):
            kept[cause.key] = before.get(cause.key, now)
    return kept


def _there(cause: Cause) -> bool | None:
    """Whether the cause itself is there, however long."""
    return any_of([c.met for c in cause.conditions if c.counts and c.name not in _GUARDS])


_GUARDS = ("episodes", "lasting")
"""Conditions that must be met beside one of the others."""


def any_of(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def all_of(found: list[bool | None]) -> bool | None:
    return False if False in found else None if None in found else True


def _settled(conditions: Iterable[Condition]) -> bool | None:
    """One of the conditions, and every guard."""
    told = [c for c in conditions if c.counts]
    guards = [c.met for c in told if c.name in _GUARDS]
    return all_of([any_of([c.met for c in told if c.name not in _GUARDS]), *guards])


def _lasting(cause: Cause, view: View, settings: RetrainConfig) -> Cause:
    """The cause under its policy: it has to have lasted."""
    known = policy(cause.key, settings)
    if known is None or not known.lasting:
        return cause
    there = _there(cause)
    begun = view.own.since.get(cause.key, view.context.now)
    lasted = view.context.now - begun if there else 0.0
    condition = Condition(
        "lasting",
        there if there is None else bool(there) and lasted >= known.lasting,
        f"for {lasting(lasted)}, {lasting(known.lasting)} wanted",
        trigger=cause.key,
        value=lasted,
        limit=known.lasting,
    )
    conditions = (*cause.conditions, condition)
    return msgspec.structs.replace(cause, conditions=conditions, met=_settled(conditions))


def above(trigger: str, name: str, value: float | None, limit: float, **more: object) -> Condition:
    """Met where `value` is above `limit`, in twelve decimals: 0.87 - 0.82 is 0.05."""
    met = None if value is None else round(value, 12) > limit
    detail = f"{'not known' if value is None else f'{value:.6g}'}, above {limit:g} asks"
    return Condition(name, met, detail, trigger=trigger, value=value, limit=limit, **more)  # type: ignore[arg-type]


def below(trigger: str, name: str, value: float | None, limit: float, **more: object) -> Condition:
    met = None if value is None else round(value, 12) < limit
    detail = f"{'not known' if value is None else f'{value:.6g}'}, below {limit:g} asks"
    return Condition(name, met, detail, trigger=trigger, value=value, limit=limit, **more)  # type: ignore[arg-type]


def _drift(view: View, settings: RetrainConfig) -> Cause:
    limits, episode, heard = settings.triggers.drift, view.own.episode, view.own.heard
    wanted = Severity(settings.on_severity)
    severity = episode.severity if episode else Severity.NONE
    told = severity if heard else None
    conditions = [
        Condition(
            "severity",
            severity >= wanted if heard else None,
            f"{told or 'not known'}, {wanted} or worse asks",
            trigger="drift",
            value=float(severity.rank) if heard else None,
            limit=float(wanted.rank),
        )
    ]
    figures = (
        [0.0 if heard else None] * 3 if episode is None else [episode.statistic, episode.transition, episode.features]
    )
    names = (("statistic", limits.statistic), ("transition", limits.transition), ("features", limits.features))
    alone = {"counts": limits.on_inputs}
    conditions += [
        above("drift", name, value, limit, **alone) for (name, limit), value in zip(names, figures, strict=True)
    ]
    p_value = episode.p_value if episode else None
    shown = 1.0 if p_value is None and heard else p_value
    conditions.append(below("drift", "p_value", shown, limits.p_value, **alone))
    if limits.episodes > 1:
        seen = view.own.episodes
        detail = f"{seen} of this champion, {limits.episodes} wanted"
        conditions.append(
            Condition("episodes", seen >= limits.episodes, detail, trigger="drift", value=seen, limit=limits.episodes)
        )
    if limits.on_inputs and episode is not None and round(episode.statistic, 12) > limits.urgent:
        severity = Severity.CRITICAL
    return Cause(
        key="drift",
        kind="drift",
        met=_settled(conditions),
        conditions=tuple(conditions),
        severity=severity,
        id=(episode.news or episode.id) if episode else "",
        reason=episode.reason if episode else "",
        action=episode.action if episode else "",
        root_cause=episode.root_cause if episode else "",
    )


def _performance(view: View, settings: RetrainConfig) -> Cause:
    limits = settings.triggers.performance
    falls = list(_falls(view, limits))
    conditions = [condition for condition, _ in falls]
    for floored, floor in limits.floors.items():
        found = view.estimate(floored, limits)
        conditions.append(below("performance", floored, found.upper if found else None, floor))
    for capped, ceiling in limits.ceilings.items():
        found = view.estimate(capped, limits)
        conditions.append(above("performance", capped, found.lower if found else None, ceiling))
    critical = any(critical for _, critical in falls)
    return Cause(
        key="performance",
        kind="performance",
        met=_settled(conditions),
        conditions=tuple(conditions),
        severity=Severity.CRITICAL if critical else Severity.HIGH,
        reason="; ".join(f"{c.name} {c.detail}" for c in conditions if c.met),
    )


def _falls(view: View, limits: PerformanceTrigger) -> Iterator[tuple[Condition, bool]]:
    """The conditions against the baseline, each with whether the loss is critical. The loss that counts is the part
    that is shown at the confidence asked for."""
    metric, name, limit = (
        ("accuracy", "accuracy_fall", limits.fall)
        if view.task is Task.CLASSIFICATION
        else ("rmse", "rmse_rise", limits.rmse_rise)
    )
    base, found = view.baseline(metric, limits), view.estimate(metric, limits)
    value = None if base is None or found is None else loss_beyond(metric, base[0], found)
    condition = above("performance", name, value, limit)
    if base is not None and found is not None:
        detail = f"{condition.detail}: {metric} {found.value:.4f}, baseline {base[0]:.4f} {base[1]}"
        if value is not None and limits.confidence > 0.5:
            detail = f"at {limits.confidence:.0%} confidence at least {detail}"
        condition = msgspec.structs.replace(condition, detail=detail)
    yield condition, value is not None and round(value, 12) > _CRITICAL * limit
    if view.task is Task.REGRESSION:
        fall = view.own.episode.r2_fall if view.own.episode else 0.0 if view.own.heard else None
        yield above("performance", "r2_fall", fall, limits.r2_fall), round(fall or 0.0, 12) > _CRITICAL * limits.r2_fall


def _quality(view: View, settings: RetrainConfig) -> Cause:
    condition = below("quality", "data_quality", view.quality, settings.triggers.quality.score)
    episode = view.own.episode
    return Cause(
        key="quality",
        kind="quality",
        met=_settled([condition]),
        conditions=(condition,),
        severity=Severity.MEDIUM,
        id=episode.id if episode else "",
        reason=f"data quality {condition.detail}",
        action=episode.action if episode else "",
        root_cause=episode.root_cause if episode else "",
    )


def _volume(view: View, settings: RetrainConfig) -> Cause:
    limits, new, rows = settings.triggers.volume, view.new_samples, view.training.rows
    conditions = [above("volume", "new_samples", new, limits.samples)]
    if limits.growth is not None:
        growth = None if new is None or not rows else new / rows
        conditions.append(above("volume", "data_growth", growth, limits.growth))
    return Cause(
        key="volume",
        kind="volume",
        met=_settled(conditions),
        conditions=tuple(conditions),
        severity=Severity.LOW,
        id=f"volume-{view.training.to:.0f}",
        reason="; ".join(f"{c.name} {c.detail}" for c in conditions if c.met),
    )


def _of_rule(rule: RuleConfig, known: Mapping[str, float | None]) -> Cause:
    condition = _rule(rule.condition)
    values = f"{rule.condition}: " + ", ".join(
        f"{name} {'not known' if known.get(name) is None else f'{known[name]:.6g}'}" for name in condition.names
    )
    met, key = condition.holds(known), f"rule:{rule.name}"
    return Cause(
        key=key,
        kind="rule",
        name=rule.name,
        met=met,
        conditions=(Condition(rule.name, met, values, trigger=key),),
        severity=Severity(rule.severity),
        reason=values,
        action=rule.action,
    )


def pace(view: View, causes: Iterable[Cause]) -> Pace:
    """How much happens, for an adaptive schedule."""
    severities = [c.severity for c in causes if c.kind in ("drift", "performance") and c.met]
    severities += [view.own.episode.severity] if view.own.episode else []
    worst = max(severities, default=Severity.NONE)
    if worst is Severity.CRITICAL:
        return "critical"
    return "degrading" if worst is Severity.HIGH else "calm" if worst is Severity.NONE else "drifting"
