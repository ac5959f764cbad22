"""Retraining triggers: pure conditions on a request and its context, each named in the answer with its detail.

A request that meets only passing obstacles (cool-down, a running rollout) stays open and is judged again as time
passes.
"""

from __future__ import annotations

import msgspec

from gauntlet.config import RetrainConfig
from gauntlet.config.section import span
from gauntlet.types import Rule, Severity
from retrainer.requests import RetrainRequest


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


def check(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Trigger:
    """Judge every condition for `request`. All are judged, even when the first has failed."""
    urgent = request.urgent
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
            request.model in (None, context.champion),
            f"it is about {request.model or 'whichever serves'}, the champion is {context.champion}",
        ),
        _approval(request),
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


def _approval(request: RetrainRequest) -> Condition:
    """Whether anybody still has to agree. A suggestion stays one: a person may ask for the job in their own name."""
    details = {
        "automatic": "none is asked for",
        "approve": f"approved by {request.approved_by}" if request.approved_by else "not approved yet",
        "suggest": "a suggestion only; trigger a job by hand to follow it",
    }
    met = request.mode == "automatic" or (request.mode == "approve" and request.approved_by is not None)
    return Condition("approval", met, details[request.mode], passing=True)


def is_quarantined(request: RetrainRequest) -> bool:
    """Whether the data itself is at fault: a model learned from it would learn the fault."""
    return request.action == "quarantine" or request.root_cause in ("quality", "data_quality")


def _severity(request: RetrainRequest, settings: RetrainConfig) -> Condition:
    if request.kind != "drift":
        return Condition(request.kind, True, request.reason)
    wanted = Severity(settings.on_severity)
    return Condition("drift", request.severity.rank >= wanted.rank, f"{request.reason}; jobs start at {wanted}")
