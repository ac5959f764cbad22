"""The drift of one champion against its reference: rows and matured errors in, drift events out.

State and events are a function of the rows and errors in the order given, not of how they were cut into batches. A new
champion is a new monitor with a new profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.concept import ErrorWindows
from evaluator.drift.episode import DriftEvent, Episodes
from evaluator.drift.fusion import Judgement, Severity, judge
from evaluator.drift.pane import CHUNK, Pane, ProfileMismatchError, count_codes
from evaluator.drift.profile import Column, Profile, batch_rows
from evaluator.drift.quality import quality_score
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import distances, look_at_errors, look_at_features
from evaluator.drift.window import View, Windows

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
        self._errors = ErrorWindows(profile.errors) if profile.errors is not None else None
        self._episodes = Episodes(f"{profile.hash}/{key}", self.settings)
        self._buffer = np.empty((len(profile.features), 0), dtype=np.int64)
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
            events += self._take(self.profile.encode(chunk), times[start : start + CHUNK])
        return events

    def _take(self, codes: npt.NDArray[np.int64], times: npt.NDArray[np.float64]) -> list[DriftEvent]:
        pane, held = self.profile.pane, self._buffer.shape[1]
        codes = np.concatenate([self._buffer, codes], axis=1) if held else codes
        events: list[DriftEvent] = []
        done = 0
        while codes.shape[1] - done >= pane:
            full = codes[:, done : done + pane]
            done += pane
            self._windows.push(Pane(self.profile.hash, pane, count_codes(self.profile, full)))
            look = look_at_features(self.profile, self._windows, self.settings, self._episodes.raised("features"))
            at = float(times[done - held - 1])
            events += self._episodes.fold("features", look, self._judge, rows=self._clock, at=at)
        self._buffer = codes[:, done:].copy()
        return events

    def observe_errors(self, errors: Sequence[float] | npt.NDArray[Any], at: Times) -> list[DriftEvent]:
        """Take in matured losses of the champion in order of maturity, as in the profile's `errors`. Returns new
        events.

        Without reference errors nothing is judged. Losses that are not finite or negative are counted and left out.
        """
        if self._errors is None:
            return []
        values = np.asarray(errors, dtype=np.float64)
        events: list[DriftEvent] = []
        for value, time in zip(values.tolist(), _times(at, len(values)).tolist(), strict=True):
            if not self._errors.add(value):
                continue
            rises = self._errors.rises(self.settings.concept_rise)
            look = look_at_errors(rises, self.settings, self._episodes.raised("errors"))
            events += self._episodes.fold("errors", look, self._judge, rows=self._clock, at=time)
        return events

    def _judge(self, signals: Iterable[Any]) -> Judgement:
        return judge(signals, self.profile, self.settings)

    @property
    def _clock(self) -> int:
        return max(self._windows.rows, self._errors.rows if self._errors is not None else 0)

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

    def scores(self, window: int | None = None) -> dict[str, float]:
        """Distance of each feature to the reference on a window (default: the second), empty while that is not full.

        Kolmogorov-Smirnov for numbers, total variation for categories, both from 0 to 1. `window`: rows, one of
        `profile.windows`.
        """
        view = self._view(window)
        if view is None:
            return {}
        return dict(zip(self.profile.names, distances(self.profile, view).tolist(), strict=True))

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
            "episodes": self._episodes.snapshot(),
            "buffer": self._buffer.T.tolist(),
            "extra": dict(self.extra),
        }

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Replace the state by a `snapshot`. Raises ProfileMismatchError when it was taken against another profile."""
        if raw["profile"] != self.profile.hash:
            raise ProfileMismatchError("the snapshot was taken against another profile")
        self._windows.restore(raw["windows"])
        if self._errors is not None:
            self._errors.restore(raw["errors"])
        self._episodes.restore(raw["episodes"], self._judge)
        self._buffer = np.array(raw["buffer"], dtype=np.int64).reshape(-1, len(self.profile.features)).T.copy()
        self.extra = dict(raw["extra"])


def _times(at: Times, rows: int) -> npt.NDArray[np.float64]:
    times = np.asarray(at, dtype=np.float64)
    if times.ndim == 0:
        return np.full(rows, float(times))
    if len(times) != rows:
        raise ValueError(f"{rows} rows with {len(times)} times")
    return times
