"""Accuracy, R² and RMSE of a window against the reference's, from moment sums that add.

A change is a breach if it is large, compared also with blocks of the reference itself, AND its one-sided confidence
bound excludes none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluator.drift.calibration import INDEPENDENT, Calibration, calibrate_mean
from evaluator.drift.columns import Column, is_categorical, read_categories, read_numbers
from evaluator.drift.grid import UNLIMITED, Floats, upper_tail

Task = Literal["classification", "regression"]
Metric = Literal["accuracy", "r2", "rmse"]
WIDTHS: Mapping[Task, int] = {"classification": 2, "regression": 10}
"""Length of a vector of sums: rows and hits; or rows, moments of truth and limited squared error, and the unlimited
squared errors."""
WINDOWS = (512, 2048, 8192)
"""Outcomes of the windows."""
FEWEST = 500
"""Outcomes that a metric needs."""
FEWEST_WEAK = 5000
"""Outcomes that R² needs if the reference's is under `WEAK`, where it is mostly noise."""
WEAK = 0.6
_CLASSES = 20
_CAP = 9.0
"""Squared errors are limited to this multiple of the reference's upper tail."""
_LARGEST = 1e150
"""Larger squared errors are left out; their squares overflow."""


def task_of(targets: Column, predictions: Column) -> Task:
    """Classification if either side is mostly strings or the truth is a few whole numbers; otherwise regression."""
    if is_categorical(targets) or is_categorical(predictions):
        return "classification"
    truth, _ = read_numbers(targets)
    known = np.unique(truth[np.isfinite(truth)])
    return "classification" if len(known) <= _CLASSES and bool((known == np.round(known)).all()) else "regression"


def squared_errors(task: Task, targets: Column, predictions: Column) -> tuple[Floats, Floats]:
    """Truth and squared error of each row, shape (rows,) each; NaN where either is unknown.

    Classification: the error is 0 or 1 and the truth, which is not needed, 0. Fractional predictions of a 0/1 truth are
    scores, cut at one half. Raises ValueError if the lengths differ.
    """
    if len(targets) != len(predictions):
        raise ValueError(f"{len(targets)} targets with {len(predictions)} predictions")
    if task == "classification" and (is_categorical(targets) or is_categorical(predictions)):
        pairs = zip(_labels(targets), _labels(predictions), strict=True)
        missed = np.array([math.nan if t is None or p is None else float(t != p) for t, p in pairs], dtype=np.float64)
        return missed * 0.0, missed
    truth, predicted = read_numbers(targets)[0], read_numbers(predictions)[0]
    known = np.isfinite(truth) & np.isfinite(predicted)
    truth, predicted = np.where(known, truth, math.nan), np.where(known, predicted, math.nan)
    if task == "regression":
        with np.errstate(over="ignore"):
            return truth, (truth - predicted) ** 2
    score = (predicted != np.round(predicted)) & (predicted > 0) & (predicted < 1) & ((truth == 0) | (truth == 1))
    predicted = np.where(score, np.asarray(predicted >= 0.5, dtype=np.float64), predicted)
    return truth * 0.0, np.where(known, np.asarray(truth != predicted, dtype=np.float64), math.nan)


def losses_of(task: Task, squared: Floats) -> Floats:
    """Losses for concept drift from squared errors: misses, or absolute errors."""
    return squared if task == "classification" else np.sqrt(squared)


def _labels(values: Column) -> list[str | None]:
    if is_categorical(values):
        return [value if isinstance(value, str) else None for value in read_categories(values)]
    numbers, _ = read_numbers(values)
    return [None if not math.isfinite(n) else str(int(n)) if n == int(n) else str(n) for n in numbers.tolist()]


def moment_sums(task: Task, centre: float, truth: Floats, squared: Floats, raw: Floats | None = None) -> Floats:
    """The vector of sums of rows from `squared_errors`, NaN rows left out, shape (WIDTHS[task],).

    centre: near the truth's mean, for precision. raw: the unlimited squared errors."""
    known = np.isfinite(squared) & (squared < _LARGEST)
    e = squared[known]
    if task == "classification":
        return np.array([len(e), len(e) - e.sum()])
    d = truth[known] - centre
    d2 = d * d
    moments = (d, d2, d2 * d, d2 * d2, e, e * e, e * d, e * d2, e if raw is None else raw[known])
    return np.array([len(e), *(moment.sum() for moment in moments)])


