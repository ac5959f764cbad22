"""The implementation behind each port, chosen by the configuration's URLs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gauntlet import keys
from gauntlet.config import Config
from gauntlet.errors import ConfigError
from gauntlet.log import LogReader, LogWriter
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.registry import Registry
from gauntlet.registry.local import LocalRegistry
from gauntlet.state import StateStore
from gauntlet.state.local import LocalState


def data(config: Config) -> Path:
    """The folder for everything that lives on the local disk."""
    return Path(config.data)


def local_writer(config: Config, writer: str, *, indexed: Sequence[str] = ()) -> LocalLogWriter:
    """A service's own log on the local disk. The router appends here first, whatever stands behind `log`."""
    return LocalLogWriter(data(config) / "log", writer, indexed=indexed)


def local_reader(config: Config) -> LocalLogReader:
    return LocalLogReader(data(config) / "log")


async def log_writer(config: Config, writer: str) -> LogWriter:
    if config.log == "local":
        return local_writer(config, writer)
    from gauntlet.log.kafka import KafkaLogWriter

    return await KafkaLogWriter.connect(config.log)


async def log_reader(config: Config, writers: Sequence[str] = ()) -> LogReader:
    """`writers`: services whose records the reader waits for, where each has a log of its own; all if empty."""
    if config.log == "local":
        return LocalLogReader(data(config) / "log", writers)
    from gauntlet.log.kafka import KafkaLogReader

    return await KafkaLogReader.connect(config.log, keys.TOPICS)


def state(config: Config) -> StateStore:
    if config.state == "local":
        return LocalState(data(config) / "state.db")
    from gauntlet.state.redis import RedisState

    try:
        return RedisState(config.state)
    except ValueError as error:
        raise ConfigError(f"state: {config.state!r} is no address of Redis: {error}") from error


def registry(config: Config) -> Registry:
    root = data(config) / "registry"
    if config.registry == "local":
        return LocalRegistry(root)
    from gauntlet.registry.mlflow import MlflowRegistry
    from gauntlet.registry.mlflow_server import MlflowServer

    champion = config.champion
    named = (champion.model, config.retrain.trainer)
    return MlflowRegistry(
        MlflowServer(config.registry.removeprefix("mlflow+"), config.experiment),
        root,
        trusted=champion.trusted,
        allow_pickle=champion.allow_pickle,
        functions=[name for name in named if name is not None],
    )
