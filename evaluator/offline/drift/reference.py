"""The reference of a file as a drift profile, in two passes over its batches.

The first pass keeps a sample, from which grids are fitted, and all of target and prediction; the second counts all rows
and measures how far moving blocks of them stray. Nothing else is held in memory, whatever the file's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import INDEPENDENT, Calibration, block_length, calibrate_blocks
from evaluator.drift.columns import Coded, Column
from evaluator.drift.concept import ErrorReference
from evaluator.drift.feature import MISSING, SPECIALS, FeatureReference
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.markov import RegimeReference, has_memory
from evaluator.drift.performance import Task, losses_of, squared_errors
from evaluator.drift.profile import GroundTruth, Profile
from evaluator.drift.windows import count_parts
from evaluator.offline.drift.prediction_type import PredictionType
from evaluator.offline.drift.scan import TableBatch, concatenate
from evaluator.offline.drift.settings import DriftFileSettings

ROWS_ONLY = ""
"""Name of the column that stands for the rows where no column is watched; it is in no report."""
FEWEST_LOSSES = 30
"""Losses that a judgement of the performance needs."""
SAMPLE_ROWS = 16_384
"""The fewest rows of a sample, where there are so many: a grid's limits at 0.05 % then rest on eight rows or more."""
BLOCKS = 128
"""Moving blocks of the reference that are compared with the rest of it."""
_SEED = 20130101  # of the one permutation that makes the order of rows meaningless
_REGIMES = 16
"""Columns of few values whose transitions are counted at most, before it is known which depend on the row before."""