def metric_values(task: Task, sums: Floats) -> dict[Metric, tuple[float, float]]:
    """Each metric with the variance of one row's influence on it (delta method); empty without rows.

    R² = 1 - E / V has the influence -(e - E) / V + E ((y - mean)² - V) / V² (Casella and Berger 2002, 5.5.24), the
    RMSE, the root of E, (e - E) / (2 RMSE).
    """
    n = float(sums[0])
    if n < 2:
        return {}
    if task == "classification":
        share = float(sums[1]) / n
        # Agresti and Coull's interval: two more hits and misses, as an accuracy of one is not known exactly.
        adjusted = (float(sums[1]) + 2.0) / (n + 4.0)
        return {"accuracy": (share, adjusted * (1.0 - adjusted))}
    d1, d2, d3, d4, e1, e2, ed, ed2 = (float(value) / n for value in sums[1:9])
    spread = d2 - d1 * d1
    found: dict[Metric, tuple[float, float]] = {}
    error_variance = max(0.0, e2 - e1 * e1)
    rmse = math.sqrt(max(0.0, e1))
    found["rmse"] = (rmse, error_variance / (4.0 * e1) if e1 > 0 else 0.0)
    if spread > 1e-12 * (d2 + 1e-300):
        fourth = d4 - 4 * d1 * d3 + 6 * d1 * d1 * d2 - 3 * d1**4
        mixed = ed2 - 2 * d1 * ed + d1 * d1 * e1  # mean of e (y - mean)²
        covariance = mixed - e1 * spread
        ratio = e1 / spread
        variance = (error_variance - 2 * ratio * covariance + ratio**2 * max(0.0, fourth - spread**2)) / spread**2
        found["r2"] = (1.0 - ratio, max(0.0, variance))
    return found


def influences(task: Task, truth: Floats, squared: Floats) -> dict[Metric, Floats]:
    """Influence function (Hampel 1974) of each metric, relative to its value, larger is worse: shape (rows,), mean 0.

    On any block of the rows the metric is worse by about the mean of its influences.
    """
    mean, off = float(squared.mean()), truth - truth.mean()
    spread = float((off * off).mean())
    found: dict[Metric, Floats] = {}
    for name, (value, _) in metric_values(task, moment_sums(task, float(truth.mean()), truth, squared)).items():
        if name == "accuracy":
            part = squared - mean
        elif name == "rmse":
            part = (squared - mean) / (2.0 * value) if value > 0 else squared
        else:
            part = (squared - mean) / spread - mean * (off * off - spread) / spread**2
        found[name] = part / (abs(value) or 1e-12)
    return found


