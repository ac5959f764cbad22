"""One long file in time order: its first rows are the reference, the others are watched row by row.

Events are a function of the rows and settings alone; memory is bounded by the reference and the longest window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from operator import index
from typing import Any

import numpy as np

from evaluator.drift.columns import read_numbers
from evaluator.drift.episodes import DriftEvent
from evaluator.drift.feature import Column
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.seasonality import Seasons, thin
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import Signal
from evaluator.offline.drift.columns import Selection, Traits, alone, joined, select, survey
from evaluator.offline.drift.data_findings import lacking, speechless
from evaluator.offline.drift.duplicate_rows import Repeats
from evaluator.offline.drift.duplicate_rows import finding as repeated
from evaluator.offline.drift.histograms import category_bars, number_bars
from evaluator.offline.drift.prediction_type import Answer, Roles, infer, present
from evaluator.offline.drift.reference import Sample
from evaluator.offline.drift.result import SEVERITIES, Bars, Finding, Quality, StreamEvent, StreamReport, StreamStep
from evaluator.offline.drift.scan import KIND_ROWS, Reader
from evaluator.offline.drift.settings import DriftRequestError, Settings
from evaluator.offline.drift.timeliness import NO_TIMES, Clock, seconds
from evaluator.offline.drift.timeliness import findings as odd_times
from gauntlet.table import Table

FEWEST = 100
"""Rows that a reference must have: with fewer, every window looks like drift or nothing does."""
_RISE_WINDOW = 1024
"""Outcomes over which the loss is drawn, or the nearest number that can be judged."""
_DRAWN, _MOVED = 12, 4
"""Columns whose distributions are drawn: those to blame at most, or where there are none."""
_AWAY = 0.15
"""Distance of a column from which it is drawn beside those to blame."""
_STEPS = 800
"""Points over time that are kept for the plots, at most twice as many."""


class Stream:
    """The watch over one table. Iterate `events()` once, then ask for the `report()`."""

    def __init__(self, table: Table, reference_rows: int, settings: Settings) -> None:
        """Raises DriftRequestError for settings that the table doesn't fit."""
        try:
            reference_rows = index(reference_rows)
        except TypeError:
            message = f"the reference's rows are a whole number, not {reference_rows!r}"
            raise DriftRequestError(message) from None
        if reference_rows < FEWEST:
            raise DriftRequestError(f"a reference needs at least {FEWEST} rows, asked for {reference_rows}")
        if table.rows is not None and table.rows <= reference_rows:
            raise DriftRequestError(
                f"{table.name}: {table.rows:,} rows, so none is left to watch after {reference_rows:,} reference rows"
            )
        self.settings = settings
        self.reference_rows = reference_rows
        self._table = table
        found = survey(table, min(KIND_ROWS, reference_rows))
        self._suspects = {name: first for name, first in found.traits.items() if alone(first) is not None}
        self._selection: Selection = select(table, found, settings)
        self._events: list[StreamEvent] = []
        self._steps: list[StreamStep] = []
        self._stride = 1
        self._notes: list[str] = []
        self._roles: Roles | None = None
        self._answer = Answer()
        self._another = 0
        self._rows = 0
        self._seasons: Seasons | None = None
        self._odd: dict[str, int] = {}
        self._mistyped: dict[str, tuple[int, int]] = {}
        """Cells of another type in each feature, and the first row with one."""
        self._attended = (Clock(), Repeats()), (Clock(), Repeats())
        """Times and repetitions in the reference, and in the rows after it."""
        self._sample = Sample()
        self._last: deque[tuple[int, Mapping[str, Column]]] = deque()
        """The last rows, of one window or a little more."""
        self._last_rows, self._window = 0, 0
        self._targets = 0
        self._lacked = 0.0
        """Share of the reference's rows without a target."""
        self._monitor: Monitor | None = None

    def events(self) -> Iterator[StreamEvent]:
        """Read the table and give each event as soon as it is known. Raises TableError where it can't be read."""
        reader = Reader(self._table, self._selection.numbers, self._selection.texts)
        held: dict[str, list[Column]] = {}
        for batch in reader:
            first = 0
            if self._monitor is None:
                first = min(batch.rows, self.reference_rows - batch.start)
                for name, values in batch.columns.items():
                    held.setdefault(name, []).append(values[:first])
                if batch.start + first < self.reference_rows:
                    continue
                self._monitor = self._begin({name: joined(parts) for name, parts in held.items()})
                held = {}
            rest = {name: values[first:] for name, values in batch.columns.items() if self._reads(name)}
            if self.settings.time is not None:
                rest[self.settings.time] = seconds(rest[self.settings.time])
            self._attend(rest, *self._attended[1], batch.rows - first)
            yield from self._watch(self._monitor, rest, batch.start + first, batch.rows - first)
            self._rows = batch.start + batch.rows
        if self._monitor is None or self._rows <= self.reference_rows:
            raise DriftRequestError(
                f"{self._table.name}: fewer rows than the {self.reference_rows:,} of the reference and one to watch"
            )

    def _begin(self, columns: dict[str, Column]) -> Monitor:
        settings = self.settings
        target, said = settings.target, settings.prediction
        counting = {name: reason for name in self._suspects if (reason := self._counts(name, columns)) is not None}
        self._selection = self._selection.without(counting, settings, self._table.name)
        columns = {name: values for name, values in columns.items() if self._reads(name)}
        if settings.time is not None:
            columns[settings.time] = seconds(columns[settings.time])
            if not np.isfinite(columns[settings.time]).any():
                raise DriftRequestError(NO_TIMES.format(settings.time))
        self._attend(columns, *self._attended[0], self.reference_rows)
        self._attended[1][0].since = self._attended[0][0].first
        truth: Column | None = None
        if target is not None:
            self._lacked = 1 - present(columns[target]) / self.reference_rows
        if target is not None and said is not None:
            self._roles = infer(settings, columns[target], columns[said])
            self._notes.append(self._roles.note)
            truth = self._roles.truth(columns[target])
            columns = {**columns, said: self._roles.said(columns[said])}
        elif target is not None:
            truth = columns[target]
        if said is not None:
            self._answer = Answer.of(columns[said], self._roles)
        watched = {name: values for name, values in columns.items() if name not in (target, settings.time)}
        if settings.season is not None and settings.time is not None:
            at = seconds(columns[settings.time])
            features = {name: values for name, values in watched.items() if name != said}
            self._seasons = Seasons.fit(features, at, settings.season)
            watched |= self._seasons.adjusted(features, at)
            self._notes += thin(at, settings.season)
            held = ", ".join(self._seasons.names) or "no column"
            self._notes.append(f"held against the same {settings.season} of the reference (UTC): {held}")
        self._sample.add(watched, self.reference_rows)
        score = said if self._roles is not None and self._roles.says == "probability" else None
        profile = Profile.fit(
            watched,
            reference_id=self._table.name,
            prediction=None if score is not None else said,
            score=score,
            targets=truth,
            task=None if self._roles is None else self._roles.task,
            regimes="auto",
        )
        self._notes += [] if settings.mode == "simple" else speechless(profile)
        self._window = profile.windows[min(1, len(profile.windows) - 1)]
        return Monitor(profile, DriftSettings(mode=settings.mode), key=self._table.name)

    def _counts(self, name: str, columns: Mapping[str, Column]) -> tuple[str, str] | None:
        """Why a column counts or names rows, by the whole reference; one that counts in even steps may begin anew."""
        first = self._suspects[name]
        if name not in columns:
            return None
        return alone(first if first.rises and first.steps else Traits.of(read_numbers(columns[name])[0]))

    def _reads(self, name: str) -> bool:
        return name in (*self._selection.features, self.settings.target, self.settings.prediction, self.settings.time)

    def _attend(self, columns: Mapping[str, Column], clock: Clock, repeats: Repeats, rows: int) -> None:
        """Note what rows say of times and of repeated rows."""
        time = self.settings.time
        repeats.add({name: values for name, values in columns.items() if name != time}, rows)
        if time is not None:
            clock.add(seconds(columns[time]))

    def _watch(self, monitor: Monitor, columns: dict[str, Column], start: int, rows: int) -> Iterator[StreamEvent]:
        pane = monitor.profile.pane
        target, said = self.settings.target, self.settings.prediction
        for first in range(0, rows, pane):
            part = {name: values[first : first + pane] for name, values in columns.items()}
            size = min(pane, rows - first)
            if said is not None:
                part[said], another = self._answer.told(part[said])
                self._another += another
            at = np.arange(start + first, start + first + size, dtype=np.float64)
            inputs = {name: values for name, values in part.items() if name not in (target, self.settings.time)}
            if self._seasons is not None and self.settings.time is not None:
                inputs = self._seasons.adjusted(inputs, seconds(part[self.settings.time]))
            self._last.append((size, inputs))
            self._last_rows += size
            while self._last_rows - self._last[0][0] >= self._window:
                self._last_rows -= self._last.popleft()[0]
            self._count_odd(monitor.profile, inputs, start + first)
            news = monitor.observe(inputs, at)
            if target is not None:
                self._targets += present(part[target])
                truth, answer = part[target], np.full(size, np.nan) if said is None else part[said]
                if self._roles is not None:
                    truth, answer = self._roles.truth(part[target]), self._roles.said(answer)
                    self._doubt(target, part[target], truth)
                    self._doubt(said or "", part[said or ""], answer)
                news += monitor.observe_outcomes(truth, answer, at)
            self._step(monitor, int(at[-1]))
            for event in news:
                # Outcomes are looked at after all rows of their pane, and nothing is known before what came before it.
                told = _told(event, self._events[-1].row if self._events else 0)
                self._events.append(told)
                yield told

    def _count_odd(self, profile: Profile, inputs: Mapping[str, Column], start: int) -> None:
        """Texts among the cells of a column of numbers; only a column with such cells comes as a list."""
        for name, cells in inputs.items():
            place = profile.index.get(name)
            if isinstance(cells, list) and place is not None and profile.features[place].numeric:
                texts = [row for row, cell in enumerate(cells) if isinstance(cell, str)]
                if texts and name != self.settings.prediction:
                    count, first = self._mistyped.get(name, (0, start + texts[0]))
                    self._mistyped[name] = count + len(texts), first

    def _doubt(self, name: str, cells: Column, usable: Column) -> None:
        self._odd[name] = self._odd.get(name, 0) + present(cells) - present(usable)

    def _step(self, monitor: Monitor, row: int) -> None:
        if (row // monitor.profile.pane) % self._stride:
            return
        rises = monitor.error_rise()
        rise = rises[min(rises, key=lambda window: abs(window - _RISE_WINDOW))] if rises else None
        self._steps.append(StreamStep(row, monitor.severity.name, monitor.scores(), rise, monitor.quality()))
        if len(self._steps) >= 2 * _STEPS:
            self._steps = self._steps[::2]
            self._stride *= 2

    def report(self) -> StreamReport:
        """What the events came to, after they have all been read."""
        if self._monitor is None:
            raise ValueError("the events have not been read")
        worst = max((SEVERITIES.index(event.severity) for event in self._events), default=0)
        return StreamReport(
            severity=SEVERITIES[worst],
            final_severity=self._monitor.severity.name,
            events=tuple(self._events),
            rows=self._rows,
            reference_rows=self.reference_rows,
            quality=Quality(self._monitor.quality(), (*self._selection.findings, *self._refused(self._monitor))),
            notes=tuple(self._notes),
            settings=self.settings.to_dict(),
            steps=tuple(self._steps),
            bars=self._bars(self._monitor.profile),
            last=self._last_rows,
        )

    def _bars(self, profile: Profile) -> dict[str, Bars]:
        """Of the columns to blame or far away now, or else of those that moved most, in the reference and in the last
        rows; those that are furthest away come first."""
        scores = self._steps[-1].scores if self._steps else {}
        order = sorted(scores, key=lambda name: (-scores[name], name))
        blamed = {feature["name"] for event in self._events for feature in event.features}
        blamed |= {name for name in order if scores[name] >= _AWAY} if blamed else set()
        names = [name for name in order if name in blamed][:_DRAWN] or order[:_MOVED]
        before, found = self._sample.columns(), dict[str, Bars]()
        for name in names:
            now = [columns[name] for _, columns in self._last if name in columns]
            if now and name in before:
                numeric = profile.features[profile.index[name]].numeric
                bars = (number_bars if numeric else category_bars)(before[name], joined(now))
                found |= {} if bars is None else {name: bars}
        return found

    def _refused(self, monitor: Monitor) -> list[Finding]:
        found = [
            Finding("empty_reference", f.name, f"the reference has no value of {f.name}: nothing to compare with")
            for f in monitor.profile.features
            if not f.present
        ]
        found += [
            Finding("type_change", name, f"{odd:,} values of {name} are none that a {role} can have: left out", True)
            for name, role in ((self.settings.target, "target"), (self.settings.prediction, "prediction"))
            if name is not None and (odd := self._odd.get(name, 0)) and not (role == "prediction" and self._another)
        ]
        if self._another:
            message = f"{self._another:,} values of {self.settings.prediction} are {self._answer.other}: left out"
            found.append(Finding("type_change", self.settings.prediction, message, True))
        watched, target = max(1, self._rows - self.reference_rows), self.settings.target
        spoken = {signal["feature"] for event in self._events for signal in event.signals}
        found += [
            Finding(
                "type_change",
                name,
                f"{count:,} of {watched:,} values of {name} are not a number, the first of them in row {first:,}",
                name in spoken,
            )
            for name, (count, first) in self._mistyped.items()
        ]
        (clock, repeats), (clock_now, repeats_now) = self._attended
        found += repeated(repeats, repeats_now)
        if self.settings.time is not None:
            found += odd_times(self.settings.time, clock, clock_now, self.reference_rows)
        if target is not None:
            found += lacking(target, 1 - self._targets / watched, self._lacked)
        if monitor.refused_errors:
            message = f"{monitor.refused_errors:,} rows without a usable target or prediction"
            found.append(Finding("no_outcome", self.settings.target, message))
        return found


def _told(event: DriftEvent, earliest: int) -> StreamEvent:
    return StreamEvent(
        row=max(earliest, int(event.at)),
        event=event.event,
        severity=event.severity,
        confidence=event.confidence,
        root_cause=event.root_cause,
        features=tuple(_named(signal) for signal in event.features),
        signals=tuple(asdict(signal) for signal in event.signals),
        action=event.action,
        episode=event.episode,
    )


def _named(signal: Signal) -> dict[str, Any]:
    told = asdict(signal)
    return {"name": told.pop("feature"), **told}
