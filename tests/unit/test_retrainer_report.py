"""A model's retraining life: every job has one line from its trigger to its outcome, with what is known and no more."""

from __future__ import annotations

from evaluator.service.promotion_ledger import lineage
from gauntlet.promotion_ledger import Entry, Ledger
from gauntlet.registry import Version
from gauntlet.registry.artifact import Schema
from gauntlet.rollout import Control, Ended, Rollout, Stage
from gauntlet.types import Task
from retrainer.api import documents
from retrainer.api.report import report
from retrainer.jobs.job_dir import Answer
from retrainer.store import JobRecord

STAGE = Stage(share=0.05, min_seconds=1.0)


def job(number: int, status: str = "completed", **answer: object) -> JobRecord:
    return JobRecord(
        id=f"retrain_20260117_00{number}",
        status=status,
        trigger="drift",
        request="e1",
        severity="HIGH",
        reason="drift",
        champion="v1",
        recipe="default",
        created_at=float(number),
        updated_at=float(number),
        answer=Answer(**answer),  # type: ignore[arg-type]
    )


def test_each_job_has_its_line_from_trigger_to_outcome() -> None:
    improved = {"champion": {}, "challenger": {}, "holdout": {"improvement": 0.02, "rows": 900.0}}
    jobs = [
        job(1, accepted=True, version="v2", metrics=improved, split={"train_rows": 5000.0, "holdout_rows": 900.0}),
        job(2, accepted=True, version="v3", metrics=improved, reason="improves"),
        job(3, accepted=True, version="v4"),
        job(4, accepted=True, version="v5", reason="improves; not challenged: the champion is v2 by now"),
        job(5, accepted=False, reason="less than asked for"),
        job(6, "aborted", error="it took longer than 300 s"),
        job(7, "pending"),
    ]

    def ended(id: str, challenger: str, state: str) -> Ended:
        return Ended(id=id, challenger=challenger, champion="v1", state=state, at=50.0, actor="retrainer", reason="won")

    running = Rollout(id="r3", challenger="v4", stages=(STAGE,), stage=0, started_at=1, stage_since=1, shadow=STAGE)
    control = Control(
        experiment="m",
        champion="v2",
        rollouts=(running,),
        ended=(ended("r1", "v2", "promoted"), ended("r2", "v3", "rolled_back")),
    )
    known = {"since": 51.0, "until": 60.0, "pairs": 900, "alpha": 0.05}
    first_one = Entry(
        promotion="r1", champion="v2", previous="v1", number=1, gain=0.018, lower=0.004, upper=0.03, **known
    )
    taken_back = Entry(promotion="r2", champion="v3", previous="v1", number=2, gain=-0.1, **known)
    ledger = Ledger(entries=[first_one, taken_back], lineage=lineage([first_one, taken_back], "v2"))
    found = report(jobs, control, "log_loss", 60.0, ledger)
    assert (found.jobs, found.accepted, found.promoted, found.champion) == (7, 4, 1, "v2")
    assert found.by_status == {"completed": 5, "aborted": 1, "pending": 1}
    lines = {line.job[-1]: line for line in found.lines}
    assert [line.job[-1] for line in found.lines] == [*"7654321"], "the newest first"
    assert {number: line.outcome for number, line in lines.items()} == {
        "1": "serves",
        "2": "rolled back",
        "3": "at 5%",
        "4": "not challenged",
        "5": "the champion stays",
        "6": "aborted",
        "7": "pending",
    }
    first = lines["1"]
    assert (first.train_rows, first.holdout_rows, first.improvement, first.rollout) == (5000, 900, 0.02, "r1")
    assert (first.gain, first.gain_lower, first.gain_upper) == (0.018, 0.004, 0.03)
    assert (lines["2"].gain, lines["2"].gain_lower) == (-0.1, None), "of every promotion, too few blocks or not"
    assert [line.gain for line in found.lines if line.job[-1] not in "12"] == [None] * 5
    assert [(one.promotion, one.state) for one in found.promotions] == [("r2", "taken_back"), ("r1", "closed")]
    assert found.lineage is not None
    assert (found.lineage.links, found.lineage.gain) == (1, 0.018)
    assert [line.error for line in found.lines if line.error] == ["it took longer than 300 s"]
    assert (lines["2"].state, lines["2"].decision) == ("rolled_back", "won")
    assert lines["5"].improvement is None


def test_versions_are_told_newest_first_and_one_that_has_just_come_is_staging() -> None:
    schema = Schema(task=Task.REGRESSION, features=[])
    found = [
        Version(version=f"v{number}", created_at=1.0, source="", checksum=None, schema=schema)
        for number in (9999, 10000, 10001)
    ]
    told = documents.versions(found, {"v9999": "archived", "v10000": "production"}, {"champion": "v10000"})
    assert [(one.version, one.status) for one in told] == [
        ("v10001", "staging"),
        ("v10000", "production"),
        ("v9999", "archived"),
    ]
