"""What jobs count for: those that failed are no attempt and start no cool-down."""

from builders.retraining_records import job

from retrainer.attempts import AttemptHistory, attempt_history
from retrainer.jobs.job_dir import Answer

FAILED = Answer(error="not enough labelled rows")


def test_a_failed_job_is_no_attempt_and_starts_no_cool_down() -> None:
    completed = job(1)
    failed = job(2, status="failed", answer=FAILED)
    found = attempt_history([completed, failed], completed.champion)
    assert (found.attempts, found.failures) == (1, 1)
    assert found.unanswered == {failed.request}
    assert found.last_attempt_ended == completed.ended_at
    assert found.last_started == failed.created_at
    assert attempt_history([failed], completed.champion).last_attempt_ended is None
    assert attempt_history([], "v1") == AttemptHistory()


def test_aborted_and_cancelled_jobs_and_those_on_their_way_count() -> None:
    jobs = [job(number, status=status) for number, status in enumerate(("aborted", "cancelled", "running"), 1)]
    found = attempt_history(jobs, jobs[0].champion)
    assert (found.attempts, found.failures, found.unanswered) == (3, 0, frozenset())
    assert attempt_history(jobs, "another").attempts == 0


def test_a_round_fails_when_all_its_jobs_do_and_one_that_does_not_ends_the_row() -> None:
    first = [job(1, status="failed", answer=FAILED, recipe=recipe) for recipe in ("60d", "all")]
    second = job(2, status="failed", answer=FAILED)
    assert attempt_history([*first, second], "v1").failures == 2
    half = [first[0], job(1, recipe="all")]
    found = attempt_history([*half, second], half[1].champion)
    assert (found.failures, found.unanswered, found.attempts) == (1, {second.request}, 1)
    assert attempt_history([*first, second, job(3)], "v1").failures == 0


def test_the_recipe_with_most_attempts_and_the_latest_end_count() -> None:
    jobs = [job(1), job(2), job(3, recipe="all")]
    found = attempt_history(reversed(jobs), jobs[0].champion)
    assert (found.attempts, found.last_started) == (2, jobs[2].created_at)
    assert found.last_attempt_ended == jobs[2].ended_at
    assert jobs[2].ended_at != jobs[0].ended_at
