"""Reads the configuration file: YAML into `Config`. Whatever is refused is refused with its line."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from gauntlet.config import Config
from gauntlet.config.rehearsal import rehearsed
from gauntlet.config.retrain import WindowLength
from gauntlet.config.section import BlockLength, Seconds, Section
from gauntlet.errors import ConfigError
from gauntlet.spelling import did_you_mean


def load(path: str | Path) -> Config:
    """Read and check a configuration file.

    Relative paths in it (data, registry, champion.model, champion.reference) are resolved against its folder.
    Raises `ConfigError` naming the file, the line, the key and the reason.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8 text, so it is not YAML") from error
    config = parse(text, str(path))
    base = path.resolve().parent
    champion = config.champion
    if ":" not in champion.model:
        champion = msgspec.structs.replace(champion, model=str(base / champion.model))
    if champion.reference is not None:
        champion = msgspec.structs.replace(champion, reference=str(base / champion.reference))
    registry, scheme = config.registry, "mlflow+sqlite:///"
    if registry.startswith(scheme):
        registry = scheme + str(base / registry.removeprefix(scheme))
    return msgspec.structs.replace(config, data=str(base / config.data), champion=champion, registry=registry)


def parse(text: str, name: str = "configuration") -> Config:
    """A configuration from YAML text; `name` stands in its errors."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}:{_mark(error, text)}: this is not YAML: {_problem(error)}") from error
    except (ValueError, RecursionError) as error:  # a date such as 2013-99-99; an alias that holds itself
        raise ConfigError(f"{name}: this is not YAML that can be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{name}:1: a configuration is a mapping of keys to values")
    try:
        _refuse_repeated_keys(node, name)
        _refuse_misread(node, name)
    except RecursionError:
        raise ConfigError(f"{name}:1: an alias holds itself") from None
    try:
        config = msgspec.convert(document, Config, dec_hook=decode_hook, strict=True)
        return rehearsed(config) if config.profile == "rehearsal" else config
    except ValueError as error:  # msgspec's are ones, too
        message, path = split_error(str(error))
        # The first named key that stands in the file, else the section of the first; defaults stand nowhere.
        found = [_place(node, [*path, *key.split(".")]) for key in re.findall(r"`([\w.]+)`", message)]
        line = max(found or [_place(node, path)], key=lambda place: place[0])[1]
        message = in_words_of_yaml(message, path)
        where = ".".join(str(p) for p in path) or "top level"
        raise ConfigError(f"{name}:{line}: {where}: {message}") from error


def _mark(error: yaml.YAMLError, text: str) -> int:
    """The line that the YAML reader stopped at."""
    mark = getattr(error, "problem_mark", None)
    return int(mark.line) + 1 if mark else text.count("\n", 0, getattr(error, "position", 0)) + 1


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)


def decode_hook(kind: type, value: object) -> object:
    """A duration as a file writes it."""
    if kind in (Seconds, BlockLength, WindowLength):
        return kind.parse(value)
    raise NotImplementedError(kind)


def split_error(message: str) -> tuple[str, list[str | int]]:
    """Take msgspec's "reason - at `$.a.b[0]`" apart."""
    if message.startswith("Expected") and " - at `key` in `" in message:  # only texts are keys
        message = re.sub(
            r"^.* - at `key` in `", "every key must be a text: write numbers and dates in quotes - at `", message
        )
    message = re.sub(r"^Invalid enum value (.*) - at `key` in `", r"Invalid key \1 - at `", message, flags=re.DOTALL)
    match = re.fullmatch(r"(.*) - at `\$(.*)`", message, re.DOTALL)
    if match is None:
        return message, []
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", match[2])
    return match[1], [int(index) if index else name for name, index in steps]


