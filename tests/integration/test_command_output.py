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


@pytest.mark.parametrize("option", ["--json", "--html", "--plot"])
def test_a_full_disk_leaves_no_half_answer_and_keeps_the_earlier_one(
    commands: dict[str, list[str]], tmp_path: Path, option: str
) -> None:
    """Scenario: a file may have a hundred bytes. Expected: a sentence, the old file as it was, and no new one."""
    (tmp_path / "old.svg").write_text("an earlier answer")
    for name in ("old.svg", "new.svg"):
        before = sorted(tmp_path.iterdir())
        command = [sys.executable, "-c", LIMITED, *commands["plan"], option, str(tmp_path / name)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert ended.stderr.startswith(f"gauntlet: {option} {tmp_path / name}: File too large")
        assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.svg").read_text() == "an earlier answer"


LIMITED = (
    "import resource, sys; from gauntlet.cli.command import main; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); sys.exit(main(sys.argv[1:]))"
)


def test_an_answer_goes_where_a_link_points_and_keeps_the_mode(commands: dict[str, list[str]], tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    started([*commands["plan"], "--json", str(link)], subprocess.DEVNULL).communicate()
    assert (link.is_symlink(), target.read_text()[0], target.stat().st_mode & 0o777) == (True, "{", 0o600)
