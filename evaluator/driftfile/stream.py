"""One long file in time order: its first rows are the reference, the others are watched row by row.

Events are a function of the rows and settings alone; memory is bounded by the reference and the longest window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluator.drift.episode import DriftEvent
from evaluator.drift.feature import Column
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.seasons import Seasons
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import Signal
from evaluator.driftfile.column import joined
from evaluator.driftfile.moment import seconds
from evaluator.driftfile.reader import KIND_ROWS, Reader
from evaluator.driftfile.result import SEVERITIES, Finding, Quality, StreamEvent, StreamReport, StreamStep
from evaluator.driftfile.roles import Roles, infer, present
from evaluator.driftfile.selection import Selection, select
from evaluator.driftfile.settings import DriftRequestError, Settings
from evaluator.driftfile.survey import survey
from gauntlet.table import Table

FEWEST = 100
"""Rows that a reference must have: with fewer, every window looks like drift or nothing does."""
_RISE_WINDOW = 1024
"""Outcomes over which the loss is drawn, or the nearest number that can be judged."""
_STEPS = 800
"""Points over time that are kept for the plots, at most twice as many."""


class Stream:
    """The watch over one table. Iterate `events()` once, then ask for the `report()`."""

    def __init__(self, table: Table, reference_rows: int, settings: Settings) -> None:
        """Raises DriftRequestError for settings that the table doesn't fit."""
        if reference_rows < FEWEST:
            raise DriftRequestError(f"a reference needs at least {FEWEST} rows, asked for {reference_rows}")
        if table.rows is not None and table.rows <= reference_rows:
            raise DriftRequestError(
                f"{table.name}: {table.rows:,} rows, so none is left to watch after {reference_rows:,} reference rows"
            )
        self.settings = settings
        self.reference_rows = reference_rows
        self._table = table
        self._selection: Selection = select(table, survey(table, min(KIND_ROWS, reference_rows)), settings)
        self._events: list[StreamEvent] = []
        self._steps: list[StreamStep] = []
        self._stride = 1
        self._notes: list[str] = []
        self._roles: Roles | None = None
        self._rows = 0
        self._seasons: Seasons | None = None
        self._odd: dict[str, int] = {}
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
            rest = {name: values[first:] for name, values in batch.columns.items()}
            yield from self._watch(self._monitor, rest, batch.start + first, batch.rows - first)
            self._rows = batch.start + batch.rows
        if self._monitor is None or self._rows <= self.reference_rows:
            raise DriftRequestError(
                f"{self._table.name}: fewer rows than the {self.reference_rows:,} of the reference and one to watch"
            )

    def _begin(self, columns: dict[str, Column]) -> Monitor:
        settings = self.settings
        target, said = settings.target, settings.prediction
        truth: Column | None = None
        if target is not None and said is not None:
            self._roles = infer(settings, columns[target], columns[said])
            self._notes.append(self._roles.note)
            truth = self._roles.truth(columns[target])
            columns = {**columns, said: self._roles.said(columns[said])}
        elif target is not None:
            truth = columns[target]
        watched = {name: values for name, values in columns.items() if name not in (target, settings.time)}
        if settings.season is not None and settings.time is not None:
            at = seconds(columns[settings.time])
            if not np.isfinite(at).any():
                raise DriftRequestError(
                    f"{settings.time!r}: no times in the reference (seconds since 1970, or ISO 8601)"
                )
            features = {name: values for name, values in watched.items() if name != said}
            self._seasons = Seasons.fit(features, at, settings.season)
            watched |= self._seasons.adjusted(features, at)
            held = ", ".join(self._seasons.names) or "no column"
            self._notes.append(f"held against the same {settings.season} of the reference (UTC): {held}")
        score = said if self._roles is not None and self._roles.says == "probability" else None
        profile = Profile.fit(
            watched,
            reference_id=self._table.name,
            prediction=None if score is not None else said,
            score=score,
            targets=truth,
            task=None if self._roles is None else self._roles.task,
        )
        return Monitor(profile, DriftSettings(mode=settings.mode), key=self._table.name)

    def _watch(self, monitor: Monitor, columns: dict[str, Column], start: int, rows: int) -> Iterator[StreamEvent]:
        pane = monitor.profile.pane
        target, said = self.settings.target, self.settings.prediction
        for first in range(0, rows, pane):
            part = {name: values[first : first + pane] for name, values in columns.items()}
            size = min(pane, rows - first)
            at = np.arange(start + first, start + first + size, dtype=np.float64)
            inputs = {name: values for name, values in part.items() if name not in (target, self.settings.time)}
            if self._seasons is not None and self.settings.time is not None:
                inputs = self._seasons.adjusted(inputs, seconds(part[self.settings.time]))
            news = monitor.observe(inputs, at)
            if target is not None:
                truth, answer = part[target], np.full(size, np.nan) if said is None else part[said]
                if self._roles is not None:
                    truth, answer = self._roles.truth(part[target]), self._roles.said(answer)
                    self._doubt(target, part[target], truth)
                    self._doubt(said or "", part[said or ""], answer)
                news += monitor.observe_outcomes(truth, answer, at)
            self._step(monitor, int(at[-1]))
            for event in news:
                told = _told(event)
                self._events.append(told)
                yield told

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
        )

    def _refused(self, monitor: Monitor) -> list[Finding]:
        found = [
            Finding("empty_reference", f.name, f"the reference has no value of {f.name}: nothing to compare with")
            for f in monitor.profile.features
            if not f.present
        ]
        found += [
            Finding("type_change", name, f"{odd:,} values of {name} are none that a {role} can have: left out", True)
            for name, role in ((self.settings.target, "target"), (self.settings.prediction, "prediction"))
            if name is not None and (odd := self._odd.get(name, 0))
        ]
        if monitor.refused_errors:
            message = f"{monitor.refused_errors:,} rows without a usable target or prediction"
            found.append(Finding("no_outcome", self.settings.target, message))
        return found


def _told(event: DriftEvent) -> StreamEvent:
    return StreamEvent(
        row=int(event.at),
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
