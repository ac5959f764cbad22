"""`gauntlet analyze` as a user types it: usage errors, and where the answer goes; answers have tests of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import gauntlet
from evaluator.offline.experiment import analysis
from evaluator.offline.experiment.result import Analysis, ArmComparison, ClassicalTest
from evaluator.offline.experiment.settings import AnalysisSettings, SettingsError
from gauntlet.cli import main
from gauntlet.table import Table, TableError

ANSWER = Analysis(
    id="deadbeef",
    verdict="inconclusive",
    reasons=("too early",),
    sample_ratio=None,
    comparisons=(
        ArmComparison(
            "b",
            "loss",
            None,
            "mean",
            "lower",
            "primary",
            0.0,
            {"a": 2, "b": 1},
            {"a": 0.5, "b": None},
            None,
            -math.inf,
            math.inf,
            None,
            None,
            None,
            ClassicalTest(None, None),
            "inconclusive",
            (),
            0,
            None,
            None,
            None,
            None,
            None,
        ),
    ),
    guards=(),
    champion="a",
    challengers=("b",),
    mode="group-sequential",
    alpha=0.05,
    rows=3,
    settings={},
)


class Engine:
    """In the engine's place: keeps what it was asked, and reads the rows as it would."""

    def __init__(self) -> None:
        self.asked: list[AnalysisSettings] = []

    def run(
        self, table: Table, settings: AnalysisSettings, progress: Callable[[int], object] | None = None
    ) -> Analysis:
        self.asked.append(settings)
        columns = [column for metric in settings.metrics for column in settings.inputs(metric)[0]]
        for chunk in table.chunks(columns, [settings.arm] if settings.arm else []):
            if progress is not None:
                progress(chunk.rows)
        return ANSWER


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(analysis, "run", made.run)
    return made


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "log.csv"
    path.write_text("arm,loss,other\na,0.5,1\nb,,2\na,0.5,3\n")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    capsys.readouterr()
    try:
        code = main(["analyze", *argv])
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


FULL = ("--arm", "arm", "--champion", "a", "--metric", "loss:lower", "--share", "a=0.5,b=0.5")


def test_the_text_goes_to_standard_output(capsys: pytest.CaptureFixture[str], engine: Engine, log: str) -> None:
    code, out, err = run(capsys, log, *FULL)
    assert (code, err) == (0, "")
    assert out.startswith("INCONCLUSIVE: b against a\n  - too early\n")


def test_json_and_page_go_where_they_are_reported(
    capsys: pytest.CaptureFixture[str], engine: Engine, log: str, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, log, *FULL, "--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"))
    assert (code, out[:12]) == (0, "INCONCLUSIVE")
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert data["verdict"] == "inconclusive"
    assert data["comparisons"][0]["lower"] is None, "JSON has no word for infinity"
    assert "history" not in data["comparisons"][0]
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "<h1>log.csv</h1>" in page
    code, out, _ = run(capsys, log, *FULL, "--json", "-")
    assert (code, json.loads(out)) == (0, data), "the dash is standard output, and nothing else is there"


def test_every_option_arrives(capsys: pytest.CaptureFixture[str], engine: Engine, log: str) -> None:
    argv = [
        log,
        "--arm",
        "arm",
        "--champion",
        "a",
        "--challenger",
        "b",
        "--challenger",
        "c",
        "--metric",
        "loss",
        "--metric",
        "loss:p99",
        "--share",
        "a=1",
        "--share",
        "b=2,c=1",
        "--unit",
        "u",
        "--cluster",
        "k",
        "--covariate",
        "x",
        "--covariate",
        "y",
        "--segment",
        "s",
        "--segment",
        "t",
        "--mode",
        "anytime",
        "--alpha",
        "0.1",
        "--min-samples",
        "100",
        "--look-every",
        "10",
        "--time",
        "at",
    ]
    assert run(capsys, *argv)[0] == 0
    (asked,) = engine.asked
    assert (asked.arm, asked.champion, asked.challengers) == ("arm", "a", ("b", "c"))
    assert [metric.name for metric in asked.metrics] == ["loss:mean", "loss:p99"]
    assert asked.shares == {"a": 0.25, "b": 0.5, "c": 0.25}
    assert (asked.unit, asked.cluster, asked.time) == ("u", "k", "at")
    assert (asked.covariates, asked.segments) == (("x", "y"), ("s", "t"))
    assert (asked.mode, asked.alpha, asked.min_samples, asked.look_every) == ("anytime", 0.1, 100, 10)


