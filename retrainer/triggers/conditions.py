"""What a request has to meet before it gets its job: pure conditions on it and its context, each named with its detail.

A request that meets only passing obstacles (cool-down, a running rollout) stays open and is judged again as time
passes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from gauntlet.clock import lasting
from gauntlet.config import RetrainConfig
from gauntlet.types import Rule
from retrainer.triggers.requests import RetrainRequest, policy

_MOST_DOUBLINGS = 30  # beyond any cool-down


class RetrainContext(msgspec.Struct, frozen=True, kw_only=True):
    """State that the conditions are judged on. Times are seconds since the epoch, on the events' clock.

    rollouts: the running ones; replaceable: how many of them may give way to new models. most: challengers that may run
    at once. last_attempt_ended, attempts: without the jobs that failed; failures: rounds in a row that did; unanswered:
    requests whose latest round did. asked: the open request of a person. new_samples, left_to_train (labelled rows that
    are not held out), trainable_in (seconds until these are enough), quality: None where not known.
    """

    now: float
    champion: str
    rollouts: tuple[str, ...] = ()
    replaceable: int = 0
    most: int = 1
    baking: str | None = None
    running_job: str | None = None
    last_job_started: float | None = None
    last_attempt_ended: float | None = None
    last_rollout_ended: float | None = None
    attempts: int = 0
    failures: int = 0
    unanswered: frozenset[str] = frozenset()
    asked: str | None = None
    new_samples: int | None = None
    left_to_train: int | None = None
    trainable_in: float | None = None
    quality: float | None = None
    monitoring: bool = True


class Condition(msgspec.Struct, frozen=True):
    """One condition with its verdict: met, not met, or None where that is not known.

    `trigger`: the key of the trigger it belongs to, `constraint` for what holds a job back. `passing` obstacles may be
    gone later, the others won't go by waiting. `value` and `limit`: numbers, of times in seconds, where there are any.
    `counts` is False for one that is only told.
    """

    name: str
    met: bool | None
    detail: str
    passing: bool = False
    trigger: str = "constraint"
    value: float | None = None
    limit: float | None = None
    counts: bool = True


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a request gets its job, with all conditions in the order in which they were judged. What is not known
    holds nothing back."""

    conditions: tuple[Condition, ...]

    @property
    def should_retrain(self) -> bool:
        return not self.obstacles

    @property
    def obstacles(self) -> list[Condition]:
        return [c for c in self.conditions if c.met is False]

    @property
    def reasons(self) -> list[str]:
        return [f"{c.name}: {c.detail}" for c in self.conditions if c.met]

    @property
    def refusals(self) -> list[str]:
        return [f"{c.name}: {c.detail}" for c in self.obstacles]

    @property
    def waits_for_approval(self) -> bool:
        """Whether nothing else is missing."""
        return [c.name for c in self.obstacles] == ["approval"]

    @property
    def later(self) -> bool:
        """Refused, but only by obstacles that pass with time."""
        return bool(self.obstacles) and all(c.passing for c in self.obstacles)


