"""What a configuration demands of its model and of this machine: refused by `check` and at start alike.

Ranges and coupled settings are refused by `gauntlet.config` already; here is what only the model, the environment or
the disk can tell. Notes are what goes on all the same and is probably not meant.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.clock import lasting
from gauntlet.config import Config, KeyConfig
from gauntlet.config.consistency import useless
from gauntlet.config.records import LOCAL
from gauntlet.config.rehearsal import as_written
from gauntlet.errors import ConfigError
from gauntlet.registry.artifact import FunctionModel, Schema, file_hint
from gauntlet.spelling import did_you_mean, listed, quoting_hint

_SHORTEST_SECRET = 16


def refuse_unfit(config: Config, schema: Schema) -> None:
    """Raise `ConfigError` for a setting that names what the model does not have."""
    features = [feature.name for feature in schema.features]
    for name in config.drift.regimes:
        if name not in features:
            raise ConfigError(_no_such("drift.regimes", name, "feature", features))
    for guard in config.guardrails:
        if guard.label is not None and schema.class_index(guard.label) is None:
            raise ConfigError(_no_such("guardrails: recall", guard.label, "class", schema.classes))


def _no_such(where: str, name: object, kind: str, known: Sequence[object]) -> str:
    shown = ", ".join(map(repr, known[:20])) + (", …" if len(known) > 20 else "")
    hint = quoting_hint([name], known) or did_you_mean(str(name), map(str, known))
    return f"{where}: {name!r} is not a {kind} of the model; {hint and hint + '; '}there are {shown}"


def refuse_environment(config: Config) -> None:
    """Raise `ConfigError` for what this machine lacks: trainer or loader, a job's command, a data folder, a valid
    address. Nothing is written and nobody is called."""
    refuse_functions(config)
    refuse_records(config)
    for target in config.notify:
        if target.handler is not None:
            named_function(target.handler, f"notify: the handler of {target.name},")
    _refuse_folder(Path(config.data))
    if config.log != "local":
        from gauntlet.log.kafka_topics import parse

        parse(config.log)
    if config.state != "local":
        from gauntlet import adapters

        adapters.state(config)


def secrets(keys: Sequence[KeyConfig], environ: Mapping[str, str] = os.environ) -> list[str]:
    """The secret of each key, from the environment. Raises `ConfigError` for one that is missing, short or repeated."""
    found: list[str] = []
    for key in keys:
        secret = environ.get(key.env, "")
        if len(secret) < _SHORTEST_SECRET:
            raise ConfigError(
                f"key {key.name!r}: the environment variable {key.env} must hold at least {_SHORTEST_SECRET} characters"
            )
        if secret in found:
            raise ConfigError(f"key {key.name!r}: {key.env} holds the secret of another key")
        found.append(secret)
    return found


def refuse_functions(config: Config) -> None:
    """Raise `ConfigError` for a trainer or a loader that no job could call, and for a command that is not there."""
    if not config.retrain.enabled:
        return
    if config.retrain.command and shutil.which(config.retrain.command[0]) is None:
        program = config.retrain.command[0]
        raise ConfigError(f"retrain.command: there is no program {program!r} here; install it, or give its path")
    if config.retrain.loader is not None:
        _refuse_call(config.retrain.loader, "retrain.loader", (), ("start", "end"))
    if config.retrain.trainer is not None and not config.retrain.recipes:
        _refuse_call(config.retrain.trainer, "retrain.trainer", ())
    for recipe in config.retrain.recipes:
        names = (*recipe.parameters, *recipe.search)
        if recipe.trainer is not None:
            _refuse_call(recipe.trainer, f"retrain.recipes: the trainer of {recipe.name},", names)
        elif config.retrain.trainer is not None:
            _refuse_call(config.retrain.trainer, "retrain.trainer", names)


def _refuse_call(
    source: str, setting: str, parameters: Sequence[str], places: Sequence[str] = ("rows", "targets")
) -> None:
    """Raise `ConfigError` for a function that can't be called as jobs do, with `places` and these named parameters."""
    found = named_function(source, setting)
    if inspect.iscoroutinefunction(found):
        raise ConfigError(f"{setting} {source} is async, and a job calls it as it is: write `def`, not `async def`")
    try:
        inspect.signature(found).bind(*places, **dict.fromkeys(parameters))
    except TypeError as error:
        called = ", ".join([*places, *(f"{name}=…" for name in parameters)])
        raise ConfigError(f"{setting} {source} can't be called as ({called}): {error}") from error
    except ValueError:  # compiled, without a signature: only the call tells
        return


