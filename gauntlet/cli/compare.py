"""`gauntlet compare`: a champion and a challenger on rows that neither was trained on, and whether to promote.

The answer goes to standard output and to the files that were asked for, progress and errors to standard error.
"""

from __future__ import annotations

import argparse

import gauntlet
from evaluator.offline.comparator.settings import ComparatorSettings
from evaluator.offline.records import add_options, chosen
from gauntlet.cli import output

KEPT = 3
"""Exit code where the champion is kept, or there is no answer."""

_EPILOG = f"""\
A metric is written name[:threshold=x][:margin=x], for example
  auc                      the first one decides: better by --threshold, and significantly
  f1:threshold=0.005       a further metric that must improve
  recall@1:margin=0.01     a guardrail: not significantly worse than the margin allows
Classification: auc, accuracy, precision, recall, f1 (of two classes: of the second), macro_precision, macro_recall,
macro_f1, precision@CLASS, recall@CLASS, f1@CLASS, log_loss, brier. Regression: rmse, mae, r2.

Exit code: 0 promote, {KEPT} keep or no answer, 2 error.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument_group("what is compared").add_argument
    about = "the {}: a file (.skops, .onnx, .joblib, …), models:/NAME/VERSION at MLflow, or module:function"
    add("--baseline", "--champion", metavar="MODEL", required=True, help=about.format("champion"))
    add("--candidate", "--new", "--challenger", metavar="MODEL", required=True, help=about.format("challenger"))
    add("--test-data", metavar="FILE", required=True, help="held-out rows: CSV, gzipped CSV or Parquet")
    add_options(parser, ComparatorSettings)
    output.options(parser, json=("--output", "--json"))


def run(arguments: argparse.Namespace) -> int:
    """Compare, print and write; 0 to promote, else 3.

    Raises BadInput or `ModelUnusable` for anything that was asked wrongly."""
    from gauntlet.table import open_table

    output.check(arguments, arguments.baseline, arguments.candidate, arguments.test_data)
    table = open_table(arguments.test_data, as_written=True)
    with output.reading(table.rows) as bar:
        report = gauntlet.compare(
            arguments.baseline, arguments.candidate, table, **chosen(arguments, ComparatorSettings), progress=bar.update
        )
    output.answer(arguments, report)
    return 0 if report.decision == "promote" else KEPT
