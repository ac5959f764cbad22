"""The verbs of `gauntlet retrain` that ask a running retrainer: their options, and what they print.

Text for a person on standard output, or with `--json` the API's own answer. Exit codes: 0 done, also where it was so
already; 1 refused by the retrainer, with its reason; 2 wrong usage, or no retrainer reached.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from evaluator.offline.records import add_options, chosen, option
from gauntlet.cli import address, output
from gauntlet.cli.address import KeyOptions, ReasonOptions
from gauntlet.cli.retrain import text
from gauntlet.reason import stated
from gauntlet.retraining_client import RetrainingClient
from gauntlet.retraining_document import (
    CheckDocument,
    CommandDocument,
    JobDocument,
    ReportDocument,
    RequestDocument,
    TriggerDocument,
)
from gauntlet.types import Role


@dataclass(frozen=True, kw_only=True)
class RetrainerOptions:
    """Which retrainer is asked, and how the answer is shown."""

    url: str | None = option("address of the retrainer; default: by the configuration", None, metavar="URL")
    model: str | None = option(
        "default: the configuration's experiment, or with --url the one of that retrainer", None, metavar="NAME"
    )
    json: bool = option("print the retrainer's answer as JSON, for machines", False)


@dataclass(frozen=True, kw_only=True)
class TriggerOptions:
    """How a round of jobs is asked for."""

    force: bool = option("wait for no minimum interval, cool-down or bake; never beside a running job", False)
    idempotency_key: str | None = option(
        "a repeated command with the same key gets the first one's answer", None, metavar="KEY"
    )


@dataclass(frozen=True, kw_only=True)
class JobsOptions:
    """How many jobs are shown."""

    limit: int = option("how many, at most", 20, least=1, most=1000)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where the report goes beside standard output."""

    html: str | None = option("write the report as one page", None, metavar="FILE")


_OWN: dict[str, tuple[type, ...]] = {
    "trigger": (ReasonOptions, TriggerOptions),
    "jobs": (JobsOptions,),
    "cancel": (ReasonOptions,),
    "approve": (ReasonOptions,),
    "decline": (ReasonOptions,),
    "report": (ReportOptions,),
}
_NAMED = {"job": "JOB", "log": "JOB", "cancel": "JOB", "approve": "REQUEST", "decline": "REQUEST"}
_COMMANDS = ("trigger", "cancel", "approve", "decline")


def options(parser: argparse.ArgumentParser) -> None:
    """Give a verb its arguments."""
    verb = parser.prog.rpartition(" ")[2]
    address.add_config(parser)
    if verb in _NAMED:
        metavar = _NAMED[verb]
        what = "a job's id, as `jobs` shows it" if metavar == "JOB" else "an open request's id, as `check` shows it"
        parser.add_argument("id", metavar=metavar, help=what)
    add_options(parser, *_OWN.get(verb, ()), RetrainerOptions, KeyOptions)


def run(arguments: argparse.Namespace) -> int:
    """Ask, and show the answer."""
    if hasattr(arguments, "reason"):
        arguments.reason = stated(arguments.reason)
    role = Role.OPERATOR if arguments.verb in _COMMANDS else Role.VIEWER
    asked = address.find(arguments, "retrainer", role)
    model = chosen(arguments, RetrainerOptions).get("model") or asked.experiment
    client = RetrainingClient(asked.url, asked.key, model, start=asked.start)
    if arguments.verb == "report":
        return _report(arguments, client)
    ask, kind, as_text = _ANSWERS[arguments.verb]
    answer = ask(client, arguments)
    _show(arguments, answer, kind, as_text)
    refused = arguments.verb == "trigger" and not (answer["accepted"] or answer["waiting"])
    return 1 if refused else 0


def _show(arguments: argparse.Namespace, answer: Any, kind: Any, as_text: Callable[[Any], str]) -> None:
    """Print the answer as JSON where that is asked for, else as text."""
    if getattr(arguments, "json", False):
        answer = {"log": answer} if arguments.verb == "log" else answer
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        print(as_text(msgspec.convert(answer, kind)), end="")


_Ask = Callable[[RetrainingClient, argparse.Namespace], Any]

_ANSWERS: dict[str, tuple[_Ask, Any, Callable[[Any], str]]] = {
    "check": (lambda client, _: client.check(), CheckDocument, text.check),
    "trigger": (
        lambda client, given: client.trigger(given.reason, **chosen(given, TriggerOptions)),
        TriggerDocument,
        text.trigger,
    ),
    "jobs": (
        lambda client, given: client.jobs(chosen(given, JobsOptions).get("limit", JobsOptions.limit)),
        list[JobDocument],
        text.jobs,
    ),
    "job": (lambda client, given: client.job(given.id), JobDocument, text.job),
    "log": (lambda client, given: client.log(given.id), str, text.log),
    "cancel": (lambda client, given: client.cancel(given.id, given.reason), JobDocument, text.job),
    "approve": (lambda client, given: client.approve(given.id, given.reason), RequestDocument, text.request),
    "decline": (lambda client, given: client.decline(given.id, given.reason), RequestDocument, text.declined),
    "history": (lambda client, _: client.history(), list[CommandDocument], text.history),
}
"""How each verb asks, what it is answered, and that in words."""


def _report(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    html = chosen(arguments, ReportOptions).get("html")
    if html is not None:
        output.check_file("html", html)
    found = client.report()
    if html is not None:
        from gauntlet.cli.retrain.page import page

        output.write("html", html, page(msgspec.convert(found, ReportDocument)))
    _show(arguments, found, ReportDocument, text.report)
    return 0
