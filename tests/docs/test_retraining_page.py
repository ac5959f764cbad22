"""docs/retraining.md by the letter: its settings are read, its Python runs, and it lists the facts and names."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from gauntlet.cli import main
from gauntlet.config import misplaced_names, retraining_aliases
from gauntlet.config.load import parse
from gauntlet.config.rules import FACTS

PAGE = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
START = "experiment: e\ntask: classification\nchampion: {model: m.skops}\n"


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "yaml"])
def test_its_settings_are_read(block: str) -> None:
    parse(START + block, "docs/retraining.md")


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "python"])
def test_its_python_runs(block: str) -> None:
    exec(compile(block, "docs/retraining.md", "exec"), {})


def test_it_lists_every_fact_as_the_grammar_has_it() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE[PAGE.index("| fact |") : PAGE.index("## Settings by")], re.M)
    )
    assert rows == FACTS


def test_every_known_name_has_its_row() -> None:
    table = PAGE[PAGE.index("## Every name that others use") :]
    named = set(re.findall(r"`(\w+)`", table))
    assert not {*retraining_aliases.NAMES, *retraining_aliases.SCHEDULE, *retraining_aliases.PROMOTION} - {
        *named,
        "accuracy_threshold",
        "schedule_cron",
        "schedule_timezone",
    }
    assert not {*misplaced_names.ELSEWHERE} - {*named, "enabled"}


@pytest.mark.parametrize("setting", sorted(set(re.findall(r"`((?:retrain|drift|evidence|bake)\.[a-z_.0-9]+)`", PAGE))))
def test_the_settings_it_names_are_there(setting: str) -> None:
    section = parse(START).__class__
    for step in setting.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(section)}
        assert step in fields, setting
        kinds = [fields[step], *get_args(fields[step])]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), section)


def test_its_run_without_a_router_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, slope in (("a", 1.5), ("b", -1.5), ("quiet", 1.5)):
        rows = pd.DataFrame({"x": rng.normal(size=3000), "z": rng.normal(size=3000)})
        rows["y"] = (rng.random(3000) < 1 / (1 + np.exp(-slope * rows.x))) * 1
        rows.to_csv(f"{name}.csv", index=False)
        if name == "a":
            skops.io.dump(LogisticRegression().fit(rows[["x", "z"]], rows.y), "model.skops")
    (block,) = [text for kind, text in BLOCKS if kind == "bash" and "retrain run" in text]
    turned, same = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert main([*turned[1:], "--no-latency"]) == 0
    assert json.loads(Path("report.json").read_text())["decision"] == "promote"
    assert Path("new.skops").exists()
    assert "<svg" in Path("page.html").read_text()
    assert same[same.index("||") :] == ["||", "test", "$?", "=", "3"]
    assert main([*same[1 : same.index("||")], "--no-latency"]) == 3
