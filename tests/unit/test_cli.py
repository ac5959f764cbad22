"""The commands, as a user types them: what they print, where it goes, and their exit codes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import skops.io
import yaml
from builders import small_experiment
from sklearn.pipeline import make_pipeline

import gauntlet
from gauntlet import adapters, first_start
from gauntlet.cli import load_config, main
from gauntlet.config import load as configs

OWN_MODULE = """
import numpy as np

class Half:
    def predict_proba(self, rows):
        return np.full((len(rows), 2), 0.5)

def make():
    return Half()
"""


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in argv])
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_example_is_a_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "example")
    assert (code, err) == (0, "")
    assert configs.parse(out).experiment == "my-model"


def test_check_says_fine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    output = (
        f"{path}: test, LogisticRegression, 3 features, ok\ntask: classification, classes 0, 1\n"
        "features, each request needs all of them: x1, x2, x3\n"
    )
    code, out, err = run(capsys, "check", path)
    assert (code, err) == (0, "")
    assert out.startswith(output)
    assert not (tmp_path / "gauntlet-data").exists(), "checking starts nothing"


def test_check_says_which_features_a_request_may_leave_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path, features=["x1", {"name": "x2", "required": False}, "x3"])
    _, out, _ = run(capsys, "check", path)
    assert "\nfeatures: x1, x2 (optional), x3\n" in out


def test_without_a_name_the_configuration_is_the_one_in_the_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "check")
    assert (code, err) == (2, "gauntlet: cannot read config.yaml: No such file or directory\n")
    small_experiment.write(tmp_path)
    assert run(capsys, "check")[1].startswith("config.yaml: test, ")
    assert run(capsys, "register", "model.skops")[:2] == (0, "v0002\n")


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "To begin: `gauntlet demo`" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "9 d after its start at the earliest (shadow and ramp 9 d; a win needs 5 d of outcomes"),
        ({"evidence": {"block": "1d"}}, "21 d after its start at the earliest (shadow and ramp 9 d, 6 h more until"),
        (
            {"evidence": {"outcome_horizon": "7d"}},
            "15 d after its start at the earliest (shadow and ramp 9 d, 6 d more until harm could have shown; a win",
        ),
    ],
)
def test_check_says_how_soon_a_challenger_may_be_promoted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    assert main(["check", str(small_experiment.write(tmp_path, **more))]) == 0
    assert words in capsys.readouterr().out


def test_check_reads_the_reference_as_up_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    champion = {"model": "model.skops", "reference": "rows.csv", "target": "y"}
    path = small_experiment.write(tmp_path, champion=champion)
    code, _, err = run(capsys, "check", path)
    assert code == 2
    assert err.startswith("gauntlet: champion.reference: ")
    rows = "".join(f"{i % 7},{i % 5},{i % 3},{i % 2}\n" for i in range(200))
    (tmp_path / "rows.csv").write_text("x1,x2,x3,truth\n" + rows)
    code, _, err = run(capsys, "check", path)
    assert (code, "there is no column 'y'" in err) == (2, True)
    (tmp_path / "rows.csv").write_text("x1,x2,x3,y\n" + rows)
    code, out, err = run(capsys, "check", path)
    assert (code, err) == (0, "")
    assert out.endswith("reference: the newest 200 rows, with the champion's error on them\n")
    assert not (tmp_path / "gauntlet-data").exists(), "checking starts nothing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"router": {"port": 70000}}, "router.port: must be a whole number <= 65535"),
        ({"rooter": {}}, "there is no key `rooter`; did you mean 'router'?"),
        ({"evidence": {"alpha": 2}}, "evidence.alpha: must be a number < 0.98"),
    ],
)
@pytest.mark.parametrize("command", ["check", "up", "router", "evaluator", "retrainer", "register"])
def test_a_bad_configuration_is_refused_by_every_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, changes: dict[str, object], reason: str
) -> None:
    path = small_experiment.write(tmp_path, **changes)
    code, out, err = run(capsys, command, path, *(["model.skops"] if command == "register" else []))
    section = next(iter(changes))
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, start=1) if text.startswith(f"{section}:"))
    if yaml.safe_load(path.read_text())[section]:
        line += 1
    assert (code, out) == (2, "")
    assert err.startswith(f"gauntlet: {path}:{line}: ")
    assert reason in err
    assert not (tmp_path / "gauntlet-data").exists()


def test_a_missing_configuration_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "up", tmp_path / "no.yaml")
    assert (code, err) == (2, f"gauntlet: cannot read {tmp_path / 'no.yaml'}: No such file or directory\n")


@pytest.mark.parametrize("command", ["check", "up", "router"])
def test_a_bad_model_is_refused_with_its_path(capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    """The services write to the same standard error, as processes of their own under `up`."""
    path = small_experiment.write(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"garbage")
    code, _, err = run(capfd, command, path)
    assert code == 2
    assert f"model {tmp_path / 'model.skops'}: BadZipFile" in err
    assert ("the router refused to start" in err) == (command == "up")


def test_a_model_with_other_features_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path, features=["x1", "x2"])
    code, _, err = run(capsys, "check", path)
    assert (code, err) == (2, "gauntlet: the model was fitted with 3 features, not 2\n")


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = small_experiment.write(
            tmp_path, router={"port": port}, observe={"evaluator_port": 0, "retrainer_port": 0}
        )
        code, _, err = run(capsys, "router", path)
        assert code == 2
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err
        path = small_experiment.write(tmp_path, observe={"evaluator_port": port, "retrainer_port": 0})
        code, _, err = run(capsys, "evaluator", path)
        assert code == 2
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err
        assert "observe.evaluator_port" in err


def test_an_address_that_needs_keys_needs_them_in_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAUNTLET_TEST_KEY", raising=False)
    path = small_experiment.write(tmp_path, keys=[{"name": "ops", "role": "operator", "env": "GAUNTLET_TEST_KEY"}])
    code, _, err = run(capsys, "router", path)
    assert code == 2
    assert "key 'ops': the environment variable GAUNTLET_TEST_KEY" in err


class TestRegister:
    def test_prints_the_version_and_starts_no_rollout(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        path = small_experiment.write(tmp_path)
        skops.io.dump(small_experiment.classifier(2), tmp_path / "better.skops")
        assert run(capsys, "register", path, tmp_path / "better.skops", "--note", "mine") == (0, "v0002\n", "")
        assert run(capsys, "register", path, tmp_path / "better.skops")[1] == "v0003\n"
        entry = adapters.registry(small_experiment.load(path)).get("v0002")
        assert (entry.note, entry.parent, entry.algorithm) == ("mine", "v0001", "LogisticRegression")
        skops.io.dump(make_pipeline("passthrough", small_experiment.classifier(2)), tmp_path / "scaled.skops")
        run(capsys, "register", path, tmp_path / "scaled.skops")
        scaled = adapters.registry(small_experiment.load(path)).get("v0004")
        assert scaled.algorithm == "LogisticRegression", "of a pipeline the last step"
        record = asyncio.run(first_start.ensure(small_experiment.load(path)))
        assert (record.champion, record.rollouts) == ("v0001", ())

    def test_refuses_what_does_not_fit_the_champion(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        path = small_experiment.write(tmp_path)
        model = small_experiment.classifier()
        model.classes_ = model.classes_ + 1
        skops.io.dump(model, tmp_path / "other.skops")
        skops.io.dump(small_experiment.regressor(), tmp_path / "numbers.skops")
        skops.io.dump(type(model)().fit([[0.0], [1.0]], [0, 1]), tmp_path / "narrow.skops")
        renamed = pd.DataFrame({"x1": [0.0, 1.0], "x2": [0.0, 1.0], "y3": [0.0, 1.0]})
        skops.io.dump(type(model)().fit(renamed, [0, 1]), tmp_path / "renamed.skops")
        joblib.dump(small_experiment.classifier(), tmp_path / "pickle.joblib")
        for name, reason in (
            ("other.skops", "classes are [1, 2], not [0, 1]"),
            ("numbers.skops", "`task: classification`, but the model is a regressor (LinearRegression)"),
            ("narrow.skops", "1 features, not 3"),
            ("renamed.skops", "`features` has 'x3', which the model was not fitted with"),
            ("pickle.joblib", "allow_pickle"),
            ("gone.skops", "no such file"),
        ):
            code, out, err = run(capsys, "register", path, tmp_path / name)
            assert (code, out) == (2, "")
            assert reason in err
        assert len(adapters.registry(small_experiment.load(path)).versions()) == 1
        assert run(capsys, "register", path, tmp_path / "pickle.joblib", "--allow-pickle")[1] == "v0002\n"
        path.write_text(path.read_text().replace("task: classification", "task: regression"))
        code, _, err = run(capsys, "register", path, tmp_path / "numbers.skops")
        assert (code, "task: in force classification, configured regression; is refused" in err) == (2, True)


def test_a_module_beside_the_configuration_is_found(tmp_path: Path) -> None:
    """As the installed command, from another folder, where the module is not on the path."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "model_of_my_own.py").write_text(OWN_MODULE)
    path = small_experiment.write(
        tmp_path / "beside", champion={"model": "model_of_my_own:make"}, classes=["no", "yes"]
    )
    code = f"import sys; from gauntlet.cli import main; sys.exit(main(['check', {str(path)!r}]))"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Half, 3 features, ok" in shown.stdout


