"""Notices, made from alerts and decisions. Pure; their ids are the same whenever they are made."""

from __future__ import annotations

from typing import Any

import msgspec

from gauntlet.rollout import Control
from gauntlet.types import Decision, Severity
from retrainer.alerts import Alert
from retrainer.store import JobRecord
from retrainer.triggers.requests import RetrainRequest

_DECISIONS = {
    Decision.PROMOTE: (Severity.MEDIUM, "{challenger} is the champion now"),
    Decision.ROLLBACK: (Severity.HIGH, "{challenger} is rolled back; {champion} serves"),
    Decision.ARCHIVE: (Severity.LOW, "{challenger} is archived; {champion} stays"),
}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell, once. `id` is the same over all tries and targets; `at` is event time."""

    id: str
    kind: str
    severity: Severity
    at: float
    experiment: str
    title: str
    text: str
    data: dict[str, Any] = {}


def of_job(experiment: str, job: JobRecord) -> Notice | None:
    """A job that has come to its end or was cancelled; of one that failed an alert tells."""
    if job.status not in ("completed", "cancelled") or job.ended_at is None:
        return None
    found = {None: "has ended", True: f"has made {job.answer.version}", False: "keeps the champion"}[job.accepted]
    return Notice(
        id=f"{experiment}.{job.id}.{job.status}.{job.ended_at:.3f}",
        kind=f"job_{job.status}",
        severity=Severity.LOW,
        at=job.ended_at,
        experiment=experiment,
        title=f"{experiment}: {job.id} {'is cancelled' if job.status == 'cancelled' else found}",
        text=job.answer.reason or job.answer.error or job.reason,
        data={"job": job.id, "trigger": job.trigger, "champion": job.champion, "version": job.answer.version},
    )


def of_request(experiment: str, request: RetrainRequest) -> Notice | None:
    """A request that waits for somebody: a suggestion, or one that needs approval."""
    if request.mode == "automatic" or request.attempted or request.approved_by is not None:
        return None
    asked = request.mode == "approve"
    return Notice(
        id=f"{experiment}.{request.key}.{request.id}.{request.severity}.{request.mode}",
        kind="approval_asked" if asked else "retraining_suggested",
        severity=max(Severity.MEDIUM, request.severity),
        at=request.at,
        experiment=experiment,
        title=f"{experiment}: retraining {'waits for approval' if asked else 'is suggested'} ({request.key})",
        text=request.reason,
        data={"request": request.key, "action": request.action, "root_cause": request.root_cause},
    )


def of_alert(alert: Alert) -> Notice:
    return Notice(
        id=f"{alert.experiment}.{alert.name}.{alert.job or 'none'}.{alert.at:.3f}",
        kind=alert.name,
        severity=alert.severity,
        at=alert.at,
        experiment=alert.experiment,
        title=f"{alert.experiment}: {alert.name.replace('_', ' ')}",
        text=f"{alert.text}\nWhat to do: {alert.remedy}",
        data={"job": alert.job} if alert.job else {},
    )


def of_decision(version: int, before: Control, after: Control) -> Notice | None:
    """A promotion, a rollback or an archived challenger; None for what only moves a rollout on."""
    last = after.last
    if last is None or last.decision not in _DECISIONS:
        return None
    severity, title = _DECISIONS[last.decision]
    gone = [rollout.challenger for rollout in before.rollouts if after.running(rollout.id) is None]
    promoted = after.champion if last.decision is Decision.PROMOTE else None
    # Without a challenger that went, the champion itself was taken out.
    challenger = promoted or ", ".join(gone) or before.champion
    return Notice(
        id=f"{after.experiment}.{after.began:.0f}.{version}",
        kind=str(last.decision),
        severity=severity,
        at=last.at,
        experiment=after.experiment,
        title=f"{after.experiment}: {title.format(challenger=challenger, champion=after.champion)}",
        text=f"{last.actor}: {last.reason}",
        data={
            "version": version,
            "command": last.command,
            "challenger": challenger,
            "champion": after.champion,
            "previous": after.previous,
            "rollout": last.rollout,
            "evidence": last.evidence,
        },
    )
