"""What a job prints is shown without the secrets in it."""

from pathlib import Path

import pytest

from retrainer.jobs.job_dir import Answer, JobFolder
from retrainer.jobs.redaction import redacted

ENVIRON = {"PG_PASSWORD": "correct-horse", "HOME": "/home/someone", "TOKEN_COUNT": "12", "GAUNTLET_KEY_ANN": "a" * 20}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loading postgresql://ann:pa55@db/flights", "loading postgresql://***@db/flights"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("api_key=sk-12345678 sent", "api_key=*** sent"),
        ("{'password': 'hunter22', 'rows': 5}", "{'password': ***', 'rows': 5}"),
        ("it is correct-horse, said " + "a" * 20, "it is ***, said ***"),
        ("cloned with ghp_abcdefghijklmnopqrstuvwx", "cloned with ***"),
        ("12 rows in /home/someone, 3 tokens: 4", "12 rows in /home/someone, 3 tokens: 4"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text, ENVIRON) == shown


def test_a_jobs_answer_and_step_are_kept_without_secrets(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    raised, shown = (
        "RuntimeError: no login at postgresql://ann:pa55@db",
        "RuntimeError: no login at postgresql://***@db",
    )
    folder.report(raised, 0, 1)
    folder.judge(Answer(reason=raised))
    folder.finish(Answer(error=raised, warnings=[raised]))
    step = folder.step()
    assert step is not None
    assert step.step == shown
    assert folder.judged() == Answer(reason=shown)
    assert folder.answer() == Answer(error=shown, warnings=[shown])
