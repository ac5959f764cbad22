"""One look at the errors: the windows' rises, the bets on every outcome, and ADWIN's vote, made one signal.

Of the same kind are all three: a change of concept, seen slowly, at once, or by a second opinion.

Concept drift: the champion's matured errors against its errors on the reference.

Sums per block of outcomes, a sequential bet on each outcome and ADWIN's window are the whole state; a rise counts only
when it is large AND more than correlated errors do by chance. The reference must be errors the model did not train on,
or the first honest outcome looks like drift.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.adwin import AdaptiveWindow
from evaluator.drift.calibration import block_length, mean_of_stretches
from evaluator.drift.e_detector import Bets, Crossing, upper_mean
from evaluator.drift.grid import HUGE, tail
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import Key, Look, Signal

KEY: Key = ("concept", "")
SECONDED_Z = 3.0
"""Standard errors that do when ADWIN saw the errors rise too."""
_SECONDED_WITHIN = 1024
_HOLD = 256
"""Outcomes for which a sudden change stands by itself; later the windows must see it."""


def look_at_errors(errors: ErrorWindows, settings: DriftSettings, raised_before: Collection[Key] = ()) -> Look:
    """Judge the errors: bets just won speak at once; else the rise beyond the threshold with the most evidence."""
    found = errors.rises(settings.concept_rise)
    if settings.simple:
        passed = [rise for rise in found if rise.rise > settings.concept_rise]
        return _look(_signal(max(passed, key=lambda r: r.rise), settings.concept_rise)) if passed else Look()
    rises = [rise for rise in found if not _over(rise, found, settings)]
    since = errors.since_crossing
    recent = since is not None and since < _HOLD
    needed = min(settings.concept_z, SECONDED_Z) if errors.adwin.voted(_SECONDED_WITHIN) else settings.concept_z
    passed = [rise for rise in rises if rise.rise > rise.threshold and rise.z >= needed]
    held = {KEY} if KEY in raised_before and _still_risen(rises, settings) else set()
    if passed:
        best = max(passed, key=lambda rise: rise.z)
        critical = any(r.rise > 2 * r.threshold and r.z_beyond >= settings.concept_z for r in passed)
        return _look(_signal(best, best.threshold, critical), certain=since == 0)
    sudden = errors.sudden(settings.concept_rise) if recent else None
    if sudden is None:
        return Look({}, frozenset(held))
    return _look(_signal(sudden, sudden.threshold), certain=True)


def ended(errors: ErrorWindows, settings: DriftSettings) -> int | None:
    """The longest of the windows that show that what a longer one still holds is past; None when there is none."""
    found = errors.rises(settings.concept_rise)
    return max((recent.window for rise in found for recent in _over(rise, found, settings)), default=None)


def _look(signal: Signal, *, certain: bool = False) -> Look:
    keys = frozenset({signal.key})
    return Look({signal.key: signal}, keys, keys if certain else frozenset())


def _signal(rise: Rise, threshold: float, critical: bool = False) -> Signal:
    # One-sided normal tail by its bound exp(-z^2 / 2) / 2: the windows' means are only nearly normal.
    p_value = math.exp(-(max(rise.z, 0.0) ** 2) / 2) / 2
    return Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, rise.window, critical)


def _over(rise: Rise, rises: list[Rise], settings: DriftSettings) -> list[Rise]:
    """The shorter windows, each the end of this one, that show that what raised it is past: they are back below the
    threshold, and plainly below the longer one."""
    return [
        recent
        for recent in rises
        if recent.window < rise.window
        and recent.rise <= settings.hysteresis * recent.threshold
        and rise.rise - recent.rise >= settings.concept_z * recent.error
    ]


def _still_risen(rises: list[Rise], settings: DriftSettings) -> bool:
    """Whether a window still has most of the effect and half of the evidence, so that noise in short ones holds
    nothing."""
    return any(rise.rise > settings.hysteresis * rise.threshold and rise.z >= settings.concept_z / 2 for rise in rises)


ERROR_WINDOWS = (64, 256, 1024, 4096, 16384)
"""Outcomes a window. The long ones see a slow decline that correlated errors hide from the short ones."""
ERROR_BLOCK = 32
"""Outcomes between two looks."""
FEWEST_INDEPENDENT = 30
"""Independent outcomes a window must be worth: below, a normal limit says nothing of one storm or one bad hour."""
_CAP = 3.0
"""Errors count up to so many times the reference's largest but a few: one absurd outcome is no change of concept, and
one in the reference hides none."""


_LISTS = ("windows", "inflation", "limits")


@dataclass(frozen=True, slots=True)
class ErrorReference:
    """Mean and standard deviation of the reference's errors and what its own windows do.

    `inflation` is the variance of a window's mean over that of independent errors, `limits` the relative rise windows
    reach inside the reference, both a window; `mean_inflation` is that of the reference's own mean. `scale` is the
    error that counts as one in [0, 1] (the 99th percentile), `scaled` the mean on that scale, `most` what the true one
    is at most.
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
        """From out-of-sample errors in time order, shape (rows,): losses, absolute errors or 0/1 misses; higher is
        worse.

        Raises ValueError for fewer than 30 finite errors or for negative ones.
        """
        values = np.asarray(errors, dtype=np.float64)
        values = values[np.abs(values) <= HUGE]  # false for NaN
        if len(values) < 30:
            raise ValueError(f"an error reference needs at least 30 finite errors, got {len(values)}")
        if values.min() < 0:
            raise ValueError("errors are losses: they can't be negative")
        cap = _CAP * (tail(values) or float(values.max())) or math.inf  # misses may be rarer than the tail is long
        values = np.minimum(values, cap)
        windows = tuple(sorted({-(-window // ERROR_BLOCK) * ERROR_BLOCK for window in windows}))
        base = float(values.mean())
        fitted = [mean_of_stretches(values, window) for window in windows]
        whole = mean_of_stretches(values, block_length(len(values), len(values)))
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
            inflation=tuple(1.0 / one.efficiency for one in fitted),
            limits=tuple(one.limit / base if base > 0 else 0.0 for one in fitted),
            mean_inflation=mean_inflation,
            scale=scale,
            scaled=float(scaled.mean()),
            most=upper_mean(scaled, len(values) / mean_inflation),
        )

    @property
    def base(self) -> float:
        """What rises are relative to: the mean, or about one miss in all rows when there was none."""
        return self.mean or 1.0 / self.rows

    def null(self, threshold: float) -> float:
        """The mean scaled error that is no news: `threshold` above the reference's, its own limit where errors depend
        on each other, and not less than what its true mean may be."""
        dependent = [limit for limit, inflation in zip(self.limits, self.inflation, strict=True) if inflation > 1.0]
        return max(self.scaled * (1.0 + max([threshold, *dependent[-1:]])), self.most)

    @property
    def dependence(self) -> float:
        """Inflation for stretches of up to some thousand errors."""
        return max(1.0, *(i for window, i in zip(self.windows, self.inflation, strict=True) if window <= 1024))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; no cap is None."""
        return {**asdict(self), "cap": None if math.isinf(self.cap) else self.cap}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ErrorReference:
        """The inverse of `to_dict`."""
        cap = math.inf if raw["cap"] is None else raw["cap"]
        return cls(**{**raw, "cap": cap, **{k: tuple(raw[k]) for k in _LISTS}})


@dataclass(frozen=True, slots=True)
class Rise:
    """A window's mean error against the reference's: `rise` is relative, with its standard `error` and 99 % interval,
    `threshold` what it must exceed to matter, `z` standard errors of the rise, `z_beyond` of what exceeds the
    threshold."""

    window: int
    mean: float
    threshold: float
    rise: float
    lower: float
    upper: float
    z: float
    z_beyond: float
    error: float


def rise_of(reference: ErrorReference, index: int, rows: int, total: float, squares: float, threshold: float) -> Rise:
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
        error = 1.0 / rows  # constant errors on both sides, so only a jump is possible; one outcome is its resolution
    gap = mean - reference.mean
    return Rise(
        window=reference.windows[index],
        mean=mean,
        threshold=threshold,
        rise=gap / base,
        lower=(gap - 2.576 * error) / base,
        upper=(gap + 2.576 * error) / base,
        z=gap / error,
        z_beyond=(gap - threshold * base) / error,
        error=error / base,
    )


class ErrorWindows:
    """Sums of errors and of their squares over the last windows, in blocks of `ERROR_BLOCK` outcomes.

    What it holds is a function of the sequence of outcomes only. Not finite or negative outcomes are counted in
    `refused` and left out.
    """

    def __init__(self, reference: ErrorReference, threshold: float) -> None:
        self._reference = reference
        self._capacity = reference.windows[-1] // ERROR_BLOCK
        self._bets = Bets(reference.null(threshold), reference.dependence)
        self.adwin = AdaptiveWindow()
        self.crossing: Crossing | None = None
        """The last time the bets were won, and `crossed_at` how many outcomes had been seen."""
        self.crossed_at = 0
        self._blocks: list[tuple[float, float]] = []
        self._open: list[float] = []
        self.rows = 0
        self.refused = 0

    def add(self, error: float) -> bool:
        """Count one outcome; True when there is something to look at: a block is complete, or the bets were won."""
        if not (math.isfinite(error) and error >= 0.0):
            self.refused += 1
            return False
        self._open.append(min(error, self._reference.cap))
        self.rows += 1
        scaled = min(error / self._reference.scale, 1.0)
        self.adwin.add(scaled)
        crossing = self._bets.add(scaled)
        if crossing is not None:
            self.crossing, self.crossed_at = crossing, self.rows
        if len(self._open) < ERROR_BLOCK:
            return crossing is not None
        self._blocks.append((math.fsum(self._open), math.fsum(e * e for e in self._open)))
        self._open.clear()
        del self._blocks[: -self._capacity]
        return True

    @property
    def since_crossing(self) -> int | None:
        """Outcomes since the bets were last won, or None when they never were."""
        return None if self.crossing is None else self.rows - self.crossed_at

    def sudden(self, threshold: float) -> Rise | None:
        """What the last crossing says, as a rise on the stretch since the change; its `z` is that of its e-value."""
        crossing, reference = self.crossing, self._reference
        if crossing is None:
            return None
        base = reference.scaled or 1.0 / reference.rows
        variance = max(crossing.deviation**2, crossing.mean * (1.0 - crossing.mean) / crossing.rows)
        error = math.sqrt(variance * reference.dependence / crossing.rows) / base
        rise = crossing.mean / base - 1.0
        z = math.sqrt(2.0 * math.log(crossing.evidence))
        return Rise(
            crossing.rows,
            crossing.mean * reference.scale,
            max(threshold, self._bets.null / base - 1.0),
            rise,
            max(0.0, rise - 2.576 * error),
            rise + 2.576 * error,
            z,
            0.0,
            error,
        )

    def rises(self, threshold: float) -> list[Rise]:
        """The rise on each window that is full and worth `FEWEST_INDEPENDENT` outcomes, shortest first.

        The longest window always speaks, lest a reference of few, dependent errors silence all.
        """
        found: list[Rise] = []
        suffix = np.cumsum(np.asarray(self._blocks[::-1], dtype=np.float64).reshape(-1, 2), axis=0)
        for index, window in enumerate(self._reference.windows):
            blocks = window // ERROR_BLOCK
            if blocks > len(suffix):
                break
            if window < FEWEST_INDEPENDENT * self._reference.inflation[index] and window < self._reference.windows[-1]:
                continue
            total, squares = suffix[blocks - 1]
            found.append(rise_of(self._reference, index, window, float(total), float(squares), threshold))
        return found

    def keep(self, window: int) -> None:
        """Forget all but the last `window` outcomes: what was before is over."""
        self._blocks = self._blocks[-(window // ERROR_BLOCK) :]

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "blocks": [list(block) for block in self._blocks],
            "open": list(self._open),
            "rows": self.rows,
            "refused": self.refused,
            "bets": self._bets.snapshot(),
            "adwin": self.adwin.snapshot(),
            "crossing": None if self.crossing is None else asdict(self.crossing),
            "crossed_at": self.crossed_at,
        }

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._blocks = [(float(total), float(squares)) for total, squares in raw["blocks"]]
        self._open = [float(error) for error in raw["open"]]
        self.rows, self.refused = int(raw["rows"]), int(raw["refused"])
        self._bets.restore(raw["bets"])
        self.adwin.restore(raw["adwin"])
        self.crossing = None if raw["crossing"] is None else Crossing(**raw["crossing"])
        self.crossed_at = int(raw["crossed_at"])
