"""The DAG in deploy/airflow on real Airflow against a real retrainer: what is due, what starts, where it ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import parts
import pytest
from builders.retrainer_service import KEY, retrainer

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
    async with retrainer(tmp_path, monkeypatch) as url:
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
    # The new model is in shadow by now, and the retrainer lets no second one begin: a refusal is no failure.
    assert old == {"state": "success", "tasks": {**done, "promote": "skipped", "skip": "success"}}
    assert wrong["error"].startswith("ParamValidationError")
    assert refused["state"] == "failed"
    assert (refused["tasks"]["check"], refused["tasks"]["train"]) == ("failed", "upstream_failed")
