"""Seconds from a rollback's request to the first answer by the version that it goes back to.

`gauntlet up` serves a small experiment; its champion is rolled back to each of the kept versions in turn, to most of
them when this machine has never loaded them, so that their files come from the registry. The old champion answers
until the new one is there.

    python -m benchmarks.rollback_seconds                                       # the local registry
    python -m benchmarks.rollback_seconds --registry mlflow+http://127.0.0.1:5000  # a running server
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import header, main, row
from benchmarks.startup import BODY, running, write_experiment
from gauntlet import adapters
from gauntlet.config import load as configs

LONGEST_SECONDS = 30.0


def run(registry: str = "local", versions: int = 10, rounds: int = 3) -> Iterator[str]:
    """registry: as in the configuration; versions: kept ones, beside the first; rounds: rollbacks to each."""
    with tempfile.TemporaryDirectory() as name:
        (here := Path(name) / "here").mkdir()
        folder = write_experiment(here)
        path = folder / "config.yaml"
        # A server keeps what an earlier run has registered under a name.
        named = path.read_text().replace("experiment: startup", f"experiment: rollback-{time.time_ns()}")
        path.write_text(f"{named}registry: {registry}\n")
        with running(folder):
            kept = register(path, Path(name) / "elsewhere", versions)
            took = [[back_to(folder, version) for version in kept] for _ in range(rounds)]
    yield header("rollback to a kept version", "times", "median s", "slowest s")
    for title, found in (
        ("that this machine has not loaded before", took[0]),
        ("loaded before", [one for part in took[1:] for one in part]),
    ):
        if found:
            yield row(title, len(found), f"{statistics.median(found):.3f}", f"{max(found):.3f}")


def register(path: Path, elsewhere: Path, versions: int) -> list[str]:
    """So many versions, given to a registry that is shared by a machine with the folder `elsewhere`."""
    config = configs.load(path)
    if config.registry != "local":
        config = configs.load(shutil.copytree(path.parent, elsewhere, ignore=lambda *_: ["gauntlet-data"]) / path.name)
    registry = adapters.registry(config)
    schema = registry.get("v0001").schema
    rng, found = np.random.default_rng(2), []
    for _ in range(versions):
        x = rng.normal(size=(2000, 3))
        y = (x @ rng.normal(size=3) + rng.logistic(size=2000) > 0).astype(int)
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
        found.append(registry.register(model, schema, created_at=time.time()).version)
    return found


def back_to(folder: Path, version: str) -> float:
    """Seconds from the request to the first prediction by that version."""
    address = (folder / "gauntlet-data" / "router.address").read_text().strip()
    experiment = configs.load(folder / "config.yaml").experiment
    order = {"version": version, "reason": "measured"}
    began = time.perf_counter()
    asked(f"{address}/v1/experiments/{experiment}/rollback", json.dumps(order).encode())
    while asked(f"{address}/v1/predict", BODY)["model"] != version:
        if time.perf_counter() - began > LONGEST_SECONDS:
            raise SystemExit(f"{version} does not answer {LONGEST_SECONDS:g} s after the rollback to it")
    return time.perf_counter() - began


def asked(url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LONGEST_SECONDS) as response:
        return json.load(response)


if __name__ == "__main__":
    main(run)
