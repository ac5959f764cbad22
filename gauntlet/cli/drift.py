"""`gauntlet drift`: two files compared, or one long file watched, for drift, data quality and performance.

Answers go to standard output, everything else to standard error; the exit code says whether `--fail-on` was reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import gauntlet
from evaluator.offline.drift.result import UNKNOWN, DriftReport, StreamReport
from evaluator.offline.drift.settings import DriftFileSettings
from evaluator.offline.records import add_options, chosen
from gauntlet.cli import output
from gauntlet.errors import BadInput
from gauntlet.types import Severity

REACHED = 3
"""Exit code where the severity is that of `--fail-on` or worse."""
NOT_JUDGED = 4
"""Exit code where it is not, and something that was asked can't be judged."""


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    add = parser.add_argument_group("two files").add_argument
    add("--reference", metavar="A", help="rows that were in order: CSV, gzipped CSV or Parquet")
    add("--current", metavar="B", help="rows to judge, a file of any of the same kinds")
    add = parser.add_argument_group("one long file in time order: prints one JSON line an event").add_argument
    add("--stream", metavar="FILE", help="watch this file row by row")
    add("--reference-rows", metavar="N", type=int, help="its first N rows are the reference")
    add_options(parser, DriftFileSettings)
    add = parser.add_argument
    severities = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
    about = f"exit with {REACHED} at this severity or worse; {NOT_JUDGED} where something can't be judged; else 0"
    add("--fail-on", type=str.upper, choices=severities, help=about)
    output.options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do the check; 3 where `--fail-on` was reached, else 4 where not all could be judged, else 0.

    Raises BadInput for a usage or data error."""
    output.check(arguments, arguments.reference, arguments.current, arguments.stream)
    report = _stream(arguments) if arguments.stream is not None else _pair(arguments)
    limit = arguments.fail_on
    if limit is not None and report.severity != UNKNOWN and Severity(report.severity) >= limit:
        return REACHED
    return NOT_JUDGED if report.not_judged else 0


def _pair(arguments: argparse.Namespace) -> DriftReport:
    from gauntlet.table import open_table

    if arguments.reference is None or arguments.current is None:
        raise BadInput("give --reference and --current, or --stream and --reference-rows")
    for name in ("reference_rows", "season"):
        if getattr(arguments, name, None) is not None:
            raise BadInput(f"--{name.replace('_', '-')} needs --stream")
    reference, current = open_table(arguments.reference), open_table(arguments.current)
    report: DriftReport = gauntlet.drift(reference, current, **_given(arguments, reference.columns))
    output.answer(arguments, report, **_JSON)
    return report


def _stream(arguments: argparse.Namespace) -> StreamReport:
    from evaluator.offline.render import as_json
    from gauntlet.table import open_table

    if arguments.reference is not None or arguments.current is not None:
        raise BadInput("--stream can't be combined with --reference or --current: it watches one file")
    if arguments.reference_rows is None:
        raise BadInput("--stream needs --reference-rows: how many of its first rows are the reference")
    table = open_table(arguments.stream)
    stream = gauntlet.drift_stream(table, arguments.reference_rows, **_given(arguments, table.columns))
    for event in stream.events():
        print(as_json(event, indent=None, ascii_only=True), flush=True)
    report: StreamReport = stream.report()
    print(gauntlet.to_text(report), end="", file=sys.stderr)
    if arguments.html is not None:
        output.write("html", arguments.html, gauntlet.to_html(report))
    if arguments.json is not None and arguments.json != "-":  # standard output has the events already
        output.write("json", arguments.json, as_json(report, **_JSON) + "\n")
    return report


_JSON: dict[str, Any] = {"indent": 1, "ascii_only": True}


def _given(arguments: argparse.Namespace, columns: Sequence[str]) -> dict[str, Any]:
    """The options that were given; features with commas between them, unless a column is called just so."""
    given = chosen(arguments, DriftFileSettings)
    if "features" in given:
        parts = ([text] if text in columns else text.split(",") for text in given["features"])
        given["features"] = [name for names in parts for name in names if name]
    return given
