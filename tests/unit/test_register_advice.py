"""The advice to register the configured model is given only where `gauntlet register` works; else its reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import yaml
from builders import small_experiment
from sklearn.linear_model import LinearRegression, LogisticRegression

from gauntlet import first_start
from gauntlet.cli import main

X = np.random.default_rng(1).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)

MODELS: dict[str, tuple[Any, str]] = {
    "one that fits": (LogisticRegression().fit(X, Y), ""),
    "fewer features": (LogisticRegression().fit(X[:, :2], Y), "2 features"),
    "other classes": (
        LogisticRegression().fit(X, np.where(Y == 1, "yes", "no")),
        "classes are ['no', 'yes'], not [0, 1]",
    ),
    "another task": (LinearRegression().fit(X, Y), "the model is a regressor"),
    "no model": (b"no", "File is not a zip file"),
}


@pytest.fixture
def started(tmp_path: Path) -> Path:
    path = small_experiment.write(tmp_path)
    asyncio.run(first_start.ensure(small_experiment.load(path)))
    return path


def shown(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    return code, told.out + told.err


@pytest.mark.parametrize("name", MODELS)
def test_the_advice_is_what_register_does(capsys: pytest.CaptureFixture[str], started: Path, name: str) -> None:
    model, reason = MODELS[name]
    path = started.parent / "model.skops"
    if isinstance(model, bytes):
        path.write_bytes(model)
    else:
        skops.io.dump(model, path)
    advice = shown(capsys, "diff", started)[1]
    code, said = shown(capsys, "register", started, path)
    if not reason:
        assert f"make it a version with  gauntlet register CONFIG {path}" in advice
        assert code == 0
        return
    assert code != 0
    assert reason in said
    assert f"it can't be made a version: {said.removeprefix('gauntlet: ').strip()}; put that right, or" in advice


def test_register_takes_the_pickle_that_the_configuration_allows(
    capsys: pytest.CaptureFixture[str], started: Path
) -> None:
    """Its refusal says: set `champion.allow_pickle: true`, or give --allow-pickle. Each must work."""
    path = started.parent / "mine.joblib"
    joblib.dump(LogisticRegression().fit(X, Y), path)
    code, said = shown(capsys, "register", started, path)
    assert code != 0
    assert "set champion.allow_pickle: true in the configuration, or give --allow-pickle" in said
    assert shown(capsys, "register", "--allow-pickle", started, path) == (0, "v0002\n")
    document = yaml.safe_load(started.read_text())
    document["champion"]["allow_pickle"] = True
    started.write_text(yaml.safe_dump(document))
    assert shown(capsys, "register", started, path) == (0, "v0003\n")


def test_a_rehearsal_has_no_notes_of_its_own_on_settings_without_effect(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its times are other than the defaults: that was taken for settings that somebody had given."""
    skops.io.dump(small_experiment.classifier(), tmp_path / "model.skops")
    document = {"experiment": "a", "task": "classification", "champion": {"model": "model.skops"}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document | {"profile": "rehearsal", "features": list(small_experiment.FEATURES)}))
    code, said = shown(capsys, "check", path)
    assert code == 0
    assert "has no effect" not in said
