"""Retraining triggers: pure conditions on a request and its context, each named in the answer with its detail.

A request that meets only passing obstacles (cool-down, a running rollout) stays open and is judged again as time
passes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from gauntlet.config import RetrainConfig
from gauntlet.config.section import span
from gauntlet.events import Drift
from gauntlet.types import Rule, Severity


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for new models: by an open drift episode, the schedule, or a person.

    `attempted` says that a job has already answered it at this severity: an urgent request jumps the queue only once,
    and an episode that stays open afterwards waits like any other.
    """

    kind: Literal["drift", "schedule", "manual"]
    id: str
    at: float
    severity: Severity
    model: str
    reason: str
    action: str = ""
    root_cause: str = ""
    attempted: bool = False


class RetrainContext(msgspec.Struct, frozen=True, kw_only=True):
    """State that the conditions are judged on. Times are seconds since the epoch, on the events' clock.

    rollouts: the running ones; replaceable: those of them whose place a new model of the same recipe may take. most:
    challengers that may run at once.
    """

    now: float
    champion: str
    rollouts: tuple[str, ...] = ()
    replaceable: int = 0
    most: int = 1
    baking: str | None = None
    running_job: str | None = None
    last_job_started: float | None = None
    last_job_ended: float | None = None
    last_rollout_ended: float | None = None
    attempts: int = 0


class Condition(msgspec.Struct, frozen=True):
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
        return [f"{c.name}: {c.detail}" for c in self.conditions if c.met]

    @property
    def refusals(self) -> list[str]:
        return [f"{c.name}: {c.detail}" for c in self.conditions if not c.met]

    @property
    def later(self) -> bool:
        """Refused, but only by obstacles that pass with time."""
        return not self.should_retrain and all(c.met or c.passing for c in self.conditions)


def from_drift(drift: Drift, before: RetrainRequest | None) -> RetrainRequest | None:
    """The request after one step of a drift episode: opened, kept or raised, or gone when the episode closes.

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
    return RetrainRequest(
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


def manual(id: str, at: float, model: str, actor: str, reason: str, *, urgent: bool = False) -> RetrainRequest:
    """The request of a person; `urgent` skips the waiting times, never single flight or the attempt cap."""
    severity = Severity.CRITICAL if urgent else Severity.HIGH
    return RetrainRequest(kind="manual", id=id, at=at, severity=severity, model=model, reason=f"{actor}: {reason}")


def scheduled(at: float, model: str) -> RetrainRequest:
    """The request of the schedule, due at `at`. It waits for a running job, but for no cool-down: it is one."""
    due = datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes")
    return RetrainRequest(
        kind="schedule", id=f"schedule-{at:.0f}", at=at, severity=Severity.LOW, model=model, reason=f"due at {due}"
    )


def check(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Trigger:
    """Judge every condition for `request`. All are judged, even when the first has failed."""
    urgent = request.severity is Severity.CRITICAL and not request.attempted
    routine = request.kind == "schedule"
    refresh = settings.rule is Rule.REFRESH
    quarantined = is_quarantined(request)

    def waited(name: str, since: str, at: float | None, wait: float) -> Condition:
        if at is None:
            return Condition(name, True, f"{since}: there is none", passing=True)
        detail = f"{span(context.now - at)} since {since}, {span(wait)} wanted{', urgent' if urgent else ''}"
        return Condition(name, urgent or context.now - at >= wait, detail, passing=True)

    def absent(name: str, what: str | None, present: str, none: str, waived: bool = False) -> Condition:
        return Condition(name, waived or what is None, present.format(what) if what else none, passing=True)

    conditions = (
        Condition("enabled", settings.enabled, "on" if settings.enabled else "retraining is switched off"),
        _severity(request, settings),
        Condition(
            "root cause",
            not quarantined,
            f"{request.root_cause or 'none named'}, {request.action or 'no action named'}"
            + (": bad data is quarantined, never learned" if quarantined else ""),
        ),
        Condition(
            "champion",
            request.model == context.champion,
            f"it is about {request.model}, the champion is {context.champion}",
        ),
        absent("single flight", context.running_job, "{} is running", "no job is running"),
        _room(context, settings),
        absent(
            "bake",
            context.baking,
            "the champion of {} is still being watched",
            "no bake is running",
            waived=urgent or refresh,
        ),
        waited("min_interval", "the last job's start", context.last_job_started, settings.min_interval),
        waited("cool_down", "the last job's end", context.last_job_ended, 0 if routine else settings.cool_down),
        waited("cool_down", "the last rollout's end", context.last_rollout_ended, 0 if refresh else settings.cool_down),
        Condition(
            "attempts",
            routine or context.attempts < settings.max_attempts,
            f"{context.attempts} of at most {settings.max_attempts} jobs against {context.champion}",
        ),
    )
    return Trigger(should_retrain=all(c.met for c in conditions), urgent=urgent, conditions=conditions)


def _room(context: RetrainContext, settings: RetrainConfig) -> Condition:
    """Whether new challengers may run beside those that do. A model that has to prove itself runs alone."""
    running = ", ".join(context.rollouts) or "none"
    if settings.rule is Rule.PROVE:
        return Condition("rollout", not context.rollouts, f"running rollouts: {running}", passing=True)
    after = len(context.rollouts) - context.replaceable + len(settings.all_recipes)
    detail = f"running rollouts: {running}; with the new models {after} of at most {context.most}"
    return Condition("rollout", after <= context.most, detail, passing=True)


def is_quarantined(request: RetrainRequest) -> bool:
    """Whether the data itself is at fault: a model learned from it would learn the fault."""
    return request.action == "quarantine" or request.root_cause in ("quality", "data_quality")


def _severity(request: RetrainRequest, settings: RetrainConfig) -> Condition:
    if request.kind != "drift":
        return Condition(request.kind, True, request.reason)
    wanted = Severity(settings.on_severity)
    return Condition("drift", request.severity.rank >= wanted.rank, f"{request.reason}; jobs start at {wanted}")
