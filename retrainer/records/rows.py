"""Rows of the records, derived from what the retrainer knows. Pure, and the same whenever they are derived."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from gauntlet.rollout import Control
from retrainer.notify.outbox import Delivery
from retrainer.records.checklist import ChecklistItem
from retrainer.store import JobRecord
from retrainer.triggers.requests import RetrainRequest

Row = dict[str, Any]


_OUTCOME = (
    "execution_successful",
    "execution_metrics",
    "retraining_model_version",
    "retraining_r2",
    "retraining_rmse",
    "retraining_accuracy",
    "comparison_previous_r2",
    "improvement_r2_percent",
    "improvement_rmse_percent",
    "improvement_accuracy_percent",
    "execution_completed_at",
)
"""Columns of an event that only a job fills."""

_LAST = 253_402_300_799.0
"""The last second of the year 9999, in which a database's calendar ends."""


def origin(experiment: str, began: float) -> Row:
    """The columns that say whose rows they are; `began` is the control record's."""
    return {"experiment": experiment, "began": _moment(began)}


def of_job(job: JobRecord) -> Row:
    """The row of `retraining_jobs`."""
    answer = job.answer
    return {
        "job_id": job.id,
        "status": job.status,
        "trigger": job.trigger,
        "request": text(job.request),
        "severity": job.severity,
        "reason": text(job.reason),
        "champion": job.champion,
        "recipe": text(job.recipe),
        "challenger": answer.version,
        "accepted": job.accepted,
        "decision_reason": text(answer.reason),
        "error": None if answer.error is None else text(answer.error),
        "answer": clean(msgspec.to_builtins(answer)),
        "starts": job.starts,
        "seconds": _finite(job.seconds) or 0.0,
        "created_at": _moment(job.created_at),
        "updated_at": _moment(job.updated_at),
        "ended_at": None if job.ended_at is None else _moment(job.ended_at),
    }


def of_event(job: JobRecord) -> Row:
    """The row of `model_retraining_events`: what asked for the job, and what came of it."""
    answer = job.answer
    before, after = answer.metrics.get("champion", {}), answer.metrics.get("challenger", {})
    return {
        "job_id": job.id,
        "trigger_type": job.trigger,
        "severity": job.severity,
        "drift_type": text(job.drift_type) or None,
        "trigger_reason": text(job.reason),
        "trigger_metrics": clean({"request": job.request, "conditions": job.conditions}),
        "execution_attempted": job.starts > 0,
        "execution_successful": None if job.ended_at is None else job.status == "completed",
        "execution_metrics": clean(
            {
                "status": job.status,
                "accepted": job.accepted,
                "reason": answer.error or answer.reason,
                "champion": before,
                "challenger": after,
                "holdout": answer.metrics.get("holdout", {}),
                "split": answer.split,
                "training_seconds": answer.training_seconds,
                "seconds": job.seconds,
            }
        ),
        "retraining_model_version": answer.version,
        "retraining_r2": _finite(after.get("r2")),
        "retraining_rmse": _finite(after.get("rmse")),
        "retraining_accuracy": _finite(after.get("accuracy")),
        "comparison_previous_r2": _finite(before.get("r2")),
        "improvement_r2_percent": _per_cent(before.get("r2"), after.get("r2")),
        "improvement_rmse_percent": _per_cent(before.get("rmse"), after.get("rmse"), less_is_better=True),
        "improvement_accuracy_percent": _per_cent(before.get("accuracy"), after.get("accuracy")),
        "triggered_at": _moment(job.created_at),
        "execution_completed_at": None if job.ended_at is None else _moment(job.ended_at),
    }


def of_suggestion(request: RetrainRequest) -> Row:
    """The row of `model_retraining_events` for a request that starts no job by itself."""
    facts = {"request": request.id, "action": request.action, "root_cause": request.root_cause}
    return {
        **dict.fromkeys(_OUTCOME),
        "job_id": text(f"suggested {request.id}"),
        "trigger_type": request.kind,
        "severity": str(request.severity),
        "drift_type": text(request.root_cause) or None,
        "trigger_reason": text(request.reason),
        "trigger_metrics": clean(facts),
        "execution_attempted": False,
        "triggered_at": _moment(request.at),
    }


def of_decision(
    version: int, control: Control, challenger: str | None, job: str, checklist: list[ChecklistItem]
) -> Row:
    """The row of `decisions` for one version of the control record."""
    last = control.last
    assert last is not None, "every version of the record leaves its transition"
    return {
        "version": version,
        "command": last.command,
        "decision": str(last.decision),
        "actor": text(last.actor),
        "reason": text(last.reason),
        "detail": text(last.detail),
        "rollout": last.rollout,
        "challenger": challenger,
        "champion": control.champion,
        "evidence": last.evidence,
        "job_id": text(job) or None,
        "checklist": clean(msgspec.to_builtins(checklist)) or None,
        "at": _moment(last.at),
    }


def of_delivery(delivery: Delivery) -> Row:
    """The row of `deliveries`."""
    notice = delivery.notice
    return {
        "notice": text(notice.id),
        "target": text(delivery.target),
        "kind": notice.kind,
        "severity": str(notice.severity),
        "title": text(notice.title),
        "status": delivery.status,
        "attempts": delivery.attempts,
        "error": None if delivery.error is None else text(delivery.error),
        "at": _moment(notice.at),
        "updated_at": _moment(delivery.updated_at),
    }


def text(value: str) -> str:
    """The text without what PostgreSQL can't hold: NUL, and halves of characters."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def clean(value: Any) -> Any:
    """JSON that both databases hold: a number that is none becomes null."""
    if isinstance(value, dict):
        return {text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float):
        return _finite(value)
    return text(value) if isinstance(value, str) else value


def _moment(at: float) -> datetime:
    """A time as the databases hold it. One that is none, of an event with a broken clock, must not stop the others."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST) if math.isfinite(at) else 0.0, UTC)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _per_cent(before: float | None, after: float | None, *, less_is_better: bool = False) -> float | None:
    """Improvement in per cent of `before`; None where that means nothing."""
    if before is None or after is None or not before:
        return None
    gain = (before - after) if less_is_better else (after - before)
    return _finite(100 * gain / abs(before))
