"""What only the model, the environment or the disk can refuse: by `check` as by the service that would fail with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from builders import small_experiment

from gauntlet.cli import main


def checked(capsys: pytest.CaptureFixture[str], path: Path, command: str = "check") -> tuple[int, str]:
    code = main([command, str(path)])
    return code, capsys.readouterr().err


REFUSED = {
    "a recall of no class": (
        {"guardrails": [{"metric": "recall", "label": 2, "margin": 0.1}]},
        "guardrails: recall: 2 is not a class of the model; there are 0, 1",
    ),
    "a regime of no feature": (
        {"drift": {"regimes": ["x11"]}},
        "drift.regimes: 'x11' is not a feature of the model; did you mean 'x1'?; there are 'x1', 'x2', 'x3'",
    ),
    "a trainer that is not there": (
        {"retrain": {"trainer": "math:fit"}},
        "retrain.trainer math:fit can't be imported: AttributeError",
    ),
    "a recipe's trainer that is not there": (
        {"retrain": {"recipes": [{"name": "a", "trainer": "math:fit"}]}},
        "retrain.recipes: the trainer of a, math:fit can't be imported: AttributeError",
    ),
    "a recipe that sets what the model has not": (
        {"retrain": {"recipes": [{"name": "a", "parameters": {"Cs": 1.0}}]}},
        "retrain.recipes: a sets 'Cs', no parameter of LogisticRegression; did you mean 'C'?",
    ),
    "a search of what the model has not": (
        {"retrain": {"recipes": [{"name": "a", "search": {"Cs": [1.0, 2.0]}}]}},
        "retrain.recipes: a sets 'Cs', no parameter of LogisticRegression; did you mean 'C'?",
    ),
    "a trainer that takes no rows and targets": (
        {"retrain": {"trainer": "math:sqrt"}},
        "retrain.trainer math:sqrt can't be called as (rows, targets): too many positional arguments",
    ),
    "a recipe whose trainer has no such parameter": (
        {"retrain": {"recipes": [{"name": "a", "trainer": "math:gcd", "search": {"depth": [2, 3]}}]}},
        "retrain.recipes: the trainer of a, math:gcd can't be called as (rows, targets, depth=…): got an unexpected",
    ),
    "a trainer that is async": (
        {"retrain": {"trainer": "asyncio:to_thread"}},
        "retrain.trainer asyncio:to_thread is async, and a job calls it as it is",
    ),
    "a trainer named by its file": (
        {"retrain": {"trainer": "my/training.py:fit"}},
        "a module is named, not its file: write my.training:…",
    ),
    "a trainer of no module": ({"retrain": {"trainer": "fit"}}, "retrain.trainer must be module:function, not 'fit'"),
    "a trainer that is not a function": ({"retrain": {"trainer": "math:pi"}}, "math:pi is not a function, but float"),
    "a log that is not an address": ({"log": "kafka://"}, "a Kafka log is kafka://host:port"),
    "a state store that is not an address": ({"state": "redis://localhost:port/0"}, "state: "),
    "a data folder that is a file": ({"data": "taken"}, "cannot write to the data folder"),
    "a data folder below /proc": ({"data": "/proc/x"}, "/proc takes no folder: "),
    "a data folder below a file": ({"data": "taken/below"}, "taken is a file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_service_would_refuse_check_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    changes, words = REFUSED[name]
    (tmp_path / "taken").write_text("a file")
    code, err = checked(capsys, small_experiment.write(tmp_path, **changes))
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert not (tmp_path / "gauntlet-data").exists()


def test_records_in_postgresql_need_its_driver(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_experiment.write(tmp_path, records="postgresql://me@db/records")
    assert checked(capsys, path)[0] == 0
    monkeypatch.setitem(sys.modules, "psycopg", None)
    code, err = checked(capsys, path)
    assert (code, "pip install 'gauntlet-ml[postgres]'" in err) == (2, True)


def test_a_missing_secret_is_a_note_because_only_the_router_needs_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = small_experiment.write(tmp_path, keys=[{"name": "ops", "role": "admin", "env": "GAUNTLET_NO_SUCH_KEY"}])
    assert main(["check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "note: key 'ops': the environment variable GAUNTLET_NO_SUCH_KEY must hold at least 16 characters" in shown


def test_a_trainer_is_not_asked_for_where_nothing_is_retrained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = small_experiment.write(tmp_path, retrain={"trainer": "math:fit", "enabled": False})
    assert checked(capsys, path) == (0, "")


@pytest.mark.parametrize("name", ["a recall of no class", "a regime of no feature"])
def test_the_first_start_refuses_what_check_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    changes, words = REFUSED[name]
    code, err = checked(capsys, small_experiment.write(tmp_path, **changes), "router")
    assert code == 2
    assert words in err
    assert not list((tmp_path / "gauntlet-data" / "registry").glob("v*"))
