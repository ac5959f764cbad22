"""The retrainer's memory survives a restart whole or not at all, and tells of jobs only what is committed."""

from pathlib import Path

import msgspec
import pytest

from gauntlet.types import Severity
from retrainer import alerts
from retrainer.jobs.job_dir import Answer
from retrainer.store import JobRecord, RetrainerStore
from retrainer.triggers.requests import RetrainRequest

JOB = JobRecord(
    id="retrain_20130601_001",
    status="pending",
    trigger="drift",
    request="ep1",
    severity="HIGH",
    reason="drift",
    champion="v1",
    recipe="default",
    created_at=100.0,
    updated_at=100.0,
)
REQUEST = RetrainRequest(
    kind="drift", id="ep1", at=90.0, severity=Severity.HIGH, model="v1", reason="drift", attempted=True
)
LATE = RetrainRequest(
    kind="rule", name="late flights", id="r1", at=91.0, severity=Severity.MEDIUM, model=None, reason="?", mode="approve"
)


def reopened(store: RetrainerStore, folder: Path) -> RetrainerStore:
    store.close()
    return RetrainerStore(folder, "e")


def test_everything_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    store.handled("drift", "evaluator", 6, 95.0)
    store.handled("drift", "evaluator", 7, 90.0)
    store.open_request(REQUEST)
    store.open_request(LATE)
    store.put(JOB)
    assert store.commit()
    assert not store.commit(), "nothing is new"
    store = reopened(store, tmp_path)
    assert store.offsets == {("drift", "evaluator"): 8}
    assert store.now == 95.0, "the events' clock never runs backwards"
    assert store.requests == {"drift": REQUEST, "rule:late flights": LATE}
    assert store.jobs == {JOB.id: JOB}
    assert store.live == JOB
    store.close_request("drift")
    store.commit()
    store = reopened(store, tmp_path)
    assert store.requests == {LATE.key: LATE}
    store.close()


def test_what_is_not_committed_is_gone_all_together(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    store.handled("drift", "evaluator", 6, 95.0)
    store.put(JOB)
    assert store.outbox() == [], "nobody hears of it before it is committed"
    store = reopened(store, tmp_path)
    assert (store.offsets, store.jobs, store.now, store.outbox()) == ({}, {}, 0.0, [])
    store.close()


def test_job_events_stay_in_the_outbox_until_they_are_confirmed(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    store.put(JOB)
    store.put(msgspec.structs.replace(JOB, status="running"))
    store.commit()
    store = reopened(store, tmp_path)
    outbox = store.outbox()
    assert [(e.id, e.status, e.at, e.experiment) for _, e in outbox] == [
        (JOB.id, "pending", 100.0, "e"),
        (JOB.id, "running", 100.0, "e"),
    ]
    store.confirm(outbox[0][0])
    assert [e.status for _, e in store.outbox()] == ["running"]
    store.close()


def test_the_job_log_has_one_line_a_job_even_when_sent_twice(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    for number, status in ((1, "completed"), (2, "failed")):
        done = msgspec.structs.replace(
            JOB,
            id=f"retrain_20130601_00{number}",
            status=status,
            ended_at=110.0,
            answer=Answer(version="v2", accepted=True),
        )
        store.put(done)
        store.write_line(done.id)
        store.write_line(done.id)
    lines = [msgspec.json.decode(line) for line in (tmp_path / "retraining_jobs.jsonl").read_bytes().splitlines()]
    assert [(x["job_id"], x["status"], x["decision"], x["decided_at"]) for x in lines] == [
        ("retrain_20130601_001", "completed", "accept the challenger", 110.0),
        ("retrain_20130601_002", "failed", "failed", 110.0),
    ]
    store.close()


def test_alerts_are_read_on_from_a_number_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    for number in range(1_002):
        store.alert(alerts.alert("training_failed", 1.0, "e", str(number), JOB.id))
    assert store.alerts() == [], "nobody hears of them before they are committed"
    store.commit()
    store = reopened(store, tmp_path)
    assert [alert.text for _, alert in store.alerts()][:2] == ["2", "3"]
    last = store.alerts()[-1][0]
    assert store.alerts(last) == []
    store.alert(alerts.alert("candidate_worse", 2.0, "e", "worse"))
    store.commit()
    assert [(number > last, alert.severity) for number, alert in store.alerts(last)] == [(True, "MEDIUM")]
    store.close()


def test_every_alert_has_its_severity_and_a_remedy() -> None:
    severities = {
        "training_timeout": "HIGH",
        "training_memory": "HIGH",
        "training_failed": "MEDIUM",
        "candidate_worse": "MEDIUM",
        "data_quality_low": "CRITICAL",
    }
    found = {name: alerts.alert(name, 1.0, "e", "text", JOB.id) for name in severities}
    assert {name: alert.severity for name, alert in found.items()} == severities
    assert all(len(alert.remedy) > 10 for alert in found.values())


def regression(before: float, after: float, improvement: float) -> dict[str, dict[str, float]]:
    """The metrics of a job whose models have these RMSE."""
    return {"champion": {"rmse": before}, "challenger": {"rmse": after}, "holdout": {"improvement": improvement}}


@pytest.mark.parametrize(
    ("status", "answer", "name"),
    [
        ("completed", Answer(accepted=True), None),
        ("completed", Answer(metrics={"holdout": {"improvement": -0.02}}), None),
        ("completed", Answer(metrics={"holdout": {"improvement": -0.0201}}), "candidate_worse"),
        ("completed", Answer(metrics={"holdout": {"improvement": 0.82 - 0.84}}), None),
        ("completed", Answer(metrics=regression(100.0, 102.0, -404.0)), None),
        ("completed", Answer(metrics=regression(100.0, 102.1, -424.41)), "candidate_worse"),
        ("completed", Answer(metrics=regression(0.01, 0.011, -2.1e-5)), "candidate_worse"),
        ("completed", Answer(metrics=regression(0.0, 0.5, -0.25)), "candidate_worse"),
        ("completed", Answer(alert="data_quality_low"), "data_quality_low"),
        ("failed", Answer(error="no"), "training_failed"),
        ("aborted", Answer(error="late", alert="training_timeout"), "training_timeout"),
        ("cancelled", Answer(error="by ann"), None),
    ],
)
def test_how_a_job_ends_says_what_people_are_told(status: str, answer: Answer, name: str | None) -> None:
    assert alerts.of_answer(status, answer) == name


def test_ids_count_up_within_a_day(tmp_path: Path) -> None:
    store = RetrainerStore(tmp_path, "e")
    assert store.next_id("20130601") == "retrain_20130601_001"
    store.put(JOB)
    assert store.next_id("20130601") == "retrain_20130601_002"
    assert store.next_id("20130602") == "retrain_20130602_001"
    store.close()
