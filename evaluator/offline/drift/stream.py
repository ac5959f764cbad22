"""One table in time order: its first rows are the reference, the others are watched row by row.

Events are a function of the rows and settings alone; memory is bounded by the reference and the longest window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from operator import index
from typing import Any

import numpy as np

from evaluator.drift.columns import Column, read_numbers
from evaluator.drift.episodes import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.performance import FEWEST
from evaluator.drift.profile import Profile
from evaluator.drift.seasonality import Seasonality, sparse_seasons
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import PERFORMANCE_KINDS
from evaluator.drift.spelling_variants import RespeltValues
from evaluator.offline.drift import data_findings
from evaluator.offline.drift.columns import ColumnSelection, ColumnStats, column_schema, select_columns
from evaluator.offline.drift.not_judged import model_doubts, outcome_doubts, overall, rare_values, sparse_column
from evaluator.offline.drift.prediction_type import OutcomeCounts, PredictionType, count_present
from evaluator.offline.drift.reference import SystematicSample
from evaluator.offline.drift.result import (
    UNKNOWN,
    ColumnSample,
    DataQuality,
    DriftStep,
    Finding,
    StreamEvent,
    StreamReport,
)
from evaluator.offline.drift.scan import SCHEMA_ROWS, TableBatch, TableReader, TableStats, concatenate
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from gauntlet.spelling import folded
from gauntlet.table import Table
from gauntlet.types import Severity

FEWEST_ROWS = 100
"""Rows that a reference must have: with fewer, every window looks like drift or nothing does."""
_PLOTTED_WINDOW = 1024  # outcomes over which the rise of the loss is plotted, or the nearest number that can be judged
_BLAMED, _MOVED = 12, 4  # columns whose histograms are plotted: those to blame at most, or where there are none
_AWAY = 0.15  # distance of a column from which it is plotted beside those to blame
_STEPS = 800  # points over time that are kept for plots, at most twice as many


class DriftStream:
    """The watch over one table. `events()` reads on from where it stopped; `report()` reads what is left."""

    def __init__(self, table: Table, reference_rows: int, settings: DriftFileSettings) -> None:
        """Raises DriftRequestError for settings that the table doesn't fit."""
        try:
            self.reference_rows = index(reference_rows)
        except TypeError:
            raise DriftRequestError(f"reference_rows must be a whole number, not {reference_rows!r}") from None
        if self.reference_rows < FEWEST_ROWS:
            raise DriftRequestError(f"reference_rows must be at least {FEWEST_ROWS}, not {reference_rows}")
        if table.rows is not None and table.rows <= self.reference_rows:
            raise DriftRequestError(
                f"{table.name}: {table.rows:,} rows, so none is left to watch after {reference_rows:,} reference rows"
            )
        self._table, self._settings = table, settings
        self._schema = column_schema(table, min(SCHEMA_ROWS, self.reference_rows))
        self._selection = select_columns(table, self._schema, settings)
        self._collector: EventCollector | None = None
        self._events = self._read()

    def events(self) -> Iterator[StreamEvent]:
        """Each event as soon as it is known. Raises TableError where the table can't be read."""
        return self._events

    def report(self) -> StreamReport:
        """The report after the last row."""
        for _ in self._events:
            pass
        if self._collector is None:
            raise DriftRequestError(
                f"{self._table.name}: the events stopped before the reference was read (did a read fail?)"
            )
        return self._collector.report()

    def _read(self) -> Iterator[StreamEvent]:
        parts: dict[str, list[Column]] = {}
        rows = 0
        for batch in TableReader(self._table, *self._selection.read_as):
            first = 0
            if self._collector is None:
                first = min(batch.rows, self.reference_rows - batch.start)
                for name, values in batch.columns.items():
                    parts.setdefault(name, []).append(values[:first])
                if batch.start + first < self.reference_rows:
                    continue
                columns = {name: concatenate(values) for name, values in parts.items()}
                reference = TableBatch(0, self.reference_rows, columns)
                self._collector = EventCollector(self._fit(reference))
                parts = {}
            yield from self._collector.observe(batch.part(first, batch.rows))
            rows = batch.start + batch.rows
        if rows <= self.reference_rows:
            raise DriftRequestError(
                f"{self._table.name}: fewer rows than the {self.reference_rows:,} of the reference and one to watch"
            )

    def _fit(self, rows: TableBatch) -> StreamReference:
        """Without counters and identifiers, judged by all rows; a counter in even steps may start over."""
        exclusions = {}
        for name, first in self._schema.stats.items():
            if name in rows.columns and first.exclusion() is not None:
                even = first.rises and first.steps
                stats = first if even else ColumnStats.of(read_numbers(rows.columns[name])[0])
                exclusion = stats.exclusion()
                if exclusion is not None:
                    exclusions[name] = exclusion
        selection = self._selection.excluding(exclusions, self._settings, self._table.name)
        return StreamReference.fit(rows, selection, self._settings, self._table.name)


