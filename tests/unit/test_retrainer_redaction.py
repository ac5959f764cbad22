"""What a job prints is shown without the secrets in it."""

import pytest

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
        ("12 rows in /home/someone, 3 tokens: 4", "12 rows in /home/someone, 3 tokens: 4"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text, ENVIRON) == shown
