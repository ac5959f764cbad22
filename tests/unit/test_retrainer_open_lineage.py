"""A job's lineage is made of OpenLineage's own records: its client's classes, which are made from the official schema,
hold every field of it and have no other place for any."""

from __future__ import annotations

from typing import Any

import pytest
from builders.retraining_records import job
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import dataset_version_dataset, error_message_run
from openlineage.client.serde import Serde

from retrainer.jobs.job_dir import Answer
from retrainer.notify import open_lineage

FACETS: dict[str, Any] = {
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "version": dataset_version_dataset.DatasetVersionDatasetFacet,
}


def official(given: dict[str, Any]) -> RunEvent:
    """The event in the classes of the schema. Raises TypeError for a field that is missing or unknown, ValueError for a
    value that can't be."""
    rest = {name: value for name, value in given.items() if name != "schemaURL"}
    made = {
        "run": Run(**with_facets(given["run"])),
        "job": Job(**with_facets(given["job"])),
        "eventType": RunState(given["eventType"]),
        "inputs": [InputDataset(**with_facets(one)) for one in given["inputs"]],
        "outputs": [OutputDataset(**with_facets(one)) for one in given["outputs"]],
    }
    return RunEvent(**(rest | made))


def with_facets(given: dict[str, Any]) -> dict[str, Any]:
    facets = {}
    for name, facet in given.get("facets", {}).items():
        content = {field: value for field, value in facet.items() if not field.startswith("_")}
        facets[name] = FACETS[name](producer=facet["_producer"], **content)
    return given | {"facets": facets}


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: kept for name, one in value.items() if (kept := without_empty(one)) not in ({}, [])}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        return [leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in leaves(one)]
    return [value]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("running", Answer()),
        ("completed", Answer(version="v0002")),
        ("completed", Answer()),
        ("failed", Answer(error="no luck")),
        ("aborted", Answer(error="it took longer than 300 s")),
        ("cancelled", Answer()),
    ],
)
def test_a_run_is_an_event_of_the_official_schema(status: str, answer: Answer) -> None:
    ended = {"ended_at": None} if status == "running" else {}
    notice = open_lineage.of_job("turning", job(1, status=status, answer=answer, **ended))
    assert notice is not None
    told = notice.data
    assert without_empty(Serde.to_dict(official(told))) == without_empty(told), "addresses of the schemas, too"
    assert all(isinstance(leaf, str) for leaf in leaves(told))
    assert told["eventTime"].endswith("+00:00")


def test_another_shape_would_be_seen() -> None:
    notice = open_lineage.of_job("turning", job(1))
    assert notice is not None
    for name, changed in (
        ("run", {"runId": "number 1"}),
        ("job", {"name": "of no namespace"}),
        ("eventType", "DONE"),
        ("eventTime", "yesterday"),
        ("trigger", "drift"),
    ):
        with pytest.raises((TypeError, ValueError)):
            official(notice.data | {name: changed})
