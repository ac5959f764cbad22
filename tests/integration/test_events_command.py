"""`gauntlet events` on SQLite and on a real PostgreSQL: the seeds' analysis queries, as text and as JSON."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from builders import small_experiment
from builders.retraining_records import DAY, job, schema_of

from gauntlet.cli import main
from gauntlet.cli.events import QUESTIONS
from retrainer.jobs.job_dir import Answer
from retrainer.records import rows
from retrainer.records.database import Database

NOW = datetime.now(UTC).timestamp()


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An experiment whose records have four events: of today, of two and of three days ago, and of last month."""
    address = "local" if request.param == "sqlite" else schema_of(request.getfixturevalue("postgres"))
    path = small_experiment.write(tmp_path, records=address)
    database = Database(address, Path(small_experiment.load(path).data))
    database.migrate()
    jobs = [
        at(job(1), 30),
        at(job(2, status="failed", answer=Answer(error="out of\nluck")), 3),
        at(job(3, trigger="schedule", severity="LOW"), 2),
        at(job(4, status="running", ended_at=None, answer=Answer()), 0),
    ]
    origin = rows.origin("test", 0.0)
    database.write({"model_retraining_events": [origin | rows.of_event(one) for one in jobs]})
    return path


def at(one: object, days: float) -> object:
    return msgspec.structs.replace(one, created_at=NOW - days * DAY)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["events", *words]) == 0
    return capsys.readouterr().out


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    return msgspec.json.decode(asked(capsys, *words, "--json", "-"))


def test_all_and_recent(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    everything = answered(capsys, "all", str(config))
    assert [event["job_id"][-1] for event in everything] == ["4", "3", "2", "1"]
    assert {"trigger_metrics", "execution_metrics", "comparison_previous_r2"} <= everything[0].keys()
    assert [e["job_id"][-1] for e in answered(capsys, "recent", str(config))] == ["4", "3", "2"]
    assert [e["job_id"][-1] for e in answered(capsys, "recent", str(config), "--days", "2.5")] == ["4", "3"]
    text = asked(capsys, "all", str(config)).splitlines()
    assert text[0].split()[:4] == ["triggered_at", "job_id", "trigger_type", "severity"]
    assert len(text) == 5


def test_frequency_success_and_improvement(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert asked(capsys, "by-trigger", str(config)).split() == [
        "trigger_type", "frequency", "success_rate", "drift", "3", "50", "schedule", "1", "100",
    ]  # fmt: skip
    better = answered(capsys, "improvement", str(config))
    assert [(e["job_id"][-1], round(e["improvement_accuracy_percent"], 6)) for e in better] == [("3", 10), ("1", 10)]
    assert asked(capsys, "deliveries", str(config)) == "nothing yet\n"


def test_the_commands_of_the_documentation_run(
    capsys: pytest.CaptureFixture[str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text(encoding="utf-8")
    commands = re.findall(r"^gauntlet (events [^#\n]+)", page, re.MULTILINE)
    assert len(commands) == len(QUESTIONS)
    monkeypatch.chdir(config.parent)
    for command in commands:
        assert main(command.split()) == 0
    assert capsys.readouterr().err == ""


def test_without_records_it_says_who_makes_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    assert main(["events", "all", str(path)]) == 2
    assert "the retrainer makes them when it runs" in capsys.readouterr().err
    assert not (tmp_path / "gauntlet-data").exists()


def test_impossible_days_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    assert main(["events", "recent", str(path), "--days", "0"]) == 2
    assert "--days 0" in capsys.readouterr().err