def check(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Trigger:
    """Judge every condition for `request`. All are judged, even when the first has failed."""
    urgent = request.urgent
    routine = request.kind == "schedule"
    refresh = settings.rule is Rule.REFRESH

    def waited(name: str, since: str, at: float | None, wait: float) -> Condition:
        if at is None:
            return Condition(name, True, f"{since}: there is none", passing=True, limit=float(wait))
        passed = context.now - at
        detail = f"{lasting(passed)} since {since}, {lasting(wait)} wanted{', urgent' if urgent else ''}"
        if passed < 0.0:  # a person's command, by the machine's clock; what is judged here goes by the events'
            detail = f"the events read so far are {lasting(-passed)} older than {since}{', urgent' if urgent else ''}"
        return Condition(name, urgent or passed >= wait, detail, True, value=passed, limit=float(wait))

    def absent(name: str, what: str | None, present: str, none: str, waived: bool = False) -> Condition:
        return Condition(name, waived or what is None, present.format(what) if what else none, passing=True)

    return Trigger(
        conditions=(
            Condition("enabled", settings.enabled, "on" if settings.enabled else "retraining is switched off"),
            Condition(request.key, policy(request.key, settings) is not None, request.reason),
            _root_cause(request),
            Condition(
                "champion",
                request.model in (None, context.champion),
                f"it is about {request.model or 'whichever serves'}, the champion is {context.champion}",
            ),
            _monitored(request, context),
            _approval(request),
            _once(request, context, settings),
            _single_request(request, context),
            absent("single flight", context.running_job, "{} is running", "no job is running"),
            _room(context, settings),
            absent(
                "bake",
                context.baking,
                "the champion of {} is still being watched",
                "no bake is running",
                waived=urgent or refresh,
            ),
            waited("min_interval", *_last_job(context, settings, routine and not request.attempted)),
            waited("cool_down", "the last job's end", context.last_attempt_ended, 0 if routine else settings.cool_down),
            waited(
                "cool_down", "the last rollout's end", context.last_rollout_ended, 0 if refresh else settings.cool_down
            ),
            Condition(
                "attempts",
                (routine and not urgent) or context.attempts < settings.max_attempts,
                f"{context.attempts} of at most {settings.max_attempts} jobs against {context.champion}",
                value=context.attempts,
                limit=settings.max_attempts,
            ),
            _samples(request, context, settings),
            _left_to_train(context, settings),
            _quality(context, settings),
            _hours(request, context, settings),
        )
    )


def is_quarantined(request: RetrainRequest) -> bool:
    """Whether the data itself is at fault: a model learned from it would learn the fault."""
    return request.kind != "quality" and (
        request.action == "quarantine" or request.root_cause in ("quality", "data_quality")
    )


def _root_cause(request: RetrainRequest) -> Condition:
    quarantined = is_quarantined(request)
    detail = f"{request.root_cause or 'none named'}, {request.action or 'no action named'}"
    return Condition(
        "root cause", not quarantined, f"{detail}: bad data is quarantined, never learned" if quarantined else detail
    )


def _monitored(request: RetrainRequest, context: RetrainContext) -> Condition:
    """Whether triggers may start jobs at all; what a person has asked for or agreed to always may."""
    if context.monitoring:
        return Condition("monitoring", True, "on", passing=True)
    person = request.kind == "manual" or request.approved_by is not None
    return Condition("monitoring", person, "stopped: only what a person asks for or approves starts", passing=True)


def _approval(request: RetrainRequest) -> Condition:
    """Whether anybody still has to agree. A suggestion stays one: a person may ask for the job in their own name."""
    details = {
        "automatic": "none is asked for",
        "approve": f"approved by {request.approved_by}" if request.approved_by else "not approved yet",
        "suggest": "a suggestion only; trigger a job by hand to follow it",
    }
    met = request.mode == "automatic" or (request.mode == "approve" and request.approved_by is not None)
    return Condition("approval", met, details[request.mode], passing=True)


def _last_job(context: RetrainContext, settings: RetrainConfig, routine: bool) -> tuple[str, float | None, float]:
    """What the minimum interval counts from, and how long it is: every further round in a row that failed doubles it,
    up to the cool-down, so that nothing is tried for ever. A schedule keeps its own pace, but for its retries."""
    since, wait = "the last job's start", float(settings.min_interval)
    if routine or context.failures < 2:
        return since, context.last_job_started, wait
    doubled = wait * 2.0 ** min(context.failures - 1, _MOST_DOUBLINGS)
    longest = max(wait, float(settings.cool_down))
    return f"{since} ({context.failures} in a row failed)", context.last_job_started, min(doubled, longest)


def _once(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Condition:
    known = policy(request.key, settings)
    edge = known is not None and known.repeat == "edge"
    answered = request.attempted and request.id not in context.unanswered
    detail = "a job has answered it already" if answered else "no job has answered it yet"
    return Condition("repeat", not (edge and answered), detail, passing=True)


def _single_request(request: RetrainRequest, context: RetrainContext) -> Condition:
    """Whether no other request of a person is open: a second would take the place of one that others look at."""
    other = context.asked is not None and request.kind == "manual" and context.asked != request.id
    detail = f"{context.asked} is open already: approve it or decline it" if other else "no other request is open"
    return Condition("single request", not other, detail, passing=True)


def _room(context: RetrainContext, settings: RetrainConfig) -> Condition:
    """Whether new challengers may run beside those that do. A model that has to prove itself runs alone."""
    running = ", ".join(context.rollouts) or "none"
    if settings.rule is Rule.PROVE:
        return Condition("rollout", not context.rollouts, f"running rollouts: {running}", passing=True)
    after = len(context.rollouts) - context.replaceable + len(settings.all_recipes)
    detail = f"running rollouts: {running}; with the new models {after} of at most {context.most}"
    return Condition("rollout", after <= context.most, detail, passing=True, value=after, limit=context.most)


def _samples(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Condition:
    known, least = context.new_samples, settings.min_data_points
    detail = f"{'an unknown number of' if known is None else f'{known:,}'} new labelled rows, {least:,} wanted"
    met = None if known is None else known >= least or (request.kind == "manual" and request.urgent)
    return Condition("min_data_points", met, detail, passing=True, value=known, limit=least)


def _left_to_train(context: RetrainContext, settings: RetrainConfig) -> Condition:
    """Whether the rows that are not held out are enough to train on: with fewer a job can only fail, whoever asks."""
    known, least = context.left_to_train, settings.min_data_points
    count = "an unknown number of" if known is None else f"{known:,}"
    detail = f"{count} labelled rows are left, {least:,} wanted: "
    detail += f"the newest {lasting(settings.validation + settings.test)} are held out"
    if context.trainable_in is not None:
        detail += f"; enough in {lasting(context.trainable_in)} at the earliest"
    met = None if known is None else known >= least
    return Condition("rows to train on", met, detail, passing=True, value=known, limit=least)


def _quality(context: RetrainContext, settings: RetrainConfig) -> Condition:
    score, block = context.quality, settings.triggers.quality.block
    detail = f"the requests' quality is {'not known' if score is None else f'{score:.4g}'}, {block:g} wanted"
    met = None if score is None else score >= block
    return Condition("data quality", met, detail, passing=True, value=score, limit=block)


def _hours(request: RetrainRequest, context: RetrainContext, settings: RetrainConfig) -> Condition:
    """The schedule's allowed hours, on the clock of its zone; an urgent job does not wait for them."""
    schedule = settings.schedule
    if request.kind != "schedule" or schedule is None or schedule.hours is None:
        return Condition("hours", True, "at any hour", passing=True)
    clock = datetime.fromtimestamp(context.now, UTC).astimezone(ZoneInfo(schedule.timezone)).strftime("%H:%M")
    first, _, last = schedule.hours.partition("-")
    inside = first <= clock < last if first < last else clock >= first or clock < last
    detail = f"it is {clock} in {schedule.timezone}, {schedule.hours} allowed"
    return Condition("hours", inside or request.urgent, detail, passing=True)
