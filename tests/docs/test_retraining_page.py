"""docs/retraining.md by the letter: its settings are read, its Python runs, and it lists the facts and names."""

import re
from pathlib import Path

import pytest

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
