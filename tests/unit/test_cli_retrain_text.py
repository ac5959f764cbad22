"""What `gauntlet retrain report` prints: one job is no jobs, and a state is said once."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from gauntlet.cli.retrain import text
from gauntlet.cli.retrain.page import page
from gauntlet.retraining_document import ReportDocument, ReportLine

AT = datetime(2026, 11, 29, tzinfo=UTC)
LINE = ReportLine(
    job="retrain_20261129_001",
    at=AT,
    trigger="manual",
    severity="HIGH",
    reason="ann: new labels",
    recipe="default",
    champion="v0001",
    status="completed",
    version="v0002",
    accepted=True,
    improvement=0.5,
    rollout="m-r0001",
    state="in_shadow",
    outcome="in shadow",
)


def report(jobs: int) -> ReportDocument:
    lines = [LINE] * jobs
    return ReportDocument(
        model="m",
        metric="mse",
        at=AT,
        champion="v0001",
        jobs=jobs,
        accepted=jobs,
        promoted=0,
        by_status={"completed": jobs} if jobs else {},
        by_trigger={"manual": jobs} if jobs else {},
        lines=lines,
    )


@pytest.mark.parametrize(
    ("jobs", "counted"), [(0, "0 jobs (none)"), (1, "1 job (1 completed)"), (2, "2 jobs (2 completed)")]
)
def test_jobs_are_counted_in_english(jobs: int, counted: str) -> None:
    assert counted in text.report(report(jobs))
    assert f">{min(jobs, 1)} trigger{'' if jobs else 's'}<" in page(report(jobs))


def test_a_rollout_that_goes_on_is_said_once() -> None:
    assert text.report_line(LINE).endswith(" → m-r0001 → in shadow")


def test_a_job_that_failed_says_why_in_its_line_and_on_the_page() -> None:
    failed = msgspec.structs.replace(LINE, status="failed", outcome="failed", rollout=None, error="no column age")
    assert text.report_line(failed).endswith(" → failed: no column age")
    assert "no column age" in page(msgspec.structs.replace(report(1), lines=[failed]))
    long = msgspec.structs.replace(failed, error="a word " * 100)
    assert len(text.report_line(long)) < 300
