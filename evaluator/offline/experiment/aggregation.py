"""One pass over an experiment's rows: every batch into the cells and guards that it concerns.

Invariant: a row is counted once in each cell that it belongs to, and a unit once in the arms' counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluator.offline.experiment.cells import Cell, CellRows
from evaluator.offline.experiment.log_reader import ExperimentLog, LogBatch, segment_value
from evaluator.offline.experiment.settings import AnalysisSettings, SettingsError
from evaluator.stats.guards import Exposures
from evaluator.stats.metrics.declaration import ColumnError, Metric
from evaluator.stats.sample_ratio_mismatch import RatioEvidence
from evaluator.stats.score_process import Bools, Floats
from gauntlet.table import TableError

# A segment with more values than this is an identifier, and a verdict on each of them would be noise.
MOST_SEGMENTS = 100


@dataclass(frozen=True, slots=True)
class TrafficCheck:
    """A check of the traffic itself: these columns come alike for both arms (label arrival), or this covariate is the
    same in both (balance)."""

    name: str
    columns: tuple[str, ...]
    arrival: bool = False

    @property
    def metric(self) -> Metric:
        kind = "proportion" if self.arrival else "mean"
        return Metric(self.name, kind, (self.name,), higher_is_better=True, role="signal")


def traffic_checks(settings: AnalysisSettings) -> tuple[TrafficCheck, ...]:
    """Label arrival for the inputs of each deciding metric but coverage, and balance for each covariate."""
    deciding = [metric for metric in settings.metrics if metric.role in ("primary", "guardrail")]
    inputs = {metric.columns: None for metric in deciding or settings.metrics if metric.kind != "coverage"}
    # Two checks of one name could not be told apart.
    arrivals = [
        TrafficCheck(f"label arrival of {', '.join(columns)}" if len(inputs) > 1 else "label arrival", columns, True)
        for columns in inputs
    ]
    return (*arrivals, *(TrafficCheck(f"balance of {name}", (name,)) for name in settings.covariates))


@dataclass(frozen=True, slots=True)
class CellKey:
    """Key of a cell: challenger's index in `ExperimentLog.arms`, metric's index, segment (None: all rows).

    A negative metric −1−k is the k-th of `traffic_checks`.
    """

    challenger: int
    metric: int
    segment: tuple[str, int] | None = None


@dataclass
class Experiment:
    """Accumulated counts and sums of the rows read so far."""

    settings: AnalysisSettings
    log: ExperimentLog
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    ratios: dict[int, RatioEvidence] = field(default_factory=dict)
    smallest_p: dict[int, float] = field(default_factory=dict)
    assigned: dict[int, int] = field(default_factory=dict)  # units by arm
    served: RatioEvidence | None = None  # the same if the propensity were that of the row's own arm
    exposures: Exposures = field(default_factory=Exposures)
    unpaired: list[int] = field(
        default_factory=lambda: [0, 0]
    )  # pairs of which only the champion's, the challenger's came
    rows: int = 0

    def check_ratios(self) -> None:
        """Take a look at the sample ratio: keep the smallest p value of each challenger."""
        for challenger, ratio in self.ratios.items():
            self.smallest_p[challenger] = min(self.smallest_p.get(challenger, 1.0), ratio.p)


def add_batch(experiment: Experiment, batch: LogBatch) -> None:
    """Add a batch to all cells and guards. Raises TableError for a value that its metric can't have."""
    settings = experiment.settings
    experiment.rows += len(batch)
    if settings.paired is not None:
        _compare(experiment, batch, 1, np.ones(len(batch), dtype=np.bool_), np.zeros(len(batch), dtype=np.bool_), None)
        return
    counts = np.bincount(batch.arm[batch.first & (batch.arm >= 0)], minlength=len(experiment.log.arms))
    for arm, n in enumerate(counts.tolist()):
        experiment.assigned[arm] = experiment.assigned.get(arm, 0) + n
    if batch.units is not None:
        known = batch.arm >= 0
        if settings.mode == "exact" and not batch.first[known].all():
            again = batch.start + int(np.flatnonzero(known & ~batch.first)[0])
            raise experiment.log.error(
                again, settings.unit or "", "was there before: --mode exact bets on each unit once; use anytime"
            )
        experiment.exposures.add_codes(
            batch.units.codes[known], batch.units.values, batch.arm[known], experiment.log.arms
        )
    for challenger in range(1, len(experiment.log.arms)):
        rows = (batch.arm == 0) | (batch.arm == challenger)
        propensity = _propensity(settings, experiment.log.arms[challenger], batch)
        treated = batch.arm == challenger
        ratio = experiment.ratios.setdefault(challenger, RatioEvidence())
        counted = rows & batch.first
        ratio.add(treated[counted], propensity[counted])
        if batch.propensity is not None:
            experiment.served = experiment.served or RatioEvidence()
            own = np.where(treated, propensity, 1.0 - propensity)
            experiment.served.add(treated[counted], own[counted])
        _compare(experiment, batch, challenger, rows, treated, propensity)