def refuse_records(config: Config) -> None:
    """Raise `ConfigError` where the driver for `records` is missing."""
    if config.records != LOCAL and not installed("psycopg"):
        raise ConfigError("records: PostgreSQL needs the driver psycopg: pip install 'gauntlet-ml[postgres]'")


def installed(package: str) -> bool:
    """Whether a package that is optional is there; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # how Python says that it has been ruled out
        return False


def refuse_recipes(config: Config, model: Any) -> None:
    """Raise `ConfigError` for a recipe that sets what the model, cloned, does not have."""
    if not config.retrain.enabled or config.retrain.trainer is not None or not hasattr(model, "get_params"):
        return
    for recipe in config.retrain.recipes:
        names = (*recipe.parameters, *recipe.search)
        known = model.get_params() if recipe.trainer is None and names else names
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f"there are {listed(known, 20)}"
                kind = type(model).__name__
                raise ConfigError(f"retrain.recipes: {recipe.name} sets {name!r}, no parameter of {kind}; {hint}")


def named_function(source: str, setting: str) -> Callable[..., Any]:
    """The function behind `module:function`. Raises `ConfigError`."""
    module, _, name = source.partition(":")
    if not module or not name:
        raise ConfigError(f"{setting} must be module:function, not {source!r}")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # user code: whatever it raises, the answer is the same
        hint = file_hint(module)
        raise ConfigError(f"{setting} {source} can't be imported: {type(error).__name__}: {error}{hint}") from error
    if not callable(found):
        raise ConfigError(f"{setting} {source} is not a function, but {type(found).__name__}")
    return found


def _refuse_folder(folder: Path) -> None:
    present = next(path for path in (folder, *folder.parents) if path.exists())
    if not present.is_dir():
        raise ConfigError(f"cannot write to the data folder {folder}: {present} is a file")
    if not os.access(present, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write to the data folder {folder}: Permission denied for {present}")
    if os.name != "nt" and not os.statvfs(present).f_blocks:  # /proc, /sys and their like: rights say nothing there
        try:
            tempfile.TemporaryDirectory(prefix=".gauntlet-", dir=present).cleanup()
        except OSError as error:
            raise ConfigError(
                f"cannot write to the data folder {folder}: {present} takes no folder: {error.strerror}"
            ) from error


def notes(config: Config, model: object, schema: Schema, seconds: float) -> Iterator[str]:
    """What is probably not meant. `seconds`: how long the model took for a prediction."""
    yield from useless(as_written(config))
    try:
        secrets(config.keys)
    except ConfigError as error:  # a configuration may be checked on a machine that has no business with its secrets
        yield f"{error}, or the router refuses to start"
    features = {feature.name for feature in schema.features}
    for name in config.segments:
        if name in features:
            yield f"segments: {name!r} is a feature; a segment is a label that each request brings under `segments`"
    if config.retrain.enabled and config.retrain.trainer is None and not hasattr(model, "get_params"):
        name = "a function" if isinstance(model, FunctionModel) else type(model).__name__
        yield (
            f"retrain: {name} can't be refitted by itself, so every job would fail; give "
            "`retrain.trainer`, or write `retrain: {enabled: false}`"
        )
    if seconds > config.router.challenger_timeout:
        yield (
            f"router.challenger_timeout: the model took {lasting(seconds)}, more than "
            f"{lasting(config.router.challenger_timeout)}; a challenger of its kind would be taken out"
        )