_KINDS = {
    "object": "a mapping of keys to values",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
"""msgspec's names of types, as YAML has them."""


def in_words_of_yaml(message: str, path: list[str | int]) -> str:
    """msgspec's reason in words of the file: what is expected, the values of a choice, a close key for a misspelt."""
    if unknown := re.search(r"unknown field `(.*)`$", message, re.DOTALL):
        known = [field.name for field in msgspec.structs.fields(_section_in(_type_at(path)))]
        hint = did_you_mean(unknown[1], known) or f"there are {', '.join(known)}"
        return f"there is no key `{unknown[1]}`; {hint}"
    if invalid := re.fullmatch(r"Invalid enum value (.*)", message, re.DOTALL):
        return f"must be {' or '.join(map(str, _choices(_type_at(path))))}, not {invalid[1]}"
    if key := re.fullmatch(r"Invalid key (.*)", message, re.DOTALL):
        return f"has no key {key[1]}; there are {', '.join(map(str, _choices(get_args(_type_at(path))[0])))}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"`{missing[1]}` is missing"
    if not message.startswith("Expected "):
        return message
    expected, got, given = message.partition(", got ")
    words = re.sub(r"`([^`]*)`", lambda kinds: " or ".join(_KINDS.get(k, k) for k in kinds[1].split(" | ")), expected)
    return re.sub("^Expected ", "must be ", words) + (f", not {_KINDS.get(given.strip('`'), given)}" if got else "")


def _type_at(path: list[str | int]) -> Any:
    """The declared type of the setting at `path`."""
    kind: Any = Config
    for step in path:
        if isinstance(step, int):
            kind = next(get_args(part)[0] for part in (kind, *get_args(kind)) if get_origin(part) is list)
        else:
            kind = get_type_hints(_section_in(kind))[step]
    return kind


def _section_in(kind: Any) -> Any:
    """The section in a type such as `DriftConfig` or `FeatureSpec | str`."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    return next((found for part in get_args(kind) if (found := _section_in(part))), None)


def _choices(kind: Any) -> list[object]:
    """The values of an enumeration or a Literal, also of an optional one."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for part in get_args(kind) for value in _choices(part)]


def _place(node: Any, path: list[str | int]) -> tuple[int, int]:
    """How many steps of `path` are in the file, and the line of the last one that is."""
    depth, line = 0, node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((p for p in node.value if p[0].value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
        depth += 1
    return depth, int(line)


_LABELS = re.compile(r"classes\.\d+|guardrails\.\d+\.label")
_PATHS = ("data", "champion.model", "champion.reference")
_OCTAL = re.compile(r"[+-]?0[0-9_]+")
_OF_A_SHELL = re.compile(r"~[^/]*(?=/|$)|\$\w+|\$\{\w+\}")


def _refuse_misread(node: Any, name: str, where: str = "") -> None:
    """YAML 1.1 reads 12:30 as 750, 010 as 8 and the label `no` as false, and what a shell would expand it leaves: who
    writes that means something else."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_misread(value, name, f"{where}.{key.value}".lstrip("."))
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            _refuse_misread(value, name, f"{where}.{place}")
    elif isinstance(node, yaml.ScalarNode) and (reason := _misread(node, where)):
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: {where}: {reason}")


def _misread(node: Any, where: str) -> str:
    """Why a scalar is not what it looks like; else empty."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "str" and where in _PATHS:
        if not text.strip() or "\0" in text:
            return f"must be a path, not {text!r}"
        found = _OF_A_SHELL.match(text) or re.search(r"\$\w+|\$\{\w+\}", text)
        return f"{found[0]} in {text!r} is not expanded here: write the path itself" if found else ""
    if kind in ("int", "float") and ":" in text:
        return f"YAML reads {text} as a number to the base 60: write a duration as 90s, 15m or 12h, a text in quotes"
    if kind == "int" and _OCTAL.fullmatch(text):
        return f"YAML reads {text} as an octal number: write it without the leading 0, or a text in quotes"
    if kind == "bool" and _LABELS.fullmatch(where) and text.lower() not in ("true", "false"):
        read = "true" if text.lower() in ("yes", "on") else "false"
        return f"YAML reads {text} as {read}: write the label in quotes, or true or false"
    return ""


def _refuse_repeated_keys(node: Any, name: str) -> None:
    """YAML keeps the last of two equal keys in silence; a configuration must not."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(key.value)
            _refuse_repeated_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, name)
