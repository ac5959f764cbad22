"""The commands and their options. Each command imports its own module when it runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import gauntlet
from gauntlet.cli import analyze, compare, drift, events, output, plan, retrain
from gauntlet.errors import BadInput, ConfigError, DamagedFile, GauntletError, InUse, ModelUnusable
from gauntlet.spelling import did_you_mean

EXAMPLE = Path(gauntlet.__file__).parent / "config" / "example.yaml"

_CONFIG = "the experiment's YAML file; `gauntlet example` prints one with every default"
_FIRST = (
    "`gauntlet COMMAND --help` explains a command. To begin: `gauntlet demo`, or write a config.yaml (`gauntlet "
    "example` has every setting) and `gauntlet up config.yaml`."
)

VERBS = {
    "challenge": "start a rollout of a registered version, in shadow",
    "approve": "approve leaving the present stage, where its gate asks for it",
    "pause": "keep a challenger (without --rollout: all) at its share; harm still rolls it back",
    "resume": "let a paused ramp go on",
    "ramp": "set the stage of the ramp, up or down",
    "promote": "make a challenger the champion now, whatever the evidence says",
    "rollback": "take a challenger (without --rollout: all) out; where none runs, put the previous champion back",
    "abort": "end a rollout (without --rollout: all) without calling it a failure",
}
"""The operator's commands, which the router's API has by the same names."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 2 for a usage, configuration or data error, 1 for any other."""
    return output.guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (BadInput, ConfigError, DamagedFile, InUse, ModelUnusable) as error:
        print(f"gauntlet: {error}", file=sys.stderr)
        return 2
    except GauntletError as error:
        print(f"gauntlet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class _Command(argparse.ArgumentParser):
    """A command whose options are declared when it is chosen: the others import nothing for them.

    An option that there isn't is refused with the command's own usage and, where there is one, the name close to it.
    """

    declare: Callable[[argparse.ArgumentParser], None] | None = None
    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        declare, self.declare = self.declare, None
        if declare is not None:
            declare(self)
        self._given = args or ()
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        for word in self._given:
            name = word.partition("=")[0]
            if name.startswith("--") and name != "--" and not any(option.startswith(name) for option in known):
                message += f"; there is no option {name}, {did_you_mean(name, known)}".removesuffix(", ")
        super().error(message)


def parser() -> argparse.ArgumentParser:
    """The whole command line, with every command and its options."""
    parser = argparse.ArgumentParser(prog="gauntlet", description=gauntlet.__doc__, epilog=_FIRST)
    parser.add_argument("--version", action="version", version=gauntlet.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)

    def add(
        name: str, run: object, about: str, declare: Callable[[argparse.ArgumentParser], None] | None = None
    ) -> argparse.ArgumentParser:
        form = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=about, description=about, formatter_class=form)
        command.set_defaults(run=run, command=name)
        command.declare = declare
        return command

    up = add("up", _up, "start router, evaluator and retrainer for a configuration")
    up.add_argument("config", help=_CONFIG)
    check = add("check", _check, "read a configuration, the model and the reference it names, and say what is wrong")
    check.add_argument("config", help=_CONFIG)
    diff = add("diff", _diff, "compare a configuration with what is in force, and say when each difference counts")
    diff.add_argument("config", help=_CONFIG)
    for service in ("router", "evaluator", "retrainer"):
        one = add(service, _service, f"run the {service} alone")
        one.add_argument("config", help=_CONFIG)
        one.add_argument("--die-with-stdin", action="store_true", help="stop when standard input closes")
        one.set_defaults(service=service)
    register = add("register", _register, "put a model into the registry as a new version, without traffic")
    register.add_argument("config", help=_CONFIG)
    register.add_argument("model", help="path of a .skops or .joblib file, or module:function")
    register.add_argument("--note", default="", help="why it was registered")
    register.add_argument(
        "--reference", action="store_true", help="the rows of champion.reference are this model's training data"
    )
    register.add_argument("--allow-pickle", action="store_true", help="accept a joblib file that you made yourself")
    add("status", _status, "what serves, each challenger's verdict, what comes next, and what needs you", _declare)
    add("history", _history, "every accepted change of what serves: what, when, who and why", _declare)
    for verb, about in VERBS.items():
        add(verb, _operate, about, _declare)
    add("retrain", None, "ask the retrainer, start and cancel its jobs: see `gauntlet retrain --help`", retrain.declare)
    add("events", events.run, "what the records say of retraining: triggers, improvement, decisions", events.options)
    add("example", _example, "print a configuration with every default and what it means")
    add("analyze", analyze.run, "compare a champion with its challengers from an experiment's log", analyze.options)
    add("compare", compare.run, "compare a champion and a challenger on held-out rows", compare.options)
    add("drift", drift.run, "compare two files, or watch one, for drift and data quality", drift.options)
    add("plan", plan.run, "sample size, duration and power of a test before its first row", plan.options)
    add("simulate", plan.run_simulation, "a planned test, run many times on simulated outcomes", plan.simulate_options)
    demo = add("demo", _demo, "replay a year of real flights through the whole loop")
    demo.add_argument("--days", type=int, default=365, help="how many days of 2013 to replay; default: 365")
    demo.add_argument(
        "--run",
        dest="folder",
        default="runs/demo",
        help="folder for what the run writes: new, empty, or of an earlier run; default: runs/demo",
    )
    demo.add_argument("--log", default="local", help="local (the default), or kafka://host:port")
    demo.add_argument("--state", default="local", help="local (the default), or redis://host:port/0")
    demo.add_argument("--hold", action="store_true", help="keep the services up after the report, until Ctrl-C")
    return parser


def _declare(parser: argparse.ArgumentParser) -> None:
    from gauntlet.cli import operate

    operate.options(parser, parser.prog.rpartition(" ")[2])


def _status(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import operate

    return operate.run_status(arguments)


def _history(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import operate

    return operate.run_history(arguments)


def _operate(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import operate

    return operate.run(arguments.command, arguments)


def _up(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import up

    return up.run(arguments.config)


def _check(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import check

    return check.run(arguments.config)


def _diff(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import diff

    return diff.run(arguments.config)


def _service(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import service

    return service.run(arguments.service, arguments.config, die_with_stdin=arguments.die_with_stdin)


def _register(arguments: argparse.Namespace) -> int:
    from gauntlet.cli import register

    return asyncio.run(
        register.run(
            arguments.config,
            arguments.model,
            arguments.note,
            allow_pickle=arguments.allow_pickle,
            with_reference=arguments.reference,
        )
    )


def _example(_: argparse.Namespace) -> int:
    print(EXAMPLE.read_text(encoding="utf-8"), end="")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from gauntlet.cli.demo import run

    return run.run(
        Path(arguments.folder), days=arguments.days, log=arguments.log, state=arguments.state, hold=arguments.hold
    )
