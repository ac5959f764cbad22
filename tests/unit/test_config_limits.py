"""Numbers beyond all use are refused, whatever section they stand in: by name, with the limit and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_origin

import msgspec
import pytest

from gauntlet import config as structs
from gauntlet.config.load import parse
from gauntlet.config.section import Seconds
from gauntlet.errors import ConfigError

START = "experiment: e\ntask: classification\nchampion: {model: m.skops}\n"


def numbers(struct: type[msgspec.Struct] = structs.Config, path: str = "") -> Iterator[tuple[str, type]]:
    """Every setting that is a number, but for times, with its type; of lists none."""
    for field in msgspec.structs.fields(struct):
        kinds = [kind for one in (field.type, *get_args(field.type)) for kind in (one, *get_args(one))]
        section = next((one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
        if section is not None and not any(get_origin(one) in (list, dict) for one in kinds):
            yield from numbers(section, f"{path}{field.name}.")
        elif section is None and not any(isinstance(one, type) and issubclass(one, Seconds) for one in kinds):
            found = next((one for one in kinds if one in (int, float)), None)
            if found is not None and not any(get_origin(one) in (list, dict) for one in kinds):
                yield f"{path}{field.name}", found


@pytest.mark.parametrize(("setting", "kind"), list(numbers()))
def test_a_number_beyond_all_use_is_refused_by_name(setting: str, kind: type) -> None:
    *sections, name = setting.split(".")
    text = f"{name}: {10**18 if kind is int else '1.0e+300'}"
    for section in reversed(sections):
        text = f"{section}: {{{text}}}"
    with pytest.raises(ConfigError, match=name):
        parse(START + text)


@pytest.mark.parametrize("ladder", ["ramp: [STAGE]", "refresh: {ramp: [STAGE]}"])
def test_a_stage_that_nobody_could_leave_is_refused(ladder: str) -> None:
    ladder = ladder.replace("STAGE", "{share: 0.1, min_outcomes: N}")
    parse(START + ladder.replace("N", str(10**12)))
    with pytest.raises(ConfigError, match=r"`min_outcomes` of at most 1,000,000,000,000: no experiment has more"):
        parse(START + ladder.replace("N", str(10**12 + 1)))


def test_what_is_at_its_limit_is_taken() -> None:
    assert parse(START + "router: {max_body_bytes: 2147483648}").router.max_body_bytes == 2**31
    with pytest.raises(ConfigError, match=r"router.max_body_bytes` must be at most 2,147,483,648: a request is held"):
        parse(START + "router: {max_body_bytes: 2147483649}")
