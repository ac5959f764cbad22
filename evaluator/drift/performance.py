"""Accuracy, R² and RMSE of a window against the reference's, from sums that add.

A change counts when it is large, for this model too, whose own stretches of the reference may stray further than the
rule says, AND its one-sided bound excludes none: all stand in every `MetricChange`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import INDEPENDENT, Calibration, mean_of_stretches
from evaluator.drift.columns import is_categorical, read_categories, read_numbers
from evaluator.drift.grid import Floats, tail

Column = Sequence[Any] | npt.NDArray[Any]
Task = Literal["classification", "regression"]
Metric = Literal["accuracy", "r2", "rmse"]
WIDTHS: Mapping[Task, int] = {"classification": 2, "regression": 10}
"""Numbers a vector of sums has: rows and hits; or rows, the moments of truth and squared error, and the squared errors
as they are, whatever limit the moments take them at."""
WINDOWS = (512, 2048, 8192)
"""Outcomes a window: no fewer than the rules ask for, and more for what is noisy."""
FEWEST = 500
"""Outcomes below which nothing is said."""
FEWEST_WEAK = 5000
"""Outcomes R² needs when the reference's is under `WEAK`: a weak fit's R² is mostly noise."""
WEAK = 0.6
_CLASSES = 20
_CAP = 9.0
"""Squared errors count up to so many times the reference's largest but for a few."""
_LARGEST = 1e150
"""A larger squared error says that the number is none, and its own square would not be one."""


def task_of(targets: Column, predictions: Column) -> Task:
    """Classification when either side is mostly strings or the truth is a few whole numbers; otherwise regression."""
    if is_categorical(targets) or is_categorical(predictions):
        return "classification"
    truth, _ = read_numbers(targets)
    known = np.unique(truth[np.isfinite(truth)])
    return "classification" if len(known) <= _CLASSES and bool((known == np.round(known)).all()) else "regression"


def outcomes(task: Task, targets: Column, predictions: Column) -> tuple[Floats, Floats]:
    """Truth and squared error of each row, shape (rows,) each; NaN where either is unknown.

    Classification: the error is 0 or 1, the truth is not needed and is 0. Predictions of a 0/1 truth that are no whole
    numbers are scores, cut at one half. Raises ValueError when the lengths differ.
    """
    if len(targets) != len(predictions):
        raise ValueError(f"{len(targets)} targets with {len(predictions)} predictions")
    if task == "classification" and (is_categorical(targets) or is_categorical(predictions)):
        pairs = zip(_labels(targets), _labels(predictions), strict=True)
        missed = np.array([math.nan if t is None or p is None else float(t != p) for t, p in pairs], dtype=np.float64)
        return missed * 0.0, missed
    truth, said = read_numbers(targets)[0], read_numbers(predictions)[0]
    known = np.isfinite(truth) & np.isfinite(said)
    truth, said = np.where(known, truth, math.nan), np.where(known, said, math.nan)
    if task == "regression":
        with np.errstate(over="ignore"):
            return truth, (truth - said) ** 2
    fractional = (said != np.round(said)) & (said > 0) & (said < 1)
    said = np.where(fractional & ((truth == 0) | (truth == 1)), np.asarray(said >= 0.5, dtype=np.float64), said)
    return truth * 0.0, np.where(known, np.asarray(truth != said, dtype=np.float64), math.nan)


def losses_of(task: Task, squared: Floats) -> Floats:
    """Losses for concept drift from squared errors: misses as they are, absolute errors of numbers."""
    return squared if task == "classification" else np.sqrt(squared)


def _labels(values: Column) -> list[str | None]:
    if is_categorical(values):
        return [value if isinstance(value, str) else None for value in read_categories(values)]
    numbers, _ = read_numbers(values)
    return [None if not math.isfinite(n) else str(int(n)) if n == int(n) else str(n) for n in numbers.tolist()]


