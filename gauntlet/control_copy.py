"""The router's copy of the control record on its local disk: the last one that it served.

It starts from it while the state store is away; where the store has lost the record, the copy is put back. What has run
and left neither is never begun again in silence: the start is refused.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gauntlet import adapters, files
from gauntlet.config import Config
from gauntlet.errors import ConfigError
from gauntlet.rollout import Control

_LOST = "control_lost"


def path(config: Config) -> Path:
    """The copy's file in the data folder, which has one router."""
    return adapters.data(config) / "control.json"


def write(config: Config, version: int, record: Control) -> None:
    """Replace the copy; safe on disk when this returns. Raises `OSError`."""
    files.atomic_write(path(config), msgspec.json.encode((version, record)))


def read(config: Config) -> tuple[int, Control | None]:
    """Version and record; `(0, None)` where there is none of this experiment that can be read."""
    try:
        version, record = msgspec.json.decode(path(config).read_bytes(), type=tuple[int, Control])
    except (OSError, msgspec.MsgspecError):
        return 0, None
    return (version, record) if record.experiment == config.experiment else (0, None)


def trace(config: Config) -> Path | None:
    """A file that shows that an experiment has run in this data folder; None where nothing does.

    A version in the registry is none: a first start may have been killed just after it.
    """
    data = adapters.data(config)
    found = (data / "registry" / "aliases.json", *sorted((data / "log").glob("*/*.db")))
    return next((path for path in found if path.exists()), None)


def refuse_lost(config: Config, trace: Path, state_before: str | None = None) -> None:
    """Raise `ConfigError`: there is neither a record nor a copy of an experiment that has left `trace`.

    `state_before`: the state store of the last start, where that is known.
    """
    where = str(adapters.data(config) / "state.db") if config.state == "local" else config.state
    remedy = "restore one of the two"
    if state_before not in (None, config.state):
        remedy = f"set `state` back to {state_before}, as it was at the last start"
    raise ConfigError(
        f"{config.data}: {config.experiment} has run here ({trace} is there), and its control record is neither in the "
        f"state store ({where}) nor in the router's copy ({path(config)}): {remedy}{_begin_anew(config)}",
        code=_LOST,
    )


def refuse_older(config: Config, copy: Control) -> None:
    """Raise `ConfigError` where the registry's champion is none that the copy knows: it missed a promotion."""
    champion = adapters.registry(config).aliases().get("champion", copy.champion)
    known = {copy.champion, copy.previous, *(e.champion for e in copy.ended), *(e.challenger for e in copy.ended)}
    if champion not in known:
        raise ConfigError(
            f"{config.data}: the state store ({config.state}) has lost the control record of {config.experiment}, and "
            f"the router's copy ({path(config)}) is of before {champion} was promoted: restore the state store"
            f"{_begin_anew(config)}",
            code=_LOST,
        )


def _begin_anew(config: Config) -> str:
    registry = adapters.registry(config)
    version = registry.aliases().get("champion")
    if version is None:
        return ", or start over with an empty `data` folder"
    source = registry.get(version).source
    model = source if ":" in source else adapters.data(config) / "registry" / version / source
    return f", or start over with its champion, {version}: an empty `data` folder and `champion.model: {model}`"
