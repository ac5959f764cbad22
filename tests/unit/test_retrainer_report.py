"""A model's retraining life: every job has one line from its trigger to its outcome, with what is known and no more."""

from __future__ import annotations

from gauntlet.events import Health
from gauntlet.rollout import Control, Ended, Rollout, Stage
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
    health = Health(
        id="h",
        at=60.0,
        experiment="m",
        model="v2",
        outcomes=1,
        metrics={},
        window_outcomes=1,
        window={},
        realised_gain=0.018,
        realised_lower=0.004,
        realised_upper=0.03,
    )
    found = report(jobs, control, "log_loss", 60.0, health)
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
    assert [line.gain for line in found.lines if line.job != first.job] == [None] * 6, "of the champion only"
    assert (lines["2"].state, lines["2"].decision) == ("rolled_back", "won")
    assert lines["5"].improvement is None
