"""Where a service listens and which key it needs, from a command's options and the configuration."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluator.offline.records import option
from gauntlet.cli import load_config
from gauntlet.cli.command import DEFAULT_CONFIG
from gauntlet.config import Config
from gauntlet.errors import BadInput
from gauntlet.types import Role

KEY_VARIABLE = "GAUNTLET_KEY"


@dataclass(frozen=True, kw_only=True)
class KeyOptions:
    """As whom a service is asked."""

    key_env: str | None = option(
        f"environment variable with the API key; default: {KEY_VARIABLE}, else the first variable of the "
        "configuration's `keys` that is set and whose role may do this",
        None,
        metavar="VARIABLE",
    )
    key_file: str | None = option("file with the API key, instead of a variable", None, metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class ReasonOptions:
    """What every command that changes something carries."""

    reason: str = option("why; it stands in the history", metavar="TEXT")


class Service(NamedTuple):
    """A service that a command asks: its address, the key, the configuration's experiment (None without one), and the
    command that would start it."""

    url: str
    key: str | None
    experiment: str | None
    start: str


def add_config(parser: argparse.ArgumentParser) -> None:
    """Give a command the configuration that says where its service listens."""
    about = f"the configuration that the services run with; default: {DEFAULT_CONFIG}, unless --url is given"
    parser.add_argument("config", nargs="?", help=about)


def find(arguments: argparse.Namespace, service: Literal["router", "retrainer"], role: Role) -> Service:
    """The service that the options name, or else the configuration. Raises `BadInput` where that is not enough."""
    given = vars(arguments)
    path = _config_path(arguments.config, url_given="url" in given)
    config = load_config.load(path) if path is not None else None
    url = given.get("url") or ""
    if not url and config is not None:
        host, port = config.router.host, config.router.port
        if service == "retrainer":
            host, port = config.observe.host, config.observe.retrainer_port
        url = _service_url(config, service, host, port)
    experiment = config.experiment if config is not None else None
    return Service(url, _api_key(given, config, role), experiment, f"gauntlet up {path or 'CONFIG'}")


def _config_path(named: str | None, *, url_given: bool) -> str | None:
    """The configuration that a command reads; None for none. Raises `BadInput` where neither it nor a URL is there."""
    path = named or (None if url_given else DEFAULT_CONFIG)
    if path == DEFAULT_CONFIG and named is None and not Path(path).exists():
        raise BadInput(f"name the configuration ({DEFAULT_CONFIG} is not in this folder), or give --url")
    return path


def _service_url(config: Config, service: str, host: str, port: int) -> str:
    """Where the configuration's service listens; with port 0, where it has said that it does."""
    if port == 0:
        address = Path(config.data) / f"{service}.address"
        try:
            port = int(address.read_text(encoding="ascii").strip().rpartition(":")[2])
        except (OSError, ValueError):
            reason = f"it has not said in {address} which"
            raise BadInput(f"the {service} takes any free port, and {reason}: is it running? Else give --url") from None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - any address means also this one
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _api_key(given: dict[str, Any], config: Config | None, role: Role) -> str | None:
    """The API key; None where none is given."""
    if "key_env" in given and "key_file" in given:
        raise BadInput("give --key-env or --key-file, not both")
    if (path := given.get("key_file")) is not None:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"--key-file {path}: {getattr(error, 'strerror', None) or 'this is not text'}") from error
    if (variable := given.get("key_env")) is not None:
        if not os.environ.get(variable):
            raise BadInput(f"--key-env {variable}: this environment variable is not set")
        return os.environ[variable]
    fit = [each.env for each in config.keys if each.role.rank >= role.rank] if config else []
    return next((os.environ[name] for name in (KEY_VARIABLE, *fit) if os.environ.get(name)), None)
