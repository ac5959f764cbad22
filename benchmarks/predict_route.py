"""Requests a second of POST /v1/predict as a ratio to a bare uvicorn echo, in interleaved rounds of one run.

One core for the server, the other for the load (wrk, 32 connections), 20 float features, one instance a request.
"Own ids": every request brings a new id, which the router looks for among those that it has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from benchmarks import header, main, row
from gauntlet import first_start
from gauntlet.config import load as configs

FEATURES = [f"f{i:02d}" for i in range(20)]
BODY = json.dumps({"features": {name: 0.1 * i for i, name in enumerate(FEATURES)}})
OWN_IDS = "predict, numpy model, durable, own ids"

ECHO = """
async def app(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""


class LinearModel:
    """A dot product in numpy: what a request costs when the model costs nothing."""

    classes_ = (0, 1)

    def __init__(self) -> None:
        self._weights = np.random.default_rng(1).normal(size=20)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-np.asarray(x) @ self._weights))
        return np.column_stack([1 - p, p])


def run(rounds: int = 5, seconds: int = 4) -> Iterator[str]:
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk (Debian: apt-get install wrk)")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {"bare uvicorn echo": stack.enter_context(_echo(folder))}
        for name, model, delivery in (
            ("predict, numpy model, durable", "benchmarks.predict_route:LinearModel", "durable"),
            ("predict, numpy model, fast", "benchmarks.predict_route:LinearModel", "fast"),
            ("predict, scikit-learn, durable", None, "durable"),
        ):
            servers[name] = stack.enter_context(router(folder / name.replace(" ", "-"), model, delivery))
        script = folder / "post.lua"
        script.write_text(f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[[{BODY}]]\n")
        with_ids = folder / "ids.lua"
        with_ids.write_text(
            f"{script.read_text()}local n, round = 0, os.time()\nfunction request()\n  n = n + 1\n"
            "  local id = '{\"id\": \"' .. round .. '-' .. n .. '\", '\n"
            "  return wrk.format(nil, nil, nil, id .. wrk.body:sub(2))\nend\n"
        )
        servers[OWN_IDS] = servers["predict, numpy model, durable"]
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, url in servers.items():
                rates[name].append(_wrk(url, with_ids if name == OWN_IDS else script, seconds))
    base = statistics.median(rates["bare uvicorn echo"])
    yield header("POST /v1/predict, one instance of 20 features, 32 connections", "requests/s", "ratio to the echo")
    for name, found in rates.items():
        middle = statistics.median(found)
        yield row(name, f"{middle:,.0f}", f"{middle / base:.2f}")


def _wrk(url: str, script: Path, seconds: int) -> float:
    command = [*_pinned(1), "wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), url]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in shown:
        raise SystemExit(f"{url} refused requests:\n{shown}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", shown)[1])  # type: ignore[index]


def _pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def _echo(folder: Path) -> Iterator[str]:
    (folder / "echo_app.py").write_text(ECHO)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--log-level", "error", "--no-access-log"]
    command = [*_pinned(0), sys.executable, "-m", "uvicorn", "echo_app:app", *options]
    with _running(command, cwd=folder) as process:
        url = f"http://127.0.0.1:{port}/"
        _await(url, process)
        yield url


@contextlib.contextmanager
def router(folder: Path, model: str | None, delivery: str) -> Iterator[str]:
    folder.mkdir()
    if model is None:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(1000, 20))
        skops.io.dump(LogisticRegression().fit(x, (x[:, 0] > 0).astype(int)), folder / "model.skops")
    settings = {
        "experiment": "bench",
        "task": "classification",
        "champion": {"model": model or "model.skops"},
        "features": FEATURES,
        "classes": [0, 1],
        "router": {"port": 0, "delivery": delivery},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    config = configs.load(path)
    asyncio.run(first_start.ensure(config))
    address = Path(config.data) / "router.address"
    command = [*_pinned(0), sys.executable, "-m", "gauntlet.cli", "router", str(path)]
    with _running(command, stderr=subprocess.DEVNULL) as process:
        while not (address.exists() and address.read_text().endswith("\n")):
            time.sleep(0.05)
        url = address.read_text().strip()
        _await(url + "/healthz", process)
        yield url + "/v1/predict"


@contextlib.contextmanager
def _running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            urllib.request.urlopen(url, b"{}" if url.endswith("/") else None, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} ended with {process.returncode}")


if __name__ == "__main__":
    main(run)
