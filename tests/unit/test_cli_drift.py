"""`gauntlet drift`: what it prints where, what it writes, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gauntlet.cli.command import main


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)

    def frame(rows: int) -> pd.DataFrame:
        return pd.DataFrame(
            {"a": rng.normal(size=rows), "b,b": rng.normal(size=rows), "c": rng.choice(["x", "y"], rows)}
        )

    frame(600).to_csv(tmp_path / "a.csv", index=False)
    frame(600).to_parquet(tmp_path / "same.parquet")
    frame(600).assign(a=lambda t: t["a"] + 2, c="z").to_csv(tmp_path / "moved.csv.gz", index=False)
    stream = frame(3000)
    stream.loc[2000:, "a"] += 3
    stream.to_csv(tmp_path / "stream.csv", index=False)
    return tmp_path


def pair(files: Path, current: str, *more: str) -> int:
    return main(["drift", "--reference", str(files / "a.csv"), "--current", str(files / current), *more])


def test_quiet_files_print_a_report_and_end_with_zero(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair(files, "same.parquet", "--fail-on", "LOW") == 0
    output = capsys.readouterr()
    assert output.out.startswith("NONE")
    assert output.err == ""


def test_json_on_standard_output_is_json_and_nothing_else(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair(files, "moved.csv.gz", "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["severity"] == "MEDIUM"
    assert {feature["name"] for feature in answer["features"] if feature["drifted"]} == {"a", "c"}


@pytest.mark.parametrize(("limit", "code"), [("low", 3), ("MEDIUM", 3), ("HIGH", 0), ("CRITICAL", 0)])
def test_fail_on_decides_the_exit_code(files: Path, limit: str, code: int) -> None:
    assert pair(files, "moved.csv.gz", "--fail-on", limit) == code


def test_files_are_written_beside_the_text(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair(files, "moved.csv.gz", "--json", str(files / "o.json"), "--html", str(files / "o.html")) == 0
    assert "a " in capsys.readouterr().out
    assert json.loads((files / "o.json").read_text(encoding="utf-8"))["severity"] == "MEDIUM"
    assert (files / "o.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("asked", [["a,c"], ["a", "c"], ["a,", "c"]])
def test_features_by_spaces_or_commas(files: Path, capsys: pytest.CaptureFixture[str], asked: list[str]) -> None:
    pair(files, "same.parquet", "--json", "-", "--features", *asked)
    assert {feature["name"] for feature in json.loads(capsys.readouterr().out)["features"]} == {"a", "c"}


def test_a_column_with_a_comma_in_its_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair(files, "same.parquet", "--json", "-", "--features", "b,b", "a")
    assert {feature["name"] for feature in json.loads(capsys.readouterr().out)["features"]} == {"a", "b,b"}


def test_a_stream_prints_one_json_line_an_event(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--json", str(files / "s.json"), "--html", str(files / "s.html"), "--fail-on", "LOW"]
    assert main(["drift", "--stream", str(files / "stream.csv"), "--reference-rows", "1000", *more]) == 3
    output = capsys.readouterr()
    events = [json.loads(line) for line in output.out.splitlines()]
    assert events[0]["event"] == "open"
    assert 2000 <= events[0]["row"] < 2300
    assert events[0]["features"][0]["name"] == "a"
    assert "episode" in output.err  # the summary is not mixed with the lines
    whole = json.loads((files / "s.json").read_text(encoding="utf-8"))
    assert whole["events"] == events
    assert (files / "s.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--reference and --current, or --stream"),
        (["--reference", "a.csv"], "--reference and --current"),
        (["--stream", "stream.csv"], "needs --reference-rows"),
        (["--stream", "stream.csv", "--reference-rows", "5"], "at least 100"),
        (["--stream", "stream.csv", "--reference-rows", "1000", "--unordered"], "time order"),
        (["--stream", "stream.csv", "--reference-rows", "1000", "--current", "a.csv"], "watches one file"),
        (["--reference", "a.csv", "--current", "a.csv", "--reference-rows", "9"], "needs --stream"),
        (["--reference", "a.csv", "--current", "none.csv"], "none.csv"),
        (["--reference", "a.csv", "--current", "a.csv", "--target", "aa"], "no column 'aa'"),
        (["--reference", "a.csv", "--current", "a.csv", "--json", "no/such/folder.json"], "folder.json"),
        (["--reference", "a.csv", "--current", "a.csv", "--html", "-"], "name of a file"),
        (["--reference", "a.csv", "--current", "none.csv", "--html", "."], "--html .: this is a folder"),
        (["--reference", "a.csv", "--current", "none.csv", "--json", "no/a.json"], "no folder no"),
        (["--reference", "a.csv", "--current", "none.csv", "--json", "a.csv"], "already an input"),
        (["--reference", "a.csv", "--current", "none.csv", "--json", "o", "--html", "o"], "another output"),
        (["--reference", "a.csv", "--current", "a.csv", "--season", "hour", "--time", "a"], "needs --stream"),
        (["--stream", "stream.csv", "--reference-rows", "1000", "--season", "hour"], "--season needs --time"),
    ],
)
def test_a_usage_or_data_error_ends_with_two_and_says_why(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(files)
    assert main(["drift", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_severity_is_a_usage_error(files: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        pair(files, "same.parquet", "--fail-on", "SEVERE")
    assert stop.value.code == 2


def test_an_output_that_can_not_be_opened_is_refused_before_the_work(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    missing = ["--reference", str(files / "none.csv"), "--current", str(files / "none.csv")]
    assert main(["drift", *missing, "--json", str(files / "o.json")]) == 2
    assert "o.json: Permission denied" in capsys.readouterr().err
