"""Retraining by Airflow: check → prepare → train → wait → compare → promote or skip, every six hours.

The DAG drives the retrainer's HTTP API and imports nothing of Gauntlet: triggers, single flight, the training, the
comparison and the record of it all are the retrainer's, whoever asks. Give its workers

    GAUNTLET_RETRAINER_URL    the retrainer's address; default http://127.0.0.1:8422
    GAUNTLET_KEY              an API key with the role operator, where the retrainer has keys
    GAUNTLET_MODEL            the experiment's name; default: the one that the retrainer trains
    GAUNTLET_JOB_COMMAND      for a task `train` that does the jobs itself: the command for one, {job} its id

A trigger starts what its mode allows: one that only suggests is told and skipped, one that asks for approval is told
with the command that agrees. A retry of a task never starts a second job: its request carries the run's id as its
Idempotency-Key.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

LIVE = ("pending", "running")
SEVERE = ("HIGH", "CRITICAL")


def ask(path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """The status and the JSON of an answer. What trying again may help is raised as it is; a refused key or an unknown
    model fails the task at once."""
    url = os.environ.get("GAUNTLET_RETRAINER_URL", "http://127.0.0.1:8422").rstrip("/")
    sent = {"content-type": "application/json", **(headers or {})}
    if key := os.environ.get("GAUNTLET_KEY"):
        sent["authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/retraining/{path}", data=data, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        if error.code == 409:
            return 409, json.loads(text)
        if error.code in (400, 401, 403, 404):
            raise AirflowFailException(f"{url} refuses {path}: {text}") from error
        raise RuntimeError(f"{url} can't answer {path} just now: {error.code} {text}") from error


def model() -> str:
    return os.environ.get("GAUNTLET_MODEL") or str(ask("status")[1]["model"])


def days_since_training(name: str) -> float | None:
    """Of the champion, by the newest row that it was trained on, else by when it was registered."""
    champion = next((one for one in ask(f"{name}/versions")[1] if "champion" in one["aliases"]), None)
    if champion is None or not (at := champion["data_to"] or champion["created"]):
        return None
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() / 86_400


def told_by_drift_report(path: str) -> str | None:
    """Why a report of `gauntlet drift --json` asks for a job; None where it does not. Damaged data never does."""
    report = json.loads(Path(path).read_text())
    damaged = report["action"] == "quarantine" or report["root_cause"] in ("quality", "data_quality")
    if damaged or report["severity"] not in SEVERE:
        return None
    return f"{path}: {report['severity']} drift, root cause {report['root_cause']}"


def allowed(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Of a check's triggers those that may start a job by their mode, and what is told of the others."""
    requests = {request["key"]: request for request in found["requests"]}
    starting, told = [], []
    for key in found["triggered"]:
        request = requests.get(key)
        if request is None:
            told.append(f"{key}: the retrainer has not opened its request yet")
        elif request["mode"] == "automatic" or request["approved_by"]:
            starting.append(key)
        elif request["mode"] == "approve":
            told.append(awaiting(request["id"], key))
        else:
            told.append(f"{key} only suggests a job: {request['reason']}")
    return starting, told


def awaiting(request: str, key: str) -> str:
    return f'{key} waits for approval:  gauntlet retrain approve {request} --reason "…"'


def work(name: str, jobs: list[str]) -> None:
    """Do the jobs in this task, where there is a command for it and the retrainer only waits for them. What came of
    one is in its answer; a retry of the task finds it there, or goes on with the job."""
    command = os.environ.get("GAUNTLET_JOB_COMMAND")
    for job in jobs if command else ():
        while ask(f"{name}/jobs/{job}")[1]["status"] == "pending":
            time.sleep(1)
        code = subprocess.run(shlex.split(command.replace("{job}", job)), check=False).returncode  # noqa: S603
        print(f"{job}: its command ended with code {code}")


