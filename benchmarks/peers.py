"""GrowthBook's gbstats and Spotify's confidence, run in a child process with an environment of its own.

Both see exactly the sums that Gauntlet's engine saw.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import peer_environment
from benchmarks.simulated import Sums
from evaluator.stats.score_process import Bools, Ints

PEERS: Final = ("gbstats", "confidence")


class Peers:
    """A running child that answers one request at a time; `ask` sends, `answers` waits."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def ask(self, sums: Sums, ours: Bools, *, binary: bool, final: float) -> None:
        """Send running totals of these experiments, with where ours looks; `final` is the planned number of units."""
        path = self._folder / "sums.npz"
        np.savez(path, arms=np.cumsum(np.stack(sums.arms), axis=2), open=ours, binary=binary, final=final)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"sums": str(path)}) + "\n")
        self._process.stdin.flush()

    def answers(self) -> dict[str, Ints]:
        """First significant look of each run by package: from 1, negative for worse, 0 for none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peers' process ended with {self._process.wait()}")
        return {name: np.array(looks) for name, looks in json.loads(line).items()}


@contextlib.contextmanager
def running() -> Iterator[Peers]:
    """The peers' process, ended on leaving."""
    with tempfile.TemporaryDirectory() as name:
        command = [str(peer_environment.python("peers")), str(Path(__file__).with_name("peers_side.py"))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Peers(process, Path(name))
        finally:
            process.kill()
            process.wait()
