"""Records of the file tools: options on the way in, plain values fit for JSON on the way out.

A frozen record is the only list of a command's options: a field is declared by `option`, with its help and its limits.
The command line builds its parser from the record (`add_options`), the public functions build the record from keywords
of the same names (`build`), and the record refuses what is out of its limits (`check_limits`), naming the option as the
command line has it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import partial
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from gauntlet.errors import BadInput
from gauntlet.spelling import did_you_mean


@dataclass(frozen=True)
class _Option:
    """What the command line says of a field; see `option`.

    field, type, choices: of the record's field, its type without None; filled in when the record is read.
    """

    help: str
    default: Any
    name: str = ""
    field: str = ""
    type: Any = None
    choices: tuple[str, ...] | None = None
    negated: str | None = None
    written: str | None = None
    repeated: bool = False
    nargs: str | None = None
    metavar: str | None = None
    group: str | None = None
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None


def option(help: str, default: Any = MISSING, **more: Any) -> Any:
    """A field of a frozen dataclass that is an option of a command.

    name: of the option, where the field is called otherwise. repeated: it may be given several times. negated: the flag
    that switches a truth value off. written: the default as people write it, where a number is written as text. nargs,
    metavar: as argparse has them. group: a heading of the help. above, least, below, most: limits of a number, the
    first and third of them excluded.
    """
    return field(default=default, metadata={"option": _Option(help, default, **more)})


column = partial(option, metavar="COLUMN")
"""An option that names a column."""


_LIMITS: Final[tuple[tuple[str, str, Callable[[float, float], bool]], ...]] = (
    ("above", "greater than", lambda value, limit: value > limit),
    ("least", "at least", lambda value, limit: value >= limit),
    ("below", "less than", lambda value, limit: value < limit),
    ("most", "at most", lambda value, limit: value <= limit),
)


def flag(name: str) -> str:
    """An option as it is written on the command line."""
    return "--" + name.replace("_", "-")


def _fields(record: Any) -> tuple[_Option, ...]:
    hints, found = get_type_hints(record), []
    for one in fields(record):
        if "option" not in one.metadata:
            continue
        spec, kind = one.metadata["option"], hints[one.name]
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not NoneType)
        choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else None
        kind = str if choices else kind
        found.append(replace(spec, name=spec.name or one.name, field=one.name, type=kind, choices=choices))
    return tuple(found)


def check_names(options: Mapping[str, Any], *records: type) -> None:
    """Raises TypeError for an option that none of the records has."""
    known = [one.name for record in records for one in _fields(record)]
    for name in sorted(options.keys() - set(known)):
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise TypeError(f"there is no option {name!r}; {hint}")


def by_field(record: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that belong to the record, by the names of its fields; lists become tuples."""
    given = {one.field: options[one.name] for one in _fields(record) if one.name in options}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def build(options: Mapping[str, Any], *records: type) -> list[Any]:
    """The records from options by name. Raises TypeError for a name that none of them has."""
    check_names(options, *records)
    return [record(**by_field(record, options)) for record in records]


def check_limits(record: object, error: type[BadInput] = BadInput) -> None:
    """Raises the error for a number that is not finite or beyond its limits, or a word that is not a choice."""
    for one in _fields(type(record)):
        value, name = getattr(record, one.field), flag(one.name)
        if value is None:
            continue
        if one.choices is not None and value not in one.choices:
            raise error(f"{name} must be one of {', '.join(one.choices)}, not {value!r}")
        if one.type not in (int, float):
            continue
        finite = isinstance(value, int | float) and math.isfinite(value)
        if not finite or (one.type is int and value != int(value)):
            raise error(f"{name} must be a {'whole' if one.type is int else 'finite'} number, not {value!r}")
        limits = [(word, getattr(one, key), fits) for key, word, fits in _LIMITS]
        given = [(f"{word} {limit:,.12g}", fits(value, limit)) for word, limit, fits in limits if limit is not None]
        if not all(fits for _, fits in given):
            raise error(f"{name} must be {' and '.join(words for words, _ in given)}, not {value!r}")


def add_options(parser: argparse.ArgumentParser, *records: type) -> None:
    """Give a command the options of these records. What is not given is absent from the parsed arguments."""
    groups: dict[str | None, Any] = {None: parser}
    for one in (each for record in records for each in _fields(record)):
        numeric = one.type in (int, float) and one.written is None
        if one.group not in groups:
            groups[one.group] = parser.add_argument_group(one.group)
        settings: dict[str, Any] = {"dest": one.name, "default": argparse.SUPPRESS, "help": one.help.replace("%", "%%")}
        if one.type is bool:
            settings |= {"action": "store_const", "const": one.negated is None}
        else:
            metavar = one.metavar or {int: "N", float: "X"}.get(one.type)
            settings |= {"choices": one.choices} if one.choices else {"metavar": metavar}
            settings |= {"action": "append"} if one.repeated else {"nargs": one.nargs}
            settings |= {"type": one.type if numeric else str, "required": one.default is MISSING}
            default = one.default if one.written is None else one.written
            if default not in (None, MISSING, (), ""):
                settings["help"] += f"; default: {default}"
        groups[one.group].add_argument(flag(one.negated or one.name), **settings)


def chosen(arguments: argparse.Namespace, *records: type) -> dict[str, Any]:
    """The options of these records that the command line gave."""
    given = vars(arguments)
    return {one.name: given[one.name] for record in records for one in _fields(record) if one.name in given}


def to_plain(value: Any) -> Any:
    """Dataclasses as dictionaries, sequences as lists, numbers that are not finite as None.

    Fields that a record leaves out of its `repr` are for plots, and are left out here as well.
    """
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, dict):
        return {str(name): to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class PlainRecord:
    """A frozen record that is JSON-able as the dictionary of its fields."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, without what is only plotted."""
        values: dict[str, Any] = to_plain(self)
        return values
