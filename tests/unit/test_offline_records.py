"""Options of the file tools: one record makes the parser, takes the keywords, and refuses by the option's name."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import pytest

import gauntlet
from evaluator.offline.records import add_options, build, check_limits, chosen, option
from gauntlet.errors import BadInput

TABLE = pd.DataFrame({"arm": ["a", "b"], "loss": [0.0, 1.0]})


@dataclass(frozen=True, kw_only=True)
class Soup:
    """A record with an option of each kind."""

    salt: float = option("100 % of it dissolves", above=0.0, most=2.5)
    bowls: int | None = option("how many", None, least=1)
    spice: Literal["mild", "hot"] = option("how it tastes", "mild", group="taste")
    herbs: tuple[str, ...] = option("again for each", (), name="herb", repeated=True, metavar="NAME")
    stirred: bool = option("leave it alone", True, negated="unstirred")
    cream: bool = option("add some", False)
    time: float = option("until it is done", 1.5, written="90m", metavar="TIME")
    kept: str = "not an option"

    def __post_init__(self) -> None:
        check_limits(self)


def parsed(*argv: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser, Soup)
    return chosen(parser.parse_args(argv), Soup)


def test_what_is_not_given_is_left_to_the_record() -> None:
    assert parsed("--salt", "1") == {"salt": 1.0}
    (soup,) = build(parsed("--salt", "1"), Soup)
    assert soup == Soup(salt=1.0)


def test_every_kind_of_option_arrives() -> None:
    given = parsed("--salt", "1", "--bowls", "3", "--spice", "hot", "--herb", "dill", "--herb", "bay", "--unstirred")
    assert given == {"salt": 1.0, "bowls": 3, "spice": "hot", "herb": ["dill", "bay"], "stirred": False}
    assert build(given, Soup)[0].herbs == ("dill", "bay")
    assert parsed("--salt", "1", "--cream", "--time", "2h") == {"salt": 1.0, "cream": True, "time": "2h"}


def test_the_help_has_every_option_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Soup)
    shown = " ".join(parser.format_help().split())
    for part in ("100 % of it dissolves", "default: 90m", "{mild,hot}", "taste:", "--herb NAME", "--unstirred"):
        assert part in shown, part
    assert "kept" not in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"salt": 3.0}, r"--salt must be greater than 0 and at most 2\.5, not 3\.0"),
        ({"salt": math.nan}, "--salt must be a finite number, not nan"),
        ({"bowls": 0}, "--bowls must be at least 1, not 0"),
        ({"bowls": 1.5}, r"--bowls must be a whole number, not 1\.5"),
        ({"spice": "bland"}, "--spice must be one of mild, hot, not 'bland'"),
    ],
)
def test_a_refusal_names_the_option_and_what_it_must_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Soup(**{"salt": 1.0, **change})


def test_an_unknown_or_missing_keyword_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="there is no option 'pepper'; there are salt, bowls"):
        build({"salt": 1.0, "pepper": 2.0}, Soup)
    with pytest.raises(TypeError, match="there is no option 'bowl'; did you mean 'bowls'"):
        build({"salt": 1.0, "bowl": 2.0}, Soup)
    with pytest.raises(TypeError, match="salt"):
        build({}, Soup)


@pytest.mark.parametrize(
    ("call", "wrong", "meant"),
    [
        (lambda **given: gauntlet.analyze(TABLE, **given), "metrics", "metric"),
        (lambda **given: gauntlet.drift(TABLE, TABLE, **given), "targt", "target"),
        (lambda **given: gauntlet.drift_stream(TABLE, 10, **given), "feature", "features"),
        (gauntlet.plan, "trafic", "traffic"),
        (gauntlet.simulate, "run", "runs"),
    ],
)
def test_every_public_function_refuses_a_misspelt_option(call: Any, wrong: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"there is no option '{wrong}'; did you mean '{meant}'"):
        call(**{wrong: "x"})