@dataclass(frozen=True)
class StreamReference:
    """What the rows of a stream are compared with."""

    name: str
    rows: int
    settings: DriftFileSettings
    selection: ColumnSelection
    profile: Profile
    prediction_type: PredictionType
    seasons: Seasonality | None
    stats: TableStats
    sample: Mapping[str, Column]
    doubts: tuple[Finding, ...]
    """Why the model's performance can't be judged."""
    notes: tuple[str, ...]

    @classmethod
    def fit(
        cls, rows: TableBatch, selection: ColumnSelection, settings: DriftFileSettings, name: str
    ) -> StreamReference:
        """Raises DriftRequestError when target and prediction, or the timestamps, don't fit the settings."""
        stats = TableStats(settings.time)
        batch = stats.add(_selected(rows, selection, settings))
        stats.require_timestamps()
        columns = dict(batch.columns)
        target = None if settings.target is None else columns.pop(settings.target)
        prediction = None if settings.prediction is None else columns[settings.prediction]
        known = PredictionType.infer(settings, target, prediction)
        doubts = model_doubts(known, target, prediction)
        notes = [*known.notes]
        if settings.prediction is not None and prediction is not None:
            columns[settings.prediction] = known.usable_prediction(prediction)
        seasons = None
        if settings.season is not None and batch.seconds is not None:
            inputs = {feature: values for feature, values in columns.items() if feature != settings.prediction}
            seasons = Seasonality.fit(inputs, batch.seconds, settings.season)
            columns |= seasons.adjusted(inputs, batch.seconds)
            notes += sparse_seasons(batch.seconds, settings.season)
            adjusted = ", ".join(seasons.names) or "no column"
            notes.append(f"held against the same {settings.season} of the reference (UTC): {adjusted}")
        sample = SystematicSample()
        sample.add(columns, rows.rows)
        profile = Profile.fit(
            columns,
            reference_id=name,
            prediction=None if known.scored else settings.prediction,
            score=settings.prediction if known.scored else None,
            targets=None if target is None else known.usable_target(target),
            answers=np.full(rows.rows, np.nan) if known.apart else None,
            task=known.task,
            regimes="auto",
        )
        if settings.mode != "simple":
            notes += data_findings.weak_window_notes(profile)
        kept = sample.columns()
        doubted, noted = tuple(doubts), tuple(notes)
        return cls(name, rows.rows, settings, selection, profile, known, seasons, stats, kept, doubted, noted)


def _selected(batch: TableBatch, selection: ColumnSelection, settings: DriftFileSettings) -> TableBatch:
    names = {*selection.features, settings.target, settings.prediction, settings.time}
    return replace(batch, columns={name: values for name, values in batch.columns.items() if name in names})


