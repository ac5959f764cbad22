"""The commented example that `gauntlet example` prints: whole, true and explained, whatever becomes of the settings.
Invariant: a setting that is added, renamed, dropped or given another default fails here until the example follows."""

import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest
import yaml

import gauntlet
from gauntlet import config as structs
from gauntlet.cli import main
from gauntlet.config import load as configs
from gauntlet.types import Task

EXAMPLE = Path(gauntlet.__file__).parent / "config" / "example.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
GIVEN = {"experiment", "task", "champion.model"}
"""What has no default: the example's own values."""

# Settings whose default is an empty list are shown by a commented item.
ITEMS = {
    "features": structs.FeatureSpec,
    "guardrails": structs.GuardrailConfig,
    "keys": structs.KeyConfig,
    "notify": structs.NotifyConfig,
}


def _sections(struct: type[msgspec.Struct] = structs.Config, path: str = "") -> Iterator[tuple[str, object]]:
    """Every setting with its default: ("router.breaker.window", 200)."""
    for field in msgspec.structs.fields(struct):
        where = f"{path}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _sections(field.type, f"{where}.")
        else:
            yield where, field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


SETTINGS = dict(_sections())


def _keys(node: yaml.Node, path: str = "") -> Iterator[tuple[str, int]]:
    """Every key of the document with its line (from 0); items of a list have their place in the path."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{path}{key.value}", key.start_mark.line
            yield from _keys(value, f"{path}{key.value}.")
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _keys(item, f"{path}{index}.")


KEYS = dict(_keys(yaml.compose(TEXT, Loader=yaml.SafeLoader)))


def _comment_above(line: int) -> list[str]:
    """The comment lines that stand directly above a line."""
    start = line
    while start > 0 and LINES[start - 1].lstrip().startswith("#"):
        start -= 1
    return LINES[start:line]


def test_command_prints_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example"]) == 0
    assert capsys.readouterr().out == TEXT


def test_example_parses_to_exactly_the_defaults() -> None:
    parsed = configs.parse(TEXT)
    expected = structs.Config(
        experiment="my-model", task=Task.CLASSIFICATION, champion=structs.ChampionConfig(model="model.skops")
    )
    assert parsed == expected


def test_there_are_settings_to_check() -> None:
    assert {"router.breaker.window", "evidence.alpha", "retrain.seed"} <= SETTINGS.keys()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_stands_in_the_example_with_its_default(setting: str) -> None:
    assert setting in KEYS, f"{setting} is missing in example.yaml"
    if setting in GIVEN:
        assert SETTINGS[setting] is msgspec.NODEFAULT
    else:
        assert attrgetter(setting)(configs.parse(TEXT)) == SETTINGS[setting]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_comment(key: str) -> None:
    line = KEYS[key]
    beside = re.search(r"\s#\s+(\S.*)$", LINES[line])
    words = [beside[1]] if beside else _comment_above(line)
    assert len(" ".join(words)) > 8, f"line {line + 1}: {key} is not explained"


@pytest.mark.parametrize(
    ("setting", "field"), [(name, field.name) for name, item in ITEMS.items() for field in msgspec.structs.fields(item)]
)
def test_settings_of_list_items_are_explained_above_the_empty_list(setting: str, field: str) -> None:
    shown = [line for line in _comment_above(KEYS[setting]) if re.match(rf"#\s+-?\s*{field}: \S+\s+# \S", line)]
    assert shown, f"{setting}: nothing tells what {field} is"


@pytest.mark.parametrize("setting", ITEMS)
def test_the_commented_items_work_when_uncommented(setting: str) -> None:
    items = [line.lstrip("#") for line in _comment_above(KEYS[setting]) if re.match(r"#   ", line)]
    rest = [line for line in LINES if not line.startswith(f"{setting}:")]
    assert len(getattr(configs.parse("\n".join([*rest, f"{setting}:", *items])), setting)) == 1


@pytest.mark.parametrize("field", [f.name for f in msgspec.structs.fields(structs.StageConfig)])
def test_every_stage_of_the_ramp_shows_every_field(field: str) -> None:
    stages = len(configs.parse(TEXT).ramp)
    assert all(f"ramp.{index}.{field}" in KEYS for index in range(stages))


def test_lines_fit_a_screen() -> None:
    assert [number for number, line in enumerate(LINES, 1) if len(line) > 120] == []
