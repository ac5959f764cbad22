"""A whole check of large files by the command `gauntlet drift`: `python -m benchmarks.drift_files [--rows N]`.

Reference and current file have the same size; the command runs as a process of its own, so that its wall time,
processor time and peak memory are all of it, start and imports included. The files are deleted at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from benchmarks import header, main, row, run_command

COLUMNS = 100
CATEGORIES = 10
"""Of the columns, those of texts; the last two are outcomes of 0 and 1, and their probability."""
SHIFT = 1.0
"""Standard deviations by which the first column of the current file is off: the check has to say so."""
_BLOCK = 100_000


def batches(rows: int, shift: float, seed: int) -> list[pa.RecordBatch]:
    """One at a time would do; a hundred thousand rows of a hundred columns are 80 MB."""
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, rows, _BLOCK):
        size = min(_BLOCK, rows - start)
        columns = {f"x{i}": rng.normal(size=size).astype(np.float32) for i in range(COLUMNS - CATEGORIES - 2)}
        columns["x0"] = columns["x0"] + np.float32(shift)
        texts = {f"c{i}": pa.array(rng.choice(["north", "south", "east", "west"], size)) for i in range(CATEGORIES)}
        probability = rng.random(size)
        outcome = (rng.random(size) < probability).astype(np.int64)
        numbers = {name: pa.array(values) for name, values in columns.items()}
        found.append(
            pa.RecordBatch.from_pydict({**numbers, **texts, "y": pa.array(outcome), "p": pa.array(probability)})
        )
    return found


def write(path: Path, rows: int, shift: float, seed: int) -> None:
    table = pa.Table.from_batches(batches(rows, shift, seed))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        pcsv.write_csv(table, path)


def cost(reference: Path, current: Path) -> str:
    """Run the command on two files; its costs and its answer as cells of the table."""
    options = f"--reference {reference} --current {current} --target y --prediction p --json -"
    ran = run_command("drift", *options.split())
    megabytes = (reference.stat().st_size + current.stat().st_size) / 1e6
    drifted = ", ".join(feature["name"] for feature in ran.answer["features"] if feature["drifted"])
    costs = f"{megabytes:,.0f} | {ran.wall:.1f} | {ran.processor:.1f} | {ran.peak_mib:,.0f}"
    return f"{costs} | {ran.answer['severity']} | {drifted}"


def run(rows: int = 1_000_000) -> Iterator[str]:
    yield f"`gauntlet drift` on a reference and a current file of {rows:,} rows × {COLUMNS} columns each, x0 moved:\n"
    yield header("files", "MB on disk", "wall s", "processor s", "peak MiB", "severity", "drifted")
    for kind in ("parquet", "csv"):
        with tempfile.TemporaryDirectory() as folder:
            reference, current = Path(folder) / f"reference.{kind}", Path(folder) / f"current.{kind}"
            write(reference, rows, 0.0, 1)
            write(current, rows, SHIFT, 2)
            yield row(kind, cost(reference, current))


if __name__ == "__main__":
    main(run)