class EventCollector:
    """Watches rows after the reference, pane by pane, and keeps the events and what a report says beside them."""

    def __init__(self, reference: StreamReference) -> None:
        self._reference, self._settings = reference, reference.settings
        profile = reference.profile
        self._monitor = Monitor(profile, DriftSettings(mode=self._settings.mode), key=reference.name)
        self._stats = TableStats(self._settings.time, not_before=reference.stats.timestamps.first)
        self._counts, self._outcomes = OutcomeCounts(), 0
        self._respelt = RespeltValues(profile, folded)
        self._rows = reference.rows
        self._events: list[StreamEvent] = []
        self._steps: list[DriftStep] = []
        self._stride = 1
        """Panes from one step to the next."""
        self._mistyped: dict[str, tuple[int, int]] = {}
        """Cells of another type in each feature, and the first row with one."""
        self._window = profile.windows[min(1, len(profile.windows) - 1)]
        self._last: deque[tuple[int, Mapping[str, Column]]] = deque()
        """The last rows, one window or a little more, for histograms."""
        self._last_rows = 0

    def observe(self, batch: TableBatch) -> Iterator[StreamEvent]:
        """Watch the next rows; each event as soon as it is known."""
        rows = self._stats.add(_selected(batch, self._reference.selection, self._settings))
        pane = self._reference.profile.pane
        for first in range(0, rows.rows, pane):
            for event in self._observe_pane(rows.part(first, min(first + pane, rows.rows))):
                # Outcomes are judged after all rows of their pane, and an event is never known before an earlier one.
                self._events.append(_stream_event(event, self._events[-1].row if self._events else 0))
                yield self._events[-1]
        self._rows = batch.start + batch.rows

    def _observe_pane(self, rows: TableBatch) -> list[DriftEvent]:
        reference, columns = self._reference, dict(rows.columns)
        targets, predictions = reference.prediction_type.take(columns, self._counts)
        if reference.seasons is not None:
            assert rows.seconds is not None
            columns = reference.seasons.adjusted(columns, rows.seconds)
        self._last.append((rows.rows, columns))
        self._last_rows += rows.rows
        while self._last_rows - self._last[0][0] >= self._window:
            self._last_rows -= self._last.popleft()[0]
        self._count_mistyped(columns, rows.start)
        self._respelt.add(columns)
        at = np.arange(rows.start, rows.start + rows.rows, dtype=np.float64)
        events = self._monitor.observe(columns, at)
        if targets is not None:
            if predictions is None or reference.prediction_type.apart:
                predictions = np.full(rows.rows, np.nan)
            self._outcomes += min(count_present(targets), count_present(predictions))
            events += self._monitor.observe_outcomes(targets, predictions, at)
        self._add_step(rows.start + rows.rows - 1)
        return events

    def _count_mistyped(self, columns: Mapping[str, Column], start: int) -> None:
        """Texts among the cells of a column of numbers; only a column with such cells comes as a list."""
        profile = self._reference.profile
        for name, cells in columns.items():
            place = profile.index.get(name)
            if isinstance(cells, list) and place is not None and profile.features[place].numeric:
                texts = [row for row, cell in enumerate(cells) if isinstance(cell, str)]
                if texts and name != self._settings.prediction:
                    count, first = self._mistyped.get(name, (0, start + texts[0]))
                    self._mistyped[name] = count + len(texts), first

    def _add_step(self, row: int) -> None:
        monitor = self._monitor
        if (row // self._reference.profile.pane) % self._stride:
            return
        rises = monitor.error_rise()
        rise = rises[min(rises, key=lambda window: abs(window - _PLOTTED_WINDOW))] if rises else None
        self._steps.append(DriftStep(row, monitor.severity.value, monitor.scores(), rise, monitor.quality()))
        if len(self._steps) >= 2 * _STEPS:
            self._steps = self._steps[::2]
            self._stride *= 2

    def report(self) -> StreamReport:
        """On all rows observed so far."""
        reference, monitor = self._reference, self._monitor
        findings = (*reference.selection.findings, *self._findings(), *self._doubts())
        worst = max((Severity(event.severity) for event in self._events), default=Severity.NONE)
        severity, not_judged = overall(worst, findings)
        return StreamReport(
            severity=severity,
            final_severity=severity if severity == UNKNOWN else monitor.severity.value,
            events=tuple(self._events),
            not_judged=not_judged,
            rows=self._rows,
            reference_rows=reference.rows,
            quality=DataQuality(monitor.quality(), findings),
            notes=reference.notes,
            settings=self._settings.to_dict(),
            steps=tuple(self._steps),
            samples=self._samples(),
            last_rows=self._last_rows,
        )

    def _samples(self) -> dict[str, ColumnSample]:
        """Values of the columns to blame or far away now, or else of those that moved most; the furthest first."""
        profile, sample = self._reference.profile, self._reference.sample
        scores = self._steps[-1].scores if self._steps else {}
        order = sorted(scores, key=lambda name: (-scores[name], name))
        blamed = {feature["name"] for event in self._events for feature in event.features}
        blamed |= {name for name in order if scores[name] >= _AWAY} if blamed else set()
        samples: dict[str, ColumnSample] = {}
        for name in [name for name in order if name in blamed][:_BLAMED] or order[:_MOVED]:
            last = [columns[name] for _, columns in self._last if name in columns]
            if last and name in sample:
                numeric = profile.features[profile.index[name]].numeric
                samples[name] = ColumnSample(sample[name], concatenate(last), numeric)
        return samples

    def _doubts(self) -> list[Finding]:
        """Findings on what can't be judged, unless something was found about it."""
        reference, settings, monitor = self._reference, self._settings, self._monitor
        watched, least = self._rows - reference.rows, reference.profile.windows[0]
        signals = [signal for event in self._events for signal in event.signals]
        if watched < least and not signals:
            reason = f"{watched:,} rows were watched, and the shortest window has {least:,}: nothing is said of them"
            return [Finding("few_rows", None, reason, judged=False)]
        signalled, asked = {signal["feature"] for signal in signals}, settings.features is not None
        doubts = [
            sparse_column(feature, reference.profile, monitor.settings, asked=asked or feature.role != "feature")
            or rare_values(feature)
            for feature in reference.profile.features
            if feature.name not in signalled
        ]
        found = [doubt for doubt in doubts if doubt is not None]
        if settings.target is None and len(found) == len(reference.profile.features):  # then nothing is judged
            found = [replace(doubt, judged=False) for doubt in found]
        if None in (settings.target, settings.prediction) or any(one["kind"] in PERFORMANCE_KINDS for one in signals):
            return found
        truth, errors = reference.profile.truth, reference.profile.errors
        scored = truth is not None and truth.scores is not None and self._rows - reference.rows >= FEWEST
        if reference.doubts or errors is None or scored:
            return [*found, *reference.doubts]
        return [*found, *outcome_doubts(reference.prediction_type, self._outcomes, errors.windows[0])]

    def _findings(self) -> list[Finding]:
        reference, settings, counts = self._reference, self._settings, self._counts
        known, watched = reference.prediction_type, max(1, self._rows - reference.rows)
        findings = data_findings.stream_outcome_findings(known, counts)
        signalled = {signal["feature"] for event in self._events for signal in event.signals}
        for name, (count, first) in self._mistyped.items():
            message = f"{count:,} of {watched:,} values of {name} are not a number, the first of them in row {first:,}"
            findings.append(Finding("type_change", name, message, name in signalled))
        findings += data_findings.respelt_findings(self._respelt, counts, signalled)
        findings += self._stats.findings(reference.stats, reference.rows)
        if settings.target is not None and known.unlabelled is not None:
            unlabelled = 1 - counts.targets / watched
            findings += data_findings.unlabelled_findings(settings.target, unlabelled, known.unlabelled)
        return findings


def _stream_event(event: DriftEvent, earliest: int) -> StreamEvent:
    features: list[dict[str, Any]] = []
    for signal in event.features:
        values = asdict(signal)
        features.append({"name": values.pop("feature"), **values})
    return StreamEvent(
        row=max(earliest, int(event.at)),
        event=event.event,
        severity=event.severity,
        confidence=event.confidence,
        root_cause=event.root_cause,
        features=tuple(features),
        signals=tuple(asdict(signal) for signal in event.signals),
        action=event.action,
        episode=event.episode,
    )
