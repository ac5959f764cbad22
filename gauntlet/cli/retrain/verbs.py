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
from gauntlet.cli import address, load_config, output
from gauntlet.cli.address import DEFAULT_CONFIG, KeyOptions
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
class AddressOptions:
    """Which retrainer is asked, and how the answer is shown."""

    url: str | None = option("address of the retrainer; default: by the configuration", None, metavar="URL")
    model: str | None = option(
        "default: the configuration's experiment, or with --url the one of that retrainer", None, metavar="NAME"
    )
    json: bool = option("print the retrainer's answer as JSON, for machines", False)


@dataclass(frozen=True, kw_only=True)
class ReasonOptions:
    """What every command carries."""

    reason: str = option("why; it stands in the history", metavar="TEXT")


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


def options(parser: argparse.ArgumentParser, verb: str) -> None:
    """Give a verb its arguments."""
    about = f"the configuration that the services run with; default: {DEFAULT_CONFIG}, unless --url is given"
    parser.add_argument("config", nargs="?", help=about)
    if verb in _NAMED:
        metavar = _NAMED[verb]
        what = "a job's id, as `jobs` shows it" if metavar == "JOB" else "an open request's id, as `check` shows it"
        parser.add_argument("id", metavar=metavar, help=what)
    add_options(parser, *_OWN.get(verb, ()), AddressOptions, KeyOptions)


def run(arguments: argparse.Namespace) -> int:
    """Ask, and show the answer."""
    if hasattr(arguments, "reason"):
        arguments.reason = stated(arguments.reason)
    return _RUN[arguments.verb](arguments, _client(arguments))


def _client(arguments: argparse.Namespace) -> RetrainingClient:
    """The retrainer that the arguments name."""
    given = chosen(arguments, AddressOptions, KeyOptions)
    path = address.config_path(arguments.config, url_given="url" in given)
    config = load_config.load(path) if path is not None else None
    url = given.get("url") or ""
    if not url and config is not None:
        url = address.service_url(config, "retrainer", config.observe.host, config.observe.retrainer_port)
    role = Role.OPERATOR if arguments.verb in _COMMANDS else Role.VIEWER
    model = given.get("model") or (config.experiment if config is not None else None)
    key = address.api_key(given, config, role)
    return RetrainingClient(url, key, model, start=f"gauntlet up {path or 'CONFIG'}")


def _shown(arguments: argparse.Namespace, answer: Any, kind: Any, as_text: Callable[[Any], str]) -> None:
    """Print the answer as JSON where that is asked for, else as text."""
    if getattr(arguments, "json", False):
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        print(as_text(msgspec.convert(answer, kind)), end="")


def _check(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.check(), CheckDocument, text.check)
    return 0


def _trigger(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    given = chosen(arguments, TriggerOptions)
    answer = client.trigger(arguments.reason, **given)
    _shown(arguments, answer, TriggerDocument, text.trigger)
    return 0 if answer["accepted"] or answer["waiting"] else 1


def _jobs(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    jobs = client.jobs(chosen(arguments, JobsOptions).get("limit", 20))
    _shown(arguments, jobs, list[JobDocument], text.jobs)
    return 0


def _job(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.job(arguments.id), JobDocument, text.job)
    return 0


def _log(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    found = client.log(arguments.id)
    _shown(arguments, {"log": found} if getattr(arguments, "json", False) else found, str, text.log)
    return 0


def _cancel(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.cancel(arguments.id, arguments.reason), JobDocument, text.job)
    return 0


def _approve(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.approve(arguments.id, arguments.reason), RequestDocument, text.request)
    return 0


def _decline(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.decline(arguments.id, arguments.reason), RequestDocument, text.declined)
    return 0


def _history(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    _shown(arguments, client.history(), list[CommandDocument], text.history)
    return 0


def _report(arguments: argparse.Namespace, client: RetrainingClient) -> int:
    html = chosen(arguments, ReportOptions).get("html")
    if html is not None:
        output.check_file("html", html)
    found = client.report()
    if html is not None:
        from gauntlet.cli.retrain.page import page

        output.write("html", html, page(msgspec.convert(found, ReportDocument)))
    _shown(arguments, found, ReportDocument, text.report)
    return 0


_RUN: dict[str, Callable[[argparse.Namespace, RetrainingClient], int]] = {
    "check": _check,
    "trigger": _trigger,
    "jobs": _jobs,
    "job": _job,
    "log": _log,
    "cancel": _cancel,
    "approve": _approve,
    "decline": _decline,
    "history": _history,
    "report": _report,
}
