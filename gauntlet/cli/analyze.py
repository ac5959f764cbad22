"""`gauntlet analyze`: an experiment's log from anywhere through the same engine that decides rollouts.

The answer goes to standard output, progress and errors to standard error; nothing is written unless it was asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gauntlet
from evaluator.offline.experiment.settings import AnalysisSettings
from evaluator.offline.records import add_options, chosen
from gauntlet.cli import output

_EPILOG = """\
A metric is written column[:kind][:direction][:role][:margin=x][:min=N], for example
  clicked                     mean, higher is better
  latency:p99:margin=20       99 % quantile in the column's units, lower is better; a guardrail: 20 more is accepted
  revenue/visits              sum of revenue over sum of visits
  accuracy                    share of rows where the columns prediction and outcome are equal
  score/label:auc             from the columns score and label
Kinds: mean, proportion, ratio, pXX (a quantile), accuracy, precision, recall, f1, macro_f1, auc, log_loss, brier,
mae, mse, rmse, r2, reward, error_rate, coverage. precision@spam is that of the class spam. Roles: primary (decides),
guardrail (must not be worse than its margin), signal, exploratory.

Exactly one of --share, --propensity and --paired says how rows came to their arms.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "log_file", metavar="LOG", help="CSV (.csv), gzipped CSV (.csv.gz) or Parquet, one row an outcome"
    )
    add_options(parser, AnalysisSettings)
    output.options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Analyse, print and write; 0 when there is an answer. Raises BadInput for anything that was asked wrongly."""
    from gauntlet.table import open_table

    output.check(arguments, arguments.log_file)
    table = open_table(arguments.log_file)
    with output.reading(table.rows) as bar:
        answer = gauntlet.analyze(table, **chosen(arguments, AnalysisSettings), progress=bar.update)
    output.answer(arguments, answer, Path(arguments.log_file).name)
    return 0
