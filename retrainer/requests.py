"""Requests for new models: who or what asks, how urgent it is, and whether somebody has to agree. Pure.

The store keeps the open ones by key, one for each trigger. A request stays open while its cause does; a job answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from gauntlet.events import Drift
from gauntlet.types import Severity, TriggerKind, TriggerMode

_ONCE = ("schedule", "manual")
"""Kinds that one job answers for good; the others stay open while their cause does."""


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for new models. `model`: the champion it is about, None for whichever serves.

    `attempted` says that a job has already answered it at this severity: an urgent request jumps the queue only once,
    and an episode that stays open afterwards waits like any other. `name` is that of a user's rule.
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


def answered(requests: Mapping[str, RetrainRequest], by: RetrainRequest) -> dict[str, RetrainRequest]:
    """The open requests after jobs have started for `by`. Suggestions are answered with it: new models are on the way;
    the others are judged again as time passes."""
    after = {}
    for key, request in requests.items():
        if key != by.key and request.mode != "suggest":
            after[key] = request
        elif request.kind not in _ONCE:
            after[key] = msgspec.structs.replace(request, attempted=True, approved_by=None)
    return after


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
        approved_by=before.approved_by if before is not None and same else None,
    )


def manual(id: str, at: float, actor: str, reason: str, *, urgent: bool = False) -> RetrainRequest:
    """The request of a person; `urgent` skips the waiting times, never single flight or the attempt cap."""
    severity = Severity.CRITICAL if urgent else Severity.HIGH
    return RetrainRequest(kind="manual", id=id, at=at, severity=severity, model=None, reason=f"{actor}: {reason}")


def scheduled(at: float) -> RetrainRequest:
    """The request of the schedule, due at `at`. It waits for a running job, but for no cool-down: it is one."""
    due = datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes")
    return RetrainRequest(
        kind="schedule", id=f"schedule-{at:.0f}", at=at, severity=Severity.LOW, model=None, reason=f"due at {due}"
    )