@dataclass(frozen=True, slots=True)
class PerformanceReference:
    """The model's performance on the reference's held-out rows: a vector of sums about `centre`.

    Truths are limited to `low` and `high`, squared errors to `cap`, here and in windows, as a single extreme row would
    dominate the moments of R². `calibrations` by metric, one for each of `windows` (in outcomes): the relative loss on
    blocks of the reference itself, and the effective rows per row.
    """

    task: Task
    centre: float
    low: float
    high: float
    cap: float
    sums: tuple[float, ...]
    windows: tuple[int, ...]
    calibrations: Mapping[str, tuple[Calibration, ...]]

    @classmethod
    def fit(
        cls, targets: Column, predictions: Column, task: Task | None = None, *, windows: Sequence[int] = WINDOWS
    ) -> PerformanceReference:
        """The reference from out-of-sample truths and predictions of one length in time order.

        Raises ValueError if fewer than 30 rows have both.
        """
        task = task or task_of(targets, predictions)
        truth, squared = squared_errors(task, targets, predictions)
        known = np.isfinite(truth) & np.isfinite(squared) & (squared < _LARGEST)
        truth, squared = truth[known], squared[known]
        if len(truth) < 30:
            raise ValueError(f"performance needs at least 30 rows with truth and prediction, got {len(truth)}")
        low, high, cap, raw = -UNLIMITED, UNLIMITED, UNLIMITED, squared
        if task == "regression":
            first, last = -upper_tail(-truth), upper_tail(truth)
            low, high = first - (last - first), last + (last - first)
            cap = _CAP * (upper_tail(squared) or float(squared.max())) or UNLIMITED
            truth, squared = np.clip(truth, low, high), np.minimum(squared, cap)
        centre = float(truth.mean())
        calibrations: dict[str, tuple[Calibration, ...]] = {
            name: tuple(calibrate_mean(parts, window) for window in windows)
            for name, parts in influences(task, truth, squared).items()
        }
        sums = moment_sums(task, centre, truth, squared, raw)
        return cls(task, centre, low, high, cap, tuple(sums.tolist()), tuple(windows), calibrations)

    def sums_of(self, truth: Floats, squared: Floats) -> Floats:
        """The vector of sums of a window's rows from `squared_errors`."""
        known = np.isfinite(squared) & (squared < _LARGEST)
        truth, raw = np.clip(truth[known], self.low, self.high), squared[known]
        return moment_sums(self.task, self.centre, truth, np.minimum(raw, self.cap), raw)

    @property
    def rows(self) -> int:
        """Rows with truth and prediction."""
        return int(self.sums[0])

    def calibration(self, metric: str, rows: int) -> Calibration:
        """The calibration of the shortest window with at least `rows`, else of the longest."""
        place = min(sum(window < rows for window in self.windows), len(self.windows) - 1)
        return self.calibrations[metric][place] if metric in self.calibrations else INDEPENDENT


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric on a window against the reference.

    `reference` and `current` are plain values. `change` is relative to the reference's value with extreme rows limited,
    negative for a fall; `limit` its threshold; `bound` its one-sided confidence bound (a fall from 0.8 to 0.7 may be
    -0.125 with bound -0.09). `breached`: beyond the limit AND the bound excludes none, on enough rows; `critical`:
    beyond twice the limit and the bound beyond it; `judged`: there are rows enough, and a reference that can get worse.
    """

    name: str
    reference: float
    current: float
    change: float
    limit: float
    bound: float
    p_value: float
    rows: int
    estimated: bool
    breached: bool
    critical: bool
    judged: bool = True


def compare_metric(
    name: str,
    reference: tuple[float, float, float],
    current: tuple[float, float, float],
    *,
    limit: float,
    z: float,
    inflation: float = 1.0,
    fewest: int = FEWEST,
    estimated: bool = False,
    reported: tuple[float, float] | None = None,
) -> MetricChange:
    """Judge one metric; `reference` and `current` are value, variance of a row's influence, and rows.

    limit: signed relative change that matters. z: normal quantile of the one-sided bound; 0 needs no evidence and no
    `fewest` rows. inflation: variance of a mean over that of independent rows, for both sides. reported: the plain
    values, where extreme rows were limited.
    """
    worse = math.copysign(1.0, limit)
    (was, was_variance, was_rows), (now, now_variance, rows) = reference, current
    # At least the reference's: if a few rows dominate a window's moments, its own variance is hardly known.
    now_variance = max(now_variance, was_variance)
    error = math.sqrt(inflation * (was_variance / max(1.0, was_rows) + now_variance / max(1.0, rows)))
    base = abs(was) or 1e-12
    gap = worse * (now - was) / base  # positive is worse
    floor = abs(limit)
    error = max(error / base, 1e-12)
    bound = gap - z * error
    judged = rows >= (fewest if z > 0 else 1) and was > 0
    return MetricChange(
        name=name,
        reference=was if reported is None else reported[0],
        current=now if reported is None else reported[1],
        change=worse * gap,
        limit=limit,
        bound=worse * bound,
        p_value=0.5 * math.erfc(gap / error / math.sqrt(2.0)),
        rows=int(rows),
        estimated=estimated,
        breached=judged and gap > floor and bound > 0.0,
        critical=judged and gap > 2 * floor and bound > floor,
        judged=judged,
    )


def compare_metrics(
    reference: PerformanceReference, sums: Floats, limits: Mapping[str, float], *, z: float, plain: bool = False
) -> list[MetricChange]:
    """Every metric of the window's `sums` against the reference.

    limits: relative changes that matter by metric, raised to the reference's own limits; plain: without those, as if
    rows were independent."""
    was, now = metric_values(reference.task, np.asarray(reference.sums)), metric_values(reference.task, sums)
    rows = float(sums[0])
    found: list[MetricChange] = []
    for name, (value, variance) in was.items():
        if name not in now:
            continue
        weak = name == "r2" and value < WEAK
        plain_values = (_plain_rmse(reference.sums), _plain_rmse(sums)) if name == "rmse" else None
        own = INDEPENDENT if plain else reference.calibration(name, int(rows))
        found.append(
            compare_metric(
                name,
                (value, variance, reference.rows),
                (*now[name], rows),
                limit=math.copysign(max(abs(limits[name]), own.limit), limits[name]),
                z=z,
                inflation=1.0 / own.efficiency,
                fewest=FEWEST_WEAK if weak else FEWEST,
                reported=plain_values,
            )
        )
    return found


def _plain_rmse(sums: Sequence[float] | Floats) -> float:
    """The root of the unlimited mean squared error."""
    return math.sqrt(float(sums[9]) / float(sums[0]))
