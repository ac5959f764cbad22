"""An experiment's log through the sequential engine: one pass over the rows, then all looks in order.

Invariant: the answer depends on the rows, their order and the settings alone, not on how the file was cut into chunks;
a look sees nothing of the rows behind it (but for the horizon, where the file's length is the horizon).
"""

from __future__ import annotations

from collections.abc import Callable

from evaluator.offline.experiment.aggregation import Experiment, fold
from evaluator.offline.experiment.comparison import answer
from evaluator.offline.experiment.log_reader import Reading
from evaluator.offline.experiment.result import Analysis
from evaluator.offline.experiment.sequential_looks import Sight, watch
from evaluator.offline.experiment.settings import AnalysisSettings, SettingsError
from gauntlet.table import Table


def run(table: Table, settings: AnalysisSettings, progress: Callable[[int], object] | None = None) -> Analysis:
    """Analyse the log. `progress` is called with the number of rows read since its last call.

    Raises TableError for what can't be read as declared, naming column and row, and SettingsError for settings that
    don't fit the data.
    """
    if settings.mode == "exact" and settings.cluster is not None:
        raise SettingsError("--mode exact can't be combined with --cluster; use --mode anytime")
    reading = Reading(table, settings)
    experiment, sights = Experiment(settings, reading), []
    for batch, look in reading.batches():
        fold(experiment, batch)
        if look and experiment.cells:
            experiment.check_ratios()
            sights.append(Sight.of(experiment.rows, list(experiment.cells.values()), settings))
        if progress is not None:
            progress(len(batch))
    _check_arms(experiment)
    return answer(experiment, watch(sights, list(experiment.cells.values()), settings))


def _check_arms(experiment: Experiment) -> None:
    settings, arms = experiment.settings, experiment.reading.arms
    if settings.paired is None and not experiment.assigned.get(0):
        seen = ", ".join(map(repr, arms[1:])) or "none of the named arms"
        raise SettingsError(f"--champion: no row of {settings.arm} is {settings.champion!r}; there are {seen}")
    if len(arms) < 2:
        raise SettingsError(f"--challenger: every row of {settings.arm} is {arms[0]!r}; there is nothing to compare")
