"""`gauntlet analyze`: an experiment's log from anywhere through the same engine that decides rollouts.

The answer goes to standard output, progress and errors to standard error; nothing is written unless it was asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from gauntlet.cli import output

MODES = ("group-sequential", "anytime", "exact", "msprt", "sprt", "fixed")
SPEC = "column[:kind][:direction][:role][:margin=x][:min=N]"
EPILOG = f"""\
A metric is written {SPEC}, for example
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
    """Give the sub-command its arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("log_file", metavar="LOG", help="CSV (.csv), gzipped CSV (.csv.gz) or Parquet, one row an outcome")
    add("--arm", metavar="COLUMN", help="which arm a row belongs to")
    add("--champion", metavar="VALUE", help="the champion's value in the arm column")
    add("--challenger", metavar="VALUE", action="append", help="again for each; default: every other value")
    add("--metric", metavar="SPEC", action="append", help="again for each; see below")
    add("--share", metavar="VALUE=0.5,…", action="append", help="each arm's share of the traffic, constant")
    add("--propensity", metavar="COLUMN", help="logged probability of the challenger when the row was assigned")
    add("--paired", metavar="COLUMN,COLUMN", help="shadow log: the champion's and the challenger's loss on a row")
    add("--unit", metavar="COLUMN", help="who was assigned, to find those that met several arms")
    add("--cluster", metavar="COLUMN", help="rows with the same value are correlated, such as those of a day")
    add("--covariate", metavar="COLUMN", action="append", help="known before the assignment, to lower the variance")
    add("--segment", metavar="COLUMN", action="append", help="the same comparison for each of its values")
    add("--time", metavar="COLUMN", help="order of the rows: numbers or ISO times; default: the order of the file")
    add("--mode", choices=MODES, default=MODES[0], help="when to stop; default: %(default)s")
    add("--alpha", type=float, default=0.05, help="two-sided error rate; default: %(default)s")
    add("--min-samples", metavar="N", type=int, help="challenger's outcomes that were planned; default: all there are")
    add("--look-every", metavar="N", type=int, help="rows between looks; default: 2 %% more rows, at least 100")
    add("--json", metavar="FILE", help="write the answer as JSON; - is standard output, instead of the text")
    add("--html", metavar="FILE", help="write the answer as one page with plots")


def run(arguments: argparse.Namespace) -> int:
    """Analyse, print and write; 0 when there is an answer. Raises `BadInput` for anything that was asked wrongly."""
    from evaluator.offline.render import as_json, experiment
    from gauntlet import analyze
    from gauntlet.table import open_table

    output.check("json", arguments.json, arguments.log_file)
    output.check("html", arguments.html, arguments.log_file, arguments.json)
    table = open_table(arguments.log_file)
    # `disable=None`: silent unless standard error is a terminal.
    with tqdm(total=table.rows, unit=" rows", unit_scale=True, mininterval=0.5, disable=None, leave=False) as bar:
        answer = analyze(
            table,
            arm=arguments.arm,
            champion=arguments.champion,
            challenger=arguments.challenger or (),
            metric=arguments.metric or (),
            share=arguments.share,
            propensity=arguments.propensity,
            paired=arguments.paired,
            unit=arguments.unit,
            cluster=arguments.cluster,
            covariate=arguments.covariate or (),
            segment=arguments.segment or (),
            time=arguments.time,
            mode=arguments.mode,
            alpha=arguments.alpha,
            min_samples=arguments.min_samples,
            look_every=arguments.look_every,
            progress=bar.update,
        )
    if arguments.html:
        output.write("html", arguments.html, experiment.html(answer, Path(arguments.log_file).name))
    if arguments.json and arguments.json != "-":
        output.write("json", arguments.json, as_json(answer) + "\n")
    print(as_json(answer) + "\n" if arguments.json == "-" else experiment.text(answer), end="")
    return 0
