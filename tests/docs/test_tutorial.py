"""The tutorial by the letter: its files are written, its commands typed, in real time: a promotion and a rollback."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# (\w+\.(?:py|yaml))\n", text))}
COMMANDS = [text for kind, text in BLOCKS if kind == "bash"][1:]
"""What is typed, block by block; the first is the installation."""

ON_THIS_MACHINE = """
router: {port: 0, deadline: 20s, challenger_timeout: 5s}
observe: {evaluator_port: 0, retrainer_port: 0}
"""
"""Free ports, and time limits for a machine that runs other tests beside."""


ROWS_SECONDS = 300.0
"""By then there are rows that are older than the held-out ones, and whose outcomes are known, on a busy machine too."""


def _hears_ctrl_c() -> None:
    """As in a terminal, also where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminals:
    """The tutorial's folder, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self._running: list[subprocess.Popen[str]] = []

    def _words(self, line: str) -> list[str]:
        line = re.sub(r"^(gauntlet|python)\b", lambda name: {"gauntlet": "-m gauntlet.cli"}.get(name[1], ""), line)
        return [sys.executable, *re.findall(r'"[^"]*"|\S+', line)]

    def start(self, line: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        words = [word.strip('"') for word in self._words(line)]
        log = (self.folder / f"{len(self._running)}.log").open("w")
        with log:
            process = subprocess.Popen(
                words, cwd=self.folder, stdout=log, stderr=log, text=True, preexec_fn=_hears_ctrl_c
            )
        self._running.append(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self.folder / f"{self._running.index(process)}.log").read_text()

    def type(self, line: str, codes: tuple[int, ...] = (0,)) -> str:
        """A command that ends, and what it prints."""
        words = [word.strip('"') for word in self._words(line)]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in codes, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said = done.stdout
        return done.stdout

    def watch(self, line: str, text: str, seconds: float) -> str:
        """A watch that is left with Ctrl-C once it shows the text; what it has shown."""
        watching = self.start(line)
        wait(lambda: text in self.log(watching), seconds, lambda: self.log(watching))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
        return self.log(watching)

    def stop(self) -> None:
        for process in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self._running:
            process.wait(30)


def wait(condition: Callable[[], bool], seconds: float, problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.2)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text + (ON_THIS_MACHINE if name == "config.yaml" else ""))
    opened = Terminals(tmp_path)
    try:
        yield opened
    finally:
        opened.stop()


def lines(containing: str) -> list[str]:
    """The commands of the one block with this text."""
    (block,) = [text for text in COMMANDS if containing in text]
    return [line.split("   ")[0].strip() for line in block.splitlines() if line and not line.startswith("#")]


def test_every_block_is_run_here() -> None:
    assert {*FILES} == {"train.py", "traffic.py", "config.yaml", "wrong.py"}
    firsts = [next(line for line in block.splitlines() if not line.startswith("#")) for block in COMMANDS]
    assert [line.split("   ")[0].strip() for line in firsts] == [
        "python train.py",
        "gauntlet up config.yaml",
        "python traffic.py",
        "gauntlet status",
        "gauntlet status --watch",
        'gauntlet rollback --reason "a rehearsal of the rollback"',
        "python wrong.py",
        "gauntlet status --watch",
        "gauntlet retrain check",
        "gauntlet retrain jobs",
    ]


def test_a_promotion_and_a_rollback_within_five_minutes(terminals: Terminals) -> None:
    began = time.monotonic()
    for line in lines("train.py"):
        terminals.type(line)
    assert "REHEARSAL, never for production: a day passes in 10 s" in terminals.said
    up = terminals.start(*lines("gauntlet up"))
    address = terminals.folder / "gauntlet-data" / "router.address"
    wait(lambda: address.exists() and address.read_text().endswith("\n"), 60, lambda: terminals.log(up))
    terminals.start(f"{lines('traffic.py')[0]} {address.read_text().strip()}")

    status, register, challenge = lines("--note")
    assert "champion v0001 serves all of the traffic" in terminals.type(status)
    assert terminals.type(register) == "v0002\n"
    assert "challenger v0002 (tumours-r0001, prove) in shadow" in terminals.type(challenge)
    (watch,) = lines("until it is promoted")
    screens = terminals.watch(watch, "champion v0002 serves all of the traffic", 180)
    for place in ("in shadow", "at 1 % (stage 0", "at 5 % (stage 1", "at 10 % (stage 2"):
        assert f"challenger v0002 (tumours-r0001, prove) {place}" in screens
    (promoted,) = [one for one in json.loads(terminals.type("gauntlet history --json")) if one["command"] == "promote"]
    assert promoted["actor"] == "retrainer", "the evidence has promoted it, not a person"

    rollback, history = lines("rollback --reason")
    assert "champion v0001 serves all of the traffic" in terminals.type(rollback)
    assert "(v0002 → v0001), by loopback: a rehearsal of the rollback" in " ".join(terminals.type(history).split())
    assert time.monotonic() - began < 300

    for line in lines("wrong.py"):
        terminals.type(line)
    (watch,) = lines("until it is out")
    terminals.watch(watch, "no challenger runs", 60)
    last = json.loads(terminals.type("gauntlet status --json"))["last"]
    assert (last["command"], last["actor"], "gross harm" in last["reason"]) == ("rollback", "retrainer", True)

    check, trigger = lines("retrain check")
    assert "constraint single flight" in terminals.type(check)
    enough = re.compile(r"^ *yes +constraint rows to train on", re.MULTILINE)
    wait(lambda: enough.search(terminals.type(check)) is not None, ROWS_SECONDS, lambda: terminals.said)
    # Another trigger may have had its job first, which has been seen once; then ours is refused.
    answer = terminals.type(trigger, codes=(0, 1))
    runs = r"started retrain_\d{8}_001\n|refused: .*single flight +retrain_\d{8}_001 is running"
    assert re.match(runs, answer, re.DOTALL), terminals.type(check)
    jobs, report = lines("once the job has ended")
    made = "completed  manual, default: made v0004" if answer.startswith("started") else "default: made v0004"
    wait(lambda: made in terminals.type(jobs), 120, lambda: terminals.said)
    assert re.search(r"→ v0004 → gate passed \(\+0\.\d+\) → tumours-r0003 → ", terminals.type(report)), terminals.said
