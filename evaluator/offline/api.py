"""The public functions, which `gauntlet` hands out: experiments, models, drift and plans from files and frames.

The functions import what they need when they are called, so that a command starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from evaluator.offline.comparator.result import ComparisonReport
    from evaluator.offline.drift.result import DriftReport, StreamReport
    from evaluator.offline.drift.stream import DriftStream
    from evaluator.offline.experiment.result import Analysis
    from evaluator.offline.planning.result import PlanReport, SimulationReport
    from gauntlet.table import Table

    TableSource: TypeAlias = str | Path | pd.DataFrame | pa.Table | Table


def analyze(source: TableSource, *, progress: Callable[[int], object] | None = None, **options: Any) -> Analysis:
    """Compare a champion with its challengers from an experiment's log: the options of `gauntlet analyze`.

    `source` is the path of a CSV, gzipped CSV or Parquet file, or a frame in memory. `AnalysisSettings` lists the
    options (`arm`, `champion`, `metric`, `share`, …); `gauntlet analyze --help` explains them. Where an option may be
    repeated, one value or several will do. `progress` is called with the number of rows just read. The answer has
    `verdict`, `reasons`, `comparisons` and more, and gives `to_dict()`; `to_text` and `to_html` render it. Raises
    `gauntlet.errors.BadInput`, which names the option, or the column and the row (counted from 0).
    """
    from evaluator.offline.experiment import analysis
    from evaluator.offline.experiment.settings import AnalysisSettings
    from gauntlet.table import open_table

    table = open_table(source)
    return analysis.run(table, AnalysisSettings.from_options(options, table.columns), progress)


def compare(
    baseline: str | Path | object,
    candidate: str | Path | object,
    test_data: TableSource,
    *,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> ComparisonReport:
    """A champion and a challenger on rows that neither was trained on: the options of `gauntlet compare`.

    Each model is a path, `module:function` or a fitted model; `test_data` a CSV, gzipped CSV or Parquet file, or a
    frame. `ComparatorSettings` lists the options (`target`, `metric`, `threshold`, `cluster`, …). The report has
    `decision` (promote, keep or no_answer), `reasons`, `metrics` and more, and gives `to_dict()`; `to_text` and
    `to_html` render it. Raises `gauntlet.errors.BadInput` and `gauntlet.errors.ModelUnusable`.
    """
    from evaluator.offline.comparator import compare_models
    from evaluator.offline.comparator.settings import ComparatorSettings
    from gauntlet.table import open_table

    settings = ComparatorSettings.from_options(options)
    table = open_table(test_data, as_written=True)
    return compare_models.run(baseline, candidate, table, settings, progress)


def drift(reference: TableSource, current: TableSource, **options: Any) -> DriftReport:
    """Compare current rows with reference rows: the options of `gauntlet drift --reference A --current B`.

    Each side is the path of a CSV, gzipped CSV or Parquet file, or a frame in memory; rows are in time order unless
    `ordered` says that their order means nothing. `DriftFileSettings` lists the options; `gauntlet drift --help`
    explains them. The report has `severity`, `features`, `quality`, `performance` and more, and gives `to_dict()`;
    `to_text` and `to_html` render it. Raises `gauntlet.errors.BadInput`, naming the column or option.
    """
    from evaluator.offline.drift.settings import DriftFileSettings
    from evaluator.offline.drift.two_tables import compare_tables
    from gauntlet.table import open_table

    settings = DriftFileSettings.from_options(**options)
    before, now = map(open_table, (reference, current))
    return compare_tables(before, now, settings)


def drift_stream(source: TableSource, reference_rows: int, **options: Any) -> DriftStream:
    """Watch one long table in time order against its first rows: the options of `gauntlet drift --stream`.

    Iterate the result's `events()`, each given as soon as its row is read; then its `report()` is the whole answer.
    Raises `gauntlet.errors.BadInput`, naming the column or option.
    """
    from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
    from evaluator.offline.drift.stream import DriftStream
    from gauntlet.table import open_table

    settings = DriftFileSettings.from_options(**options)
    if not settings.ordered:
        raise DriftRequestError("--unordered can't be combined with --stream, which watches rows in time order")
    return DriftStream(open_table(source), reference_rows, settings)


def plan(**options: Any) -> PlanReport:
    """What a test will need before its first row: the options of `gauntlet plan`, with the same names and defaults.

    Durations are `12h`, `7d` or a number of seconds. `PlanSettings` lists the options; `gauntlet plan --help` explains
    them. The report has `form.min_samples` (for the configuration), `form.days`, `stopping`, `effects` and more, and
    gives `to_dict()`; `to_text` and `to_html` render it. Raises `gauntlet.errors.BadInput`, naming the option.
    """
    from evaluator.offline.planning import planner
    from evaluator.offline.planning.settings import PlanSettings
    from evaluator.offline.records import build

    return planner.plan(*build(options, PlanSettings))


def simulate(*, progress: Callable[[int], object] | None = None, **options: Any) -> SimulationReport:
    """The planned test on simulated outcomes, through the engine that decides rollouts.

    The options are those of `gauntlet simulate`: those of `plan`, and `runs`, `seed`, `mode`, `drift`, `weekly` and
    `skewness`. `progress` is called with the number of runs just ended. The report has `scenarios` (no effect, the
    effect, harm) and `held`: no error rate is above its level. Raises `gauntlet.errors.BadInput`, naming the option.
    """
    from evaluator.offline.planning import planner
    from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld, SimulationSettings
    from evaluator.offline.records import build

    settings, world, simulation = build(options, PlanSettings, SimulatedWorld, SimulationSettings)
    return planner.simulate(settings, world, simulation, progress)


def to_text(report: Analysis | ComparisonReport | DriftReport | StreamReport | PlanReport | SimulationReport) -> str:
    """A report as text for a terminal."""
    text: str = _renderer(report).text(report)
    return text


def to_html(
    report: Analysis | ComparisonReport | DriftReport | StreamReport | PlanReport, title: str = "Experiment"
) -> str:
    """A report as one page with plots, which needs no other file; `title` says which experiment it is of."""
    renderer = _renderer(report)
    page: str = renderer.html(report, title) if type(report).__name__ == "Analysis" else renderer.html(report)
    return page


_RENDERERS = {
    "Analysis": "experiment",
    "ComparisonReport": "comparator",
    "DriftReport": "drift",
    "StreamReport": "drift",
    "PlanReport": "plan",
    "SimulationReport": "plan",
}
"""By the kind of report, the module of the report kit that has its text and its page."""


def _renderer(report: object) -> Any:
    return import_module(f"evaluator.offline.render.{_RENDERERS[type(report).__name__]}")
