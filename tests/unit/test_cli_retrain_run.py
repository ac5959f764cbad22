"""`gauntlet retrain run`: files in, a decision out; what is asked wrongly, and what must never be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, LogisticRegression

import gauntlet
from gauntlet.cli import main

NAMES = ["x1", "x2", "x3"]
BEFORE, AFTER = np.array([1.5, -1.0, 0.5]), np.array([-1.5, 1.0, 0.5])


def rows(n: int, weights: Any, seed: int, *, kind: str = "classification") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    if kind == "regression":
        y = x @ weights + rng.normal(size=n) * 0.3
    else:
        y = (rng.random(n) < 1 / (1 + np.exp(-x @ weights))).astype(int)
    times = 1_700_000_000 + seed * 40 * 86_400 + np.arange(n) * (30 * 86_400 / n)
    return pd.DataFrame(x, columns=NAMES).assign(at=times, y=y)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reference = rows(3000, BEFORE, 1)
    skops.io.dump(LogisticRegression().fit(reference[NAMES], reference.y), tmp_path / "model.skops")
    reference.to_csv(tmp_path / "a.csv", index=False)
    return tmp_path


def run(folder: Path, recent: pd.DataFrame, *more: str, code: int) -> dict[str, Any]:
    recent.to_csv(folder / "b.csv", index=False)
    words = ["--champion", str(folder / "model.skops"), "--reference", str(folder / "a.csv")]
    words += ["--recent", str(folder / "b.csv"), "--target", "y", "--time", "at", "--no-latency", *more]
    assert main(["retrain", "run", *words, "--output", str(folder / "report.json")]) == code
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_turned_concept_is_found_learned_and_promoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--html", str(folder / "page.html"), "--save", str(folder / "new.skops"), "--metric", "auc"]
    found = run(folder, rows(3000, AFTER, 2), *more, code=0)
    assert (found["decision"], found["root_cause"]) == ("promote", "concept")
    assert found["severity"] in ("HIGH", "CRITICAL")
    assert [one["met"] for one in found["conditions"]] == [True, True, True]
    trained = found["training"]
    assert (trained["trained_on"], trained["rows"], trained["test_rows"]) == ("the recent rows", 2100, 900)
    assert found["comparison"]["rows"] == 900
    assert found["comparison"]["metrics"]["auc"]["improvement"] > 0.2
    text = capsys.readouterr().out
    assert text.startswith(f"PROMOTE the challenger: {found['severity']} drift")
    page = (folder / "page.html").read_text()
    assert "Decision factors" in page
    assert "Every column" in page
    assert page.count("<html") == 1
    again = gauntlet.compare(
        folder / "model.skops", folder / "new.skops", pd.read_csv(folder / "b.csv")[2100:], target="y", latency=False
    )
    assert again.metrics["auc"].candidate == pytest.approx(found["comparison"]["metrics"]["auc"]["candidate"])


def test_severity_confidence_and_cause_are_those_of_gauntlet_drift(folder: Path) -> None:
    recent = rows(3000, AFTER, 2)
    model = skops.io.load(folder / "model.skops")
    for name, table in (("a.csv", pd.read_csv(folder / "a.csv")), ("recent", recent)):
        table["p"] = model.predict_proba(table[NAMES])[:, 1]
        table.to_csv(folder / name, index=False)
    found = run(folder, recent, "--prediction", "p", "--held-out", code=0)
    alone = gauntlet.drift(
        folder / "a.csv", folder / "b.csv", target="y", prediction="p", time="at", features=NAMES, positive=1
    )
    assert found["severity"] == alone.severity
    assert (found["confidence"], found["root_cause"]) == (alone.confidence, alone.root_cause)
    assert found["drift"]["features"] == alone.to_dict()["features"]


def test_nothing_is_trained_without_need(folder: Path) -> None:
    found = run(folder, rows(3000, BEFORE, 3), code=3)
    assert (found["decision"], found["training"], found["comparison"]) == ("no_need", None, None)
    assert "NONE drift" in found["reasons"][0]


def test_force_trains_and_what_is_no_better_is_kept(folder: Path) -> None:
    found = run(folder, rows(3000, BEFORE, 3), "--force", code=3)
    assert found["training"]["trained_on"] == "reference and recent rows"
    assert found["decision"] in ("keep", "no_answer")
    assert found["training"]["rows"] == 5100


def test_damaged_data_is_never_learned(folder: Path) -> None:
    recent = rows(3000, BEFORE, 3)
    recent.loc[::2, "x1"] = np.nan
    found = run(folder, recent, "--force", code=3)
    assert (found["decision"], found["training"]) == ("no_need", None)
    assert "quarantined, never learned" in found["reasons"][0]


def test_too_few_rows_are_no_training_set(folder: Path) -> None:
    found = run(folder, rows(200, AFTER, 2), "--force", code=3)
    assert "60 held out, 100 of each wanted" in found["reasons"][-1]


def test_a_regression_and_a_trainer_of_ones_own(folder: Path) -> None:
    reference = rows(2000, BEFORE, 1, kind="regression")
    reference.to_csv(folder / "a.csv", index=False)
    skops.io.dump(LinearRegression().fit(reference[NAMES], reference.y), folder / "model.skops")
    recent = rows(2000, AFTER, 2, kind="regression")
    found = run(folder, recent, "--trainer", "unit.test_cli_retrain_run:newest_only", code=0)
    assert found["comparison"]["primary"] == "rmse"
    assert found["training"]["algorithm"] == "LinearRegression"


def newest_only(features: list[dict[str, Any]], targets: Any) -> LinearRegression:
    return LinearRegression().fit(pd.DataFrame(features)[-1400:], targets[-1400:])


def steady(given: list[dict[str, Any]]) -> list[float]:
    return [1 / (1 + np.exp(-1.5 * row["x1"] + row["x2"] - 0.5 * row["x3"])) for row in given]


def test_a_function_is_judged_by_its_inputs_alone_unless_it_is_held_out(folder: Path) -> None:
    function = ["--champion", "unit.test_cli_retrain_run:steady", "--features", *NAMES, "--classes", "0", "1"]
    found = run(folder, rows(3000, AFTER, 2), *function, code=3)
    assert "give --held-out or --prediction" in found["drift"]["notes"][-1]
    trainer = ["--trainer", "unit.test_cli_retrain_run:classifier"]
    found = run(folder, rows(3000, AFTER, 2), *function, "--held-out", *trainer, code=0)
    assert found["root_cause"] == "concept"


def classifier(features: list[dict[str, Any]], targets: Any) -> LogisticRegression:
    return LogisticRegression().fit(pd.DataFrame(features), targets)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--trainer", "no.such:trainer"], "no.such"),
        (["--target", "z"], "'z'"),
        (["--test-share", "1"], "--test-share must be"),
        (["--champion", "gone.skops"], "gone.skops: there is no such file"),
        (["--metric", "auk"], "auc"),
    ],
)
def test_what_is_asked_wrongly_is_told_and_ends_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    rows(600, AFTER, 2).to_csv(folder / "b.csv", index=False)
    given = {"--champion": "model.skops", "--reference": "a.csv", "--recent": "b.csv"}
    base = [word for name, file in given.items() for word in (name, str(folder / file))]
    assert main(["retrain", "run", *base, "--target", "y", "--time", "at", *words]) == 2
    assert reason in capsys.readouterr().err
