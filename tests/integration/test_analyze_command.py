"""`gauntlet analyze` as people run it: a real process, real files, exit codes, JSON and HTML."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gauntlet.cli", "analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms of which `new` is better; latency that nobody worsens; a country with a nasty name."""
    rng, n = np.random.default_rng(1), 12_000
    arm = rng.choice(["old", "new", "same"], n, p=[0.6, 0.2, 0.2])
    frame = pd.DataFrame(
        {
            "arm": arm,
            "right": (rng.random(n) < np.where(arm == "new", 0.72, 0.6)).astype(int),
            "latency": rng.lognormal(3.0, 0.4, n).round(3),
            "country": rng.choice(["DE", "<script>alert(1)</script>"], n),
            "at": pd.date_range("2026-03-01", periods=n, freq="min").astype(str),
        }
    )
    path = tmp_path_factory.mktemp("log") / "log.csv.gz"
    frame.sample(frac=1.0, random_state=1).to_csv(path, index=False)
    return path


ASKED = (
    "--arm",
    "arm",
    "--champion",
    "old",
    "--share",
    "old=0.6,new=0.2,same=0.2",
    "--time",
    "at",
    "--metric",
    "right:proportion:higher",
    "--metric",
    "latency:p90:lower:margin=2",
)


def test_text_json_and_html_tell_the_same(log: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "answer.json", tmp_path / "answer.html"
    done = run(str(log), *ASKED, "--segment", "country", "--json", str(out), "--html", str(page))
    assert done.returncode == 0, done.stderr
    answer = json.loads(out.read_text())
    assert answer["verdict"] == "better"
    assert done.stdout.startswith("BETTER")
    assert set(answer["sample_ratio"]) >= {"p_value", "sequential_p_value", "mismatch", "observed", "expected"}
    assert answer["sample_ratio"]["expected"] == pytest.approx({"old": 7200, "new": 2400, "same": 2400})
    named = {(c["challenger"], c["metric"], c["segment"]): c for c in answer["comparisons"]}
    assert len(named) == len(answer["comparisons"]) == 2 * 2 * 3
    best = named["new", "right", None]
    wanted = {
        "challenger",
        "metric",
        "segment",
        "n",
        "mean",
        "effect",
        "lower",
        "upper",
        "z",
        "p_value",
        "fixed",
        "verdict",
        "reasons",
        "looks",
        "stopped",
    }
    assert set(best) >= wanted
    assert best["lower"] < 0.12 < best["upper"]
    assert set(best["stopped"]) == {"look", "rows", "verdict", "effect", "lower", "upper"}
    assert set(best["fixed"]) == {"z", "p_value"}
    html = page.read_text()
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;" in html


def test_json_may_go_to_standard_output(log: Path) -> None:
    done = run(str(log), *ASKED, "--challenger", "same", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "inconclusive"


def test_pairs_need_neither_arms_nor_shares(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    loss = rng.exponential(1.0, 4000)
    frame = pd.DataFrame({"ours": loss, "theirs": loss * rng.uniform(0.8, 1.1, 4000), "day": np.arange(4000) // 100})
    path = tmp_path / "pairs.parquet"
    frame.to_parquet(path)
    done = run(str(path), "--paired", "ours,theirs", "--cluster", "day", "--json", "-")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["verdict"], answer["sample_ratio"]) == (0, "better", None)
    (only,) = answer["comparisons"]
    assert only["effect"] == pytest.approx(float((frame.theirs - frame.ours).mean()))
    named = run(
        str(path),
        "--paired",
        "ours,theirs",
        "--arm",
        "x",
        "--champion",
        "v1",
        "--challenger",
        "v2",
        "--metric",
        "loss:mean:lower",
        "--json",
        "-",
    )
    assert list(json.loads(named.stdout)["comparisons"][0]["mean"]) == ["v1", "v2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--arm": "nothing"}, "no column 'nothing'"),
        ({"--champion": "older"}, "older"),
        ({"--metric": "country:mean"}, "country"),
        ({"--share": "old=0.6,new=0.4"}, "'same'"),
        ({"--share": "old=0.6,new=x"}, "share"),
        ({"--metric": "right:sideways"}, "sideways"),
        ({"--mode": "bayes"}, "bayes"),
        ({"--min-samples": "0"}, "min-samples"),
    ],
)
def test_a_usage_or_data_error_exits_with_2_and_names_it(log: Path, change: dict[str, str], message: str) -> None:
    asked = dict(zip(ASKED[::2], ASKED[1::2], strict=True)) | change
    done = run(str(log), *(word for pair in asked.items() for word in pair))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_no_table_exits_with_2(tmp_path: Path) -> None:
    assert run(str(tmp_path / "none.csv"), *ASKED).returncode == 2
    broken: dict[str, Any] = {"b.parquet": b"PAR1nonsense", "b.csv.gz": b"\x1f\x8bnonsense", "b.csv": b""}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        done = run(str(tmp_path / name), *ASKED)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
