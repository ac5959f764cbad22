"""When to retrain: pure conditions on facts, every one of them named in the answer with what it found.

A demand that meets only passing obstacles (cool-down, a running rollout) stays open and is asked again as time passes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gauntlet.config import RetrainConfig
from gauntlet.events import Drift
from gauntlet.types import Severity

Kind = Literal["drift", "manual"]

_HOUR = 3600.0


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody or something asks for a new model: an open drift episode, or a person.

    `attempted` says that a job has already answered it at this severity: an urgent demand jumps the queue only once,
    and an episode that stays open afterwards waits like any other.
    """

    kind: Kind
    id: str
    at: float
    severity: Severity
    model: str
    reason: str
    action: str = ""
    root_cause: str = ""
    attempted: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the conditions are judged on. Times are seconds since the epoch, on the events' clock."""

    now: float
    champion: str
    rollout: str | None = None
    baking: str | None = None
    running_job: str | None = None
    last_job_started: float | None = None
    last_job_ended: float | None = None
    last_rollout_ended: float | None = None
    attempts: int = 0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition with its verdict; `passing` obstacles may be gone later, the others won't go by waiting."""

    name: str
    met: bool
    detail: str
    passing: bool = False


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, with all conditions in the order in which they were judged."""

    should_retrain: bool
    urgent: bool
    conditions: tuple[Condition, ...]

    @property
    def reasons(self) -> list[str]:
        """The conditions that speak for it."""
        return [f"{c.name}: {c.detail}" for c in self.conditions if c.met]

    @property
    def refusals(self) -> list[str]:
        """The conditions that stand against it."""
        return [f"{c.name}: {c.detail}" for c in self.conditions if not c.met]

    @property
    def later(self) -> bool:
        """Refused, but only by obstacles that pass with time."""
        return not self.should_retrain and all(c.met or c.passing for c in self.conditions)


def from_drift(drift: Drift, before: Demand | None) -> Demand | None:
    """The demand after one step of a drift episode: opened, kept or raised, or gone when the episode closes.

    A rise in severity is news and may jump the queue again.
    """
    same = before is not None and before.id == drift.episode
    if drift.event == "close":
        return None if same else before
    severity = Severity(drift.severity)
    attempted = before is not None and same and before.attempted and severity.rank <= before.severity.rank
    what = f"{severity} drift, root cause {drift.root_cause}"
    if drift.features:
        what += f" ({', '.join(f.name for f in drift.features[:5])})"
    return Demand(
        kind="drift",
        id=drift.episode,
        at=drift.at,
        severity=severity,
        model=drift.model,
        reason=what,
        action=drift.action,
        root_cause=drift.root_cause,
        attempted=attempted,
    )


def manual(id: str, at: float, model: str, actor: str, reason: str, *, urgent: bool = False) -> Demand:
    """The demand of a person; `urgent` skips the waiting times, never single flight or the attempt cap."""
    severity = Severity.CRITICAL if urgent else Severity.HIGH
    return Demand(kind="manual", id=id, at=at, severity=severity, model=model, reason=f"{actor}: {reason}")


def check(demand: Demand, facts: Facts, settings: RetrainConfig) -> Trigger:
    """Judge every condition for `demand`. All are judged, even when the first has failed."""
    now = facts.now
    urgent = demand.severity is Severity.CRITICAL and not demand.attempted
    conditions = (
        Condition(
            name="enabled", met=settings.enabled, detail="on" if settings.enabled else "retraining is switched off"
        ),
        _severity(demand, settings),
        Condition(
            name="root cause",
            met=not quarantined(demand),
            detail=f"{demand.root_cause or 'none named'}, {demand.action or 'no action named'}"
            + (": bad data is quarantined, never learned" if quarantined(demand) else ""),
        ),
        Condition(
            name="champion",
            met=demand.model == facts.champion,
            detail=f"it is about {demand.model}, the champion is {facts.champion}",
        ),
        Condition(
            name="single flight",
            met=facts.running_job is None,
            passing=True,
            detail=f"{facts.running_job} is running" if facts.running_job else "no job is running",
        ),
        Condition(
            name="rollout",
            met=facts.rollout is None,
            passing=True,
            detail=f"{facts.rollout} is running" if facts.rollout else "no rollout is running",
        ),
        Condition(
            name="bake",
            met=urgent or facts.baking is None,
            passing=True,
            detail=f"the champion of {facts.baking} is still being watched" if facts.baking else "no bake is running",
        ),
        _waited("min_interval", "the last job's start", facts.last_job_started, settings.min_interval, now, urgent),
        _waited("cool_down", "the last job's end", facts.last_job_ended, settings.cool_down, now, urgent),
        _waited("cool_down", "the last rollout's end", facts.last_rollout_ended, settings.cool_down, now, urgent),
        Condition(
            name="attempts",
            met=facts.attempts < settings.max_attempts,
            detail=f"{facts.attempts} of at most {settings.max_attempts} jobs against {facts.champion}",
        ),
    )
    return Trigger(should_retrain=all(c.met for c in conditions), urgent=urgent, conditions=conditions)


def quarantined(demand: Demand) -> bool:
    """Whether the data itself is at fault: a model learned from it would learn the fault."""
    return demand.action == "quarantine" or demand.root_cause in ("quality", "data_quality")


def _severity(demand: Demand, settings: RetrainConfig) -> Condition:
    if demand.kind == "manual":
        return Condition(name="manual", met=True, detail=demand.reason)
    wanted = Severity(settings.on_severity)
    met = demand.severity.rank >= wanted.rank
    return Condition(name="drift", met=met, detail=f"{demand.reason}; jobs start at {wanted}")


def _waited(name: str, since: str, at: float | None, wait: float, now: float, urgent: bool) -> Condition:
    if at is None:
        return Condition(name=name, met=True, passing=True, detail=f"{since}: there is none")
    detail = f"{(now - at) / _HOUR:.1f} h since {since}, {wait / _HOUR:.1f} h wanted{', urgent' if urgent else ''}"
    return Condition(name=name, met=urgent or now - at >= wait, passing=True, detail=detail)
