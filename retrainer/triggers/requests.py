"""Requests for new models: who or what asks, how urgent it is, and whether somebody has to agree. Pure.

The store keeps the open ones by key, one for each trigger. A request stays open while its cause does; a job answers it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from gauntlet.config import RetrainConfig
from gauntlet.config.triggers import Repeat, RuleConfig, TriggerConfig
from gauntlet.types import Severity, TriggerKind, TriggerMode

ONCE = ("schedule", "rollback", "manual")
"""Kinds that one round of jobs answers for good; the others stay open while their cause does."""
_RETRIED = ("schedule", "rollback")
"""Those of them that are asked again where every job of the round fails. A person is told, and asks again."""


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for new models. `model`: the champion it is about, None for whichever serves.

    `attempted` says that a job has already answered it at this severity: an urgent request jumps the queue only once,
    and an episode that stays open afterwards waits like any other. `name` is that of a user's rule, `asked_by` the
    person who asks.
    """

    kind: TriggerKind
    id: str
    at: float
    severity: Severity
    model: str | None
    reason: str
    name: str = ""
    action: str = ""
    root_cause: str = ""
    attempted: bool = False
    mode: TriggerMode = "automatic"
    approved_by: str | None = None
    asked_by: str | None = None

    @property
    def key(self) -> str:
        """Its place among the open requests."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @property
    def urgent(self) -> bool:
        return self.severity is Severity.CRITICAL and not self.attempted


def by_urgency(requests: Mapping[str, RetrainRequest]) -> list[RetrainRequest]:
    """The order in which open requests may start a job: the most urgent first, then the oldest."""
    return sorted(requests.values(), key=lambda r: (not r.urgent, -r.severity.rank, r.at, r.key))


def awaiting(requests: Mapping[str, RetrainRequest]) -> list[RetrainRequest]:
    """The requests that wait for somebody's approval, the most urgent first."""
    return [each for each in by_urgency(requests) if each.mode == "approve" and each.approved_by is None]


def answered(requests: Mapping[str, RetrainRequest], by: RetrainRequest) -> dict[str, RetrainRequest]:
    """The open requests after jobs have started for `by`. Suggestions are answered with it: new models are on the way;
    the others are judged again as time passes. An approval counts for one round, that of the schedule or after a
    rollback until one gives an answer."""
    after = {}
    for key, request in requests.items():
        if key != by.key and request.mode != "suggest":
            after[key] = request
        elif request.kind not in ONCE:
            after[key] = msgspec.structs.replace(request, attempted=True, approved_by=None)
        elif key == by.key and request.kind in _RETRIED:
            after[key] = msgspec.structs.replace(request, attempted=True)
    return after


def is_answered(request: RetrainRequest, running: str | None, unanswered: Collection[str]) -> bool:
    """Whether a round of jobs has answered a request that is made once. `running`: the job that runs; `unanswered`: the
    requests whose latest round failed as a whole."""
    return request.kind in ONCE and request.attempted and running is None and request.id not in unanswered


class TriggerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings let the requests of one key do."""

    mode: TriggerMode
    repeat: Repeat = "level"
    lasting: float = 0.0


def policy(key: str, settings: RetrainConfig) -> TriggerPolicy | None:
    """The policy for the requests of `key`; None where they are switched off."""
    triggers, (kind, _, name) = settings.triggers, key.partition(":")
    if kind == "schedule":
        return None if settings.schedule is None else TriggerPolicy(mode=settings.schedule.mode)
    if kind in ("rollback", "manual"):
        found = triggers.rollback if kind == "rollback" else triggers.manual
        return TriggerPolicy(mode=found.mode) if found.enabled else None
    trigger: TriggerConfig | RuleConfig | None = next((rule for rule in triggers.rules if rule.name == name), None)
    if kind != "rule":
        trigger = getattr(triggers, kind)
    if trigger is None or not trigger.enabled:
        return None
    return TriggerPolicy(mode=trigger.mode, repeat=trigger.repeat, lasting=float(trigger.lasting))


def after(
    requests: Mapping[str, RetrainRequest], causes: Iterable[RetrainRequest | str], settings: RetrainConfig
) -> dict[str, RetrainRequest]:
    """The open requests once all triggers were looked at. `causes`: a request for each cause that is there, and the
    bare key where nobody can tell: then what is open stays.

    A cause that is the same as before keeps its time, its approval, and that a job has answered it; a rise in severity
    is news and may jump the queue again. Every request goes by the settings as they are now.
    """
    kept = {key: request for key, request in requests.items() if request.kind in ONCE}
    for cause in causes:
        if isinstance(cause, str):
            kept |= {cause: requests[cause]} if cause in requests else {}
            continue
        before = requests.get(cause.key)
        if before is not None and before.id == cause.id:
            attempted = before.attempted and cause.severity <= before.severity
            cause = msgspec.structs.replace(cause, at=before.at, attempted=attempted, approved_by=before.approved_by)
        kept[cause.key] = cause
    ruled = ((request, policy(key, settings)) for key, request in kept.items())
    return {r.key: msgspec.structs.replace(r, mode=rule.mode) for r, rule in ruled if rule is not None}


def manual(id: str, at: float, actor: str, reason: str, *, urgent: bool = False) -> RetrainRequest:
    """The request of a person; `urgent` skips the waiting times, never single flight or the attempt cap."""
    severity = Severity.CRITICAL if urgent else Severity.HIGH
    why = f"{actor}: {reason}"
    return RetrainRequest(kind="manual", id=id, at=at, severity=severity, model=None, reason=why, asked_by=actor)


def taken_back(rollout: str, at: float, challenger: str, reason: str) -> RetrainRequest:
    """The urgent request after a promoted model was taken back."""
    why = f"{challenger} was taken back: {reason}"
    return RetrainRequest(
        kind="rollback", id=f"rollback-{rollout}", at=at, severity=Severity.CRITICAL, model=None, reason=why
    )


def scheduled(at: float, *, urgent: bool = False) -> RetrainRequest:
    """The request of the schedule, due at `at`. It waits for a running job, but for no cool-down: it is one."""
    due = datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes")
    return RetrainRequest(
        kind="schedule",
        id=f"schedule-{at:.0f}",
        at=at,
        severity=Severity.CRITICAL if urgent else Severity.LOW,
        model=None,
        reason=f"due at {due}",
    )
