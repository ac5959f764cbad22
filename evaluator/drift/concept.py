"""Concept drift: the champion's matured losses against its losses on the reference.

Two detectors give one signal: an e-detector on every outcome, soon with an abrupt change, and the rise of the mean on
windows of many lengths, one of which fits a gradual one. The reference's losses must be out-of-sample, or the first
honest outcome looks like drift.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import block_length, calibrate_mean
from evaluator.drift.e_detector import Crossing, EDetector, mean_upper_bound
from evaluator.drift.grid import HUGE, UNLIMITED, upper_tail
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import Key, LookResult, Signal, has_recovered
from evaluator.drift.state import RollingSums, Stateful

KEY: Key = ("concept", "")
_HOLD = 256
"""Outcomes for which a crossing of the e-detector stands alone; later the windows must show the rise."""


ERROR_WINDOWS = (64, *(size << power for power in range(8) for size in (96, 128)))
"""Outcomes of the windows, two to each doubling: for whatever time a rise has taken, one is nearly as long, and finds
it nearly as soon as the one that fits best (generalised likelihood ratio, Siegmund and Venkatraman 1995)."""
ERROR_BLOCK = 32
"""Outcomes between two looks."""
FEWEST_INDEPENDENT = 30
"""Effective outcomes that a window needs for the normal approximation."""
_CAP = 3.0
"""Errors are limited to this multiple of the reference's upper tail, so that one absurd outcome neither makes nor hides
a change of concept."""


@dataclass(frozen=True, slots=True)
class ErrorReference:
    """Mean and standard deviation of the reference's errors, and the null calibration of its windows.

    By window: `inflation` is the variance of the mean over that of independent errors, which no longer window has less
    of, `limits` the relative rise inside the reference; `mean_inflation` is that of the reference's own mean. `scale`
    is the error that counts as one in [0, 1] (the 99th percentile), `scaled` the mean on that scale, `most` an upper
    bound on the true one.
    """

    rows: int
    mean: float
    deviation: float
    cap: float
    windows: tuple[int, ...]
    inflation: tuple[float, ...]
    limits: tuple[float, ...]
    mean_inflation: float
    scale: float
    scaled: float
    most: float

    @classmethod
    def fit(
        cls, errors: Sequence[float] | npt.NDArray[Any], *, windows: tuple[int, ...] = ERROR_WINDOWS
    ) -> ErrorReference:
        """The reference from out-of-sample losses in time order, shape (rows,), larger is worse.

        Raises ValueError for fewer than 30 finite losses or for negative ones.
        """
        values = np.asarray(errors, dtype=np.float64)
        values = values[np.abs(values) <= HUGE]  # false for NaN
        if len(values) < 30:
            raise ValueError(f"an error reference needs at least 30 finite errors, got {len(values)}")
        if values.min() < 0:
            raise ValueError("errors are losses: they can't be negative")
        cap = _CAP * (upper_tail(values) or float(values.max())) or UNLIMITED
        values = np.minimum(values, cap)
        windows = tuple(sorted({-(-window // ERROR_BLOCK) * ERROR_BLOCK for window in windows}))
        base = float(values.mean())
        fitted = [calibrate_mean(values, window) for window in windows]
        whole = calibrate_mean(values, block_length(len(values), len(values)))
        mean_inflation = 1.0 / whole.efficiency
        scale = float(np.quantile(values, 0.99)) or float(values.max()) or 1.0
        with np.errstate(over="ignore"):
            scaled = np.minimum(values / scale, 1.0)
        return cls(
            rows=len(values),
            mean=base,
            deviation=float(values.std()),
            cap=cap,
            windows=windows,
            inflation=tuple(np.maximum.accumulate([1.0 / one.efficiency for one in fitted]).tolist()),
            limits=tuple(one.limit / base if base > 0 else 0.0 for one in fitted),
            mean_inflation=mean_inflation,
            scale=scale,
            scaled=float(scaled.mean()),
            most=mean_upper_bound(float(scaled.mean()), float(scaled.var()), len(values) / mean_inflation),
        )

    def at_level(self, sums: Sequence[float], rows: int) -> ErrorReference:
        """The same calibration around the losses of `rows` later outcomes: `sums` of them and of their squares, then of
        the scaled ones and of their squares. Limits go by the standard deviation."""
        mean, square, scaled, scaled_square = (one / rows for one in sums)
        deviation = math.sqrt(max(0.0, square - mean**2))
        wider = deviation / self.deviation * self.base / mean if self.deviation and mean else 1.0
        return replace(
            self,
            rows=rows,
            mean=mean,
            deviation=deviation,
            limits=tuple(limit * wider for limit in self.limits),
            scaled=scaled,
            most=mean_upper_bound(scaled, max(0.0, scaled_square - scaled**2), rows / self.mean_inflation),
        )

    def counted(self, error: float) -> tuple[float, float]:
        """One error as the windows and as the e-detector count it: limited, and scaled to [0, 1]."""
        return min(error, self.cap), min(error / self.scale, 1.0)

    @property
    def base(self) -> float:
        """The unit of relative rises: the mean, or one miss in all rows if there was none."""
        return self.mean or 1.0 / self.rows

    def null(self, threshold: float) -> float:
        """Largest mean scaled error under the null hypothesis: the reference's raised by `threshold`, or by its own
        limit if errors are autocorrelated, and at least the bound on its true mean."""
        dependent = [limit for limit, inflation in zip(self.limits, self.inflation, strict=True) if inflation > 1.0]
        return max(self.scaled * (1.0 + max([threshold, *dependent[-1:]])), self.most)

    @property
    def dependence(self) -> float:
        """Largest variance inflation of windows of up to 1,024 outcomes."""
        return max(1.0, *(i for window, i in zip(self.windows, self.inflation, strict=True) if window <= 1024))


@dataclass(frozen=True, slots=True)
class ErrorRise:
    """A window's mean error against the reference's: the relative `rise` with its standard `error` and 99 % interval,
    the `threshold`, and the standard errors of the rise (`z`) and of its excess over the threshold (`z_beyond`)."""

    window: int
    threshold: float
    rise: float
    lower: float
    upper: float
    z: float
    z_beyond: float
    error: float


def error_rise(
    reference: ErrorReference, index: int, rows: int, total: float, squares: float, threshold: float
) -> ErrorRise:
    """The rise on the window `reference.windows[index]` from its sums, against `threshold` or the reference's own
    limit.

    The standard error takes the larger of the two standard deviations (Welch 1947, never less than pooled): with rare
    0/1 misses a short window's own is the one that is honest. Both sides are inflated for errors correlated in time.
    """
    mean = total / rows
    own = math.sqrt(max(0.0, squares / rows - mean**2))
    deviation = max(own, reference.deviation)
    variance = deviation**2 * reference.inflation[index] / rows
    variance += reference.deviation**2 * reference.mean_inflation / reference.rows
    error = math.sqrt(variance)
    base = reference.base
    threshold = max(threshold, reference.limits[index])
    if error == 0.0:
        error = 1.0 / rows  # constant errors on both sides: one outcome is the resolution
    gap = mean - reference.mean
    return ErrorRise(
        window=reference.windows[index],
        threshold=threshold,
        rise=gap / base,
        lower=(gap - 2.576 * error) / base,
        upper=(gap + 2.576 * error) / base,
        z=gap / error,
        z_beyond=(gap - threshold * base) / error,
        error=error / base,
    )


class ErrorWindows(Stateful):
    """Sums of errors and of their squares over the last windows, in blocks of `ERROR_BLOCK` outcomes.

    State is a function of the sequence of errors; negative ones and those that are not finite are left out.
    """

    values: ClassVar[Mapping[str, Any]] = {
        "_open": list[float],
        "rows": int,
        "crossing": Crossing | None,
        "crossed_at": int,
    }
    parts: ClassVar[tuple[str, ...]] = ("_blocks", "_e_detector")

    def __init__(self, reference: ErrorReference, threshold: float) -> None:
        self._reference = reference
        self._e_detector = EDetector(reference.null(threshold), reference.dependence)
        self.crossing: Crossing | None = None
        """The last crossing of the e-detector; `crossed_at` is the number of outcomes at it."""
        self.crossed_at = 0
        self._blocks = RollingSums(reference.windows[-1] // ERROR_BLOCK)
        self._open: list[float] = []
        self.rows = 0

    def add(self, error: float) -> bool:
        """Count one loss; True when a look is due: a block is complete, or the e-detector crossed."""
        if not (math.isfinite(error) and error >= 0.0):
            return False
        limited, scaled = self._reference.counted(error)
        self._open.append(limited)
        self.rows += 1
        crossing = self._e_detector.add(scaled)
        if crossing is not None:
            self.crossing, self.crossed_at = crossing, self.rows
        if len(self._open) < ERROR_BLOCK:
            return crossing is not None
        self._blocks.push(np.array([math.fsum(self._open), math.fsum(e * e for e in self._open)]))
        self._open.clear()
        return True

    @property
    def since_crossing(self) -> int | None:
        return None if self.crossing is None else self.rows - self.crossed_at

    def sudden(self, threshold: float) -> ErrorRise | None:
        """The last crossing as a rise since its change point; `z` is that of its e-value."""
        crossing, reference = self.crossing, self._reference
        if crossing is None:
            return None
        base = reference.scaled or 1.0 / reference.rows
        variance = max(crossing.deviation**2, crossing.mean * (1.0 - crossing.mean) / crossing.rows)
        error = math.sqrt(variance * reference.dependence / crossing.rows) / base
        rise = crossing.mean / base - 1.0
        z = math.sqrt(2.0 * math.log(crossing.evidence))
        return ErrorRise(
            crossing.rows,
            max(threshold, self._e_detector.null / base - 1.0),
            rise,
            max(0.0, rise - 2.576 * error),
            rise + 2.576 * error,
            z,
            0.0,
            error,
        )

    def rises(self, threshold: float) -> list[ErrorRise]:
        """The rise on each full window of at least `FEWEST_INDEPENDENT` effective outcomes, shortest first; the longest
        window always counts."""
        found: list[ErrorRise] = []
        suffix = self._blocks.suffix_sums()
        for index, window in enumerate(self._reference.windows):
            blocks = window // ERROR_BLOCK
            if blocks > len(suffix):
                break
            if window < FEWEST_INDEPENDENT * self._reference.inflation[index] and window < self._reference.windows[-1]:
                continue
            total, squares = suffix[blocks - 1]
            found.append(error_rise(self._reference, index, window, float(total), float(squares), threshold))
        return found

    def keep(self, window: int) -> None:
        """Forget all but the last `window` outcomes."""
        self._blocks.keep(window // ERROR_BLOCK)


def look_at_errors(errors: ErrorWindows, settings: DriftSettings, raised_before: Collection[Key] = ()) -> LookResult:
    """Judge the losses: the rise beyond its threshold with the most evidence, or a recent crossing of the
    e-detector."""
    found = errors.rises(settings.concept_rise)
    if settings.simple:
        passed = [rise for rise in found if rise.rise > settings.concept_rise]
        return _result(_signal(max(passed, key=lambda r: r.rise), settings.concept_rise)) if passed else LookResult()
    since = errors.since_crossing
    recent = since is not None and since < _HOLD
    shown = [rise for rise in found if rise.rise > rise.threshold and rise.z >= settings.concept_z]
    passed = [rise for rise in shown if not _recoveries(rise, found, settings)]
    held = {KEY} if KEY in raised_before and _still_risen(found, settings) else set()
    if passed:
        best = max(passed, key=lambda rise: rise.z)
        critical = any(r.rise > 2 * r.threshold and r.z_beyond >= settings.concept_z for r in passed)
        return _result(_signal(best, best.threshold, critical), certain=since == 0)
    sudden = errors.sudden(settings.concept_rise) if recent else None
    if sudden is None:
        return LookResult.of([], held)
    return _result(_signal(sudden, sudden.threshold), certain=True)


def recovered_window(errors: ErrorWindows, settings: DriftSettings) -> int | None:
    """The longest window that shows that the drift of a longer one has ended, or None."""
    found = errors.rises(settings.concept_rise)
    return max((recent.window for rise in found for recent in _recoveries(rise, found, settings)), default=None)


def _result(signal: Signal, *, certain: bool = False) -> LookResult:
    return LookResult.of([signal], certain=[signal.key] if certain else ())


def _signal(rise: ErrorRise, threshold: float, critical: bool = False) -> Signal:
    # The bound exp(-z^2 / 2) / 2 on the normal tail, as the windows' means are only nearly normal.
    p_value = math.exp(-(max(rise.z, 0.0) ** 2) / 2) / 2
    return Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, rise.window, critical)


def _recoveries(rise: ErrorRise, rises: Sequence[ErrorRise], settings: DriftSettings) -> list[ErrorRise]:
    """The shorter windows that show that the drift of this one has ended."""
    calm, z = settings.hysteresis, settings.concept_z
    shorter = [short for short in rises if short.window < rise.window]
    return [s for s in shorter if has_recovered(rise.rise, s.rise, calm=calm * s.threshold, margin=z * s.error)]


def _still_risen(rises: list[ErrorRise], settings: DriftSettings) -> bool:
    """Whether a window still has most of the effect and half of the evidence."""
    calm, z = settings.hysteresis, settings.concept_z / 2
    risen = (rise for rise in rises if rise.rise > calm * rise.threshold and rise.z >= z)
    return any(not _recoveries(rise, rises, settings) for rise in risen)
