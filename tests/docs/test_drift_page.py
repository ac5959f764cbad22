"""docs/drift.md by the letter: its commands run on files that fit them, and it lists the names that there are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

import gauntlet
from evaluator.drift import DriftSettings
from evaluator.drift.severity import Action, RootCause
from evaluator.drift.signals import Kind
from gauntlet.cli import main
from gauntlet.types import Severity

PAGE = (Path(__file__).parents[2] / "docs" / "drift.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
NAMES = set(re.findall(r"`([a-z0-9_]+)`", PAGE))


def flights(rows: int, shift: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    wind = rng.normal(shift, 1.0, rows)
    chance = 1 / (1 + np.exp(-wind))
    return pd.DataFrame({"wind": wind, "p_late": chance, "late": (rng.random(rows) < chance) * 1})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's files lie: a spring, a windy summer, and a year of which the end is windy."""
    monkeypatch.chdir(tmp_path)
    flights(4000, 0.0, 1).to_csv("march.csv", index=False)
    flights(4000, 1.0, 2).to_csv("july.csv", index=False)
    pd.concat([flights(56_000, 0.0, 3), flights(3000, 1.0, 4)]).to_csv("year.csv", index=False)
    return tmp_path


def test_its_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [text for kind, text in BLOCKS if kind == "bash"]
    pair, stream = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert main(pair[1:]) == 0  # moved inputs alone are not HIGH
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    assert (answer["severity"], answer["root_cause"], answer["action"]) == ("MEDIUM", "covariate", "observe")
    assert {"name", "statistic", "lower", "upper", "p_value", "drifted"} <= answer["features"][0].keys()
    assert {"score", "findings"} <= answer["quality"].keys()
    assert "<svg" in (folder / "answer.html").read_text()
    capsys.readouterr()
    assert main(stream[1:]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    listed = re.search(r"one JSON line each: (.*?)\. A close", PAGE, re.DOTALL)
    assert listed is not None
    assert first.keys() == set(re.findall(r"`(\w+)`", listed[1]))
    assert first["event"] == "open"
    assert first["row"] > 56_000
    assert main([*pair[1:], "--fail-on", "MEDIUM"]) == 3
    assert main(["drift", "--reference", "march.csv", "--current", "nowhere.csv"]) == 2


def test_its_python_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(block, "docs/drift.md", "exec"), {"gauntlet": gauntlet})
    assert capsys.readouterr().out == "MEDIUM covariate ('wind',)\n"


def test_every_signal_severity_cause_and_action_has_its_place() -> None:
    assert set(get_args(Kind)) <= NAMES
    assert set(get_args(RootCause)) - {"none"} <= NAMES
    assert set(get_args(Action)) - {"none"} <= NAMES
    for severity in list(Severity)[1:]:
        assert f"| {severity.name} |" in PAGE


def test_its_numbers_are_the_defaults() -> None:
    rules = DriftSettings()
    for text, value in (
        ("distance ≥ 0.15", rules.ks),
        ("total variation ≥ 0.15", rules.total_variation),
        ("score < 0.80", rules.quality_alarm),
        ("quality below 0.70", rules.quality_block),
        ("quality below 0.60", rules.quality_critical),
        ("changed by 0.10", rules.transition),
    ):
        assert text in PAGE
        assert float(text.split()[-1]) == value
    assert (rules.concept_rise, rules.accuracy_fall, rules.r2_fall, rules.rmse_rise) == (0.15, 0.05, 0.05, 0.10)
    assert "mean loss 15 % above" in PAGE
    assert "−5 %, −5 %, +10 % relative" in PAGE
    assert f"waits {rules.cooldown_rows:,} rows" in PAGE
