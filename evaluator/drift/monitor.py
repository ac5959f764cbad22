"""The drift of one champion against its reference: rows and matured outcomes in, drift events out.

State and events are a function of the rows and errors in the order given, not of how they were cut into batches. A new
champion is a new monitor with a new profile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import batch_rows
from evaluator.drift.concept import ErrorWindows, ended, look_at_errors
from evaluator.drift.data_quality import quality_score
from evaluator.drift.episodes import DriftEvent, Episodes
from evaluator.drift.feature import Column
from evaluator.drift.pane import CHUNK, Pane, ProfileMismatchError, count_codes
from evaluator.drift.performance import losses_of, outcomes
from evaluator.drift.performance_monitor import Outcomes
from evaluator.drift.profile import OUTLIER, TARGET, Profile
from evaluator.drift.reference_update import Acceptance
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, Severity, judge
from evaluator.drift.transitions import Chains
from evaluator.drift.window_distances import distances
from evaluator.drift.windows import View, Windows

Times = float | Sequence[float] | npt.NDArray[np.float64]
_EXTRA = 64
"""Names of unknown columns that are remembered."""


class Monitor:
    """Drives windows, looks and episodes. Not thread-safe; no clock: times are the caller's event times."""

    def __init__(self, profile: Profile, settings: DriftSettings | None = None, *, key: str = "") -> None:
        """`key` tells monitors of the same reference apart (experiment, partition) in the ids of their events."""
        self.profile = profile
        self.settings = settings or DriftSettings()
        self._windows = Windows(profile)
        self._errors = ErrorWindows(profile.errors, self.settings.concept_rise) if profile.errors is not None else None
        self._episodes = Episodes(f"{profile.hash}/{key}", self.settings)
        self._chains = Chains(profile, self.settings)
        truth = profile.truth
        self._outcomes = None if truth is None else Outcomes(truth, self.settings)
        # Codes of the features, and in the last row the expected hits of the scores.
        self._buffer = np.empty((len(profile.features) + 1, 0), dtype=np.int64)
        self._acceptance = Acceptance(profile, self.settings)
        self.extra: dict[str, int] = {}
        """Rows of each column the profile does not know."""

    def observe(self, columns: Mapping[str, Column], at: Times) -> list[DriftEvent]:
        """Take in a batch of feature rows; `at` is the event time of all of them or of each. Returns new events.

        A look is taken whenever a pane is full. Batches of 64 rows and more are cheap a row, single rows are not.
        Missing and extra columns and odd values are findings; columns that differ in length raise ValueError.
        """
        rows = batch_rows(columns)
        times = _times(at, rows)
        for name in columns:
            if name not in self.profile.index and (name in self.extra or len(self.extra) < _EXTRA):
                self.extra[name] = self.extra.get(name, 0) + rows
        events: list[DriftEvent] = []
        for start in range(0, rows, CHUNK):
            chunk = {name: values[start : start + CHUNK] for name, values in columns.items()}
            codes = np.vstack([self.profile.encode(chunk), self._expected(chunk)])
            events += self._take(codes, times[start : start + CHUNK])
        return events

    def _expected(self, columns: Mapping[str, Column]) -> npt.NDArray[np.int64]:
        truth, score = self.profile.truth, self.profile.score
        if truth is None or truth.scores is None or score is None or score not in columns:
            return np.full(batch_rows(columns), -1, dtype=np.int64)
        return truth.scores.expected(columns[score])

    def _take(self, codes: npt.NDArray[np.int64], times: npt.NDArray[np.float64]) -> list[DriftEvent]:
        pane, held = self.profile.pane, self._buffer.shape[1]
        codes = np.concatenate([self._buffer, codes], axis=1) if held else codes
        events: list[DriftEvent] = []
        done = 0
        while codes.shape[1] - done >= pane:
            full = codes[:-1, done : done + pane]
            self._windows.push(Pane(self.profile.hash, pane, count_codes(self.profile, full)))
            self._chains.push(full, codes[-1, done : done + pane])
            done += pane
            raised = self._episodes.raised("features")
            look = self._acceptance.look(self._windows, raised) | self._chains.look(raised)
            at = float(times[done - held - 1])
            events += self._episodes.fold("features", look, self._judge, rows=self._clock, at=at)
            now = self._episodes.raised("features")
            if self._acceptance.due(now, self._episodes.keys, self._windows.rows, at):
                self.accept()
        self._buffer = codes[:, done:].copy()
        return events

    def _observe_error(self, error: float, at: float) -> list[DriftEvent]:
        if self._errors is None or not self._errors.add(error):
            return []
        raised = self._episodes.raised("errors")
        look = look_at_errors(self._errors, self.settings, raised)
        simple = self.settings.simple
        if raised and not simple and not look.held and (window := ended(self._errors, self.settings)) is not None:
            self._errors.keep(window)  # the drift has ended: its rows must not be found again
        return self._episodes.fold("errors", look, self._judge, rows=self._clock, at=at)

    def observe_outcomes(
        self,
        targets: Column,
        predictions: Column,
        at: Times,
        *,
        losses: Column | None = None,
        made: Times | None = None,
    ) -> list[DriftEvent]:
        """Take in truths with the champion's predictions, in order of maturity. Returns new events.

        Judges performance, the truths' distribution and the errors; rows without a truth are left out, those without
        a prediction count for the distribution only. Without targets in the profile nothing is judged. `losses`: each
        row's, when the profile's `errors` were given and are of another kind than misses or absolute errors. made: the
        times of the rows that they are about (default: `at`). Raises ValueError when lengths differ.
        """
        truth = self.profile.truth
        times = _times(at, len(targets))
        if len(predictions) != len(targets):
            raise ValueError(f"{len(targets)} targets with {len(predictions)} predictions")
        if losses is not None and len(losses) != len(targets):
            raise ValueError(f"{len(targets)} targets with {len(losses)} losses")
        if truth is None or self._outcomes is None:
            return []
        codes = truth.distribution.encode({TARGET: targets})[0]
        values = squared = missed = np.full(len(targets), np.nan)
        if truth.performance is not None:
            values, squared = outcomes(truth.performance.task, targets, predictions)
            missed = losses_of(truth.performance.task, squared)
        if losses is not None:
            missed = np.where(np.isfinite(missed), np.asarray(losses, dtype=np.float64), np.nan)
        events: list[DriftEvent] = []
        known = (codes & (OUTLIER - 1)) < truth.distribution.slots
        born = times if made is None else _times(made, len(targets))
        facts = (codes, values, squared, missed, times, born)
        rows = zip(*(column.tolist() for column in facts), strict=True)
        for code, value, error, loss, time, was in itertools.compress(rows, known.tolist()):
            if math.isfinite(loss):
                self._acceptance.judged(was)
                events += self._observe_error(loss, time)
                look = self._outcomes.judged(value, error, lambda: self._episodes.raised("performance"))
                if look is not None:
                    events += self._episodes.fold("performance", look, self._judge, rows=self._clock, at=time)
            look = self._outcomes.seen(code, lambda: self._episodes.raised("truths"))
            if look is not None:
                events += self._episodes.fold("truths", look, self._judge, rows=self._clock, at=time)
        return events

    def _judge(self, signals: Iterable[Any]) -> Judgement:
        return judge(signals, self.profile, self.settings)

    def accept(self) -> bool:
        """Take the longest full window as the second reference: what came is the new normal, and columns like it, or
        like the frozen one, have not drifted. An episode about them closes in the next looks. False while no window is
        full. It also happens by itself, see `DriftSettings.accept_after`.
        """
        return self._acceptance.accept(self._windows)

    @property
    def accepted(self) -> bool:
        """Whether there is an accepted reference."""
        return self._acceptance.reference is not None

    @property
    def _clock(self) -> int:
        errors = self._errors.rows if self._errors is not None else 0
        return max(self._windows.rows, errors, self._outcomes.rows if self._outcomes is not None else 0)

    @property
    def rows(self) -> int:
        """Feature rows taken in."""
        return self._windows.rows + self._buffer.shape[1]

    @property
    def severity(self) -> Severity:
        """The severity now."""
        return self._episodes.judgement.severity

    @property
    def judgement(self) -> Judgement:
        """The whole judgement now."""
        return self._episodes.judgement

    @property
    def refused_errors(self) -> int:
        """Losses left out for being negative or not finite."""
        return self._errors.refused if self._errors is not None else 0

    def scores(self, window: int | None = None, *, accepted: bool = False) -> dict[str, float]:
        """Distance of each feature to the frozen reference, or the accepted one, on a window (default: the second);
        empty while that is not full.

        Kolmogorov-Smirnov for numbers, total variation for categories, both from 0 to 1. `window`: rows, one of
        `profile.windows`.
        """
        view = self._view(window)
        reference = self._acceptance.reference if accepted else self.profile
        if view is None or reference is None:
            return {}
        return dict(zip(self.profile.names, distances(reference, view).tolist(), strict=True))

    def quality(self, window: int | None = None) -> float | None:
        """The quality score on a window, from 0 to 1, or None while that is not full."""
        view = self._view(window)
        return None if view is None else quality_score(self.profile, view)

    def error_rise(self) -> dict[int, float]:
        """Relative rise of the mean error over the reference's on each error window that is full."""
        if self._errors is None:
            return {}
        return {rise.window: rise.rise for rise in self._errors.rises(self.settings.concept_rise)}

    def _view(self, window: int | None) -> View | None:
        windows = self.profile.windows
        return self._windows.view(window if window is not None else windows[min(1, len(windows) - 1)])

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "profile": self.profile.hash,
            "windows": self._windows.snapshot(),
            "errors": None if self._errors is None else self._errors.snapshot(),
            "chains": self._chains.snapshot(),
            "outcomes": None if self._outcomes is None else self._outcomes.snapshot(),
            "episodes": self._episodes.snapshot(),
            "buffer": self._buffer.T.tolist(),
            "extra": dict(self.extra),
            "acceptance": self._acceptance.snapshot(),
        }

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Replace the state by a `snapshot`. Raises ProfileMismatchError when it was taken against another profile."""
        if raw["profile"] != self.profile.hash:
            raise ProfileMismatchError("the snapshot was taken against another profile")
        self._windows.restore(raw["windows"])
        if self._errors is not None:
            self._errors.restore(raw["errors"])
        self._chains.restore(raw["chains"])
        if self._outcomes is not None:
            self._outcomes.restore(raw["outcomes"])
        self._episodes.restore(raw["episodes"], self._judge)
        self._buffer = np.array(raw["buffer"], dtype=np.int64).reshape(-1, len(self.profile.features) + 1).T.copy()
        self.extra = dict(raw["extra"])
        self._acceptance.restore(raw["acceptance"])


def _times(at: Times, rows: int) -> npt.NDArray[np.float64]:
    times = np.asarray(at, dtype=np.float64)
    if times.ndim == 0:
        return np.full(rows, float(times))
    if len(times) != rows:
        raise ValueError(f"{rows} rows with {len(times)} times")
    return times
