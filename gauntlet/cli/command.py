"""The commands. Each is a module with `options(parser)` and `run(arguments)`, imported when the command is chosen."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import gauntlet
from gauntlet.cli import output
from gauntlet.errors import BadInput, ConfigError, DamagedFile, GauntletError, InUse, ModelUnusable
from gauntlet.spelling import did_you_mean

DEFAULT_CONFIG = "config.yaml"
"""What a command reads where no configuration is named."""

EXAMPLE = Path(gauntlet.__file__).parent / "config" / "example.yaml"

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


def entry() -> NoReturn:
    """The process: one command, and its exit code.

    Where a table was read, a thread in which Arrow reads ahead may still wait for the interpreter. Ending that in the
    usual way would abort the process now and then, after all has been said; so it is left at once.
    """
    code = main()
    if "gauntlet.table.sources" in sys.modules:
        os._exit(code)  # what was said is flushed, see `guarded`
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 2 for a usage, configuration or data error, 1 for any other."""
    return output.guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    words, known = sys.argv[1:] if argv is None else argv, parser()
    if not words:
        known.print_help(sys.stderr)
        return 2
    arguments = known.parse_args(words)
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


def lazily(place: str) -> Callable[[Any], Any]:
    """The function at `module:function` of this package, imported when it is called."""
    module, _, name = place.partition(":")

    def call(argument: Any) -> Any:
        return getattr(import_module(f"gauntlet.cli.{module}"), name)(argument)

    return call


def parser() -> argparse.ArgumentParser:
    """The whole command line, with every command; each declares its options when it is chosen."""
    parser = argparse.ArgumentParser(prog="gauntlet", description=gauntlet.__doc__, epilog=_FIRST)
    parser.add_argument("--version", action="version", version=gauntlet.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)

    def add(
        name: str, run: str, about: str, options: Callable[[argparse.ArgumentParser], None] | None = None
    ) -> argparse.ArgumentParser:
        """run: the place of its function. options: default: those of the same module."""
        form = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=about, description=about, formatter_class=form)
        command.set_defaults(run=lazily(run), command=name)
        command.declare = options or lazily(f"{run.partition(':')[0]}:options")
        return command

    add("up", "up:run", "start router, evaluator and retrainer for a configuration", _config)
    about = "read a configuration, the model and the reference it names, and say what is wrong"
    add("check", "check:run", about, _config)
    about = "compare a configuration with what is in force, and say when each difference counts"
    add("diff", "diff:run", about, _config)
    for service in ("router", "evaluator", "retrainer"):
        add(service, "service:run", f"run the {service} alone", _service)
    add("register", "register:run", "put a model into the registry as a new version, without traffic", _register)
    about = "what serves, each challenger's verdict, what comes next, and what needs you"
    add("status", "operate:run_status", about)
    add("history", "operate:run_history", "every accepted change of what serves: what, when, who and why")
    for verb, about in VERBS.items():
        add(verb, "operate:run", about)
    about = "ask the retrainer, start and cancel its jobs: see `gauntlet retrain --help`"
    add("retrain", "retrain.verbs:run", about, lazily("retrain:options"))
    about = "what the records say of retraining: triggers, improvement, decisions"
    add("events", "events:run", about)
    add("example", "command:print_example", "print a configuration with every default and what it means", _nothing)
    add("analyze", "analyze:run", "compare a champion with its challengers from an experiment's log")
    add("compare", "compare:run", "compare a champion and a challenger on held-out rows")
    add("drift", "drift:run", "compare two files, or watch one, for drift and data quality")
    add("plan", "plan:run", "sample size, duration and power of a test before its first row")
    about = "a planned test, run many times on simulated outcomes"
    add("simulate", "plan:run_simulation", about, lazily("plan:simulate_options"))
    add("demo", "demo.run:run", "replay a year of real flights through the whole loop", _demo)
    return parser


def _nothing(_: argparse.ArgumentParser) -> None:
    """The options of a command that has none."""


def _config(parser: argparse.ArgumentParser) -> None:
    about = f"the experiment's YAML file; default: {DEFAULT_CONFIG}; `gauntlet example` prints one with every default"
    parser.add_argument("config", nargs="?", default=DEFAULT_CONFIG, help=about)


def _service(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--die-with-stdin", action="store_true", help="stop when standard input closes")


def _register(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    add = parser.add_argument
    add("model", help="path of a file (.skops, .onnx, .joblib, …), or module:function")
    add("--note", default="", help="why it was registered")
    add("--reference", action="store_true", help="the rows of champion.reference are this model's training data")
    add("--allow-pickle", action="store_true", help="accept a joblib file that you made yourself")


def _demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--days", type=int, default=365, help="how many days of 2013 to replay; default: 365")
    about = "folder for what the run writes: new, empty, or of an earlier run; default: runs/demo"
    add("--run", dest="folder", default="runs/demo", help=about)
    add("--log", default="local", help="local (the default), or kafka://host:port")
    add("--state", default="local", help="local (the default), or redis://host:port/0")
    add("--hold", action="store_true", help="keep the services up after the report, until Ctrl-C")


def print_example(_: argparse.Namespace) -> int:
    """Print the example configuration."""
    print(EXAMPLE.read_text(encoding="utf-8"), end="")
    return 0
