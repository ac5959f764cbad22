"""deploy/ci/retrain.yml: its shell steps, run as CI runs them, against a real retrainer."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders.retrainer_service import KEY, retrainer

WORKFLOW_FILE = Path(__file__).parents[2] / "deploy" / "ci" / "retrain.yml"
WORKFLOW: dict[str, Any] = yaml.safe_load(WORKFLOW_FILE.read_text())
STEPS = {step["name"]: step["run"] for step in WORKFLOW["jobs"]["retrain"]["steps"]}

pytestmark = pytest.mark.usefixtures("curl")


async def step(name: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    asked = {"MODEL": "turning", "REASON": "new labels", "FORCE": "false", "IDEMPOTENCY_KEY": "ci-1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    given = {"PATH": path, "POLL_SECONDS": "0.1", "GAUNTLET_KEY": KEY, **asked, **environ}
    command = ["bash", "-c", STEPS[name]]
    return await asyncio.to_thread(subprocess.run, command, cwd=folder, env=given, capture_output=True, text=True)


async def test_it_triggers_waits_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with retrainer(tmp_path, monkeypatch) as (url, _):
        for _ in range(2):  # a second attempt of the same run starts nothing
            triggered = await step("trigger", tmp_path, URL=url)
            assert triggered.returncode == 0, triggered.stderr
            assert KEY not in triggered.stdout + triggered.stderr
            (job,) = (tmp_path / "jobs").read_text().split()
        waited = await step("wait", tmp_path, URL=url)
        assert waited.returncode == 0, waited.stderr
        assert (tmp_path / "summary.md").read_text().startswith(f"{job}: completed; v0002: ")

        refused = await step("trigger", tmp_path, URL=url, IDEMPOTENCY_KEY="ci-2")
        assert refused.returncode == 1
        assert "::error::the retrainer refuses: " in refused.stdout
        nobody = await step("trigger", tmp_path, URL=url, GAUNTLET_KEY="a-key-that-nobody-has-given-out")
        assert nobody.returncode == 1
        assert "send an API key" in nobody.stdout


async def test_a_job_that_fails_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "builders.retraining_data:broken_trainer"
    async with retrainer(tmp_path, monkeypatch, trainer=broken) as (url, _):
        assert (await step("trigger", tmp_path, URL=url)).returncode == 0
        waited = await step("wait", tmp_path, URL=url)
        assert waited.returncode == 1
        assert "failed; no version: " in waited.stdout
        assert "no luck today" in waited.stdout


async def test_where_somebody_else_has_to_agree_it_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retrainer(tmp_path, monkeypatch, triggers="{manual: {mode: approve}}") as (url, _):
        asked = await step("trigger", tmp_path, URL=url)
        assert asked.returncode == 0, asked.stderr
        (request,) = re.findall(r"::notice::no job yet: .* gauntlet retrain approve (\S+) --reason", asked.stdout)
        assert (await step("wait", tmp_path, URL=url)).returncode == 0
        assert f"approve {request}" in (tmp_path / "summary.md").read_text()
        second = await step("trigger", tmp_path, URL=url, IDEMPOTENCY_KEY="ci-2")
        assert second.returncode == 1
        assert f"{request} is open already" in second.stdout


def test_it_asks_ci_for_no_more_than_it_needs() -> None:
    assert WORKFLOW["permissions"] == {}
    assert "GAUNTLET_KEY" in WORKFLOW["jobs"]["retrain"]["env"]
    inputs = WORKFLOW[True]["workflow_dispatch"]["inputs"]  # YAML takes `on` for a truth value
    assert set(inputs) == {"model", "reason", "force"}
    assert all("${{" not in run for run in STEPS.values()), "what a caller writes must not become shell"


def test_its_schedule_has_no_inputs_and_needs_none() -> None:
    text = WORKFLOW_FILE.read_text()
    scheduled = yaml.safe_load(text.replace("  # schedule:", "  schedule:"))
    assert scheduled[True]["schedule"] == [{"cron": "0 2 * * 0"}]
    env = WORKFLOW["jobs"]["retrain"]["env"]
    assert [env[name] for name in ("MODEL", "REASON", "FORCE")] == [
        "${{ inputs.model || vars.GAUNTLET_MODEL }}",
        "${{ inputs.reason || 'scheduled' }}",
        "${{ inputs.force || false }}",
    ]