def test_the_function_has_the_names_of_the_command(engine: Engine) -> None:
    frame = pd.DataFrame({"arm": [0, 1], "loss": [0.1, 0.2]})
    steps: list[int] = []
    answer = gauntlet.analyze(
        frame, arm="arm", champion=0, challenger=1, metric="loss:lower", share={0: 1, 1: 1}, progress=steps.append
    )
    assert answer is ANSWER
    (asked,) = engine.asked
    assert (asked.champion, asked.challengers, asked.shares) == ("0", ("1",), {"0": 0.5, "1": 0.5})
    assert steps == [2]
    with pytest.raises(SettingsError, match="give exactly one of --share"):
        gauntlet.analyze(frame, arm="arm", champion=0, metric="loss")
    with pytest.raises(TableError, match="no column 'lost'"):
        gauntlet.analyze(frame, arm="arm", champion=0, metric="lost", share={0: 1, 1: 1})
    gauntlet.analyze(frame, paired=("arm", "loss"))
    assert engine.asked[-1].paired == ("arm", "loss")


BAD: list[tuple[list[str], str]] = [
    ([], "the following arguments are required: LOG"),
    (["LOG", *FULL, "--alpha", "small"], "argument --alpha: invalid float value: 'small'"),
    (["LOG", *FULL, "--mode", "bayes"], "argument --mode: invalid choice: 'bayes'"),
    (["LOG", *FULL, "--min-samples", "1.5"], "argument --min-samples: invalid int value"),
    (["LOG", *FULL, "--min-samples", "0"], "--min-samples must be at least 1 and at most 1,000,000,000, not 0"),
    (["LOG", *FULL, "--alpha", "2"], "--alpha must be greater than 0 and at most 0.5, not 2.0"),
    (["LOG", *FULL, "--propensity", "p"], "not --share and --propensity"),
    (["LOG", *FULL[:-2]], "give exactly one of --share"),
    (["LOG", *FULL[2:]], "--arm is needed: name the column"),
    (["LOG", *FULL, "--metric", "loss:worst"], "'worst' is not a kind"),
    (["LOG", *FULL, "--metric", "loss:propotion"], "'propotion' is not a kind; did you mean 'proportion'?"),
    (["LOG", *FULL, "--metric", "loss:quantil"], "'quantil' is not a kind; there are the kinds mean,"),
    (["LOG", *FULL, "--metric", "other:median"], "metric 'other:median': 'median' is not a kind"),
    (["LOG", *FULL, "--metric", "lost"], "there is no column 'lost'; did you mean 'loss'?"),
    (["LOG", *FULL, "--html", "absent/page.html"], "--html absent/page.html: there is no folder absent"),
    (["LOG", *FULL, "--json", "."], "--json .: this is a folder"),
    (["absent.csv", *FULL], "absent.csv: No such file or directory"),
    (["LOG", "--paired", "loss"], "--paired must be CHAMPION_COLUMN,CHALLENGER_COLUMN"),
    (
        ["LOG", "--arm", "arm", "--champion", "a", "--metric", "arm", "--share", "a=1,b=1"],
        "row 0 of arm (counted from 0)",
    ),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[message for _, message in BAD])
def test_errors_name_the_option_and_exit_with_2(
    capsys: pytest.CaptureFixture[str],
    engine: Engine,
    log: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *(log if one == "LOG" else one for one in argv))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
