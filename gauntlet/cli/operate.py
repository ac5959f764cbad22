"""`gauntlet status`, `history` and the operator's commands: the router's API from a terminal.

Text for a person on standard output, or with `--json` the API's own answer. Exit codes: 0 done, also where it was so
already; 1 refused by the router, with its reason; 2 wrong usage, or no router reached.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from evaluator.offline.records import add_options, chosen, option
from gauntlet.cli import address, status_text
from gauntlet.cli.address import KeyOptions, ReasonOptions
from gauntlet.errors import BadInput
from gauntlet.reason import stated
from gauntlet.service_client import NotReached, Refused, ServiceClient
from gauntlet.status_document import SCHEMA, Change, Document
from gauntlet.types import Role

_CLEAR = "\x1b[H\x1b[2J"

_LOADING_SECONDS = 2.0
"""How long the answer to a command waits for the router to have loaded what it serves now."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RouterOptions:
    """Which router is asked, and how the answer is shown."""

    url: str | None = option("address of the router; default: by the configuration", None, metavar="URL")
    experiment: str | None = option(
        "default: the configuration's, or with --url the only one of that router", None, metavar="NAME"
    )
    json: bool = option("print the router's answer as JSON, for machines", False)


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """Which rollout a command is about."""

    rollout: str | None = option(
        "a rollout by its id, or by its challenger's version; needed where several run and the command is about one",
        None,
        metavar="ROLLOUT",
    )


@dataclass(frozen=True, kw_only=True)
class RollbackOptions:
    """Where a rollback goes."""

    to: str | None = option(
        "make this kept version the champion; default: take the challengers out, or where there are none put the "
        "champion of before back",
        None,
        metavar="VERSION",
    )


@dataclass(frozen=True, kw_only=True)
class RampOptions:
    """Where on the ramp a challenger is put."""

    stage: int = option("index of the stage: 0 is the first share, -1 is shadow")


@dataclass(frozen=True, kw_only=True)
class ChallengeOptions:
    """What a challenger has to show."""

    rule: Literal["prove", "refresh"] = option(
        "prove: that it is better; refresh: better on average, and not worse by more than a margin", "prove"
    )


_OWN: dict[str, tuple[type, ...]] = {
    "challenge": (ReasonOptions, ChallengeOptions),
    "ramp": (ReasonOptions, RolloutOptions, RampOptions),
    "rollback": (ReasonOptions, RolloutOptions, RollbackOptions),
    "status": (),
    "history": (),
}
"""The options of each command beside those of all; a command that is not here has these two."""


def options(parser: argparse.ArgumentParser) -> None:
    """Give a command its arguments."""
    command = parser.prog.rpartition(" ")[2]
    address.add_config(parser)
    if command == "challenge":
        parser.add_argument("model", metavar="VERSION", help="of the registry, as `gauntlet register` prints it")
    elif command == "status":
        about = "refresh every so many seconds (default 2), until Ctrl-C"
        parser.add_argument("--watch", metavar="SECONDS", nargs="?", type=_seconds, const=2.0, help=about)
    elif command == "history":
        parser.add_argument("--after", metavar="N", type=int, default=0, help="only changes later than number N")
    add_options(parser, *_OWN.get(command, (ReasonOptions, RolloutOptions)), RouterOptions, KeyOptions)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be from 0.1 to 86400, not {text}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Give the router a command, and say what it did and what comes next."""
    verb = arguments.command
    experiment = _Experiment(arguments, Role.OPERATOR)
    body: dict[str, Any] = {"reason": stated(arguments.reason)}
    if (rollout := chosen(arguments, RolloutOptions).get("rollout")) is not None:
        body["rollout"] = experiment.rollout(rollout)
    if verb == "challenge":
        body |= {"version": arguments.model, **chosen(arguments, ChallengeOptions)}
    elif verb == "ramp":
        body["stage"] = arguments.stage
    elif verb == "rollback" and (to := chosen(arguments, RollbackOptions).get("to")) is not None:
        body["version"] = to
    answer = experiment.post(verb, body)
    if _as_json(arguments, answer):
        return 0
    taken = _decoded(answer, _Answer, experiment.client)
    found = experiment.served(taken.version)
    print(status_text.answer(taken.changed, taken.last, found))
    print(status_text.status(found), end="")
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    """Show the status; with `--watch` for ever, also while the router doesn't answer."""
    experiment = _Experiment(arguments, Role.VIEWER)
    if arguments.watch is None:
        return _show_status(arguments, experiment)
    while True:
        if sys.stdout.isatty() and not getattr(arguments, "json", False):
            print(_CLEAR, end="")
        try:
            _show_status(arguments, experiment)
        except (NotReached, Refused) as error:
            if isinstance(error, Refused) and not error.retriable:
                raise
            print(f"gauntlet: {error}", file=sys.stderr)
        sys.stdout.flush()
        time.sleep(arguments.watch)


