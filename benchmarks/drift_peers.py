"""One check of 50 features x 100,000 rows: ours, scipy's loop and Evidently: `python -m benchmarks.drift_peers`.

Evidently pins an older pandas and numpy, so it runs as a child process in an environment of its own, made on first use
from `drift_peers.txt`; all three see the same two tables in the same run, and only the check itself is timed.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp

from benchmarks import main, peer_environment
from benchmarks.drift_grid import seconds
from evaluator.drift import Profile, TableComparison

FEATURES, ROWS = 50, 100_000


def run(python: str = "") -> Iterator[str]:
    """The three costs; `python` has Evidently already, so that no environment is made."""
    rng = np.random.default_rng(20130101)
    reference, current = rng.normal(size=(ROWS, FEATURES)), rng.normal(0.1, 1.0, size=(ROWS, FEATURES))
    tables = [{f"x{i}": np.ascontiguousarray(side[:, i]) for i in range(FEATURES)} for side in (reference, current)]
    profile = Profile.fit(tables[0], reference_id="bench")

    def ours() -> object:
        comparison = TableComparison(profile)
        comparison.add(tables[1])
        return comparison.report()

    results = {
        "gauntlet": seconds(ours, 7),
        "scipy": seconds(lambda: [ks_2samp(tables[0][name], tables[1][name]) for name in tables[0]], 3),
        "gauntlet, with fitting": seconds(lambda: (Profile.fit(tables[0], reference_id="bench"), ours()), 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.npz"
        np.savez(path, reference=reference, current=current)
        command = [
            python or str(peer_environment.python("drift_peers")),
            str(Path(__file__).with_name("drift_peers_side.py")),
            str(path),
        ]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    results["evidently"] = answer["default"]
    results["evidently, ks"] = answer["ks"]
    yield f"{FEATURES} features x {ROWS} rows; Evidently {answer['version']}"
    for name, took in results.items():
        yield f"{name:24} {took:8.4f} s   {took / results['gauntlet']:7.1f} x ours"


if __name__ == "__main__":
    main(run)
