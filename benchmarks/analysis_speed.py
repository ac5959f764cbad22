"""What a look and a fold cost: 20 metrics × 10 segments at once, a million outcomes, a file of five million rows."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

import gauntlet
from benchmarks import header, main, row
from evaluator.stats import Plan, SplitSums
from evaluator.stats.panel import ArmTotals, Panel, States, advance

METRICS, SEGMENTS, BLOCKS = 20, 10, 60


def look() -> float:
    """Milliseconds of the last of 60 looks, its boundary known already; the median of 50."""
    rng, cells = np.random.default_rng(1), METRICS * SEGMENTS
    units = 50.0 * (1 + np.repeat(np.arange(SEGMENTS), METRICS))[:, None] * np.ones((cells, BLOCKS))
    rows = np.stack([rng.normal(size=units.shape) * np.sqrt(units), units, units, units], axis=2)
    n = units.sum(axis=1)
    arm = np.stack([n, n / 2.0, n / 2.0], axis=1)
    plan, totals, null = Plan(horizon=1.0), ArmTotals(arm, arm, n), np.zeros(cells)
    states = States.start(plan, cells)
    for blocks in range(5, BLOCKS + 1):
        before, panel = states, Panel(rows[:, :blocks], totals, null)
        states, _ = advance(states, panel, plan)
    took = []
    for _ in range(50):
        started = time.perf_counter()
        advance(before, panel, plan)
        took.append(time.perf_counter() - started)
    return 1e3 * float(np.median(took))


def fold() -> float:
    """Seconds of CPU to add a million outcomes of split traffic exactly."""
    rng, n = np.random.default_rng(2), 1_000_000
    arm, share, y = rng.random(n) < 0.1, np.full(n, 0.1), (rng.random(n) < 0.8).astype(np.float64)
    started = time.process_time()
    SplitSums().add(arm, share, y)
    return time.process_time() - started


def file(rows: int) -> tuple[float, float, float]:
    """Seconds, seconds of CPU, and megabytes at the peak, of an analysis of two metrics in a CSV."""
    rng = np.random.default_rng(3)
    arm = np.where(rng.random(rows) < 0.1, "new", "old")
    table = pa.table(
        {"arm": arm, "right": (rng.random(rows) < 0.8).astype(int), "loss": rng.exponential(1.0, rows).round(5)}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        pa.csv.write_csv(table, path)
        del table, arm
        wall, cpu = time.perf_counter(), time.process_time()
        asked = ["right:proportion", "loss:mean:lower"]
        gauntlet.analyze(path, arm="arm", champion="old", share={"old": 0.9, "new": 0.1}, metric=asked)
        done = time.perf_counter() - wall, time.process_time() - cpu
    return *done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def run(rows: int = 5_000_000) -> Iterator[str]:
    yield header("what", "cost")
    yield row(f"a look over {METRICS} metrics × {SEGMENTS} segments, 60 blocks, boundary known", f"{look():.2f} ms")
    yield row("a million outcomes added exactly", f"{fold():.2f} s of CPU")
    wall, cpu, memory = file(rows)
    cost = f"{wall:.1f} s ({cpu:.1f} s of CPU), {memory:.0f} MB"
    yield row(f"`gauntlet analyze`, {rows:,} rows of CSV, two metrics", cost)


if __name__ == "__main__":
    main(run)