class SystematicSample:
    """Every k-th row of columns as they pass; k doubles, so that from `size` up to twice as many rows are kept.

    It is spread evenly over the table, and the same however the rows come in batches.
    """

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self._size = size
        self._stride = 1
        self._parts: dict[str, list[Column]] = {}
        self._rows = 0
        self._kept = 0

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """The next `rows` rows; columns are the same in each call."""
        first = -self._rows % self._stride
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(_every(values, first, self._stride))
        self._rows += rows
        self._kept += len(range(first, rows, self._stride))
        while self._kept >= 2 * self._size:
            self._parts = {name: [_every(concatenate(parts), 0, 2)] for name, parts in self._parts.items()}
            self._stride *= 2
            self._kept = -(-self._kept // 2)

    def columns(self) -> dict[str, Column]:
        """The sampled rows by column."""
        return {name: concatenate(parts) for name, parts in self._parts.items()}


def _every(column: Column, first: int, step: int) -> Column:
    """Each `step`-th row from `first` on, as a copy that doesn't keep the others in memory."""
    if isinstance(column, Coded):
        return Coded(column.codes[first::step].copy(), column.values)
    return np.array(column[first::step]) if isinstance(column, np.ndarray) else list(column[first::step])


def _reordered(column: Column, order: Ints) -> Column:
    if isinstance(column, Coded):
        return Coded(column.codes[order], column.values)
    return np.asarray(column[order]) if isinstance(column, np.ndarray) else [column[i] for i in order.tolist()]


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """The first pass over a reference: rows, a sample of its columns, and all of target and prediction."""

    rows: int
    sample: Mapping[str, Column]
    target: Column | None
    prediction: Column | None
    prediction_type: PredictionType

    @classmethod
    def read(cls, batches: Iterable[TableBatch], settings: DriftFileSettings) -> ReferenceTable:
        """Raises DriftRequestError when target and prediction don't fit each other."""
        sample, rows = SystematicSample(), 0
        targets: list[Column] = []
        predictions: list[Column] = []
        for batch in batches:
            sample.add(batch.without(settings.target).columns, batch.rows)
            for name, parts in ((settings.target, targets), (settings.prediction, predictions)):
                if name is not None:
                    parts.append(batch.columns[name])
            rows += batch.rows
        target, prediction = (concatenate(parts) if parts else None for parts in (targets, predictions))
        return cls(rows, sample.columns(), target, prediction, PredictionType.infer(settings, target, prediction))


def fit_grids(reference: ReferenceTable, settings: DriftFileSettings, name: str) -> Profile:
    """The profile with its final grids and outcomes; counts and dependence are still those of the sample."""
    prediction = settings.prediction
    profile = Profile.fit(
        dict(reference.sample) or {ROWS_ONLY: np.zeros(1)},
        reference_id=name,
        pane=1,
        windows=(1,),
        prediction=None if reference.prediction_type.scored else prediction,
        score=prediction if reference.prediction_type.scored else None,
    )
    by_name = {feature.name: feature for feature in profile.features}
    few = [by_name[name] for name in profile.few_valued[:_REGIMES]] if settings.ordered else []
    states = tuple(RegimeReference.without_counts(f.name, f.counts, ordered=f.numeric) for f in few)
    truth, _ = _fit_outcomes(reference, settings, 1)
    return replace(profile, rows=reference.rows, truth=truth, regimes=states)


def fit_profile(
    grids: Profile, reference: ReferenceTable, batches: Iterable[TableBatch], settings: DriftFileSettings, window: int
) -> Profile:
    """The profile of all rows, calibrated on moving blocks for tables of `window` rows; the second pass."""
    window = max(1, window)
    blocks = MovingBlocks(reference.rows, window)
    counts, done = np.zeros(grids.width, dtype=np.int64), 0
    blocks.keep(0, counts)
    paths: list[list[Ints]] = [[] for _ in grids.regimes]
    for batch in batches:
        for path, regime in zip(paths, grids.regimes, strict=True):
            slots = grids.column_slots(grids.index[regime.feature], batch.columns[regime.feature])
            path.append(regime.path(slots).astype(np.int8))
        cuts = blocks.cuts_within(done, batch.rows)
        for cut, part in zip(cuts, count_parts(grids, batch.without(settings.target).columns, cuts), strict=True):
            counts = counts + part
            blocks.keep(done + cut, counts)
        done += batch.rows
    features = tuple(_fit_feature(grids, i, counts, blocks, settings) for i in range(len(grids.features)))
    truth, losses = _fit_outcomes(reference, settings, window)
    errors = None
    if losses is not None and len(losses) >= FEWEST_LOSSES:
        errors = ErrorReference.fit(losses, windows=(window,))
    regimes = [
        regime.with_counts(np.concatenate(path).astype(np.int64))
        for regime, path in zip(grids.regimes, paths, strict=True)
        if path
    ]
    kept = tuple(regime for regime in regimes if has_memory(regime.counts))
    return replace(
        grids,
        rows=reference.rows,
        pane=window,
        windows=(window,),
        features=features,
        errors=errors,
        truth=truth,
        regimes=kept,
    )


class MovingBlocks:
    """Counts of up to `BLOCKS` overlapping blocks of a file (Künsch 1989) that stand for `window` rows.

    The running counts are kept where a block begins or ends; their differences are the blocks' counts. So one pass
    without rows in memory gives what `evaluator.drift.calibration` gives from all rows.
    """

    def __init__(self, rows: int, window: int) -> None:
        self.rows, self.window = rows, window
        self.block = block_length(window, rows)
        self.starts = np.empty(0, dtype=np.int64)
        if self.block >= 2:
            last = rows - self.block
            self.starts = np.unique(np.linspace(0, last, min(BLOCKS, last + 1)).astype(np.int64))
        self.cuts = np.unique(np.concatenate([self.starts, self.starts + self.block]))
        self._kept_rows = frozenset(self.cuts.tolist())
        self._running: dict[int, npt.NDArray[np.uint32]] = {}

    def cuts_within(self, done: int, rows: int) -> list[int]:
        """Where the next `rows` rows, after `done` ones, are cut; the last cut is `rows`."""
        cuts = self.cuts - done
        return sorted({*cuts[(cuts > 0) & (cuts < rows)].tolist(), rows}) if rows else []

    def keep(self, rows: int, counts: Ints) -> None:
        """The count vector of the first `rows` rows; kept where a block begins or ends."""
        if rows in self._kept_rows:
            self._running[rows] = counts.astype(np.uint32)

    def counts(self, part: slice) -> Floats:
        """Counts of each block in a part of the count vector, shape (blocks, slots)."""
        starts = self.starts.tolist()
        if not starts:
            return np.empty((0, part.stop - part.start))
        upper = np.array([self._running[start + self.block][part] for start in starts])
        lower = np.array([self._running[start][part] for start in starts])
        counts: Floats = (upper - lower).astype(np.float64)
        return counts

    def calibrate(self, counts: Floats, total: Floats, *, ordered: bool) -> Calibration:
        """Limit and efficiency of a column from its blocks' `counts` (blocks, slots) and the file's `total`."""
        if not len(self.starts):
            return INDEPENDENT
        return calibrate_blocks(counts, total, self.rows, self.window, ordered=ordered)

    def calibrate_share(self, place: int, total: int) -> Calibration:
        """Limit and efficiency of a share of cells, counted at one place of the count vector."""
        counts = self.counts(slice(place, place + 1))
        both = np.column_stack([self.block - counts, counts])
        return self.calibrate(both, np.array([self.rows - total, total], dtype=np.float64), ordered=False)


def _fit_feature(
    profile: Profile, i: int, counts: Ints, blocks: MovingBlocks, settings: DriftFileSettings
) -> FeatureReference:
    fitted, slots = profile.features[i], profile.span(i)
    special = profile.slots + SPECIALS * i
    outlier = profile.slots + SPECIALS * len(profile.features) + i
    own, outliers = counts[slots], int(counts[outlier])
    missing, absent, mistyped, infinite = counts[special : special + SPECIALS].tolist()
    shape = gaps = outlying = INDEPENDENT
    if settings.ordered:
        shape = blocks.calibrate(blocks.counts(slots), own.astype(np.float64), ordered=fitted.numeric)
        gaps = blocks.calibrate_share(special + MISSING, missing)
        outlying = blocks.calibrate_share(outlier, outliers)
    return replace(
        fitted,
        counts=own - fitted.chosen if len(fitted.chosen) else own,
        specials=(missing, absent, mistyped, infinite),
        outliers=outliers,
        shape=(shape,),
        missing=(gaps,),
        outlying=(outlying,),
    )


def _fit_outcomes(
    reference: ReferenceTable, settings: DriftFileSettings, window: int
) -> tuple[GroundTruth | None, Floats | None]:
    """The distribution of the target and the model's performance, and the loss of each row with both outcomes."""
    if reference.target is None:
        return None, None
    known, prediction = reference.prediction_type, reference.prediction
    target = known.usable_target(reference.target)
    prediction = None if prediction is None else known.usable_prediction(prediction)
    if not settings.ordered:
        order = np.random.default_rng(_SEED).permutation(reference.rows)
        target = _reordered(target, order)
        prediction = None if prediction is None else _reordered(prediction, order)
    name = settings.prediction or ""
    truth = Profile.fit(
        {name: target if prediction is None else prediction},
        reference_id=name,
        pane=window,
        windows=(window,),
        prediction=None if known.scored else settings.prediction,
        score=settings.prediction if known.scored else None,
        targets=target,
        answers=np.full(reference.rows, np.nan) if known.apart else None,
        task=known.task,
    ).truth
    if prediction is None or truth is None or truth.performance is None:
        return truth, None
    return truth, row_losses(truth.performance.task, target, prediction)


def row_losses(task: Task, target: Column, prediction: Column) -> Floats:
    """Loss of each row with both: 1 for a miss and 0 for a hit, or the absolute error of a number."""
    squared = squared_errors(task, target, prediction)[1]
    return losses_of(task, squared[np.isfinite(squared)])
