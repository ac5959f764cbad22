"""Drift monitor of one champion against its reference: rows and matured outcomes in, drift events out.

State and events are a function of the rows and outcomes in the order given, whatever the batches. A new champion needs
a new monitor with a new profile. `ReferenceUpdate` accepts the rows after a covariate shift as a second reference, once
they are the new normal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from evaluator.drift.columns import Column, batch_rows
from evaluator.drift.concept import ErrorWindows, look_at_errors, recovered_window
from evaluator.drift.data_quality import quality_score
from evaluator.drift.distances import distances
from evaluator.drift.episodes import DriftEvent, Episodes
from evaluator.drift.feature import FeatureReference
from evaluator.drift.feature_detector import look_at_features
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.markov import TransitionMonitor
from evaluator.drift.performance import FEWEST, losses_of, squared_errors
from evaluator.drift.performance_monitor import EstimatedPerformance, PerformanceMonitor
from evaluator.drift.profile import OUTLIER, TARGET, Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, judge
from evaluator.drift.signals import PERFORMANCE_KINDS, Key, Kind, LookResult
from evaluator.drift.standing_loss import StandingLoss
from evaluator.drift.state import Stateful
from evaluator.drift.windows import (
    CHUNK,
    Pane,
    ProfileMismatchError,
    QuantileBounds,
    WindowCounts,
    Windows,
    pack_counts,
    unpack_counts,
)
from gauntlet.types import Severity

Times = float | Sequence[float] | Floats


class Monitor(Stateful):
    """Drives windows, looks and episodes. Not thread-safe; times are the caller's event times."""

    parts: ClassVar[tuple[str, ...]] = (
        "_windows",
        "_errors",
        "_standing",
        "_transitions",
        "_estimated",
        "_performance",
        "_episodes",
        "_update",
    )

    def __init__(self, profile: Profile, settings: DriftSettings | None = None, *, key: str = "") -> None:
        """`key` tells monitors of one reference apart (experiment, partition) in the ids of their events."""
        self.profile = profile
        self.settings = settings or DriftSettings()
        self._windows = Windows(profile)
        self._errors = ErrorWindows(profile.errors, self.settings.concept_rise) if profile.errors is not None else None
        self._standing = StandingLoss(profile.errors, self.settings) if profile.errors is not None else None
        self._episodes = Episodes(f"{profile.hash}/{key}", self.settings)
        self._transitions = TransitionMonitor(profile.regimes, profile.windows, profile.pane, self.settings)
        self._estimated = EstimatedPerformance(profile, self.settings)
        truth = profile.truth
        self._performance = None if truth is None else PerformanceMonitor(truth, self.settings)
        # Codes of the features; in the last row the expected hits of the scores.
        self._buffer = np.empty((len(profile.features) + 1, 0), dtype=np.int64)
        self._update = ReferenceUpdate(profile, self.settings)

    def observe(self, columns: Mapping[str, Column], at: Times) -> list[DriftEvent]:
        """Take in a batch of rows; `at` is the event time of all of them or of each. Returns new events.

        There is a look whenever a pane is full; batches of at least 64 rows are cheapest. Unknown columns are
        ignored; missing ones and odd values lower the quality. Raises ValueError if columns differ in length.
        """
        rows = batch_rows(columns)
        times = _times(at, rows)
        events: list[DriftEvent] = []
        for start in range(0, rows, CHUNK):
            chunk = {name: values[start : start + CHUNK] for name, values in columns.items()}
            codes = np.vstack([self.profile.encode(chunk), self._expected_hits(chunk)])
            events += self._advance(codes, times[start : start + CHUNK])
        return events

    def _expected_hits(self, columns: Mapping[str, Column]) -> Ints:
        truth, score = self.profile.truth, self.profile.score
        if truth is None or truth.scores is None or score is None or score not in columns:
            return np.full(batch_rows(columns), -1, dtype=np.int64)
        return truth.scores.expected_hits(columns[score])

    def _advance(self, codes: Ints, times: Floats) -> list[DriftEvent]:
        pane, held = self.profile.pane, self._buffer.shape[1]
        codes = np.concatenate([self._buffer, codes], axis=1) if held else codes
        events: list[DriftEvent] = []
        done = 0
        while codes.shape[1] - done >= pane:
            full = codes[:-1, done : done + pane]
            self._windows.push(Pane.of_codes(self.profile, full))
            self._transitions.push([self._slots(full, regime.feature) for regime in self.profile.regimes])
            self._estimated.push(codes[-1, done : done + pane])
            done += pane
            raised = self._episodes.raised("features")
            look = (
                self._update.look(self._windows, raised) | self._transitions.look(raised) | self._estimated.look(raised)
            )
            at = float(times[done - held - 1])
            events += self._episodes.update("features", look, self._judge, rows=self._seen, at=at)
            raised = self._episodes.raised("features")
            if self._update.is_due(raised, self._episodes.raised(), self._windows.rows, at):
                self.accept()
        self._buffer = codes[:, done:].copy()
        return events

    def _slots(self, codes: Ints, name: str) -> Ints:
        """Slots of one column from the codes of all, -1 for none."""
        feature = self.profile.index[name]
        slots = (codes[feature] & (OUTLIER - 1)) - self.profile.starts[feature]
        return np.where(slots < self.profile.sizes[feature], slots, -1)

    def _observe_error(self, error: float, at: float) -> list[DriftEvent]:
        if self._errors is None or self._standing is None:
            return []
        events: list[DriftEvent] = []
        if self._errors.add(error):
            events = self._look_at_errors(self._errors, at)
            self._standing.follow(not self.settings.simple and self._episodes.has_loss)
            if any(event.event == "escalate" for event in events):
                self._standing.settle()  # told already
        if self._standing.add(error):
            events += self._episodes.tell_again(rows=self._seen, at=at)
        return events

    def _look_at_errors(self, errors: ErrorWindows, at: float) -> list[DriftEvent]:
        raised = self._episodes.raised("errors")
        look = look_at_errors(errors, self.settings, raised)
        if raised and not look.held and not self.settings.simple:
            window = recovered_window(errors, self.settings)
            if window is not None:
                errors.keep(window)  # the drift has ended: its rows must not be found again
        return self._episodes.update("errors", look, self._judge, rows=self._seen, at=at)

    def observe_outcomes(
        self,
        targets: Column,
        predictions: Column,
        at: Times,
        *,
        losses: Column | None = None,
        made: Times | None = None,
    ) -> list[DriftEvent]:
        """Take in outcomes with the champion's predictions, in order of maturity. Returns new events.

        Judges performance, the outcomes' distribution and the losses; rows without an outcome are left out, those
        without a prediction count for the distribution only. Without targets in the profile nothing is judged. losses:
        if the profile's `errors` are other than misses or absolute errors. made: event times of the rows (default:
        `at`). Raises ValueError if lengths differ.
        """
        truth = self.profile.truth
        times = _times(at, len(targets))
        if len(predictions) != len(targets):
            raise ValueError(f"{len(targets)} targets with {len(predictions)} predictions")
        if losses is not None and len(losses) != len(targets):
            raise ValueError(f"{len(targets)} targets with {len(losses)} losses")
        if truth is None or self._performance is None:
            return []
        codes = truth.distribution.encode({TARGET: targets})[0]
        values = squared = missed = np.full(len(targets), np.nan)
        if truth.performance is not None:
            values, squared = squared_errors(truth.performance.task, targets, predictions)
            missed = losses_of(truth.performance.task, squared)
        if losses is not None:
            missed = np.where(np.isfinite(missed), np.asarray(losses, dtype=np.float64), np.nan)
        events: list[DriftEvent] = []
        known = (codes & (OUTLIER - 1)) < truth.distribution.slots
        row_times = times if made is None else _times(made, len(targets))
        facts = (codes, values, squared, missed, times, row_times)
        rows = zip(*(column.tolist() for column in facts), strict=True)
        for code, value, error, loss, time, row_time in itertools.compress(rows, known.tolist()):
            if math.isfinite(loss):
                self._update.add_outcome(row_time)
                events += self._observe_error(loss, time)
                look = self._performance.add_outcome(value, error, lambda: self._episodes.raised("performance"))
                if look is not None:
                    events += self._episodes.update("performance", look, self._judge, rows=self._seen, at=time)
            look = self._performance.add_target(code, lambda: self._episodes.raised("truths"))
            if look is not None:
                events += self._episodes.update("truths", look, self._judge, rows=self._seen, at=time)
        return events

    def _judge(self, signals: Iterable[Any]) -> Judgement:
        return judge(signals, self.profile, self.settings)

    def accept(self) -> bool:
        """Take the longest full window as the accepted reference: columns like it, or like the frozen one, have not
        drifted. False while no window is full. See also `DriftSettings.accept_after`.
        """
        return self._update.accept(self._windows)

    @property
    def accepted(self) -> bool:
        return self._update.reference is not None

    @property
    def _seen(self) -> int:
        errors = self._errors.rows if self._errors is not None else 0
        return max(self._windows.rows, errors, self._performance.rows if self._performance is not None else 0)

    @property
    def rows(self) -> int:
        return self._windows.rows + self._buffer.shape[1]

    @property
    def severity(self) -> Severity:
        return self._episodes.judgement.severity

    @property
    def judgement(self) -> Judgement:
        return self._episodes.judgement

    def scores(self) -> dict[str, float]:
        """Distance of each feature to the frozen reference on the second window, from 0 to 1; empty while that is not
        full."""
        counts = self._window(None)
        if counts is None:
            return {}
        return dict(zip(self.profile.names, distances(self.profile, counts).tolist(), strict=True))

    def quality(self, window: int | None = None) -> float | None:
        """The quality score on a window, from 0 to 1, or None while that is not full."""
        counts = self._window(window)
        return None if counts is None else quality_score(self.profile, counts)

    def error_rise(self) -> dict[int, float]:
        """Relative rise of the mean error over the reference's on each error window that is full."""
        if self._errors is None:
            return {}
        return {rise.window: rise.rise for rise in self._errors.rises(self.settings.concept_rise)}

    def _window(self, window: int | None) -> WindowCounts | None:
        windows = self.profile.windows
        return self._windows.window(window if window is not None else windows[min(1, len(windows) - 1)])

    def snapshot(self) -> dict[str, Any]:
        return {"profile": self.profile.hash, "buffer": self._buffer.T.tolist(), **super().snapshot()}

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Replace the state by a `snapshot`. Raises ProfileMismatchError for one of another profile."""
        if raw["profile"] != self.profile.hash:
            raise ProfileMismatchError("the snapshot was taken against another profile")
        super().restore(raw)
        self._episodes.judgement = self._judge(self._episodes.signals)
        self._buffer = np.array(raw["buffer"], dtype=np.int64).reshape(-1, len(self.profile.features) + 1).T.copy()


def _times(at: Times, rows: int) -> Floats:
    times = np.asarray(at, dtype=np.float64)
    if times.ndim == 0:
        return np.full(rows, float(times))
    if len(times) != rows:
        raise ValueError(f"{rows} rows with {len(times)} times")
    return times


_ACCEPTABLE: frozenset[Kind] = frozenset(
    {"distribution", "categories", "unseen", "displaced", "outliers", "prediction"}
)
"""Kinds that an accepted reference can explain."""
_FORBIDDING: frozenset[Kind] = PERFORMANCE_KINDS | {
    "estimated_accuracy",
    "missing",
    "column_gone",
    "type_change",
    "quality",
}
"""A loss, seen or estimated, and bad data are never the new normal."""


def with_counts(profile: Profile, window: WindowCounts) -> Profile:
    """The profile with the rows of `window` as its reference, on the same grids, outlier limits and calibrations."""
    features: list[FeatureReference] = []
    for i, feature in enumerate(profile.features):
        missing, absent, mistyped, infinite = window.specials[i].tolist()
        specials = (missing, absent, mistyped, infinite)
        counts, outliers = window.slots(profile.span(i)), int(window.outliers[i])
        features.append(replace(feature, counts=counts, specials=specials, outliers=outliers))
    return replace(profile, rows=window.rows, features=tuple(features))


class ReferenceUpdate(Stateful):
    """Judges columns against the frozen `profile` and, if there is one, the accepted `reference`."""

    values: ClassVar[Mapping[str, Any]] = {"_standing": frozenset[Key], "_outcomes": int}

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        self.reference: Profile | None = None
        self._bounds: QuantileBounds | None = None
        self._standing: frozenset[Key] = frozenset()
        self._since, self._since_at = 0, 0.0
        """Rows and event time at the last new signal."""
        self._outcomes = 0

    def look(self, windows: Windows, raised: Collection[Key]) -> LookResult:
        """Judge all columns; a raised signal is raised against both references."""
        frozen = look_at_features(self._profile, windows, self._settings, raised)
        if self.reference is None:
            return frozen
        if self._bounds is None:
            self._bounds = windows.bounds.against(self.reference.features)
        return frozen & look_at_features(self.reference, windows, self._settings, raised, self._bounds)

    def add_outcome(self, made: float) -> None:
        """Count the outcome of a row of time `made`: those of rows after the shift show its cost."""
        self._outcomes += bool(self._standing) and made >= self._since_at

    def is_due(self, raised: Collection[Key], all_raised: Collection[Key], rows: int, at: float) -> bool:
        """Whether the shift has stood without new signals for `accept_after` rows (and the longest window), and enough
        outcomes since show no loss.

        raised: keys of the columns' signals; all_raised: of all signals; rows: seen so far, the last of them at `at`.
        """
        moved = frozenset(key for key in raised if key[0] in _ACCEPTABLE)
        if not moved or any(kind in _FORBIDDING for kind, _ in all_raised):
            self._standing = frozenset()
            return False
        if moved - self._standing:
            self._since, self._since_at, self._outcomes = rows, at, 0
        self._standing = moved
        wait = self._settings.accept_after
        return wait > 0 and rows - self._since >= max(wait, self._profile.windows[-1]) and self._outcomes >= FEWEST

    def accept(self, windows: Windows) -> bool:
        """Take the longest full window as the accepted reference; False while none is full."""
        full = [window for rows in self._profile.windows if (window := windows.window(rows)) is not None]
        if full:
            self.reference, self._bounds = with_counts(self._profile, full[-1]), None
        return bool(full)

    def snapshot(self) -> dict[str, Any]:
        reference, saved = self.reference, super().snapshot()
        if reference is not None:
            parts = zip(*((f.counts, f.specials, [f.outliers]) for f in reference.features), strict=True)
            counts = np.concatenate([each for part in parts for each in part]).astype(np.int64)
            saved["reference"] = {"rows": reference.rows, "counts": pack_counts(counts)}
        return {"reference": None, **saved, "since": [self._since, self._since_at]}

    def restore(self, raw: Mapping[str, Any]) -> None:
        super().restore(raw)
        self._since, self._since_at = raw["since"]
        self.reference = self._bounds = None
        if raw["reference"] is not None:
            rows, counts = raw["reference"]["rows"], unpack_counts(raw["reference"]["counts"], self._profile.width)
            self.reference = with_counts(self._profile, WindowCounts.of(self._profile, rows, counts))
