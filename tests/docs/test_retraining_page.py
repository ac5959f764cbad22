"""docs/retraining.md by the letter: its settings are read, its Python runs, and it lists the facts and names."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gauntlet.config import retraining_names
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
    assert not {*retraining_names.NAMES, *retraining_names.SCHEDULE, *retraining_names.PROMOTION} - {
        *named,
        "accuracy_threshold",
        "schedule_cron",
        "schedule_timezone",
    }
    assert not {*retraining_names.ELSEWHERE} - {*named, "enabled"}


@pytest.mark.parametrize("setting", sorted(set(re.findall(r"`((?:retrain|drift|evidence|bake)\.[a-z_.0-9]+)`", PAGE))))
def test_the_settings_it_names_are_there(setting: str) -> None:
    section = parse(START).__class__
    for step in setting.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(section)}
        assert step in fields, setting
        kinds = [fields[step], *get_args(fields[step])]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), section)
