"""`gauntlet compare` as a user types it: one whole run, exit codes, and where the answer goes."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from gauntlet.cli import main

DECIDED = ["--target", "y", "--metric", "auc", "--threshold", "0.02", "--cluster", "day", "--no-latency"]
GOLDEN = """\
PROMOTE the challenger: new.skops against old.skops
  - auc improves by 0.08844, at least the 0.02 asked for
  - the improvement of auc is significant: it is at least 0.07639, p 0.0009995, below 0.05
  - no slice is worse, of 1 that can be judged

Primary metric, auc (higher is better): 0.7164 → 0.8048 (+12.3 %)

Decision factors:
  met  condition                   because
  yes  auc improves by ≥ 0.02      auc improves by 0.08844, at least the 0.02 asked for
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A champion that sees one of two features, a challenger that sees both, and fifteen held-out days."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=6000), "b": rng.normal(size=6000)}).round(4)
    rows["day"] = np.repeat(np.arange(30), 200)
    rows["y"] = (rng.random(6000) < 1 / (1 + np.exp(-(rows.a + rows.b - 1.2)))) * 1
    train = rows[:3000]
    skops.io.dump(LogisticRegression().fit(train[["a"]], train.y), "old.skops")
    skops.io.dump(LogisticRegression().fit(train[["a", "b"]], train.y), "new.skops")
    rows[3000:].to_csv("test.csv", index=False)
    return tmp_path


def words(baseline: str, candidate: str, *more: str, new: str = "--candidate") -> list[str]:
    return ["compare", "--baseline", baseline, new, candidate, "--test-data", "test.csv", *DECIDED, *more]


def test_a_whole_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("old.skops", "new.skops", "--output", "report.json", "--html", "page.html")) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[: len(GOLDEN.splitlines())] == GOLDEN.splitlines()
    answer = json.loads((folder / "report.json").read_text())
    assert answer["decision"] == "promote"
    assert answer["reasons"][0] == "auc improves by 0.08844, at least the 0.02 asked for"
    assert {"baseline", "candidate", "improvement", "lower", "upper", "p_value"} <= answer["metrics"]["auc"].keys()
    assert "curves" not in answer
    page = (folder / "page.html").read_text()
    assert page.count("<svg") == 4
    assert "Promote the challenger" in page
    assert "http:" not in page.replace("http://www.w3.org", "")


def test_a_kept_champion_and_no_answer_are_exit_code_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("new.skops", "old.skops", new="--new")) == 3
    assert capsys.readouterr().out.startswith("KEEP the champion: old.skops against new.skops\n")
    few = pd.read_csv("test.csv")
    few[few.day < 18].to_csv("test.csv", index=False)
    assert main(words("old.skops", "new.skops", "--json", "-", new="--challenger")) == 3
    assert json.loads(capsys.readouterr().out)["decision"] == "no_answer"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--metric", "acc"], "--metric acc: no metric of this task"),
        (["--threshold", "-1"], "--threshold must be at least 0"),
        (["--slice", "site"], "there is no column 'site'"),
        (["--output", "nowhere/report.json"], "there is no folder nowhere"),
        (["--html", "test.csv"], "already an input"),
        (["--html", "old.skops"], "already an input"),
    ],
)
def test_what_was_asked_wrongly_is_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], named: str
) -> None:
    assert main(words("old.skops", "new.skops", *more)) == 2
    assert named in capsys.readouterr().err


def test_a_pickle_is_loaded_only_where_it_was_allowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joblib.dump(skops.io.load("new.skops"), "new.joblib")
    assert main(words("old.skops", "new.joblib")) == 2
    assert "--allow-pickle" in capsys.readouterr().err
    assert main(words("old.skops", "new.joblib", "--allow-pickle")) == 0


def test_a_missing_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--baseline", "old.skops"])
    assert stopped.value.code == 2
    assert "--candidate/--new/--challenger, --test-data" in capsys.readouterr().err


def test_the_truth_is_the_column_target_unless_another_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["compare", "--baseline", "old.skops", "--new", "new.skops", "--no-latency", "--test-data"]
    assert main([*rest, "test.csv"]) == 2
    assert "target" in capsys.readouterr().err
    pd.read_csv("test.csv").rename(columns={"y": "target"}).to_csv("named.csv", index=False)
    assert main([*rest, "named.csv", "--cluster", "day", "--threshold", "0.02"]) == 0
