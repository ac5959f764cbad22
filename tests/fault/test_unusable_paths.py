"""A folder stands where a file of Gauntlet's own belongs, or a file is gone: one line names it, why, and what to do.
SQLite and the operating system say "unable to open database file", "disk I/O error" or the name of a temporary file."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import small_experiment

from evaluator.service.checkpoint import Checkpoint
from gauntlet import files
from gauntlet.errors import ConfigError, DamagedFile, LogUnavailable
from gauntlet.faults import explained
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.registry.local import LocalRegistry
from gauntlet.state.local import LocalState
from retrainer.notify.outbox import Outbox
from retrainer.store import RetrainerStore

IN_PLACE = "a folder stands in its place: move it away"


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("state.db", LocalState),
        ("evaluator.db", Checkpoint),
        ("notices.db", Outbox),
        ("retrainer.db", lambda path: RetrainerStore(path.parent, "test")),
    ],
)
def test_a_database(tmp_path: Path, name: str, opened: Callable[[Path], object]) -> None:
    path = tmp_path / name
    path.mkdir()
    with pytest.raises(DamagedFile) as caught:
        opened(path)
    text, remedy = explained(caught.value)
    assert text == f"{path} can't be read: {IN_PLACE}"
    assert "restore it" in remedy


def test_a_file_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.db"
    path.touch()
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # type: ignore[attr-defined]  # the tests may run as root
    assert files.damage(sqlite3.OperationalError("unable to open database file"), path) == (
        "this process's user may not read and write it: change its owner or its mode"
    )


def up(config: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gauntlet.cli", "up", str(config)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def test_up_says_once_what_no_service_could_read(tmp_path: Path) -> None:
    """Scenario: three services, and none can read the state. Expected: one line, and no service is started for it."""
    config = small_experiment.write(tmp_path)
    state = Path(small_experiment.load(config).data) / "state.db"
    state.mkdir(parents=True)
    done = up(config)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"gauntlet: {state} can't be read: {IN_PLACE}; ")


@pytest.mark.parametrize("name", ["up.lock", "router.address"])
def test_up_names_its_own_files(tmp_path: Path, name: str) -> None:
    config = small_experiment.write(tmp_path)
    path = Path(small_experiment.load(config).data) / name
    path.mkdir(parents=True)
    done = up(config)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if f"{path}: {IN_PLACE}" in line]


def test_a_lock(tmp_path: Path) -> None:
    (tmp_path / "evaluator.lock").mkdir()
    with pytest.raises(ConfigError, match=f"evaluator.lock: {IN_PLACE}"):
        files.claim(tmp_path, "evaluator")


def test_a_file_that_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.atomic_write(path, b"{}")
    assert explained(caught.value)[0] == f"{path}: {IN_PLACE}"
    assert [found.name for found in tmp_path.iterdir()] == ["aliases.json"]


async def _log_of(folder: Path, n: int) -> None:
    writer = LocalLogWriter(folder, "router")
    await writer.append([Record("predictions", str(i), float(i), b"{}") for i in range(n)])
    await writer.close()


async def test_a_segment_of_the_log(tmp_path: Path) -> None:
    await _log_of(tmp_path, 3)
    segment = tmp_path / "router" / "00000000.db"
    segment.unlink()
    segment.mkdir()
    with pytest.raises(DamagedFile, match=IN_PLACE):
        LocalLogWriter(tmp_path, "router")
    reader = LocalLogReader(tmp_path)
    with pytest.raises(LogUnavailable, match=f"{segment}: {IN_PLACE}; restore it from a backup"):
        await reader.read("predictions", "router", 0, 1)
    await reader.close()


async def test_a_segment_that_is_gone_while_its_write_ahead_log_is_there(tmp_path: Path) -> None:
    """SQLite would take the old one's records for the new file's, and refuse every append after that."""
    await _log_of(tmp_path, 3)
    segment = tmp_path / "router" / "00000000.db"
    segment.with_name("00000000.db-wal").write_bytes(b"left")
    segment.unlink()
    with pytest.raises(DamagedFile, match=r"it is gone, and its 00000000\.db-wal is there; restore it"):
        LocalLogWriter(tmp_path, "router")


async def test_a_log_that_has_lost_what_was_read(tmp_path: Path) -> None:
    """It does not go on by itself, as it does where a log merely doesn't answer: the remedy says what does."""
    await _log_of(tmp_path, 3)
    shutil.rmtree(tmp_path / "router")
    reader = LocalLogReader(tmp_path)
    with pytest.raises(LogUnavailable) as caught:
        await reader.read("predictions", "router", 3, 1)
    await reader.close()
    remedy = explained(caught.value)[1]
    assert remedy.startswith("restore the log's files; without them stop, move `evaluator.db` or `retrainer.db`")


def test_a_version_that_lacks_its_description(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path)
    (tmp_path / "v0001").mkdir()
    with pytest.raises(DamagedFile, match="it is gone; restore it"):
        registry.get("v0001")
    (tmp_path / "v0001" / "version.json").mkdir()
    with pytest.raises(DamagedFile, match=f"{IN_PLACE}; restore it"):
        registry.get("v0001")
