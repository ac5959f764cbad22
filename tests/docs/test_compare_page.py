"""docs/compare.md by the letter: its commands run on files that fit them, and it lists the names that there are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

import gauntlet
from evaluator.offline.comparator.result import Decision
from evaluator.offline.comparator.settings import ComparatorSettings
from gauntlet.cli import main
from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.holdout.bootstrap import MOST_BLOCKS
from gauntlet.holdout.metrics import names
from gauntlet.latency import BATCH
from gauntlet.types import Task

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
NAMES = set(re.findall(r"`([a-z0-9_]+)`", PAGE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Flights of two airports: the champion knows the wind, the challenger the visibility too."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"wind": rng.normal(size=8000), "visibility": rng.normal(size=8000)})
    rows["airport"] = rng.choice(["EWR", "JFK"], 8000)
    rows["day"] = np.repeat(np.arange(40), 200)
    rows["late"] = (rng.random(8000) < 1 / (1 + np.exp(1.5 - rows.wind + rows.visibility))) * 1
    train = rows[:4000]
    skops.io.dump(LogisticRegression().fit(train[["wind"]], train.late), "old.skops")
    skops.io.dump(LogisticRegression().fit(train[["wind", "visibility"]], train.late), "new.skops")
    rows[4000:].to_csv("test.csv", index=False)
    return tmp_path


def test_its_commands_run(folder: Path) -> None:
    (block,) = [text for kind, text in BLOCKS if kind == "bash"]
    better, worse = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert main([*better[1:], "--no-latency"]) == 0
    answer = json.loads((folder / "report.json").read_text())
    assert answer["decision"] == "promote"
    listed = PAGE[PAGE.index("## JSON") :]
    keys = {*answer, *answer["metrics"]["auc"]}
    assert keys == set(re.findall(r"`(\w+)`", listed))
    assert "<svg" in (folder / "page.html").read_text()
    assert worse[worse.index("||") :] == ["||", "test", "$?", "=", "3"]
    assert main([*worse[1 : worse.index("||")], "--no-latency"]) == 3


def test_its_python_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(
        compile(block.replace('cluster="day"', 'cluster="day", latency=False'), "docs/compare.md", "exec"),
        {"gauntlet": gauntlet},
    )
    assert capsys.readouterr().out == "promote primary\n"


def test_every_decision_and_metric_is_named() -> None:
    assert set(get_args(Decision)) <= NAMES
    known = [*names(Task.CLASSIFICATION, ["CLASS", "other"]), *names(Task.REGRESSION, ())]
    assert {name for name in known if "@" not in name} <= NAMES


def test_its_numbers_are_the_defaults() -> None:
    settings = ComparatorSettings(target="y")
    for text in (
        f"`--threshold` ({settings.threshold:g})",
        f"`--alpha` ({settings.alpha:g})",
        f"`--max-latency-increase` ({settings.max_latency_increase:.2f})",
        f"`--repetitions` ({settings.repetitions:,})",
        f"a batch of {BATCH} rows",
        f"Fewer than {MIN_HOLDOUT_BLOCKS} clusters",
        f"More than {MOST_BLOCKS} clusters",
    ):
        assert text in PAGE