def _propensity(settings: AnalysisSettings, challenger: str, batch: LogBatch) -> Floats:
    """P(challenger | champion or this challenger) of each row, shape (n,)."""
    if batch.propensity is not None:
        return batch.propensity
    assert settings.shares is not None, "shares or propensities are given"
    champion, own = settings.shares[settings.champion], settings.shares[challenger]
    return np.full(len(batch), own / (champion + own))


def _compare(
    experiment: Experiment, batch: LogBatch, challenger: int, rows: Bools, treated: Bools, propensity: Floats | None
) -> None:
    settings = experiment.settings
    share = np.zeros(len(batch)) if propensity is None else propensity
    segments = _segments(experiment, batch, rows)
    for index, metric in enumerate(settings.metrics):
        for segment, mask in segments:
            key = CellKey(challenger, index, segment)
            cell = experiment.cells.get(key)
            if cell is None:
                whole = experiment.cells.get(CellKey(challenger, index))
                cell = experiment.cells[key] = _cell(settings, metric, experiment.log.positive(metric), whole)
            try:
                cell.add(_rows(settings, metric, batch, mask, treated, share))
            except ColumnError as error:
                raise _located(experiment, metric, batch, mask, error) from error
    if settings.paired is None:
        _check_traffic(experiment, batch, challenger, rows, treated, share)
    else:
        came = [np.all([~np.isnan(batch.columns[name]) for name in side], axis=0) for side in _paired_columns(settings)]
        experiment.unpaired[0] += int((came[0] & ~came[1]).sum())
        experiment.unpaired[1] += int((came[1] & ~came[0]).sum())


def _paired_columns(settings: AnalysisSettings) -> list[tuple[str, ...]]:
    """Paired form: input columns of all metrics, the champion's and the challenger's."""
    sides = [settings.inputs(metric) for metric in settings.metrics]
    return [tuple(name for each in sides for name in each[arm]) for arm in (0, 1)]


def _check_traffic(
    experiment: Experiment, batch: LogBatch, challenger: int, rows: Bools, treated: Bools, share: Floats
) -> None:
    """Count what guards the traffic: labels that come for one arm alone, and covariates that the arm has changed; with
    either anything can be made to win."""
    clusters = None if batch.clusters is None else batch.clusters[rows]
    for index, check in enumerate(traffic_checks(experiment.settings)):
        key = CellKey(challenger, -1 - index)
        if key not in experiment.cells:
            experiment.cells[key] = Cell(check.metric)
        values = batch.columns[check.columns[0]][rows]
        if check.arrival:
            there = [~np.isnan(batch.columns[name][rows]) for name in check.columns]
            values = np.all(there, axis=0).astype(np.float64)
        experiment.cells[key].add(CellRows(treated[rows], share[rows], (values,), None, clusters, ()))


def _segments(experiment: Experiment, batch: LogBatch, rows: Bools) -> list[tuple[tuple[str, int] | None, Bools]]:
    """The rows of the whole batch, and of each segment in it."""
    found: list[tuple[tuple[str, int] | None, Bools]] = [(None, rows)]
    for name, codes in batch.segments.items():
        if len(experiment.log.segment_values[name]) > MOST_SEGMENTS:
            raise SettingsError(f"--segment {name} has more than {MOST_SEGMENTS} values; name a column with fewer")
        found += [((name, code), rows & (codes == code)) for code in np.unique(codes[rows]).tolist()]
    return found


def _cell(settings: AnalysisSettings, metric: Metric, positive: float | None, whole: Cell | None) -> Cell:
    if settings.mode == "exact" and not metric.bounded:
        raise SettingsError(
            f"--mode exact needs outcomes between 0 and 1, which {metric.name} ({metric.kind}) need not have"
        )
    return Cell(
        metric,
        positive=positive,
        paired=settings.paired is not None,
        exact=settings.mode == "exact",
        covariates=len(settings.covariates),
        whole=whole,
    )


def _located(experiment: Experiment, metric: Metric, batch: LogBatch, mask: Bools, error: ColumnError) -> TableError:
    """The error of a refused value, by row and column. Paired form: a batch's challengers follow its champions."""
    rows = np.flatnonzero(mask)
    side, at = divmod(error.position, len(rows))
    column = experiment.settings.inputs(metric)[side][error.index]
    return experiment.log.error(batch.start + int(rows[at]), column, f"is {error.value!r}, which {error.why}")


def _rows(
    settings: AnalysisSettings, metric: Metric, batch: LogBatch, mask: Bools, treated: Bools, share: Floats
) -> CellRows:
    champion, challenger = settings.inputs(metric)
    return CellRows(
        treated[mask],
        share[mask],
        tuple(batch.columns[name][mask] for name in champion),
        tuple(batch.columns[name][mask] for name in challenger) if settings.paired is not None else None,
        None if batch.clusters is None else batch.clusters[mask],
        tuple(batch.columns[name][mask] for name in settings.covariates),
    )


def segment_name(log: ExperimentLog, segment: tuple[str, int] | None) -> str | None:
    """`country=DE`, or None for all rows."""
    return None if segment is None else f"{segment[0]}={segment_value(log.segment_values[segment[0]], segment[1])}"
