"""From a table's chunks to batches of rows for each challenger: arms, propensities, columns, clusters, segments.

Invariant: whatever can't be read as declared raises TableError naming the column and the row; rows come out in the
file's order, and a batch never crosses a look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.offline.experiment.settings import AnalysisSettings, SettingsError
from evaluator.stats.metrics.declaration import KINDS, Metric
from evaluator.stats.score_process import Bools, Floats, Ints
from gauntlet.spelling import apart, canonical, did_you_mean, listed, parse_number
from gauntlet.table import Chunk, Codes, Table, TableError

_NULL = " (or a word for that: NA, null, None, …)"
# Nobody draws an arm with less than that; such a number is a mistake, and its complement would round to 1.
_LEAST_SHARE = 1e-12

# Kinds whose two columns hold classes, of the same set, and those whose second column alone does.
_CLASSES = ("accuracy", "precision", "recall", "f1", "macro_f1")
_LABELS = ("auc", "log_loss", "brier")
_CLASS_INPUTS = dict.fromkeys(_CLASSES, (0, 1)) | dict.fromkeys(_LABELS, (1,))
# More values of one column are numbers rather than classes.
_MOST_CLASSES = 1000
# Batches grow by this share: m, the prediction, is renewed as often.
_GROWTH, _FIRST = 1.05, 10


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Consecutive rows of the file, arrays of shape (n,). `arm` indexes `ExperimentLog.arms`, −1 for other arms.

    columns: by name, as numbers (classes that are texts as codes). segments: codes by column, −1 for none. first: the
    row is its unit's first. clusters: codes from 0 on, or None.
    """

    start: int
    arm: Ints
    propensity: Floats | None
    columns: Mapping[str, Floats]
    segments: Mapping[str, Ints]
    first: Bools
    units: Codes | None
    clusters: Ints | None

    def __len__(self) -> int:
        return len(self.arm)


