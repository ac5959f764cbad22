"""The DAG in deploy/airflow on real Airflow against a real retrainer: what is due, what starts, who does the job."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import parts
import pytest
from builders.retrainer_service import KEY, retrainer

from gauntlet import adapters

DAGS = Path(__file__).parents[2] / "deploy" / "airflow" / "dags"
SKIPPED = dict.fromkeys(("prepare", "train", "wait", "compare", "promote", "skip"), "skipped")
NEVER = 1e6  # days


async def test_every_way_through_the_dag(
    airflow: parts.Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    severe = {"severity": "CRITICAL", "root_cause": "concept", "action": "retrain_recent"}
    damaged = {"severity": "CRITICAL", "root_cause": "quality", "action": "quarantine"}
    for name, report in (("severe", severe), ("damaged", damaged)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    known = {"GAUNTLET_KEY": KEY}
    runs: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"max_days_since_training": NEVER}, known),
        ({"max_days_since_training": NEVER, "drift_report": str(tmp_path / "damaged.json")}, {}),
        ({"max_days_since_training": NEVER, "drift_report": str(tmp_path / "severe.json")}, {}),
        ({"max_days_since_training": 30}, {}),
        ({"force_retrain": "perhaps"}, {}),
        ({"force_retrain": True}, {"GAUNTLET_KEY": "a-key-that-nobody-has-given-out"}),
    ]
    suggesting = "{name: told, condition: drift_severity >= 1, action: notify}"
    asking = "{name: asked, condition: drift_severity >= 1, action: investigate_and_retrain}"
    triggers = f"{{rules: [{suggesting}, {asking}]}}"  # both causes are there, and start nothing
    async with retrainer(tmp_path, monkeypatch, triggers=triggers) as (url, _):
        known["GAUNTLET_RETRAINER_URL"] = url
        found = await asyncio.to_thread(airflow.run, DAGS, "gauntlet_retraining", runs)
    assert found.dag["schedule"] == "6:00:00"
    assert (found.dag["retries"], found.dag["retry_delay"], found.dag["catchup"]) == ([2], [600.0], False)
    assert found.dag["downstream"]["compare"] == ["promote", "skip"]

    calm, quarantined, drifted, old, wrong, refused = found.runs
    for run in (calm, quarantined):
        assert run == {"state": "success", "tasks": {"check": "success", **SKIPPED}}
    done = dict.fromkeys(("check", "prepare", "train", "wait", "compare"), "success")
    assert drifted == {"state": "success", "tasks": {**done, "promote": "success", "skip": "skipped"}}
    # The new model is in shadow by now, and the retrainer lets no second one begin: a refusal is not a failure.
    assert old == {"state": "success", "tasks": {**done, "promote": "skipped", "skip": "success"}}
    assert wrong["error"].startswith("ParamValidationError")
    assert refused["state"] == "failed"
    assert (refused["tasks"]["check"], refused["tasks"]["train"]) == ("failed", "upstream_failed")


async def test_a_task_of_airflow_does_the_job_that_the_retrainer_waits_for(
    airflow: parts.Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = json.dumps([sys.executable, "-m", "retrainer.jobs.job", "--wait", "{spec}"])
    path = os.pathsep.join(filter(None, sys.path))
    async with retrainer(tmp_path, monkeypatch, command=waiting) as (url, config):
        spec = f"{config.data}/jobs/{{job}}/spec.json"
        command = f"env PYTHONPATH={path} {sys.executable} -m retrainer.jobs.job {spec}"
        known = {"GAUNTLET_KEY": KEY, "GAUNTLET_RETRAINER_URL": url, "GAUNTLET_JOB_COMMAND": command}
        found = await asyncio.to_thread(airflow.run, DAGS, "gauntlet_retraining", [({"force_retrain": True}, known)])
    done = dict.fromkeys(("check", "prepare", "train", "wait", "compare", "promote"), "success")
    assert found.runs == [{"state": "success", "tasks": {**done, "skip": "skipped"}}]
    assert adapters.registry(config).get("v0002").parent == "v0001"
