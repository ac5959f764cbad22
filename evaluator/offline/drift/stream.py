"""One table in time order: its first rows are the reference, the others are watched row by row.

Events are a function of the rows and settings alone; memory is bounded by the reference and the longest window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

import numpy as np

from evaluator.drift.columns import Column, read_numbers
from evaluator.drift.episodes import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.seasonality import Seasonality, sparse_seasons
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Severity
from evaluator.offline.drift import data_findings
from evaluator.offline.drift.columns import ColumnSelection, ColumnStats, column_schema, select_columns
from evaluator.offline.drift.data_findings import DuplicateRows, Floats, TimestampStats
from evaluator.offline.drift.prediction_type import PredictionKind, PredictionType, count_present, infer
from evaluator.offline.drift.reference import SystematicSample
from evaluator.offline.drift.result import DriftStep, Finding, Histogram, Quality, StreamEvent, StreamReport
from evaluator.offline.drift.scan import SCHEMA_ROWS, Batch, TableReader, concatenate
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from gauntlet.table import Table

FEWEST_ROWS = 100
"""Rows that a reference must have: with fewer, every window looks like drift or nothing does."""
_PLOTTED_WINDOW = 1024
"""Outcomes over which the rise of the loss is plotted, or the nearest number that can be judged."""
_BLAMED, _MOVED = 12, 4
"""Columns whose histograms are plotted: those to blame at most, or where there are none."""
_AWAY = 0.15
"""Distance of a column from which it is plotted beside those to blame."""
_STEPS = 800
"""Points over time that are kept for plots, at most twice as many."""


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
            raise DriftRequestError(f"{self._table.name}: the table was not read up to the end of the reference")
        return self._collector.report()

    def _read(self) -> Iterator[StreamEvent]:
        parts: dict[str, list[Column]] = {}
        rows = 0
        for batch in TableReader(self._table, self._selection.numbers, self._selection.texts):
            first = 0
            if self._collector is None:
                first = min(batch.rows, self.reference_rows - batch.start)
                for name, values in batch.columns.items():
                    parts.setdefault(name, []).append(values[:first])
                if batch.start + first < self.reference_rows:
                    continue
                columns = {name: concatenate(values) for name, values in parts.items()}
                selection = self._without_counters(columns)
                reference = StreamReference.fit(
                    columns, self.reference_rows, selection, self._settings, self._table.name
                )
                self._collector = EventCollector(reference)
                parts = {}
            yield from self._collector.observe(batch.part(first, batch.rows))
            rows = batch.start + batch.rows
        if rows <= self.reference_rows:
            raise DriftRequestError(
                f"{self._table.name}: fewer rows than the {self.reference_rows:,} of the reference and one to watch"
            )

    def _without_counters(self, columns: Mapping[str, Column]) -> ColumnSelection:
        """Without counters and identifiers, judged by the whole reference; a counter in even steps may begin anew."""
        exclusions = {}
        for name, first in self._schema.stats.items():
            if name in columns and first.exclusion() is not None:
                even = first.rises and first.steps
                stats = first if even else ColumnStats.of(read_numbers(columns[name])[0])
                exclusion = stats.exclusion()
                if exclusion is not None:
                    exclusions[name] = exclusion
        return self._selection.excluding(exclusions, self._settings, self._table.name)


@dataclass(frozen=True)
class StreamReference:
    """What the rows of a stream are compared with."""

    name: str
    rows: int
    settings: DriftFileSettings
    selection: ColumnSelection
    profile: Profile
    prediction_type: PredictionType | None
    prediction_kind: PredictionKind
    seasons: Seasonality | None
    unlabelled: float
    """Share of rows without a target."""
    timestamps: TimestampStats
    duplicates: DuplicateRows
    sample: Mapping[str, Column]
    notes: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Column],
        rows: int,
        selection: ColumnSelection,
        settings: DriftFileSettings,
        name: str,
    ) -> StreamReference:
        """Raises DriftRequestError when target and prediction, or the timestamps, don't fit the settings."""
        target, prediction = settings.target, settings.prediction
        watched = _selected(columns, selection, settings)
        timestamps, duplicates = TimestampStats(), DuplicateRows()
        seconds = _split_timestamps(watched, settings)
        duplicates.add(watched, rows)
        if seconds is not None:
            if not np.isfinite(seconds).any():
                raise DriftRequestError(data_findings.NO_TIMESTAMPS.format(settings.time))
            timestamps.add(seconds)
        notes: list[str] = []
        truth = None if target is None else watched.pop(target)
        unlabelled = 0.0 if truth is None else 1 - count_present(truth) / rows
        known = None
        if truth is not None and prediction is not None:
            known = infer(settings, truth, watched[prediction])
            notes.append(known.note)
            truth = known.usable_target(truth)
            watched[prediction] = known.usable_prediction(watched[prediction])
        kind = PredictionKind() if prediction is None else PredictionKind.of(watched[prediction], known)
        seasons = None
        if settings.season is not None and seconds is not None:
            inputs = {feature: values for feature, values in watched.items() if feature != prediction}
            seasons = Seasonality.fit(inputs, seconds, settings.season)
            watched |= seasons.adjusted(inputs, seconds)
            notes += sparse_seasons(seconds, settings.season)
            adjusted = ", ".join(seasons.names) or "no column"
            notes.append(f"held against the same {settings.season} of the reference (UTC): {adjusted}")
        sample = SystematicSample()
        sample.add(watched, rows)
        scored = known is not None and known.kind == "probability"
        profile = Profile.fit(
            watched,
            reference_id=name,
            prediction=None if scored else prediction,
            score=prediction if scored else None,
            targets=truth,
            task=None if known is None else known.task,
            regimes="auto",
        )
        if settings.mode != "simple":
            notes += data_findings.weak_window_notes(profile)
        return cls(
            name,
            rows,
            settings,
            selection,
            profile,
            known,
            kind,
            seasons,
            unlabelled,
            timestamps,
            duplicates,
            sample.columns(),
            tuple(notes),
        )


