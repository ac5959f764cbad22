"""A retraining job's run as lineage tools read it (https://openlineage.io), from its start to its end. Pure."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import gauntlet
from gauntlet.types import Severity
from retrainer.notify.notices import Notice
from retrainer.store import JobRecord

KIND = "lineage"
"""The kind of these notices: for lineage targets alone."""

_TYPES = {"running": "START", "completed": "COMPLETE", "failed": "FAIL", "aborted": "ABORT", "cancelled": "ABORT"}
_SPEC = "https://openlineage.io/spec"
_PRODUCER = f"https://pypi.org/project/gauntlet-ml/{gauntlet.__version__}"
_NAMESPACE = "gauntlet"


def of_job(experiment: str, job: JobRecord) -> Notice | None:
    """The run event of the job's present state; None before it has started. A run keeps its id over restarts."""
    if job.status not in _TYPES:
        return None
    at = job.created_at if job.ended_at is None else job.ended_at
    return Notice(
        id=f"{experiment}.{job.id}.{KIND}.{job.status}.{at:.3f}",
        kind=KIND,
        severity=Severity.NONE,
        at=at,
        experiment=experiment,
        title=f"{job.id} {job.status}",
        text="",
        data=_run_event(experiment, job, at),
    )


def _run_event(experiment: str, job: JobRecord, at: float) -> dict[str, Any]:
    run = uuid.uuid5(uuid.NAMESPACE_URL, f"{_NAMESPACE}/{experiment}/{job.id}/{job.created_at:.3f}")
    facets = {}
    if job.answer.error is not None:
        error = {"message": job.answer.error, "programmingLanguage": "python"}
        facets["errorMessage"] = _facet("1-0-1", "ErrorMessageRunFacet", error)
    return {
        "eventType": _TYPES[job.status],
        "eventTime": datetime.fromtimestamp(at, UTC).isoformat(),
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(run), "facets": facets},
        "job": {"namespace": _NAMESPACE, "name": f"{experiment}.retrain.{job.recipe}"},
        "inputs": [_data_set(f"{experiment}.log"), _data_set(f"{experiment}.models", job.champion)],
        "outputs": [_data_set(f"{experiment}.models", job.answer.version)] if job.answer.version else [],
    }


def _data_set(name: str, version: str | None = None) -> dict[str, Any]:
    facets = {}
    if version is not None:
        facets["version"] = _facet("1-0-1", "DatasetVersionDatasetFacet", {"datasetVersion": version})
    return {"namespace": _NAMESPACE, "name": name, "facets": facets}


def _facet(version: str, name: str, content: dict[str, str]) -> dict[str, str]:
    schema = f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}"
    return {"_producer": _PRODUCER, "_schemaURL": schema, **content}
