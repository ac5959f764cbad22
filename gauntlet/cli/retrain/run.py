"""`gauntlet retrain run`: from a champion and two files to the decision whether a newly trained model replaces it.

The answer goes to standard output and to the requested files, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

import gauntlet
from evaluator.offline.comparator.settings import ComparatorSettings
from evaluator.offline.records import add_options, build, chosen
from evaluator.offline.render import as_json, rendered
from gauntlet.cli import output
from gauntlet.cli.retrain.from_files import FileRetraining, RetrainingReport, RunSettings, TrainingSummary, decided
from gauntlet.errors import BadInput
from gauntlet.registry import artifact
from retrainer.jobs.training import TrainingError

NOT_PROMOTED = 3
"""Exit code where the champion stays: it is better, there is no answer, or nothing asked for a new model."""

_HERE = Path(__file__).parent
_HEADLINES = {
    "promote": "PROMOTE the challenger",
    "keep": "KEEP the champion",
    "no_answer": "NO ANSWER",
    "no_need": "NO NEW MODEL",
}
_EPILOG = f"""\
The files are in time order, the recent one after the reference. --metric and what follows it are those of
gauntlet compare; severity, confidence and root cause are those of gauntlet drift.

Exit code: 0 promote, {NOT_PROMOTED} keep, no answer or no new model, 2 error.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument_group("what is retrained").add_argument
    add("--champion", metavar="MODEL", required=True, help="a file (.skops, .onnx, .joblib, …), or module:function")
    add("--reference", metavar="A", required=True, help="rows that were in order: CSV, gzipped CSV or Parquet")
    add("--recent", metavar="B", required=True, help="the rows since then, a file of any of the same kinds")
    add("--save", metavar="FILE", help="write the challenger, promoted or not: .skops, else .joblib where it has to be")
    add_options(parser, RunSettings, ComparatorSettings)
    output.options(parser, json=("--output", "--json"))


def run(arguments: argparse.Namespace) -> int:
    """Detect, decide, train, compare, report; 0 to promote, else 3.

    Raises BadInput or `ModelUnusable` for anything that was asked wrongly, and where no model came out."""
    output.check(arguments, arguments.champion, arguments.reference, arguments.recent)
    (settings,) = build(chosen(arguments, RunSettings), RunSettings)
    compared = ComparatorSettings.from_options(chosen(arguments, ComparatorSettings))
    try:
        report = _run(arguments, settings, compared)
    except TrainingError as error:
        raise BadInput(str(error), code=error.code) from error
    if arguments.html:
        output.write("html", arguments.html, html(report))
    json = None if arguments.json is None else as_json(report) + "\n"
    if json is not None and arguments.json != "-":
        output.write("output", arguments.json, json)
    print(json if arguments.json == "-" else text(report), end="")
    return 0 if report.decision == "promote" else NOT_PROMOTED


def _run(arguments: argparse.Namespace, settings: RunSettings, compared: ComparatorSettings) -> RetrainingReport:
    work = FileRetraining(arguments.champion, arguments.reference, arguments.recent, settings, compared)
    _tell("looking for drift")
    drift = work.drift()
    conditions = work.conditions(drift)
    if not all(one.met for one in conditions):
        return decided(drift, conditions, None, None, work.seconds)
    _tell(f"{drift.severity} drift: training")
    challenger, trained = work.train(drift)
    if arguments.save is not None:
        trained = _saved(challenger, trained, arguments.save)
    _tell(f"comparing on {trained.test_rows:,} held-out rows")
    return decided(drift, conditions, trained, work.compare(challenger), work.seconds)


def _saved(challenger: object, trained: TrainingSummary, path: str) -> TrainingSummary:
    try:
        return replace(trained, saved=str(artifact.save(challenger, Path(path))))
    except OSError as error:
        raise BadInput(f"--save {path}: {error.strerror or error}") from error


def _tell(step: str) -> None:
    if sys.stderr.isatty():
        print(step, file=sys.stderr)


def text(report: RetrainingReport) -> str:
    """For a terminal: the decision first, then each step's own report."""
    context = _context(report) | {"drift": gauntlet.to_text(report.drift)}
    context["comparison"] = gauntlet.to_text(report.comparison) if report.comparison else ""
    return rendered("run.txt", context, _HERE)


def html(report: RetrainingReport) -> str:
    """One page: the decision, and the pages of the drift check and of the comparison."""
    pages = [_content(gauntlet.to_html(part)) for part in (report.drift, report.comparison) if part is not None]
    colour = {"promote": "good", "keep": "bad"}.get(report.decision, "open")
    return rendered("run.html", _context(report) | {"pages": pages, "colour": colour}, _HERE)


def _context(report: RetrainingReport) -> dict[str, object]:
    met = {True: "yes", False: "NO", None: "?"}
    return {
        "report": report,
        "headline": _HEADLINES[report.decision],
        "conditions": [[met[one.met], one.name, one.reason] for one in report.conditions],
        "took": ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items()),
    }


def _content(page: str) -> Markup:
    """What a page of the report kit has between its frame, for a page that holds several."""
    found = re.search(r"<main>(.*)<footer>", page, re.DOTALL)
    assert found is not None, "every page of the kit has both"
    return Markup(found[1])  # noqa: S704  escaped by the kit
