"""What challengers in shadow cost the callers: latency of POST /v1/predict at a steady rate, with none and with six.

The champion and every challenger are scikit-learn models of 20 features. Requests are due at fixed times, and a latency
counts from when the request was due; rounds with and without challengers take turns. The routers run on one core, the
load on the other. At a rate that one core can't score seven times, shadow scores are shed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import header, main, row
from benchmarks.predict_route import BODY, router
from gauntlet.cli.register import register
from gauntlet.config import load as configs

HEADERS = {"content-type": "application/json"}


def run(rounds: int = 6, seconds: int = 5, rates: str = "50,150", challengers: int = 6) -> Iterator[str]:
    """`rates`: requests a second, comma-separated."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        alone = stack.enter_context(router(folder / "alone", None, "durable"))
        beside = stack.enter_context(router(folder / "beside", None, "durable"))
        _challenge(beside, folder / "beside", challengers)
        names = {"none": alone, f"{challengers}": beside}
        yield header("challengers in shadow", "requests/s", "p50 ms", "p95 ms", "p99 ms", "scored by each")
        for rate in map(int, rates.split(",")):
            found: dict[str, list[float]] = {name: [] for name in names}
            scored = _scores(beside)
            for _ in range(rounds):
                for name, url in names.items():
                    found[name] += _latencies(url, rate, seconds)
            time.sleep(1.0)  # for the last batch
            share = (_scores(beside) - scored) / (challengers * len(found[f"{challengers}"]))
            for name, latencies in found.items():
                figures = (f"{1e3 * q:.2f}" for q in np.quantile(latencies, [0.5, 0.95, 0.99]))
                yield row(name, rate, *figures, "–" if name == "none" else f"{share:.0%}")
            pairs = (np.quantile(found[f"{challengers}"], q) / np.quantile(found["none"], q) for q in (0.5, 0.95, 0.99))
            yield row("ratio", rate, *(f"{ratio:.2f}" for ratio in pairs), "")


def _challenge(url: str, folder: Path, challengers: int) -> None:
    config = configs.load(folder / "config.yaml")
    base = url.removesuffix("/v1/predict")
    for number in range(challengers):
        version = asyncio.run(register(config, str(folder / "model.skops"), f"challenger {number}", allow_pickle=False))
        order = json.dumps({"version": version, "reason": "benchmark"}).encode()
        request = urllib.request.Request(f"{base}/v1/experiments/{config.experiment}/challenge", order, HEADERS)
        urllib.request.urlopen(request, timeout=10).close()
    _latencies(url, 20, 3)  # until the router has loaded them all


def _scores(url: str) -> float:
    """Shadow scores that the router has recorded so far."""
    with urllib.request.urlopen(url.removesuffix("/v1/predict") + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("gauntlet_shadow_total{") and '"scored"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _latencies(url: str, rate: int, seconds: int) -> list[float]:
    """Seconds from when each request was due to its answer."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    begin, found = time.perf_counter() + 0.05, []
    for number in range(rate * seconds):
        due = begin + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.request("POST", place.path, BODY, HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{url} answered {answer.status}")
        found.append(time.perf_counter() - due)
    connection.close()
    return found


if __name__ == "__main__":
    main(run)