@dag(
    dag_id="gauntlet_retraining",
    schedule=timedelta(hours=6),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
    params={
        "force_retrain": Param(False, type="boolean", description="start a job whatever the triggers say"),
        "max_days_since_training": Param(30, type="number", exclusiveMinimum=0, description="a job is due after these"),
        "drift_report": Param(None, type=["null", "string"], description="a file that `gauntlet drift --json` wrote"),
    },
    tags=["gauntlet"],
    doc_md=__doc__,
)
def gauntlet_retraining() -> None:
    @task.short_circuit
    def check() -> dict[str, Any]:
        """Why a job is due; nothing skips the rest."""
        name, params = model(), get_current_context()["params"]
        found = ask(f"{name}/check")[1]
        days = days_since_training(name)
        reasons = []
        if params["force_retrain"]:
            reasons.append("force_retrain")
        starting, told = allowed(found)
        if starting:
            reasons.append(f"triggers: {', '.join(starting)}")
        if days is not None and days > params["max_days_since_training"]:
            reasons.append(f"{days:.0f} days since training, {params['max_days_since_training']:g} allowed")
        if params["drift_report"] and (severe := told_by_drift_report(params["drift_report"])):
            reasons.append(severe)
        print(*told, f"due: {'; '.join(reasons)}" if reasons else "nothing may start a job", sep="\n")
        return {"model": name, "reasons": reasons} if reasons else {}

    @task
    def prepare(checked: dict[str, Any]) -> dict[str, Any]:
        """What is asked for: a job that runs already is waited for instead of a new one."""
        jobs = ask(f"{checked['model']}/jobs?limit=100")[1]
        running = [job["id"] for job in jobs if job["status"] in LIVE]
        return {**checked, "reason": f"Airflow: {'; '.join(checked['reasons'])}"[:500], "running": running}

    @task
    def train(prepared: dict[str, Any]) -> dict[str, Any]:
        """The ids of the jobs, or why the retrainer refuses any."""
        if prepared["running"]:
            work(prepared["model"], prepared["running"])
            return {**prepared, "jobs": prepared["running"], "refused": None}
        context = get_current_context()
        body = {"reason": prepared["reason"], "force": bool(context["params"]["force_retrain"])}
        key = {"Idempotency-Key": f"airflow-{context['dag_run'].run_id}".replace(" ", "_")[:255]}
        status, answer = ask(f"{prepared['model']}/trigger", body, key)
        if status == 409 and answer["error"]["code"] != "retraining_refused":
            raise AirflowFailException(answer["error"]["message"])
        refused = answer["error"]["message"] if status == 409 else None
        if answer["waiting"]:
            refused = awaiting(answer["request"], "the request")
        work(prepared["model"], answer["jobs"])
        return {**prepared, "jobs": answer["jobs"], "refused": refused}

    @task.sensor(poke_interval=30, timeout=timedelta(hours=6).total_seconds(), mode="reschedule")
    def wait(trained: dict[str, Any]) -> bool:
        """Until every job has ended; the worker is free meanwhile."""
        jobs = [ask(f"{trained['model']}/jobs/{job}")[1] for job in trained["jobs"]]
        return all(job["status"] not in LIVE for job in jobs)

    @task.branch
    def compare(trained: dict[str, Any]) -> str:
        """By what the retrainer's comparison on held-out rows has decided. A job that failed fails the task."""
        jobs = [ask(f"{trained['model']}/jobs/{job}")[1] for job in trained["jobs"]]
        for job in jobs:
            print(f"{job['id']}: {job['status']}; {job['error'] or job['decision']}")
        failed = [
            f"{job['id']} {job['status']}: {job['error']}" for job in jobs if job["status"] in ("failed", "aborted")
        ]
        if failed:
            raise AirflowFailException("; ".join(failed))
        return "promote" if any(job["accepted"] for job in jobs) else "skip"

    @task
    def promote(trained: dict[str, Any]) -> list[dict[str, Any]]:
        """The accepted versions and where they are on their way: shadow and ramp decide on live traffic, not this."""
        versions = ask(f"{trained['model']}/versions")[1]
        made = [one for one in versions if one["job"] in trained["jobs"]]
        print("; ".join(f"{one['version']}: {one['status']}" for one in made))
        return [{"version": one["version"], "status": one["status"]} for one in made]

    @task
    def skip(trained: dict[str, Any]) -> str:
        """Why the champion stays."""
        why = trained["refused"] or "no new model was better by enough on the held-out rows"
        print(why)
        return str(why)

    trained = train(prepare(check()))
    decided = compare(trained)
    wait(trained) >> decided >> [promote(trained), skip(trained)]


gauntlet_retraining()