class ExperimentLog:
    """One pass over a table. After it, `arms` are all arms met, the champion first, then challengers as they came."""

    def __init__(self, table: Table, settings: AnalysisSettings) -> None:
        self._settings = settings
        self._table = table if settings.time is None else table.ordered_by(settings.time)
        others = [arm for arm in settings.shares or () if arm != settings.champion]
        self.arms = [settings.champion, *(settings.challengers or others)]
        self.segment_values: dict[str, tuple[str, ...]] = {}
        self.skipped = 0
        self._coded = {name for name, kind in table.kinds().items() if kind == "text"} | table.beyond_doubles()
        """Columns whose classes are texts, or numbers that float64 can't tell apart."""
        self._classes: dict[str, dict[str, int]] = {}
        self._met: dict[str, set[float]] = {}
        """Distinct values of the columns that hold classes."""
        self._units_seen = np.zeros(0, dtype=np.bool_)
        self._last_cluster = -2
        numbers, texts = self._columns()
        self._numbers, self._texts = numbers, texts

    def positive(self, metric: Metric) -> float | None:
        """The number that encodes a metric's positive class; None for metrics without one."""
        if metric.positive is None:
            return None
        text, column = canonical(metric.positive), metric.columns[-1]
        if column in self._class_columns():
            return float(self._code(self._class_columns()[column], text))
        number = parse_number(text)
        if number is None:
            raise SettingsError(
                f"--metric {metric.name!r}: {column} holds numbers, so there is no class {metric.positive!r}"
            )
        return number

    def check_classes(self) -> None:
        """Refuse, once all rows are read, predictions of which none can be right, and a class that is nowhere."""
        for metric in self._settings.metrics:
            if metric.kind not in (*_CLASSES, *_LABELS):
                continue
            outcomes = self._names(metric.columns[-1])
            predictions = {side[0] for side in self._settings.inputs(metric)} if metric.kind in _CLASSES else set()
            for column in sorted(predictions):
                predicted = self._names(column)
                if predicted and outcomes and not predicted & outcomes:
                    raise SettingsError(
                        f"--metric {metric.name!r}: {column} and {metric.columns[-1]} share no class, so that no "
                        f"prediction is right: {apart(predicted, outcomes)}"
                    )
            positive, met = self.positive(metric), {metric.columns[-1], *predictions}
            if positive is not None and outcomes and not any(positive in self._met[column] for column in met):
                known = set().union(*map(self._names, met))
                raise SettingsError(
                    f"--metric {metric.name!r}: no row is {metric.positive!r}; there are {listed(known)}"
                )

    def _names(self, column: str) -> set[str]:
        """The classes met in a column; empty where there are so many that they are numbers."""
        met = self._met.get(column, set())
        group = self._class_columns().get(column)
        texts = [] if group is None else list(self._classes.get(group, ()))
        return {texts[int(code)] if texts else f"{code:.15g}" for code in met} if len(met) <= _MOST_CLASSES else set()

    def error(self, row: int, column: str, why: str) -> TableError:
        """The error of a cell, with its row (counted from 0) and column."""
        order = f"counted from 0 in the order of {self._settings.time}" if self._settings.time else "counted from 0"
        return TableError(f"{self._table.name}: row {row:,} of {column} ({order}) {why}")

    def batches(self) -> Iterator[tuple[LogBatch, bool]]:
        """Every batch, and whether a look follows it. The last one is always followed by a look."""
        settings, rows, target, step = self._settings, 0, self._first_look(), _FIRST
        held: tuple[LogBatch, bool] | None = None
        for chunk in self._table.chunks(self._numbers, self._texts):
            whole = self._batch(chunk)
            changes = self._changes(whole)
            start = 0
            while start < len(whole):
                look_at = self._look_at(target, changes, chunk.start)
                end = min(len(whole), look_at - chunk.start, max(step - chunk.start, start + 1))
                if held is not None:
                    yield held
                rows = chunk.start + end
                due = rows == look_at
                held = (_part(whole, start, end), due)
                if due:
                    target = rows + (settings.look_every or max(100, math.ceil(0.02 * rows)))
                if rows >= step:
                    step = max(rows + _FIRST, math.ceil(_GROWTH * rows))
                start = end
        if held is None:
            raise TableError(f"{self._table.name}: no rows")
        yield held[0], True

    def _first_look(self) -> int:
        return self._settings.look_every or 100

    def _look_at(self, target: int, changes: Ints, start: int) -> int:
        """The row count at which the next look is due: the target, or the next change of cluster from there on."""
        if self._settings.cluster is None or self._settings.look_every is not None:
            return target
        at = np.searchsorted(changes, target - start)
        return int(changes[at]) + start if at < len(changes) else start + 2**62

    def _changes(self, batch: LogBatch) -> Ints:
        """Rows of the chunk whose cluster differs from that of the row before."""
        if batch.clusters is None:
            return np.zeros(0, dtype=np.int64)
        before = np.concatenate([[self._last_cluster], batch.clusters[:-1]])
        self._last_cluster = int(batch.clusters[-1])
        return np.flatnonzero(batch.clusters != before)

    def _columns(self) -> tuple[list[str], list[str]]:
        settings = self._settings
        measured = [name for metric in settings.metrics for side in settings.inputs(metric) for name in side]
        coded = self._class_columns()
        numbers = [name for name in measured if name not in coded] + list(settings.covariates)
        texts = list(coded) + list(settings.segments)
        for name in (settings.arm, settings.unit, settings.cluster):
            if name is not None:
                texts.append(name)
        if settings.propensity is not None:
            numbers.append(settings.propensity)
        return list(dict.fromkeys(numbers)), list(dict.fromkeys(texts))

    def _class_columns(self) -> dict[str, str]:
        """Columns that hold classes as texts, each with the name of the encoding that it shares."""
        found: dict[str, str] = {}
        for metric in self._settings.metrics:
            columns = {side[i] for side in self._settings.inputs(metric) for i in _CLASS_INPUTS.get(metric.kind, ())}
            texts = sorted(columns & self._coded)
            if texts and metric.positive is None and KINDS[metric.kind].labelled:
                raise SettingsError(
                    f"--metric {metric.name!r}: {texts[0]} holds texts; say which class {metric.kind} is about, as in "
                    f"{metric.kind}@yes"
                )
            found |= dict.fromkeys(columns if texts else (), metric.columns[-1])
        return found

    def _code(self, group: str, text: str) -> int:
        known = self._classes.setdefault(group, {})
        return known.setdefault(text, len(known))

    def _numbered(self, group: str, texts: Codes) -> Floats:
        table = np.array([self._code(group, text) for text in texts.values] + [math.nan])
        return np.asarray(table[texts.codes])

    def _batch(self, chunk: Chunk) -> LogBatch:
        settings, coded = self._settings, self._class_columns()
        columns = {
            name: self._numbered(coded[name], chunk.texts[name]) if name in coded else chunk.numbers[name]
            for metric in settings.metrics
            for side in settings.inputs(metric)
            for name in side
        } | {name: chunk.numbers[name] for name in settings.covariates}
        for name, values in columns.items():
            bad = np.flatnonzero(np.isinf(values))
            if bad.size:
                raise self.error(chunk.start + int(bad[0]), name, f"is {values[bad[0]]}, not a finite number")
        for metric in settings.metrics:
            for name in {side[i] for side in settings.inputs(metric) for i in _CLASS_INPUTS.get(metric.kind, ())}:
                met = self._met.setdefault(name, set())
                if len(met) <= _MOST_CLASSES:
                    met.update(np.unique(columns[name][np.isfinite(columns[name])]).tolist())
        for name in settings.segments:
            self.segment_values[name] = chunk.texts[name].values
        return LogBatch(
            start=chunk.start,
            arm=self._arms(chunk),
            propensity=self._propensity(chunk),
            columns=columns,
            segments={name: chunk.texts[name].codes.astype(np.int64) for name in settings.segments},
            first=self._first(chunk),
            units=None if settings.unit is None else chunk.texts[settings.unit],
            clusters=self._clusters(chunk),
        )

    def _arms(self, chunk: Chunk) -> Ints:
        settings = self._settings
        if settings.arm is None:
            return np.zeros(chunk.rows, dtype=np.int64)
        arms = chunk.texts[settings.arm]
        empty = np.flatnonzero(arms.codes < 0)
        if empty.size:
            raise self.error(chunk.start + int(empty[0]), settings.arm, f"is empty{_NULL}, so its arm is unknown")
        index = []
        for value in arms.values:
            if settings.shares is not None and value not in settings.shares:
                at = int(np.flatnonzero(arms.codes == arms.values.index(value))[0])
                hint = did_you_mean(value.strip(), settings.shares) or f"shares are given for {listed(settings.shares)}"
                raise self.error(chunk.start + at, settings.arm, f"is {value!r}, an arm without a share; {hint}")
            if value not in self.arms and not settings.challengers and settings.shares is None:
                self.arms.append(value)
                if len(self.arms) > 2:
                    raise SettingsError(
                        f"--propensity is P(challenger), but {settings.arm} holds several challengers: "
                        f"{', '.join(map(repr, self.arms[1:]))}; name one with --challenger, or give --share"
                    )
            index.append(self.arms.index(value) if value in self.arms else -1)
        found = np.array(index, dtype=np.int64)[arms.codes]
        self.skipped += int((found < 0).sum())
        return found

    def _propensity(self, chunk: Chunk) -> Floats | None:
        if self._settings.propensity is None:
            return None
        values = chunk.numbers[self._settings.propensity]
        bad = np.flatnonzero(~((values > _LEAST_SHARE) & (values < 1.0 - _LEAST_SHARE)))
        if bad.size:
            why = f"is {values[bad[0]]:g}; a propensity lies strictly between 0 and 1"
            raise self.error(chunk.start + int(bad[0]), self._settings.propensity, why)
        return values

    def _first(self, chunk: Chunk) -> Bools:
        """Mask of the rows that are the first of their unit; a row without a unit counts as first."""
        if self._settings.unit is None:
            return np.ones(chunk.rows, dtype=np.bool_)
        units = chunk.texts[self._settings.unit]
        self._units_seen = np.pad(self._units_seen, (0, max(0, len(units.values) - len(self._units_seen))))
        first = np.zeros(chunk.rows, dtype=np.bool_)
        codes, at = np.unique(units.codes, return_index=True)
        named = codes >= 0
        fresh = at[named][~self._units_seen[codes[named]]]
        first[fresh] = True
        self._units_seen[codes[named]] = True
        return first | (units.codes < 0)

    def _clusters(self, chunk: Chunk) -> Ints | None:
        name = self._settings.cluster or self._settings.unit
        if name is None:
            return None
        codes = chunk.texts[name].codes.astype(np.int64)
        empty = np.flatnonzero(codes < 0)
        if empty.size:
            raise self.error(chunk.start + int(empty[0]), name, f"is empty{_NULL}, so its cluster is unknown")
        return codes


def _part(batch: LogBatch, start: int, end: int) -> LogBatch:
    def cut(values: Any) -> Any:
        if isinstance(values, Mapping):
            return {name: array[start:end] for name, array in values.items()}
        if isinstance(values, Codes):
            return Codes(values.codes[start:end], values.values)
        return None if values is None else values[start:end]

    cuts = {name: cut(getattr(batch, name)) for name in LogBatch.__slots__ if name != "start"}
    return LogBatch(start=batch.start + start, **cuts)


def segment_value(values: Sequence[str], code: int) -> str:
    """Name of a segment's value; `(none)` for a null."""
    return values[code] if code >= 0 else "(none)"
