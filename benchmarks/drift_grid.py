"""Cost and exactness of the drift grid: `python -m benchmarks.drift_grid`.

Ratios to scipy's loop are taken in the same run on the same rows; nothing here is asserted, it is printed.
"""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from benchmarks import main
from evaluator.drift.distances import ks_interval
from evaluator.drift.feature_detector import look_at_features
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.windows import Windows, count

FEATURES = 50


def table(rng: np.random.Generator, rows: int, shift: float = 0.0) -> dict[str, Any]:
    columns = {f"x{i}": rng.normal(size=rows) for i in range(FEATURES)}
    columns["x0"] = columns["x0"] + shift
    return columns


def seconds(job: Callable[[], object], repeats: int = 5) -> float:
    return statistics.median(timeit.repeat(job, number=1, repeat=repeats))


def against_scipy(rng: np.random.Generator) -> dict[str, float]:
    """50 features x 100,000 rows against a reference of 100,000 rows: counts and distances against scipy's loop."""
    reference, current = table(rng, 100_000), table(rng, 100_000, 0.1)
    profile = Profile.fit(reference, reference_id="bench")
    ends = profile.starts + profile.sizes

    def ours() -> list[tuple[float, float]]:
        counts = count(profile, current).counts
        return [
            ks_interval(profile.cumulative[start:end], np.cumsum(counts[start:end]) / 100_000)
            for start, end in zip(profile.starts, ends, strict=True)
        ]

    def theirs() -> list[float]:
        return [float(ks_2samp(reference[f.name], current[f.name], method="asymp").statistic) for f in profile.features]

    grid, exact = np.array(ours()), np.array(theirs())
    mine, loop = seconds(ours), seconds(theirs, 3)
    fit = seconds(lambda: Profile.fit(reference, reference_id="bench"), 3)
    return {
        "ours_seconds": mine,
        "fit_seconds": fit,
        "scipy_seconds": loop,
        "times_faster": loop / mine,
        "times_faster_with_fit": loop / (mine + fit),
        "largest_shortfall": float((exact - grid[:, 0]).max()),
        "largest_excess": float((grid[:, 0] - exact).max()),
        "intervals_that_hold": float(((grid[:, 0] <= exact) & (exact <= grid[:, 1])).mean()),
    }


def slide_and_check(rng: np.random.Generator, pane: int) -> dict[str, float]:
    """Moving the three windows on by a pane and judging all features on them; and counting, a row."""
    profile = Profile.fit(table(rng, 20_000), reference_id="bench", pane=pane)
    windows, settings = Windows(profile), DriftSettings()
    panes = [count(profile, table(rng, pane)) for _ in range(200)]
    for one in panes:
        windows.push(one)
    slides, looks = [], []
    for one in panes:
        start = time.perf_counter()
        windows.push(one)
        middle = time.perf_counter()
        look_at_features(profile, windows, settings)
        looks.append(time.perf_counter() - middle)
        slides.append(middle - start)
    batch = table(rng, 1024)
    stream = table(rng, 64_000)
    return {
        "slide_ms": 1e3 * statistics.median(slides),
        "check_ms": 1e3 * statistics.median(looks),
        "count_us_per_row_batch_1024": 1e6 * seconds(lambda: count(profile, batch), 50) / 1024,
        "all_us_per_row": 1e6 * seconds(lambda: Monitor(profile, settings).observe(stream, 0.0), 3) / 64_000,
    }


def delays(rng: np.random.Generator, pane: int) -> dict[str, float]:
    """Rows until a one-sigma shift in one of 50 features opens an episode, over 100 streams; and who was blamed."""
    profile = Profile.fit(table(rng, 20_000), reference_id="bench", pane=pane)
    found: list[int] = []
    blamed = 0
    for _ in range(100):
        monitor = Monitor(profile)
        monitor.observe(table(rng, 1024), 0.0)
        events = monitor.observe(table(rng, 2048, 1.0), 1.0)
        found.append(events[0].rows - 1024)
        blamed += events[0].features[0].feature == "x0"
    return {"median_rows": statistics.median(found), "most_rows": max(found), "blamed_right": blamed / 100}


def run() -> Iterator[str]:
    rng = np.random.default_rng(20130101)
    for name, part in {
        "scipy_50x100000": against_scipy,
        "pane_64": lambda rng: slide_and_check(rng, 64),
        "pane_256": lambda rng: slide_and_check(rng, 256),
        "one_sigma_pane_64": lambda rng: delays(rng, 64),
        "one_sigma_pane_256": lambda rng: delays(rng, 256),
    }.items():
        yield name
        yield from (f"  {key:30} {value:.6g}" for key, value in part(rng).items())


if __name__ == "__main__":
    main(run)
