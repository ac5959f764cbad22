"""The public functions, which `gauntlet` hands out: experiments, drift and plans from files and frames.

The functions import what they need when they are called, so that a command starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from evaluator.offline.drift import DriftReport, DriftStream, StreamReport
    from evaluator.offline.experiment.result import Analysis
    from evaluator.offline.planning import PlanReport, SimulationReport
    from evaluator.stats.metrics.declaration import Metric
    from gauntlet.table import Table


def analyze(
    source: str | Path | pd.DataFrame | pa.Table | Table,
    *,
    arm: str | None = None,
    champion: object = None,
    challenger: object = (),
    metric: str | Metric | Iterable[str | Metric] = (),
    share: str | Mapping[Any, float] | Iterable[str] | None = None,
    propensity: str | None = None,
    paired: str | Sequence[str] | None = None,
    unit: str | None = None,
    cluster: str | None = None,
    covariate: str | Iterable[str] = (),
    segment: str | Iterable[str] = (),
    time: str | None = None,
    mode: str = "group-sequential",
    alpha: float = 0.05,
    min_samples: int | None = None,
    look_every: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Analysis:
    """Compare a champion with its challengers from an experiment's log, as `gauntlet analyze` does.

    `source` is the path of a CSV, gzipped CSV or Parquet file, or a frame in memory. The other names are the command's
    options (`gauntlet analyze --help` explains them); where an option may be repeated, one value or several will do.
    `progress` is called with the number of rows just read. Raises `gauntlet.errors.BadInput`, which names the option,
    or the column and the row (counted from 0), when there can be no answer.
    """
    from evaluator.offline.experiment import experiment
    from evaluator.offline.experiment import settings as spec
    from gauntlet.table import Table, open_table

    table = source if isinstance(source, Table) else open_table(source)
    settings = spec.declared(
        columns=table.columns,
        arm=arm,
        champion=champion,
        challenger=challenger,
        metric=metric,
        share=share,
        propensity=propensity,
        paired=paired,
        unit=unit,
        cluster=cluster,
        covariate=covariate,
        segment=segment,
        time=time,
        mode=mode,
        alpha=alpha,
        min_samples=min_samples,
        look_every=look_every,
    )
    return experiment.run(table, settings, progress)


def drift(
    reference: str | Path | pd.DataFrame | pa.Table | Table,
    current: str | Path | pd.DataFrame | pa.Table | Table,
    *,
    target: str | None = None,
    prediction: str | None = None,
    features: str | Iterable[str] | None = None,
    mode: str = "gated",
    task: str | None = None,
    positive: object = None,
    ordered: bool = True,
    time: str | None = None,
) -> DriftReport:
    """Compare current rows with reference rows, as `gauntlet drift --reference A --current B` does.

    Each side is the path of a CSV, gzipped CSV or Parquet file, or a frame in memory; rows are in time order unless
    `ordered` says that their order means nothing. The other names are the command's options (`gauntlet drift --help`).
    The result has `severity`, `features`, `quality`, `performance` and more, and gives `to_dict()`; `to_text` and
    `to_html` render it. Raises `gauntlet.errors.BadInput`, naming the column or option, when there can be no answer.
    """
    from evaluator.offline.drift import DriftFileSettings, compare_tables
    from gauntlet.table import Table, open_table

    settings = DriftFileSettings.from_options(
        target=target,
        prediction=prediction,
        features=features,
        mode=mode,
        task=task,
        positive=positive,
        ordered=ordered,
        time=time,
    )
    before, now = (side if isinstance(side, Table) else open_table(side) for side in (reference, current))
    return compare_tables(before, now, settings)


def drift_stream(
    source: str | Path | pd.DataFrame | pa.Table | Table,
    reference_rows: int,
    *,
    target: str | None = None,
    prediction: str | None = None,
    features: str | Iterable[str] | None = None,
    mode: str = "gated",
    task: str | None = None,
    positive: object = None,
    season: str | None = None,
    time: str | None = None,
) -> DriftStream:
    """Watch one long table in time order against its first rows, as `gauntlet drift --stream` does.

    Iterate the result's `events()`, each given as soon as its row is read; then its `report()` is the whole answer.
    Raises `gauntlet.errors.BadInput` when there can be none.
    """
    from evaluator.offline.drift import DriftFileSettings, DriftStream
    from gauntlet.table import Table, open_table

    settings = DriftFileSettings.from_options(
        target=target,
        prediction=prediction,
        features=features,
        mode=mode,
        task=task,
        positive=positive,
        season=season,
        time=time,
    )
    return DriftStream(source if isinstance(source, Table) else open_table(source), reference_rows, settings)


def plan(
    *,
    baseline: float,
    effect: float,
    traffic: float,
    sd: float | None = None,
    challenger_sd: float | None = None,
    alpha: float = 0.05,
    harm_alpha: float = 0.05,
    power: float = 0.8,
    form: str = "split",
    discordance: float | None = None,
    sd_difference: float | None = None,
    ramp: str | Iterable[tuple[float, str | float]] = "0.01:2d,0.05:2d,0.1",
    fraction: float = 1.0,
    delay: str | float = "1d",
    block: str | float = "1d",
    harm_block: str | float | None = None,
    min_blocks: int = 20,
    min_harm_blocks: int = 5,
    independent: bool = False,
    cluster_size: int = 1,
    cluster_correlation: float = 0.0,
    block_correlation: float = 0.0,
    spending: str = "mixed",
    min_samples: int | None = None,
) -> PlanReport:
    """What a test will need before its first row, as `gauntlet plan` says it (`gauntlet plan --help` has the options).

    Durations are `12h`, `7d` or a number of seconds. The result has `form.min_samples` (for the configuration),
    `form.days`, `stopping`, `effects` and more, and gives `to_dict()`; `to_text` and `to_html` render it. Raises
    `gauntlet.errors.BadInput`, which names the option, when there can be no answer.
    """
    from evaluator.offline.planning import Question
    from evaluator.offline.planning import plan as planned

    question = Question.of(
        baseline=baseline,
        effect=effect,
        traffic=traffic,
        sd=sd,
        challenger_sd=challenger_sd,
        alpha=alpha,
        harm_alpha=harm_alpha,
        power=power,
        form=form,
        discordance=discordance,
        sd_difference=sd_difference,
        ramp=ramp,
        fraction=fraction,
        delay=delay,
        block=block,
        harm_block=harm_block,
        min_blocks=min_blocks,
        min_harm_blocks=min_harm_blocks,
        independent=independent,
        cluster_size=cluster_size,
        cluster_correlation=cluster_correlation,
        block_correlation=block_correlation,
        spending=spending,
        min_samples=min_samples,
    )
    return planned(question)


def simulate(
    *,
    runs: int = 2000,
    seed: int = 0,
    mode: str = "group-sequential",
    drift: float = 0.0,
    weekly: float = 0.0,
    skewness: float = 0.0,
    progress: Callable[[int], object] | None = None,
    **question: Any,
) -> SimulationReport:
    """The same test on simulated outcomes through the engine that decides rollouts, as `gauntlet simulate` does.

    `question` are the arguments of `plan`. `drift` moves the baseline by so much until the horizon, `weekly` swings it
    with the days of the week, `skewness` is that of one outcome of a mean. `progress` is called with the number of runs
    just ended. The result has `scenarios` (no effect, the effect, harm) and `held`: no error rate is above its level.
    """
    from evaluator.offline.planning import Question, World, simulated

    return simulated(
        Question.of(**question),
        World(drift=drift, weekly=weekly, skewness=skewness),
        runs=runs,
        seed=seed,
        mode=mode,
        progress=progress,
    )


def to_text(report: Analysis | DriftReport | StreamReport | PlanReport | SimulationReport) -> str:
    """A report as text for a terminal."""
    from evaluator.offline.experiment.result import Analysis
    from evaluator.offline.planning import PlanReport, SimulationReport
    from evaluator.offline.render import drift, experiment, plan

    if isinstance(report, Analysis):
        return experiment.text(report)
    return plan.text(report) if isinstance(report, PlanReport | SimulationReport) else drift.text(report)


def to_html(report: Analysis | DriftReport | StreamReport | PlanReport, title: str = "Experiment") -> str:
    """A report as one page with plots, which needs no other file; `title` says which experiment it is of."""
    from evaluator.offline.experiment.result import Analysis
    from evaluator.offline.planning import PlanReport
    from evaluator.offline.render import drift, experiment, plan

    if isinstance(report, Analysis):
        return experiment.html(report, title)
    return plan.html(report) if isinstance(report, PlanReport) else drift.html(report)
