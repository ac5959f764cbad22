"""A short demo from the command line to the browser: exit code, reconciliation, the page as Chromium shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import parts
import pytest

pytestmark = pytest.mark.timeout(240)
needs_pgrep = pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep is missing: apt-get install procps")


def test_a_demo_of_five_days_adds_up_and_its_page_opens(tmp_path: Path, chromium: parts.Chromium) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "gauntlet.cli", "demo", "--days", "5", "--run", str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("status  http://127.0.0.1:")  # the first thing that is said
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["reconciled"] is True
    assert "Reconciled: " in done.stdout
    page = chromium.visit((folder / "report.html").as_uri())
    assert page.console == ()
    assert page.dom.count("<svg") >= 4
    assert "Every flight and every outcome is accounted for" in page.dom
    shot = chromium.screenshot((folder / "report.html").as_uri(), tmp_path / "page.png")
    assert shot.stat().st_size > 50_000


@needs_pgrep
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = subprocess.Popen(
        [sys.executable, "-m", "gauntlet.cli", "demo", "--days", "300", "--run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert demo.stdout is not None
    try:
        _until(lambda: (folder / "data" / "router.address").exists(), seconds=60)
        pids = _services(folder)
        assert len(pids) == 3
        demo.send_signal(2)
        assert demo.wait(30) == 130
        _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=10)
    finally:
        demo.kill()
        demo.stdout.close()
        demo.wait()


@needs_pgrep
def test_a_killed_demo_leaves_nothing_that_blocks_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "gauntlet.cli", "demo", "--run", str(folder), "--days"]
    with subprocess.Popen([*command, "300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        _until(lambda: (folder / "data" / "router.address").exists(), seconds=60)
        pids = _services(folder)
        demo.kill()
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=20)
    again = subprocess.run([*command, "1"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stdout + again.stderr


def _until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def _services(folder: Path) -> list[int]:
    """The service processes of the demo in `folder`."""
    found = subprocess.run(["pgrep", "-f", f"gauntlet.cli [a-z]+ {folder}/config.yaml"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]
