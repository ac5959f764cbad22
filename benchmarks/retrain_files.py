"""`gauntlet retrain run` on large files, step by step: `python -m benchmarks.retrain_files [--rows N]`.

Both files have as many rows; the concept has turned in the recent one. The command runs as a process of its own, so
that its wall time and peak memory are all of it, start and imports included; the steps are as it reports them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import skops.io
from sklearn.linear_model import LogisticRegression

from benchmarks import header, main, row, run_command

FEATURES = 10
STEPS = ("read", "answers", "drift", "decide", "train", "compare")


def table(rows: int, turn: float, seed: int) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES))
    y = (rng.random(rows) < 1 / (1 + np.exp(-turn * x[:, 0] + x[:, 1]))).astype(np.int64)
    return pa.table({f"x{i}": x[:, i] for i in range(FEATURES)} | {"y": y}), x, y


def run(rows: int = 1_000_000) -> Iterator[str]:
    yield f"`gauntlet retrain run` on a reference and a recent CSV of {rows:,} rows × {FEATURES + 1} columns each:\n"
    yield header(*(f"{step} s" for step in STEPS), "wall s", "peak MiB", "severity", "decision")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, x, y = table(rows, 1.5, 1)
        skops.io.dump(LogisticRegression().fit(x, y), folder / "model.skops")
        pcsv.write_csv(before, folder / "a.csv")
        pcsv.write_csv(table(rows, -1.5, 2)[0], folder / "b.csv")
        files = f"--champion {folder}/model.skops --reference {folder}/a.csv --recent {folder}/b.csv"
        names = [f"x{i}" for i in range(FEATURES)]
        ran = run_command(
            "retrain", "run", *files.split(), "--target", "y", "--features", *names, "--no-latency", "--output", "-"
        )
    took = [f"{ran.answer['seconds'][step]:.2f}" for step in STEPS]
    yield row(*took, f"{ran.wall:.1f}", f"{ran.peak_mib:,.0f}", ran.answer["severity"], ran.answer["decision"])


if __name__ == "__main__":
    main(run)
