"""The DAG's own decisions, without Airflow: a trigger starts what its mode allows, and the rest is told.

`airflow.sdk` is played by a stand-in that hands out the tasks' functions; tests/integration/test_airflow.py has the
real one.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

DAG = Path(__file__).parents[2] / "deploy" / "airflow" / "dags" / "gauntlet_retraining.py"
PARAMS = {"force_retrain": False, "max_days_since_training": 1e6, "drift_report": None}


class Wired:
    """What a task's call gives while the DAG is put together."""

    def __rshift__(self, other: object) -> object:
        return other


class Tasks:
    """The decorators `task`, `task.branch`, …: they keep the function by its name."""

    def __init__(self) -> None:
        self.found: dict[str, Callable[..., Any]] = {}

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Wired]:
        self.found[function.__name__] = function
        return lambda *_: Wired()

    short_circuit = branch = __call__

    def sensor(self, **_: object) -> Callable[..., Any]:
        return self


class Dag:
    """The DAG's tasks, and the retrainer that answers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]) -> None:
        tasks = Tasks()
        self.answers: dict[str, tuple[int, Any]] = {"turning/versions": (200, [])}
        self.asked: list[str] = []
        sdk, errors = ModuleType("airflow.sdk"), ModuleType("airflow.sdk.exceptions")
        context = {"params": PARAMS | params, "dag_run": SimpleNamespace(run_id="r1")}
        known = {"task": tasks, "dag": lambda **_: lambda function: function, "Param": lambda *_, **__: None}
        for name, value in {**known, "get_current_context": lambda: context}.items():
            setattr(sdk, name, value)
        errors.AirflowFailException = RuntimeError  # type: ignore[attr-defined]
        for name, module in (("airflow", ModuleType("airflow")), ("airflow.sdk", sdk), (errors.__name__, errors)):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setenv("GAUNTLET_MODEL", "turning")
        names = runpy.run_path(str(DAG))
        monkeypatch.setitem(names["model"].__globals__, "ask", self._ask)
        self.run = tasks.found

    def _ask(self, path: str, *_: object) -> tuple[int, Any]:
        self.asked.append(path)
        return self.answers[path]


def request(key: str, mode: str, approved_by: str | None = None) -> dict[str, Any]:
    return {"key": key, "id": f"{key}-1", "mode": mode, "reason": "accuracy fell", "approved_by": approved_by}


def checked(dag: Dag, triggered: list[str], *requests: dict[str, Any]) -> Any:
    dag.answers["turning/check"] = (200, {"triggered": triggered, "requests": list(requests)})
    return dag.run["check"]()


def test_a_trigger_starts_what_its_mode_allows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dag = Dag(monkeypatch, {})
    held = (request("performance", "suggest"), request("rule:late", "approve"))
    assert checked(dag, ["performance", "rule:late", "drift"], *held) == {}
    told = capsys.readouterr().out
    assert "performance only suggests a job: accuracy fell" in told
    assert "rule:late waits for approval:  gauntlet retrain approve rule:late-1 --reason" in told
    assert "drift: the retrainer has not opened its request yet" in told
    assert "nothing may start a job" in told
    free = (request("drift", "automatic"), request("volume", "approve", "bob"))
    started = checked(dag, ["performance", "drift", "volume"], held[0], *free)
    assert started == {"model": "turning", "reasons": ["triggers: drift, volume"]}
    forced = Dag(monkeypatch, {"force_retrain": True})
    assert checked(forced, ["performance"], held[0])["reasons"] == ["force_retrain"]


def test_a_request_that_waits_for_approval_is_skipped_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = Dag(monkeypatch, {})
    dag.answers["turning/trigger"] = (202, {"request": "m1", "waiting": True, "jobs": []})
    trained = dag.run["train"]({"model": "turning", "reason": "Airflow: drift", "running": []})
    assert dag.run["wait"](trained) is True
    assert dag.run["compare"](trained) == "skip"
    assert dag.run["skip"](trained) == 'the request waits for approval:  gauntlet retrain approve m1 --reason "…"'


def test_a_task_does_the_jobs_itself_where_it_has_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GAUNTLET_JOB_COMMAND", f"sh -c 'echo {{job}} >> {tmp_path}/done; exit 1'")
    dag = Dag(monkeypatch, {})
    dag.answers["turning/trigger"] = (202, {"request": "m1", "waiting": False, "jobs": ["j1", "j2"]})
    dag.answers |= {f"turning/jobs/{job}": (200, {"status": "running"}) for job in ("j1", "j2")}
    trained = dag.run["train"]({"model": "turning", "reason": "Airflow: drift", "running": []})
    assert trained["jobs"] == ["j1", "j2"]
    assert (tmp_path / "done").read_text() == "j1\nj2\n"
    assert "j2: its command ended with code 1" in capfd.readouterr().out


def test_a_refusal_is_told_and_a_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = Dag(monkeypatch, {})
    prepared = {"model": "turning", "reason": "Airflow: drift", "running": []}
    error = {"code": "retraining_refused", "message": "cool_down: 1d since the last job's end, 7d wanted"}
    dag.answers["turning/trigger"] = (409, {"request": "m1", "waiting": False, "jobs": [], "error": error})
    assert dag.run["skip"](dag.run["train"](prepared)) == error["message"]
    dag.answers["turning/trigger"] = (202, {"request": "m1", "waiting": False, "jobs": ["j1"]})
    assert dag.run["train"](prepared)["refused"] is None