def test_the_folder_comes_after_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["somewhere"])
    path = small_experiment.write(tmp_path)
    load_config.load(path)
    load_config.load(path)
    assert sys.path == ["somewhere", str(tmp_path)]


def test_usage_errors_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == 2
    assert run(capsys, "no-such-command")[0] == 2
    assert run(capsys, "check")[0] == 2
    assert run(capsys, "--version") == (0, f"{gauntlet.__version__}\n", "")
    assert run(capsys, "--help")[0] == 0


HEAVY = {"sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "river", "statsmodels", "skops", "fastapi"}
LISTING = """
import atexit, sys
from gauntlet.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.exit(main(sys.argv[1:]))
"""


def heavy_imports(*argv: str | Path) -> set[str]:
    """The heavy libraries that a command has imported when it ends, in a process of its own."""
    shown = subprocess.run([sys.executable, "-c", LISTING, *map(str, argv)], capture_output=True, text=True, check=True)
    return HEAVY & {name.partition(".")[0] for name in shown.stderr.split()}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["example"], ["up", "--help"]])
def test_what_needs_no_library_imports_none(argv: list[str]) -> None:
    assert heavy_imports(*argv) == set()


@pytest.mark.parametrize("command", ["analyze", "plan", "simulate"])
def test_the_options_of_a_file_tool_are_those_of_its_settings_which_know_scipy_alone(command: str) -> None:
    assert heavy_imports(command, "--help") <= {"scipy"}


def test_check_imports_what_the_model_needs(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(OWN_MODULE)
    own = small_experiment.write(tmp_path, champion={"model": "plain:make"}, classes=["no", "yes"])
    assert heavy_imports("check", own) == set()
    assert {"matplotlib", "river", "statsmodels", "fastapi"}.isdisjoint(
        heavy_imports("check", small_experiment.write(tmp_path))
    )


@pytest.mark.parametrize("module", ["evaluator.service.worker", "retrainer.worker", "router.app"])
def test_a_service_starts_without_the_libraries_that_only_some_of_its_work_needs(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"sklearn", "pandas", "pyarrow", "matplotlib", "river", "statsmodels", "skops", "scipy.stats"}
    assert slow.isdisjoint({*shown.stdout.split(), *(name.partition(".")[0] for name in shown.stdout.split())})
