"""`gauntlet retrain VERB`: the verbs and their options. Each verb imports what it needs when it runs."""

from __future__ import annotations

import argparse
from typing import Any

from gauntlet.cli.command import lazily

VERBS = {
    "check": "whether a job is due now, with every condition of every trigger",
    "trigger": "start a round of jobs by hand",
    "jobs": "the jobs, the newest first",
    "job": "one job, and while it runs what it does",
    "log": "the end of what a job has printed",
    "cancel": "end a job that waits or runs; nothing of it stays",
    "approve": "let an open request that asks for it have its jobs",
    "decline": "close a request of a person, of the schedule or after a rollback: it gets no jobs",
    "history": "every command that was given: who, what, why, and what came of it",
    "report": "the model's retraining life: one line a job, from its trigger to its outcome",
}
"""Those that the retrainer's API has by the same names."""


def options(parser: argparse.ArgumentParser) -> None:
    """Give `gauntlet retrain` its verbs; each is of the parser's own class, and declares its options when chosen."""
    verbs: Any = parser.add_subparsers(required=True, metavar="VERB", parser_class=type(parser))
    for name, about in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=about)
        verb.set_defaults(verb=name)
        verb.declare = lazily("retrain.verbs:options")
    about = "retrain from files alone: detect drift, decide, train, compare, report"
    verb = verbs.add_parser("run", help=about, description=about)
    verb.set_defaults(run=lazily("retrain.run:run"), verb="run")
    verb.declare = lazily("retrain.run:options")