def _show_status(arguments: argparse.Namespace, experiment: _Experiment) -> int:
    body = experiment.get()
    if not _as_json(arguments, body):
        print(status_text.status(_document(body, experiment.client)), end="")
    return 0


def run_history(arguments: argparse.Namespace) -> int:
    """Show every accepted change, oldest first."""
    experiment = _Experiment(arguments, Role.VIEWER)
    body = experiment.get("history", after=arguments.after)
    if not _as_json(arguments, body):
        changes = _decoded(body, list[Change], experiment.client)
        print(status_text.history(changes, None), end="")
    return 0


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The router's answer to a command."""

    changed: bool
    version: int
    last: Change


class _Experiment:
    """One experiment of one router, found by the command's arguments."""

    def __init__(self, arguments: argparse.Namespace, role: Role) -> None:
        asked = address.find(arguments, "router", role)
        self.client = ServiceClient(asked.url, asked.key, start=asked.start)
        self._name = chosen(arguments, RouterOptions).get("experiment") or asked.experiment

    @property
    def name(self) -> str:
        """Raises `BadInput` where the router serves several and none is named."""
        if self._name is None:
            served = _decoded(self.client.get("experiments"), list[str], self.client)
            if len(served) != 1:
                raise BadInput(f"name the --experiment: {self.client.url} serves {', '.join(served) or 'none'}")
            self._name = served[0]
        return self._name

    def get(self, *path: str, after: int | None = None) -> bytes:
        return self.client.get("experiments", self.name, *path, after=after)

    def post(self, verb: str, body: dict[str, Any]) -> bytes:
        return self.client.post("experiments", self.name, verb, body=body)

    def status(self) -> Document:
        return _document(self.get(), self.client)

    def served(self, version: int) -> Document:
        """The status once this router serves that version of the control record, or some time later all the same."""
        deadline = time.monotonic() + _LOADING_SECONDS
        while True:
            found = self.status()
            here = found.serving
            if (here is not None and here.version >= version) or time.monotonic() > deadline:
                return found
            time.sleep(_LOADING_SECONDS / 20)

    def rollout(self, named: str) -> str:
        """The id of the rollout that is named by its id or its challenger's version."""
        return next((each.id for each in self.status().rollouts if each.challenger == named), named)


def _as_json(arguments: argparse.Namespace, body: bytes) -> bool:
    """Print the answer as JSON where that is asked for."""
    if not getattr(arguments, "json", False):
        return False
    form = (lambda text: text) if getattr(arguments, "watch", None) else msgspec.json.format
    print(form(body).decode())
    return True


def _document(body: bytes, client: ServiceClient) -> Document:
    found = _decoded(body, Document, client)
    if found.schema != SCHEMA:
        raise BadInput(
            f"{client.url} speaks schema {found.schema} of the status, this program schema {SCHEMA}: use the same "
            "release, or --json"
        )
    return found


def _decoded(body: bytes, kind: type[T], client: ServiceClient) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadInput(f"{client.url} answers otherwise than this release does ({error}): use the same one") from error
