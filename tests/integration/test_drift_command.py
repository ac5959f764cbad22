"""The command as a process: exit codes, clean streams, and real flights month against month."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import gauntlet
from gauntlet.cli.demo import flights


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gauntlet.cli", "drift", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_files_and_a_stream_as_processes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"a": rng.normal(size=4000), "y": rng.integers(0, 2, 4000)})
    rows["p"] = np.where(rng.random(4000) < np.where(rows.index < 2500, 0.1, 0.6), 1 - rows["y"], rows["y"])
    rows[:2000].to_csv(tmp_path / "before.csv", index=False)
    rows[2500:].to_parquet(tmp_path / "now.parquet")
    rows.to_csv(tmp_path / "all.csv.gz", index=False)
    roles = ("--target", "y", "--prediction", "p", "--fail-on", "HIGH")
    both = command("--reference", tmp_path / "before.csv", "--current", tmp_path / "now.parquet", *roles, "--json", "-")
    assert (both.returncode, both.stderr) == (3, "")
    answer = json.loads(both.stdout)
    assert (answer["root_cause"], answer["action"]) == ("concept", "retrain_recent")
    one = command("--stream", tmp_path / "all.csv.gz", "--reference-rows", 2000, *roles)
    assert one.returncode == 3
    first = json.loads(one.stdout.splitlines()[0])
    assert first["event"] == "open"
    assert 2500 <= first["row"] < 2800


def test_a_month_of_flights_like_its_neighbour_is_quiet_and_a_summer_month_against_winter_is_not() -> None:
    year = flights.load()
    frame = pd.DataFrame({name: list(values) for name, values in year.columns.items()})
    month = {number: frame[year.month == number] for number in (2, 3, 7)}
    like = gauntlet.drift(month[2], month[3])
    summer = gauntlet.drift(month[2], month[7])
    assert (like.severity, like.drifted) == ("NONE", ())
    assert {"temp", "dewp"} <= set(summer.drifted)
    assert gauntlet.drift(month[2], month[3], mode="simple").severity != "NONE"  # what evidence is for
