"""Airflow from an environment of its own: runs of one DAG file, each as the scheduler would run it, in one process.
Invariant: a run has a home of its own, and only that DAG in it."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.environment import folder, missing, python
from parts.part import PartError
from parts.process import Process

_NAME = "airflow"

# `dag.test` really waits between two tries, so a second try comes at once here.
_DRIVER = """
import json, os, sys
from datetime import timedelta
from airflow.dag_processing.dagbag import DagBag

asked, answer = json.load(open(sys.argv[1])), {"runs": []}
bag = DagBag(dag_folder=asked["dags"])
answer["errors"] = {name: str(error) for name, error in bag.import_errors.items()}
dag = bag.dags[asked["dag"]]
answer["dag"] = {
    "schedule": str(dag.schedule),
    "catchup": dag.catchup,
    "retries": sorted({task.retries for task in dag.tasks}),
    "retry_delay": sorted({task.retry_delay.total_seconds() for task in dag.tasks}),
    "downstream": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
}
for task in dag.tasks:
    task.retry_delay = timedelta(0)
    if hasattr(task, "poke_interval"):
        task.poke_interval = 0.2
for conf, environ in asked["runs"]:
    os.environ.update(environ)
    try:
        run = dag.test(run_conf=conf)
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
        answer["runs"].append({"state": str(run.state), "tasks": states})
    except Exception as error:
        answer["runs"].append({"error": f"{type(error).__name__}: {error}"})
json.dump(answer, open(sys.argv[2], "w"))
"""


@dataclass(frozen=True)
class DagRuns:
    """What the scheduler knows of the DAG, and each run's state with its tasks' (or the error of one refused)."""

    dag: dict[str, Any]
    runs: list[dict[str, Any]]


class Airflow:
    """The program; every call is one process."""

    @staticmethod
    def missing() -> str | None:
        if (reason := missing(_NAME)) is not None:
            return reason
        return None if _tables().exists() else f"{_tables()} is not there (run .ci/install)"

    def run(
        self, dags: Path, dag: str, runs: Sequence[tuple[dict[str, Any], dict[str, str]]], seconds: float = 240.0
    ) -> DagRuns:
        """Run `dag` of the folder `dags` once for each configuration, with what each adds to the environment.

        PartError where it can't be loaded, or hangs."""
        with tempfile.TemporaryDirectory(prefix="gauntlet-airflow-") as name:
            home = Path(name)
            shutil.copyfile(_tables(), home / "airflow.db")
            (home / "asked.json").write_text(json.dumps({"dags": str(dags), "dag": dag, "runs": runs}))
            (home / "driver.py").write_text(_DRIVER)
            settings = {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            words = [f"{key}={value}" for key, value in settings.items()]
            script = [str(home / each) for each in ("driver.py", "asked.json", "answer.json")]
            with (home / "out").open("wb") as out:
                unset = ["-u", "PYTHONPATH"]
                process = Process(["env", *unset, *words, str(python(_NAME)), *script], folder=home, out=out, err=out)
                try:
                    in_time = process.wait(seconds)
                finally:
                    process.end()
            output = (home / "out").read_text(errors="replace")[-8000:]
            if not in_time or process.code != 0:
                raise PartError(f"airflow {'ended with' if in_time else 'did not end;'} {process.code}:\n{output}")
            answer = json.loads((home / "answer.json").read_text())
        if answer["errors"]:
            raise PartError(f"airflow can't load {dags}: {answer['errors']}")
        return DagRuns(answer["dag"], answer["runs"])


def _tables() -> Path:
    return folder(_NAME) / "home" / "airflow.db"
