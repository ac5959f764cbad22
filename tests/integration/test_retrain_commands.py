"""`gauntlet retrain` as typed, against a real retrainer: what it prints, what it changes, and its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from builders import small_experiment

from gauntlet import first_start
from gauntlet.cli import main
from gauntlet.cli.retrain import VERBS
from gauntlet.retraining_client import RetrainingClient
from retrainer import app
from retrainer.triggers.view import View

pytestmark = pytest.mark.asyncio

PAGE = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text(encoding="utf-8")


@contextlib.asynccontextmanager
async def retrainer(folder: Path) -> AsyncIterator[tuple[Path, str]]:
    """A retrainer whose log is empty: its configuration file and its address."""
    path = small_experiment.write(folder)
    config = small_experiment.load(path)
    await first_start.ensure(config)
    stop, address = asyncio.Event(), Path(config.data) / "retrainer.address"
    serving = asyncio.create_task(app.serve(config, stop))

    async def listening() -> bool:
        if serving.done():
            serving.result()
        return address.exists() and address.read_text().endswith("\n")

    try:
        await small_experiment.until(listening)
        yield path, address.read_text().strip()
    finally:
        stop.set()
        await serving


async def typed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error; typed in a thread beside the retrainer."""

    def run() -> int:
        try:
            return main(["retrain", *map(str, words)])
        except SystemExit as ended:
            return int(ended.code or 0)

    capsys.readouterr()
    code = await asyncio.to_thread(run)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


async def test_every_verb_against_a_retrainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "0 labelled rows are left, 100 wanted: the newest 14 d are held out; enough in (14 d|13 d 23 h) at"
    async with retrainer(tmp_path / "young") as (path, _):
        for force in ([], ["--force"]):
            refused = await typed(capsys, "trigger", path, "--reason", "now", *force)
            assert (refused[0], re.search(wait, refused[1]) is not None) == (1, True), refused
    monkeypatch.setattr(View, "left_to_train", lambda *_: None)  # nobody knows: the job may start, and fails
    async with retrainer(tmp_path) as (path, url):
        code, text, _ = await typed(capsys, "check", path)
        assert code == 0
        assert "no job would start" in text
        assert re.search(r"^  yes +constraint single flight +no job is running$", text, re.M), text

        words = ("trigger", path, "--reason", "new labels", "--idempotency-key", "k1")
        code, text, _ = await typed(capsys, *words)
        assert code == 0
        (job,) = re.findall(r"retrain_\d{8}_001", text)
        assert (await typed(capsys, *words))[1] == text, "the same key, the same answer"
        code, text, _ = await typed(capsys, "trigger", path, "--reason", "once more")
        assert (code, "refused: no job was started" in text, "min_interval" in text) == (1, True, True)

        client = RetrainingClient(url)

        async def over() -> bool:
            return (await asyncio.to_thread(client.job, job))["ended"] is not None

        await small_experiment.until(over)
        code, text, _ = await typed(capsys, "jobs", path)
        assert (code, f"{job}  " in text, "failed     manual, default\n" in text) == (0, True, True)
        code, text, _ = await typed(capsys, "job", path, job)
        assert "error      not enough labelled rows" in text
        assert (await typed(capsys, "log", path, job))[0] == 0
        code, text, _ = await typed(capsys, "report", path)
        assert f"{job}  " in text
        assert "manual HIGH → 0 + 0 rows → failed" in text
        page = tmp_path / "report.html"
        assert (await typed(capsys, "report", path, "--html", page))[0] == 0
        shown = page.read_text()
        assert f'<td class="t">{job}<small>' in shown
        assert '">failed</span>' in shown
        code, _, error = await typed(capsys, "report", path, "--html", tmp_path / "no" / "x.html")
        assert (code, "there is no folder" in error) == (2, True)
        code, text, _ = await typed(capsys, "history", path)
        assert f"trigger {job}, by loopback: new labels → started" in text
        code, _, error = await typed(capsys, "cancel", path, job, "--reason", "x")
        assert (code, "refused (job_over)" in error) == (1, True)
        code, _, error = await typed(capsys, "approve", "--url", url, "r1", "--reason", "x")
        assert (code, "there is no open request 'r1'; open: none" in error) == (1, True)

        code, text, _ = await typed(capsys, "jobs", "--url", url, "--json", "--limit", "1")
        assert [one["id"] for one in json.loads(text)] == [job]
        code, text, _ = await typed(capsys, "trigger", "--url", url, "--reason", "x", "--json")
        assert (code, json.loads(text)["accepted"]) == (1, False)
        code, _, error = await typed(capsys, "check", "--url", url, "--model", "other")
        assert (code, "no model 'other' here; this retrainer trains 'test'" in error) == (1, True)

        (example,) = (each for each in re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) if "RetrainingClient(" in each)
        example = example.replace("http://127.0.0.1:8422", url).replace("my-model", "test")
        await asyncio.to_thread(exec, compile(example, "docs/retraining.md", "exec"), {})
    code, _, error = await typed(capsys, "check", path)
    assert code == 2
    assert "no retrainer answers at" in error


async def test_the_page_has_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(r"^\| `(?:GET|POST) [^|]*\| ([^|]*) \|", PAGE, re.M)
    named = {verb for row in rows for verb in re.findall(r"`(\w+)", row)}
    assert named == set(VERBS)
    for verb in VERBS:
        code, text, _ = await typed(capsys, verb, "--help")
        assert (code, "--url URL" in text) == (0, True), verb
