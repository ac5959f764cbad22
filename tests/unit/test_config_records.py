"""An address is shown without its password, whatever it looks like, and is never kept with it for comparison."""

import pytest

from gauntlet.config.load import parse
from gauntlet.config.records import without_password
from gauntlet.config.takes_effect import flat

MINIMAL = "experiment: e\ntask: classification\nchampion: {model: m.skops}\n"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("local", "local"),
        ("postgresql://me@db:5432/records", "postgresql://me@db:5432/records"),
        ("postgresql://me:secret@db/records?sslmode=require", "postgresql://me:***@db/records?sslmode=require"),
        ("postgresql://me:se@cret@db/records", "postgresql://me:***@db/records"),
        ("postgresql:///records?host=/var/run/postgresql", "postgresql:///records?host=/var/run/postgresql"),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_settings_are_compared_without_passwords() -> None:
    config = parse(f"{MINIMAL}records: postgresql://me:secret@db/records\nstate: redis://:secret@cache/0\n")
    settings = flat(config)
    assert settings["records"] == "postgresql://me:***@db/records"
    assert "secret" not in str(settings)
