"""Time from `gauntlet up` to the first prediction, beside the import of what any Python model server imports.

Every run starts the peer, then `gauntlet up` in a fresh folder (which registers the model), then again in the same
folder; a ratio is the median over the runs' own ratios, so that a busy minute weighs on both sides. The target is 2.5.
The other commands are timed in turn with the peer, too, and shown with the heavy libraries that they import. The last
tables are what the processes of `gauntlet up` cost, idle and under light traffic (Linux): processor time, and memory
(proportional set size: what several share is divided among them).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
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
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import main

PEER = "import sklearn, fastapi, numpy"
TARGET = 2.5
A_SECOND = 50
ANALYZE = ["--arm", "arm", "--champion", "old", "--share", "old=.5,new=.5", "--metric", "correct:proportion"]
HEAVY = ("sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "river", "statsmodels", "skops", "fastapi", "numpy")
CONFIG = """\
experiment: startup
task: classification
champion: {model: model.skops}
features: [x1, x2, x3]
router: {port: 0, deadline: 30s}
observe: {evaluator_port: 0, retrainer_port: 0}
"""
BODY = json.dumps({"features": {"x1": 0.1, "x2": -0.2, "x3": 0.3}}).encode()
CONSTANT = """\
class Constant:
    classes_ = (0, 1)

    def predict_proba(self, rows):
        return [[0.5, 0.5]] * len(rows)
"""
_POLL_SECONDS = 0.005
_LONGEST_SECONDS = 120.0
_SETTLING_SECONDS = 10.0  # until all three have started, and none has anything left to do
_ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
}


def run(runs: int = 5, idle_seconds: float = 30.0) -> Iterator[str]:
    seconds: dict[str, list[float]] = {"peer": [], "first start": [], "second start": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = write_experiment(Path(name))
            seconds["peer"].append(timed(["-c", PEER]))
            seconds["first start"].append(first_prediction(folder))
            seconds["second start"].append(first_prediction(folder))
    yield f"{'':42} median  range        x peer (target {TARGET})"
    for name, values in seconds.items():
        label = f"python -c '{PEER}'" if name == "peer" else f"gauntlet up, {name}"
        ratio = statistics.median(own / peer for own, peer in zip(values, seconds["peer"], strict=True))
        yield f"{label:42} {statistics.median(values):4.2f} s  {min(values):.2f}-{max(values):.2f} s  {ratio:.2f}"
    with tempfile.TemporaryDirectory() as name:
        folder = write_experiment(Path(name))
        (folder / "constant.py").write_text(CONSTANT)
        (folder / "own.yaml").write_text(CONFIG.replace("model.skops", "'constant:Constant'"))
        (folder / "log.csv").write_text(log(6000))
        commands = [
            ["--help"],
            ["check", str(folder / "own.yaml")],
            ["check", str(folder / "config.yaml")],
            ["analyze", str(folder / "log.csv"), *ANALYZE],
        ]
        for arguments in commands:
            pairs = [(timed(["-m", "gauntlet.cli", *arguments]), timed(["-c", PEER])) for _ in range(runs)]
            took, ratio = (
                statistics.median(own for own, _ in pairs),
                statistics.median(own / peer for own, peer in pairs),
            )
            label = " ".join(["gauntlet", *(Path(word).name for word in arguments[:2])])
            heavy = ", ".join(heavy_imports(arguments)) or "no heavy library"
            yield f"{label:42} {took:4.2f} s  {ratio:.2f} x peer, imports {heavy}"
        if Path("/proc/self/smaps_rollup").exists():
            for a_second in (0, A_SECOND):
                label = f"{a_second} predictions and outcomes a second" if a_second else "idle"
                yield f"\n{label + ', ' + format(idle_seconds, 'g') + ' s':42} % of a core  MB"
                for name, share, megabytes in load(folder, idle_seconds, a_second):
                    yield f"{name:42} {share:12.2f}  {megabytes:.0f}"


def log(rows: int) -> str:
    """An experiment's log of two arms."""
    rng = np.random.default_rng(2)
    arms, correct = rng.choice(["old", "new"], rows), rng.random(rows) < 0.8
    return "arm,correct\n" + "".join(f"{arm},{int(right)}\n" for arm, right in zip(arms, correct, strict=True))


def write_experiment(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 3))
    y = (x @ [1.5, -1.0, 0.5] + rng.logistic(size=2000) > 0).astype(int)
    skops.io.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), folder / "model.skops")
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def timed(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_prediction(folder: Path) -> float:
    """Seconds from the start of `gauntlet up` to the first answered prediction; everything is stopped again."""
    began = time.perf_counter()
    with running(folder):
        return time.perf_counter() - began


@contextlib.contextmanager
def running(folder: Path) -> Iterator[int]:
    """`gauntlet up` that has answered a prediction: its process id. At the end everything is stopped."""
    address = folder / "gauntlet-data" / "router.address"
    address.unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "gauntlet.cli", "up", str(folder / "config.yaml")],
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not answered(address):
            if process.poll() is not None or time.perf_counter() - began > _LONGEST_SECONDS:
                raise SystemExit("gauntlet up did not answer")
            time.sleep(_POLL_SECONDS)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def load(folder: Path, seconds: float, a_second: int = 0) -> Iterator[tuple[str, float, float]]:
    """Each process of `gauntlet up` and all together, idle or with so many predictions and outcomes a second: share of
    a core in percent, and megabytes."""
    with running(folder) as up:
        time.sleep(_SETTLING_SECONDS)
        before = {pid: cpu_seconds(pid) for pid in [up, *children(up)]}
        url = (folder / "gauntlet-data" / "router.address").read_text().strip()
        begun = time.monotonic()
        for number in range(int(seconds * a_second)):
            time.sleep(max(0.0, begun + number / a_second - time.monotonic()))
            predict_and_report(url)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        found = []
        for pid, spent in before.items():
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            kilobytes = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            assert kilobytes is not None
            found.append((command[3], 100 * (cpu_seconds(pid) - spent) / seconds, int(kilobytes[1]) / 1024))
    yield from found
    yield "all together", sum(share for _, share, _ in found), sum(megabytes for *_, megabytes in found)


def stat(pid: int | str) -> list[str]:
    """proc(5)'s fields of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    return sum(map(int, stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def children(parent: int) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(stat(entry)[1]) == parent:
                found.append(int(entry))
    return found


def answered(address: Path) -> bool:
    url = address.read_text() if address.exists() else ""
    return url.endswith("\n") and "prediction" in _post(f"{url.strip()}/v1/predict", BODY)


def predict_and_report(url: str) -> None:
    """One prediction, and its outcome at once."""
    outcome = {"id": _post(f"{url}/v1/predict", BODY)["id"], "value": 1}
    _post(f"{url}/v1/outcomes", json.dumps({"outcomes": [outcome]}).encode())


def _post(url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_LONGEST_SECONDS) as response:
        return json.load(response)


def heavy_imports(arguments: list[str]) -> list[str]:
    code = (
        "import contextlib, io, sys\n"
        "from gauntlet.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(sys.argv[1:])\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, env=_ENVIRONMENT, capture_output=True, text=True
    )
    return [name for name in HEAVY if name in result.stdout.split()]


if __name__ == "__main__":
    main(run)
