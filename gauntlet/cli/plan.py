"""`gauntlet plan` and `gauntlet simulate`: what a test will need, before its first row, and whether it keeps its word.

Answers go to standard output, progress and errors to standard error; nothing is written unless it was asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gauntlet.cli import output
from gauntlet.errors import BadInput

MODES = ("group-sequential", "anytime", "msprt", "sprt", "fixed")
_FORMATS = (".png", ".svg", ".pdf")
EPILOG = """\
Levels, blocks, delay and minimum numbers default to those of the configuration. The effect's sign says which way is
better: --baseline 0.05 --effect=-0.01 looks for an error rate that falls to 0.04. Durations: 90s, 15m, 12h, 7d.

  gauntlet plan --baseline 0.80 --effect 0.02 --traffic 2000
  gauntlet plan --baseline 0.80 --effect 0.02 --traffic 2000 --form paired --discordance 0.10
  gauntlet simulate --baseline 12.5 --sd 30 --effect 1 --traffic 20000 --ramp 0.5 --skewness 4 --runs 2000
"""
_SETTINGS = (
    "baseline",
    "effect",
    "traffic",
    "sd",
    "challenger_sd",
    "alpha",
    "harm_alpha",
    "power",
    "form",
    "discordance",
    "sd_difference",
    "ramp",
    "fraction",
    "delay",
    "block",
    "harm_block",
    "min_blocks",
    "min_harm_blocks",
    "independent",
    "cluster_size",
    "cluster_correlation",
    "block_correlation",
    "spending",
    "min_samples",
)


def options(parser: argparse.ArgumentParser) -> None:
    """Give `plan` its arguments."""
    _question(parser)
    add = parser.add_argument_group("where the answer goes").add_argument
    add("--json", metavar="FILE", help="write the answer as JSON; - is standard output, instead of the text")
    add("--html", metavar="FILE", help="write the answer as one page with plots")
    add("--plot", metavar="FILE", help="draw power, duration and progress: .png, .svg or .pdf")


def simulate_options(parser: argparse.ArgumentParser) -> None:
    """Give `simulate` its arguments."""
    _question(parser)
    add = parser.add_argument_group("the runs").add_argument
    add("--runs", metavar="N", type=int, default=2000, help="of each true effect; default: %(default)s")
    add("--seed", metavar="N", type=int, default=0, help="the same seed gives the same runs; default: %(default)s")
    add("--mode", choices=MODES, default=MODES[0], help="when to stop; default: %(default)s")
    add("--drift", metavar="X", type=float, default=0.0, help="how far the baseline moves until the horizon, evenly")
    add("--weekly", metavar="X", type=float, default=0.0, help="how far it swings with the days of the week, ±")
    add(
        "--skewness",
        metavar="X",
        type=float,
        default=0.0,
        help="of one outcome, or of one pair's difference; 2: an exponential's",
    )
    add = parser.add_argument_group("where the answer goes").add_argument
    add("--json", metavar="FILE", help="write the answer as JSON; - is standard output, instead of the text")
    add("--plot", metavar="FILE", help="draw when runs ended: .png, .svg or .pdf")


def _question(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument_group("what is looked for").add_argument
    add("--baseline", metavar="X", type=float, required=True, help="the champion's proportion, or mean with --sd")
    add("--effect", metavar="X", type=float, required=True, help="smallest difference worth having, with its sign")
    add("--sd", metavar="X", type=float, help="of one outcome: the metric is a mean")
    add("--challenger-sd", metavar="X", type=float, help="where it differs from the champion's")
    add("--alpha", metavar="X", type=float, default=0.05, help="two-sided, for a win; default: %(default)s")
    add("--harm-alpha", metavar="X", type=float, default=0.05, help="one-sided, for harm; default: %(default)s")
    add("--power", metavar="X", type=float, default=0.8, help="default: %(default)s")
    add("--min-samples", metavar="N", type=int, help="plan for this horizon; default: the one that has the power")
    add("--spending", choices=("mixed", "obrien-fleming", "pocock"), default="mixed", help="default: %(default)s")
    add = parser.add_argument_group("the traffic").add_argument
    add("--traffic", metavar="N", type=float, required=True, help="units (requests, users) a day")
    add("--form", choices=("split", "paired"), default="split", help="paired: by shadow scores; default: %(default)s")
    add(
        "--ramp",
        metavar="SHARE:TIME,…",
        default="0.01:2d,0.05:2d,0.1",
        help="the last stage needs no time; default: %(default)s",
    )
    add("--discordance", metavar="X", type=float, help="paired: share of requests on which exactly one arm is right")
    add("--sd-difference", metavar="X", type=float, help="paired, a mean: of one pair's difference")
    add("--fraction", metavar="X", type=float, default=1.0, help="paired: share that both score; default: %(default)s")
    add("--delay", metavar="TIME", default="1d", help="until an outcome matures; default: %(default)s")
    add = parser.add_argument_group("what is correlated").add_argument
    add("--block", metavar="TIME", default="1d", help="outcomes within it may correlate; default: %(default)s")
    add("--harm-block", metavar="TIME", help="finer, for the harm side; default: a quarter of the block")
    add("--min-blocks", metavar="N", type=int, default=20, help="that a win needs; default: %(default)s")
    add("--min-harm-blocks", metavar="N", type=int, default=5, help="that harm needs; default: %(default)s")
    add("--independent", action="store_true", help="units are known to be independent: blocks are not needed")
    add("--cluster-size", metavar="N", type=int, default=1, help="units that are assigned together, as a user's are")
    add("--cluster-correlation", metavar="X", type=float, default=0.0, help="of the outcomes of two of them")
    add("--block-correlation", metavar="X", type=float, default=0.0, help="of the sums of neighbouring blocks")


def run(arguments: argparse.Namespace) -> int:
    """Plan, print and write; 0 when there is an answer. Raises `BadInput`, naming the option, when there is none."""
    import gauntlet

    _outputs(arguments)
    with tqdm(total=1, desc="planning", bar_format="{desc} {elapsed}", disable=None, leave=False):
        report = gauntlet.plan(**_given(arguments))
    if arguments.html:
        from evaluator.offline.render import plan

        output.write("html", arguments.html, plan.html(report))
    _answer(arguments, report)
    return 0


def run_simulation(arguments: argparse.Namespace) -> int:
    """Simulate, print and write; 0 when there is an answer, whatever it says."""
    import gauntlet

    _outputs(arguments)
    if arguments.runs < 1:
        raise BadInput(f"--runs: {arguments.runs} is not at least 1")
    with tqdm(total=3 * arguments.runs, unit=" runs", disable=None, leave=False) as bar:
        report = gauntlet.simulate(
            **_given(arguments),
            runs=arguments.runs,
            seed=arguments.seed,
            mode=arguments.mode,
            drift=arguments.drift,
            weekly=arguments.weekly,
            skewness=arguments.skewness,
            progress=bar.update,
        )
    _answer(arguments, report)
    return 0


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in _SETTINGS}


def _answer(arguments: argparse.Namespace, report: Any) -> None:
    from evaluator.offline.render import as_json, plan

    if arguments.plot:
        kind = Path(arguments.plot).suffix.lower().lstrip(".")
        output.write("plot", arguments.plot, plan.picture(report, kind))
    if arguments.json and arguments.json != "-":
        output.write("json", arguments.json, as_json(report) + "\n")
    print(as_json(report) + "\n" if arguments.json == "-" else plan.text(report), end="")


def _outputs(arguments: argparse.Namespace) -> None:
    """Refuse before the work what cannot be written after it."""
    before: list[str | None] = []
    for option in ("json", "html", "plot"):
        path = getattr(arguments, option, None)
        output.check(option, path, *before)
        before.append(path)
        if option == "plot" and path is not None and Path(path).suffix.lower() not in _FORMATS:
            raise BadInput(f"--plot {path}: the ending says the kind, one of {', '.join(_FORMATS)}")
