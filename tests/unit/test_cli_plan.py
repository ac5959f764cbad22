"""`gauntlet plan` and `gauntlet simulate` as a user types them: answers, files, and usage errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gauntlet
from gauntlet.cli import main

ASKED = [
    "--baseline",
    "0.5",
    "--effect",
    "0.08",
    "--traffic",
    "1000",
    "--ramp",
    "0.5",
    "--independent",
    "--delay",
    "0s",
]


def test_plan_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {option: tmp_path / f"plan.{option}" for option in ("json", "html", "svg")}
    args = ["--json", str(files["json"]), "--html", str(files["html"]), "--plot", str(files["svg"])]
    assert main(["plan", *ASKED, *args]) == 0
    answer = json.loads(files["json"].read_text(encoding="utf-8"))
    out = capsys.readouterr().out
    assert f"min_samples: {answer['form']['min_samples']:,}" in out
    assert answer["settings"]["ramp"] == [[0.5, None]]
    assert answer["form"]["power"] >= 0.8
    assert files["html"].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<svg" in files["svg"].read_text(encoding="utf-8")
    python = gauntlet.plan(baseline=0.5, effect=0.08, traffic=1000, ramp="0.5", independent=True, delay="0s")
    assert python.min_samples == answer["form"]["min_samples"]


def test_simulate_is_the_same_for_a_seed_and_another_for_another(capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for seed in ("1", "1", "2"):
        assert main(["simulate", *ASKED, "--runs", "200", "--seed", seed, "--json", "-"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["scenarios"] != answers[2]["scenarios"]
    assert [one["name"] for one in answers[0]["scenarios"]] == ["no effect", "the effect", "harm"]
    for one in answers[0]["scenarios"]:
        assert one["better"]["count"] + one["worse"]["count"] + one["undecided"]["count"] == 200
        assert sum(sum(end[1:]) for end in one["ends"]) == 200
    python = gauntlet.simulate(
        baseline=0.5, effect=0.08, traffic=1000, ramp="0.5", independent=True, delay="0s", runs=200, seed=1
    )
    assert python.scenarios[1].better.count == answers[0]["scenarios"][1]["better"]["count"]


def test_simulate_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "runs.png"
    assert main(["simulate", *ASKED, "--runs", "50", "--mode", "fixed", "--plot", str(plot)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "50 runs each of 3 true effects through the engine (fixed, seed 0)" in out
    assert max(map(len, out.splitlines())) <= 118


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["plan", *ASKED, "--baseline", "1.5"], "baseline"),
        (["plan", *ASKED, "--ramp", "0.5:2d,x"], "ramp"),
        (["plan", *ASKED, "--delay", "tomorrow"], "delay"),
        (["plan", *ASKED, "--form", "paired"], "discordance"),
        (["plan", *ASKED, "--plot", "plan.gif"], "--plot"),
        (["plan", *ASKED, "--json", "no/such/folder/plan.json"], "--json"),
        (["plan", *ASKED, "--html", "."], "--html"),
        (["simulate", *ASKED, "--runs", "0"], "runs"),
        (["simulate", *ASKED, "--seed", "-1"], "seed"),
        (["simulate", *ASKED, "--drift", "0.6"], "drift"),
        (["simulate", *ASKED, "--skewness", "1"], "skewness"),
    ],
)
def test_a_usage_error_exits_with_2_and_names_the_option(
    args: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    output = capsys.readouterr()
    assert output.err.startswith("gauntlet: ")
    assert named in output.err.splitlines()[0]
    assert output.out == ""


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["plan", "--trafic", "100"], "there is no option --trafic, did you mean '--traffic'?"),
        (["plan", *ASKED, "--trafic=100"], "there is no option --trafic, did you mean '--traffic'?"),
        (["analyze", "a.csv", "--metrc", "x"], "there is no option --metrc, did you mean '--metric'?"),
        (["drift", "march.csv", "july.csv"], "unrecognized arguments: march.csv july.csv"),
    ],
)
def test_a_misspelt_option_is_named_by_its_command(
    args: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(args)
    said = capsys.readouterr().err
    assert said.startswith(f"usage: gauntlet {args[0]} ")
    assert hint in said


@pytest.mark.parametrize("args", [["plan", "--baseline", "0.5"], ["simulate", *ASKED, "--mode", "luck"]])
def test_a_malformed_command_exits_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    assert "usage: gauntlet" in capsys.readouterr().err