def _selected(
    columns: Mapping[str, Column], selection: ColumnSelection, settings: DriftFileSettings
) -> dict[str, Column]:
    names = {*selection.features, settings.target, settings.prediction, settings.time}
    return {name: values for name, values in columns.items() if name in names}


def _split_timestamps(columns: dict[str, Column], settings: DriftFileSettings) -> Floats | None:
    """Take the column of timestamps out, as seconds since 1970."""
    return None if settings.time is None else data_findings.parse_timestamps(columns.pop(settings.time))


class EventCollector:
    """Watches rows after the reference, pane by pane, and keeps the events and what a report says beside them."""

    def __init__(self, reference: StreamReference) -> None:
        self._reference, self._settings = reference, reference.settings
        profile = reference.profile
        self._monitor = Monitor(profile, DriftSettings(mode=self._settings.mode), key=reference.name)
        self._events: list[StreamEvent] = []
        self._steps: list[DriftStep] = []
        self._stride = 1
        """Panes from one step to the next."""
        self._rows = reference.rows
        self._targets = 0
        self._mismatched = 0
        """Predictions of another kind than the reference's."""
        self._unusable: dict[str, int] = {}
        """Cells of target and prediction that can be neither."""
        self._mistyped: dict[str, tuple[int, int]] = {}
        """Cells of another type in each feature, and the first row with one."""
        self._timestamps, self._duplicates = TimestampStats(reference.timestamps.first), DuplicateRows()
        self._window = profile.windows[min(1, len(profile.windows) - 1)]
        self._last: deque[tuple[int, Mapping[str, Column]]] = deque()
        """The last rows, one window or a little more, for histograms."""
        self._last_rows = 0

    def observe(self, batch: Batch) -> Iterator[StreamEvent]:
        """Watch the next rows; each event as soon as it is known."""
        columns = _selected(batch.columns, self._reference.selection, self._settings)
        seconds = _split_timestamps(columns, self._settings)
        self._duplicates.add(columns, batch.rows)
        if seconds is not None:
            self._timestamps.add(seconds)
        pane = self._reference.profile.pane
        for first in range(0, batch.rows, pane):
            end = min(first + pane, batch.rows)
            part = {name: values[first:end] for name, values in columns.items()}
            times = None if seconds is None else seconds[first:end]
            for event in self._observe_pane(part, times, batch.start + first, end - first):
                # Outcomes are judged after all rows of their pane, and an event is never known before an earlier one.
                self._events.append(_stream_event(event, self._events[-1].row if self._events else 0))
                yield self._events[-1]
        self._rows = batch.start + batch.rows

    def _observe_pane(
        self, columns: dict[str, Column], seconds: Floats | None, start: int, rows: int
    ) -> list[DriftEvent]:
        reference, prediction = self._reference, self._settings.prediction
        targets = None if self._settings.target is None else columns.pop(self._settings.target)
        if prediction is not None:
            columns[prediction], mismatched = reference.prediction_kind.mark_mismatches(columns[prediction])
            self._mismatched += mismatched
        predictions = np.full(rows, np.nan) if prediction is None else columns[prediction]
        if reference.seasons is not None and seconds is not None:
            columns = reference.seasons.adjusted(columns, seconds)
        self._keep_last(columns, rows)
        self._count_mistyped(columns, start)
        at = np.arange(start, start + rows, dtype=np.float64)
        events = self._monitor.observe(columns, at)
        if targets is not None:
            self._targets += count_present(targets)
            known = reference.prediction_type
            if known is not None:
                usable, answers = known.usable_target(targets), known.usable_prediction(predictions)
                self._count_unusable("target", targets, usable)
                self._count_unusable("prediction", predictions, answers)
                targets, predictions = usable, answers
            events += self._monitor.observe_outcomes(targets, predictions, at)
        self._add_step(start + rows - 1)
        return events

    def _keep_last(self, columns: Mapping[str, Column], rows: int) -> None:
        self._last.append((rows, columns))
        self._last_rows += rows
        while self._last_rows - self._last[0][0] >= self._window:
            self._last_rows -= self._last.popleft()[0]

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

    def _count_unusable(self, role: str, cells: Column, usable: Column) -> None:
        self._unusable[role] = self._unusable.get(role, 0) + count_present(cells) - count_present(usable)

    def _add_step(self, row: int) -> None:
        monitor = self._monitor
        if (row // self._reference.profile.pane) % self._stride:
            return
        rises = monitor.error_rise()
        rise = rises[min(rises, key=lambda window: abs(window - _PLOTTED_WINDOW))] if rises else None
        self._steps.append(DriftStep(row, monitor.severity.name, monitor.scores(), rise, monitor.quality()))
        if len(self._steps) >= 2 * _STEPS:
            self._steps = self._steps[::2]
            self._stride *= 2

    def report(self) -> StreamReport:
        """On all rows observed so far."""
        reference, monitor = self._reference, self._monitor
        worst = max((Severity[event.severity] for event in self._events), default=Severity.NONE)
        return StreamReport(
            severity=worst.name,
            final_severity=monitor.severity.name,
            events=tuple(self._events),
            rows=self._rows,
            reference_rows=reference.rows,
            quality=Quality(monitor.quality(), (*reference.selection.findings, *self._findings())),
            notes=reference.notes,
            settings=self._settings.to_dict(),
            steps=tuple(self._steps),
            histograms=self._histograms(),
            last_rows=self._last_rows,
        )

    def _histograms(self) -> dict[str, Histogram]:
        """Of the columns to blame or far away now, or else of those that moved most; the furthest first."""
        profile, sample = self._reference.profile, self._reference.sample
        scores = self._steps[-1].scores if self._steps else {}
        order = sorted(scores, key=lambda name: (-scores[name], name))
        blamed = {feature["name"] for event in self._events for feature in event.features}
        blamed |= {name for name in order if scores[name] >= _AWAY} if blamed else set()
        histograms: dict[str, Histogram] = {}
        for name in [name for name in order if name in blamed][:_BLAMED] or order[:_MOVED]:
            last = [columns[name] for _, columns in self._last if name in columns]
            if last and name in sample:
                numeric = profile.features[profile.index[name]].numeric
                histogram = Histogram.of(sample[name], concatenate(last), numeric=numeric)
                histograms |= {} if histogram is None else {name: histogram}
        return histograms

    def _findings(self) -> list[Finding]:
        reference, settings = self._reference, self._settings
        watched = max(1, self._rows - reference.rows)
        signalled = {signal["feature"] for event in self._events for signal in event.signals}
        findings = data_findings.empty_reference_findings(reference.profile)
        findings += [
            Finding("type_change", name, f"{count:,} values of {name} are none that a {role} can have: left out", True)
            for name, role in ((settings.target, "target"), (settings.prediction, "prediction"))
            if (count := self._unusable.get(role, 0)) and not (role == "prediction" and self._mismatched)
        ]
        if self._mismatched:
            mismatch = reference.prediction_kind.mismatch
            message = f"{self._mismatched:,} values of {settings.prediction} are {mismatch}: left out"
            findings.append(Finding("type_change", settings.prediction, message, True))
        for name, (count, first) in self._mistyped.items():
            message = f"{count:,} of {watched:,} values of {name} are not a number, the first of them in row {first:,}"
            findings.append(Finding("type_change", name, message, name in signalled))
        findings += data_findings.duplicate_findings(reference.duplicates, self._duplicates)
        if settings.time is not None:
            findings += data_findings.timestamp_findings(
                settings.time, reference.timestamps, self._timestamps, reference.rows
            )
        if settings.target is not None:
            unlabelled = 1 - self._targets / watched
            findings += data_findings.unlabelled_findings(settings.target, unlabelled, reference.unlabelled)
        if self._monitor.refused_errors:
            message = f"{self._monitor.refused_errors:,} rows without a usable target or prediction"
            findings.append(Finding("no_outcome", settings.target, message))
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
