"""The demo's folder: only what a demo has made is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.cli import main
from gauntlet.cli.demo.run_folder import MARKER, fresh
from gauntlet.errors import BadInput, InUse


def test_a_folder_of_somebody_elses_stays_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--run", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.err == (
        f"gauntlet: --run {tmp_path}: a run deletes what is in its folder, and this one is not empty and was not made "
        "by a demo (.gauntlet-demo is missing); name a new or empty folder, or empty it yourself\n"
    )
    assert told.out == ""
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    assert not (tmp_path.parent / f".{tmp_path.name}.lock").exists()


def test_a_demos_own_folder_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    with fresh(folder):  # new
        (folder / "summary.json").write_text("{}")
    with fresh(folder):
        assert [file.name for file in folder.iterdir()] == [MARKER]
    (tmp_path / "empty").mkdir()
    with fresh(tmp_path / "empty"):
        assert (tmp_path / "empty" / MARKER).is_file()


def test_a_hidden_entry_counts_and_a_folder_is_no_marker(tmp_path: Path) -> None:
    for name in (".hidden", MARKER):
        folder = tmp_path / name.strip(".")
        (folder / name).mkdir(parents=True)
        with pytest.raises(BadInput, match="not empty"), fresh(folder):
            pass
        assert (folder / name).is_dir()


def test_a_file_and_a_link_are_no_folder(tmp_path: Path) -> None:
    with fresh(tmp_path / "demo"):
        pass
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "demo")
    for name in ("file", "link"):
        with pytest.raises(BadInput, match="not a folder"), fresh(tmp_path / name):
            pass
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "demo" / MARKER).is_file()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with fresh(tmp_path / "demo"), pytest.raises(InUse), fresh(tmp_path / "demo"):
        pass
