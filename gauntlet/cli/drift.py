"""`gauntlet drift`: two files compared, or one long file watched, for drift, data quality and performance.

Answers go to standard output, everything else to standard error; the exit code says whether `--fail-on` was reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gauntlet.cli import output
from gauntlet.errors import BadInput

if TYPE_CHECKING:
    from evaluator.offline.drift import DriftFileSettings, DriftReport, StreamReport

MODES = ("gated", "simple")
REACHED = 3
"""Exit code where the severity is that of `--fail-on` or worse."""


def options(command: argparse.ArgumentParser) -> None:
    """Give the sub-command its arguments."""
    files = command.add_argument_group("two files")
    add = files.add_argument
    add("--reference", metavar="A", help="rows that were in order: CSV, gzipped CSV or Parquet")
    add("--current", metavar="B", help="rows to judge, a file of any of the same kinds")
    one = command.add_argument_group("one long file in time order: prints one JSON line an event")
    add = one.add_argument
    add("--stream", metavar="FILE", help="watch this file row by row")
    add("--reference-rows", metavar="N", type=int, help="its first N rows are the reference")
    add(
        "--season",
        choices=("hour", "weekday"),
        help="hold numbers against the reference's of the same hour or "
        "weekday (UTC), for streams with a cycle; needs --time",
    )
    add = command.add_argument
    add(
        "--time",
        metavar="COLUMN",
        help="when each row was: seconds since 1970, or texts as 2026-01-31T12:00:00Z; "
        "gaps, disorder and a clock that stands still are told",
    )
    add("--target", metavar="COLUMN", help="the truth")
    add("--prediction", metavar="COLUMN", help="a label, the positive class's probability, or a number")
    add("--features", metavar="COLUMN", nargs="+", help="columns to watch, spaces or commas between; default: all")
    add(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="gated: effect AND evidence; simple: bare thresholds; default: %(default)s",
    )
    add("--task", choices=("classification", "regression"), help="default: by the target's values")
    add("--positive", metavar="CLASS", help="the class a probability is of; default: the last in order, 1 of 0 and 1")
    add("--unordered", action="store_true", help="the order of rows means nothing, so neighbours are independent")
    add(
        "--fail-on",
        type=str.upper,
        choices=("LOW", "MEDIUM", "HIGH", "CRITICAL"),
        help=f"exit with {REACHED} at this severity or worse; default: exit with 0 whatever was found",
    )
    add("--json", metavar="FILE", help="write the answer as JSON; - is standard output, instead of the text")
    add("--html", metavar="FILE", help="write a page with plots")


def run(given: argparse.Namespace) -> int:
    """Do the check; 0, or 3 where `--fail-on` was reached. Raises BadInput for a usage or data error."""
    from evaluator.offline.drift import Severity
    from evaluator.offline.render import drift

    output.check(given, given.reference, given.current, given.stream)
    report = _stream(given) if given.stream is not None else _pair(given)
    if given.html is not None:
        output.write("html", given.html, drift.html(report))
    return REACHED if given.fail_on is not None and Severity[report.severity] >= Severity[given.fail_on] else 0


def _pair(given: argparse.Namespace) -> DriftReport:
    from evaluator.offline.drift import compare_tables
    from evaluator.offline.render import drift
    from gauntlet.table import open_table

    if given.reference is None or given.current is None:
        raise BadInput("give --reference and --current, or --stream and --reference-rows")
    if given.reference_rows is not None:
        raise BadInput("--reference-rows goes with --stream")
    if given.season is not None:
        raise BadInput("--season goes with --stream")
    reference, current = open_table(given.reference), open_table(given.current)
    report = compare_tables(reference, current, _settings(given, reference.columns))
    if given.json == "-":
        print(_json(report))
        return report
    print(drift.text(report), end="")
    if given.json is not None:
        output.write("json", given.json, _json(report) + "\n")
    return report


def _stream(given: argparse.Namespace) -> StreamReport:
    from evaluator.offline.drift import DriftStream
    from evaluator.offline.render import as_json, drift
    from gauntlet.table import open_table

    if given.reference is not None or given.current is not None:
        raise BadInput("--stream watches one file; --reference and --current compare two")
    if given.reference_rows is None:
        raise BadInput("--stream needs --reference-rows: how many of its first rows are the reference")
    if given.unordered:
        raise BadInput("--stream watches rows in time order, so --unordered has no meaning for it")
    table = open_table(given.stream)
    stream = DriftStream(table, given.reference_rows, _settings(given, table.columns))
    for event in stream.events():
        print(as_json(event, indent=None, ascii_only=True), flush=True)
    report = stream.report()
    print(drift.text(report), end="", file=sys.stderr)
    if given.json is not None and given.json != "-":  # standard output has the events already
        output.write("json", given.json, _json(report) + "\n")
    return report


def _settings(given: argparse.Namespace, columns: Sequence[str]) -> DriftFileSettings:
    from evaluator.offline.drift import DriftFileSettings

    return DriftFileSettings.from_options(
        target=given.target,
        prediction=given.prediction,
        features=None if given.features is None else _names(given.features, columns),
        mode=given.mode,
        task=given.task,
        positive=given.positive,
        ordered=not given.unordered,
        season=given.season,
        time=given.time,
    )


def _names(given: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Names with commas between, unless a column is called just so."""
    return [name for text in given for name in ([text] if text in columns else text.split(",")) if name]


def _json(report: DriftReport | StreamReport) -> str:
    from evaluator.offline.render import as_json

    return as_json(report, indent=1, ascii_only=True)