def sums_of(task: Task, centre: float, truth: Floats, squared: Floats, raw: Floats | None = None) -> Floats:
    """The vector of sums of rows from `outcomes` (NaN rows left out), shape (WIDTHS[task],); `centre` is near the
    truth's mean. raw: the squared errors before a limit was put on them."""
    known = np.isfinite(squared) & (squared < _LARGEST)
    e = squared[known]
    if task == "classification":
        return np.array([len(e), len(e) - e.sum()])
    d = truth[known] - centre
    d2 = d * d
    return np.array(
        [
            len(e),
            d.sum(),
            d2.sum(),
            (d2 * d).sum(),
            (d2 * d2).sum(),
            e.sum(),
            (e * e).sum(),
            (e * d).sum(),
            (e * d2).sum(),
            (e if raw is None else raw[known]).sum(),
        ]
    )


def values_of(task: Task, sums: Floats) -> dict[Metric, tuple[float, float]]:
    """Each metric with the variance of one row's part in it (delta method); empty without rows.

    R² = 1 - E / V: one row's part is -(e - E) / V + E ((y - mean)² - V) / V² (Casella and Berger 2002, 5.5.24 for the
    ratio). RMSE is the root of E: the part is (e - E) / (2 RMSE).
    """
    n = float(sums[0])
    if n < 2:
        return {}
    if task == "classification":
        share = float(sums[1]) / n
        # Agresti and Coull's two more of each: an accuracy of exactly one is not known exactly.
        honest = (float(sums[1]) + 2.0) / (n + 4.0)
        return {"accuracy": (share, honest * (1.0 - honest))}
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


def parts_of(task: Task, truth: Floats, squared: Floats) -> dict[Metric, Floats]:
    """Each row's part in how much worse each metric is, relative to its value: shape (rows,) each, mean 0.

    The influence function (Hampel 1974): on any stretch of the rows the metric is worse by about the mean of its parts.
    """
    mean, off = float(squared.mean()), truth - truth.mean()
    spread = float((off * off).mean())
    found: dict[Metric, Floats] = {}
    for name, (value, _) in values_of(task, sums_of(task, float(truth.mean()), truth, squared)).items():
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
    """What the model did on the reference's held-out rows: its vector of sums about `centre`.

    Truths count within `low` and `high`, squared errors up to `cap`, on both sides: R² rests on moments that a single
    wild row would make. `own` has a calibration for each of `windows` (outcomes) a metric: how much worse, relative to
    its value, the metric is on stretches of the reference itself, and how many independent rows a row is worth.
    """

    task: Task
    centre: float
    low: float
    high: float
    cap: float
    sums: tuple[float, ...]
    windows: tuple[int, ...]
    own: Mapping[str, tuple[Calibration, ...]]

    @classmethod
    def fit(
        cls, targets: Column, predictions: Column, task: Task | None = None, *, windows: Sequence[int] = WINDOWS
    ) -> PerformanceReference:
        """From truths and predictions of one length in time order, which the model must not have trained on.

        Raises ValueError when fewer than 30 rows have both.
        """
        task = task or task_of(targets, predictions)
        truth, squared = outcomes(task, targets, predictions)
        known = np.isfinite(truth) & np.isfinite(squared) & (squared < _LARGEST)
        truth, squared = truth[known], squared[known]
        if len(truth) < 30:
            raise ValueError(f"performance needs at least 30 rows with truth and prediction, got {len(truth)}")
        low, high, cap, raw = -math.inf, math.inf, math.inf, squared
        if task == "regression":
            first, last = -tail(-truth), tail(truth)
            low, high = first - (last - first), last + (last - first)
            cap = _CAP * (tail(squared) or float(squared.max())) or math.inf
            truth, squared = np.clip(truth, low, high), np.minimum(squared, cap)
        centre = float(truth.mean())
        own: dict[str, tuple[Calibration, ...]] = {
            name: tuple(mean_of_stretches(parts, window) for window in windows)
            for name, parts in parts_of(task, truth, squared).items()
        }
        sums = sums_of(task, centre, truth, squared, raw)
        return cls(task, centre, low, high, cap, tuple(sums.tolist()), tuple(windows), own)

    def sums_of(self, truth: Floats, squared: Floats) -> Floats:
        """The vector of sums of a window's rows, from `outcomes`."""
        known = np.isfinite(squared) & (squared < _LARGEST)
        truth, raw = np.clip(truth[known], self.low, self.high), squared[known]
        return sums_of(self.task, self.centre, truth, np.minimum(raw, self.cap), raw)

    @property
    def rows(self) -> int:
        """Rows with truth and prediction."""
        return int(self.sums[0])

    def calibration(self, metric: str, rows: int) -> Calibration:
        """Of the shortest window that is no shorter than `rows`, else of the longest."""
        place = min(sum(window < rows for window in self.windows), len(self.windows) - 1)
        return self.own[metric][place] if metric in self.own else INDEPENDENT

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        own = {name: [[one.limit, one.efficiency] for one in each] for name, each in self.own.items()}
        limits = [None if math.isinf(limit) else limit for limit in (self.low, self.high, self.cap)]
        return {
            "task": self.task,
            "centre": self.centre,
            "limits": limits,
            "sums": list(self.sums),
            "windows": list(self.windows),
            "own": own,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> PerformanceReference:
        """The inverse of `to_dict`."""
        own = {name: tuple(Calibration(*one) for one in each) for name, each in raw["own"].items()}
        low, high, cap = raw["limits"]
        return cls(
            raw["task"],
            raw["centre"],
            -math.inf if low is None else low,
            math.inf if high is None else high,
            math.inf if cap is None else cap,
            tuple(raw["sums"]),
            tuple(raw["windows"]),
            own,
        )


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric on a window against the reference.

    `reference` and `current` are what they are. `change` is relative to the reference's value, wild rows limited,
    negative for a fall; `limit` what it must pass to matter; `bound` the one-sided bound of the change towards none (a
    fall from 0.8 to 0.7 may be -0.125 with bound -0.09). `breached`: beyond the limit AND the bound excludes none, on
    enough rows; `critical`: twice the limit and the bound beyond it.
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


def change_of(
    name: str,
    reference: tuple[float, float, float],
    current: tuple[float, float, float],
    *,
    limit: float,
    z: float,
    inflation: float = 1.0,
    fewest: int = FEWEST,
    estimated: bool = False,
    told: tuple[float, float] | None = None,
) -> MetricChange:
    """Judge one metric; `reference` and `current` are value, variance of a row's part, rows. told: both values as they
    are told, where wild rows were limited in what is judged.

    limit: relative change that matters, signed. inflation: variance of a window's mean over that of independent rows,
    for both sides. z: of the one-sided bound; 0 asks for no evidence and then few rows will do.
    """
    worse = math.copysign(1.0, limit)
    (was, was_variance, was_rows), (now, now_variance, rows) = reference, current
    # Never less than the reference's: a few rows that make all of a window's moments leave it hardly any variance.
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
        reference=was if told is None else told[0],
        current=now if told is None else told[1],
        change=worse * gap,
        limit=limit,
        bound=worse * bound,
        p_value=0.5 * math.erfc(gap / error / math.sqrt(2.0)),
        rows=int(rows),
        estimated=estimated,
        breached=judged and gap > floor and bound > 0.0,
        critical=judged and gap > 2 * floor and bound > floor,
    )


