"""The retrainer's records as its API answers them. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping

from gauntlet.registry import Version
from gauntlet.retraining_document import ConditionDocument, JobDocument, Progress, RequestDocument, VersionDocument
from gauntlet.status import moment
from retrainer.jobs.job_dir import JobFolder
from retrainer.store import JobRecord
from retrainer.triggers.conditions import Condition
from retrainer.triggers.requests import RetrainRequest


def condition(found: Condition) -> ConditionDocument:
    return ConditionDocument(
        trigger=found.trigger,
        name=found.name,
        met=found.met,
        detail=found.detail,
        value=_finite(found.value),
        limit=_finite(found.limit),
        passing=found.passing,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def request(found: RetrainRequest) -> RequestDocument:
    return RequestDocument(
        id=found.id,
        key=found.key,
        trigger=found.kind,
        severity=found.severity,
        reason=found.reason,
        mode=found.mode,
        at=moment(found.at),
        approved_by=found.approved_by,
        attempted=found.attempted,
    )


def job(found: JobRecord, model: str, progress: Progress | None = None) -> JobDocument:
    answer = found.answer
    return JobDocument(
        id=found.id,
        model=model,
        status=found.status,
        trigger=found.trigger,
        request=found.request,
        severity=found.severity,
        reason=found.reason,
        by=found.by,
        champion=found.champion,
        recipe=found.recipe,
        created=moment(found.created_at),
        updated=moment(found.updated_at),
        ended=moment(found.ended_at),
        seconds=found.seconds,
        starts=found.starts,
        version=answer.version,
        accepted=found.accepted,
        decision=answer.reason,
        metrics=answer.metrics,
        split=answer.split,
        training_seconds=answer.training_seconds,
        error=answer.error,
        warnings=list(answer.warnings),
        progress=progress,
    )


def progress(folder: JobFolder, memory: int | None) -> Progress:
    """The progress that a running job has written into its folder."""
    step = folder.step()
    return Progress(
        step=step.step if step is not None else "starting",
        started=moment(step.started) if step is not None else None,
        seconds=max(0.0, time.time() - step.started) if step is not None and step.started else None,
        steps_done=step.done if step is not None else 0,
        steps_planned=step.planned if step is not None else None,
        share=step.share if step is not None else 0.0,
        heartbeat=moment(folder.heartbeat()),
        memory_bytes=memory,
    )


def versions(
    found: Iterable[Version], statuses: Mapping[str, str], aliases: Mapping[str, str]
) -> list[VersionDocument]:
    """The registry's versions, the newest first."""
    return [
        VersionDocument(
            version=one.version,
            status=statuses.get(one.version, "staging"),  # one that has just come
            aliases=sorted(alias for alias, version in aliases.items() if version == one.version),
            created=moment(one.created_at),
            algorithm=one.algorithm,
            parent=one.parent,
            job=one.note,
            rows=one.rows,
            data_from=moment(one.data_from),
            data_to=moment(one.data_to),
            code_version=one.code_version,
            checksum=one.checksum or "",
            features=[feature.name for feature in one.schema.features],
            metrics=one.metrics,
            parameters=one.parameters,
        )
        for one in sorted(found, key=lambda each: (len(each.version), each.version), reverse=True)
    ]
