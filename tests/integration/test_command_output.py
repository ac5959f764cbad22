"""Any command whose standard output closes early or can't be written: a quiet end, or a sentence; never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FULL = Path("/dev/full")


def started(arguments: list[str], output: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gauntlet.cli", *arguments], stdout=output, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    rows = pd.DataFrame({"a": np.random.default_rng(1).normal(size=3000)})
    rows.loc[1500:, "a"] += 3
    path = str(tmp_path / "a.csv")
    rows.to_csv(path, index=False)
    return {
        "pair": ["drift", "--reference", path, "--current", path],
        "stream": ["drift", "--stream", path, "--reference-rows", "1000"],
        "plan": ["plan", "--baseline", "0.5", "--effect", "0.1", "--traffic", "1000"],
        "example": ["example"],
    }


@pytest.mark.parametrize("name", ["pair", "stream", "plan", "example"])
def test_a_reader_that_has_gone_ends_it_quietly(commands: dict[str, list[str]], name: str) -> None:
    command = started(commands[name], subprocess.PIPE)
    assert command.stdout is not None
    command.stdout.close()
    _, errors = command.communicate()
    assert (command.returncode, errors) == (141, "")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("name", ["pair", "stream", "plan", "example"])
def test_a_full_disk_ends_it_with_a_sentence(commands: dict[str, list[str]], name: str) -> None:
    with FULL.open("w") as full:
        command = started(commands[name], full)
        _, errors = command.communicate()
    assert command.returncode == 2
    assert errors.startswith("gauntlet: ")
    assert "Traceback" not in errors
    assert "ignored" not in errors
