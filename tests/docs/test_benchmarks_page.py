"""docs/benchmarks.md names every benchmark that can be run, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PARTS = {"__main__", "peers_side", "drift_peers_side"}  # of other benchmarks
RUNNABLE = {
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
} - PARTS


def test_the_list_of_commands_is_complete() -> None:
    assert set(re.findall(r"^\| `python -m benchmarks\.(\w+)` \|", PAGE, re.MULTILINE)) == RUNNABLE


def test_every_section_names_its_command() -> None:
    named = set(re.findall(r"benchmarks\.(\w+)", PAGE[PAGE.index("## Serving") :]))
    assert named >= RUNNABLE - {"startup"}


def test_help_is_help_and_an_unknown_option_is_refused_by_all_of_them_together() -> None:
    for option, code in (("--help", 0), ("--nothing", 2)):
        command = [sys.executable, "-m", "benchmarks", option]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, "usage:" in ended.stdout + ended.stderr) == (code, True)