def changes(
    reference: PerformanceReference, sums: Floats, limits: Mapping[str, float], *, z: float, plain: bool = False
) -> list[MetricChange]:
    """Every metric of the window's `sums` against the reference; `limits` are relative changes by metric, or what the
    reference's own stretches reach where that is more. plain: those limits alone, as if all rows were independent."""
    was, now = values_of(reference.task, np.asarray(reference.sums)), values_of(reference.task, sums)
    rows = float(sums[0])
    found: list[MetricChange] = []
    for name, (value, variance) in was.items():
        if name not in now:
            continue
        weak = name == "r2" and value < WEAK
        told = (_plain_rmse(reference.sums), _plain_rmse(sums)) if name == "rmse" else None
        own = INDEPENDENT if plain else reference.calibration(name, int(rows))
        found.append(
            change_of(
                name,
                (value, variance, reference.rows),
                (*now[name], rows),
                limit=math.copysign(max(abs(limits[name]), own.limit), limits[name]),
                z=z,
                inflation=1.0 / own.efficiency,
                fewest=FEWEST_WEAK if weak else FEWEST,
                told=told,
            )
        )
    return found


def _plain_rmse(sums: Sequence[float] | Floats) -> float:
    """The root of the mean squared error as it is."""
    return math.sqrt(float(sums[9]) / float(sums[0]))
