"""A model's retraining life: one line a job, from its trigger to its outcome. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gauntlet import ledger_document
from gauntlet.promotion_ledger import Ledger
from gauntlet.retraining_document import ReportDocument, ReportLine
from gauntlet.rollout import Control
from gauntlet.status import moment
from retrainer.store import JobRecord


def report(jobs: Iterable[JobRecord], control: Control, metric: str, now: float, ledger: Ledger) -> ReportDocument:
    """The whole life, the newest job first."""
    known = list(jobs)
    lines = [
        line(job, control, ledger) for job in sorted(known, key=lambda job: (job.created_at, job.id), reverse=True)
    ]
    return ReportDocument(
        model=control.experiment,
        at=moment(now),
        champion=control.champion,
        metric=metric,
        jobs=len(known),
        by_status=dict(Counter(job.status for job in known)),
        by_trigger=dict(Counter(job.trigger for job in known)),
        accepted=sum(bool(one.accepted) for one in lines),
        promoted=sum(one.state == "promoted" for one in lines),
        lines=lines,
        promotions=ledger_document.promotions(ledger, control),
        lineage=ledger_document.lineage(ledger, control),
    )


def line(job: JobRecord, control: Control, ledger: Ledger) -> ReportLine:
    """One job's way through data, gate, rollout and decision, and what its promotion was worth."""
    answer, split, holdout = job.answer, job.answer.split, job.answer.metrics.get("holdout", {})
    rollout = state = decided = None
    decision = ""
    if answer.version is not None:
        running = control.challenged_by(answer.version)
        ended = next((each for each in reversed(control.ended) if each.challenger == answer.version), None)
        if running is not None:
            rollout = running.id
            state = "in shadow" if running.in_shadow else f"at {running.share:.0%}"
        elif ended is not None:
            rollout, state, decision, decided = ended.id, ended.state, ended.reason, ended.at
    worth = ledger.of(rollout)
    return ReportLine(
        job=job.id,
        at=moment(job.created_at),
        trigger=job.trigger,
        severity=job.severity,
        reason=job.reason,
        recipe=job.recipe,
        champion=job.champion,
        status=job.status,
        train_rows=_count(split.get("train_rows")),
        holdout_rows=_count(split.get("holdout_rows")),
        version=answer.version,
        accepted=job.accepted,
        improvement=holdout.get("improvement"),
        gate=answer.reason,
        error=answer.error or "",
        rollout=rollout,
        state=state,
        decision=decision,
        decided=moment(decided),
        gain=worth.gain if worth else None,
        gain_lower=worth.lower if worth else None,
        gain_upper=worth.upper if worth else None,
        outcome=_outcome(job, control, state),
    )


def _outcome(job: JobRecord, control: Control, state: str | None) -> str:
    """What became of it, in a few words."""
    if job.status != "completed":
        return job.status
    if not job.accepted:
        return "the champion stays"
    if job.answer.version == control.champion:
        return "serves"
    return (state or "not challenged").replace("_", " ")


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
