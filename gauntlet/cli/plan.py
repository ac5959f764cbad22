"""`gauntlet plan` and `gauntlet simulate`: what a test will need before its first row, and whether it keeps its levels.

Answers go to standard output, progress and errors to standard error; nothing is written unless it was asked for.
"""

from __future__ import annotations

import argparse

import gauntlet
from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld, SimulationSettings
from evaluator.offline.records import add_options, chosen
from gauntlet.cli import output

_EPILOG = """\
Levels, blocks, delay and minimum numbers default to those of the configuration. The effect's sign says which way is
better: --baseline 0.05 --effect=-0.01 looks for an error rate that falls to 0.04. Durations: 90s, 15m, 12h, 7d.

  gauntlet plan --baseline 0.80 --effect 0.02 --traffic 2000
  gauntlet plan --baseline 0.80 --effect 0.02 --traffic 2000 --form paired --discordance 0.10
  gauntlet simulate --baseline 12.5 --sd 30 --effect 1 --traffic 20000 --ramp 0.5 --skewness 4 --runs 2000
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Give `plan` its arguments."""
    parser.epilog = _EPILOG
    add_options(parser, PlanSettings)
    output.options(parser, plot="power, duration and progress")


def simulate_options(parser: argparse.ArgumentParser) -> None:
    """Give `simulate` its arguments."""
    parser.epilog = _EPILOG
    add_options(parser, PlanSettings, SimulationSettings, SimulatedWorld)
    output.options(parser, html=False, plot="when runs ended")


def run(arguments: argparse.Namespace) -> int:
    """Plan, print and write; 0 when there is an answer. Raises BadInput, naming the option, when there is none."""
    output.check(arguments)
    with output.progress(1, desc="planning", bar_format="{desc} {elapsed}"):
        report = gauntlet.plan(**chosen(arguments, PlanSettings))
    output.answer(arguments, report)
    return 0


def run_simulation(arguments: argparse.Namespace) -> int:
    """Simulate, print and write; 0 when there is an answer, whatever it says."""
    output.check(arguments)
    given = chosen(arguments, PlanSettings, SimulatedWorld, SimulationSettings)
    with output.progress(3 * given.get("runs", SimulationSettings.runs), unit=" runs") as bar:
        report = gauntlet.simulate(**given, progress=bar.update)
    output.answer(arguments, report)
    return 0
