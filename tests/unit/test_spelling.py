"""Suggestions for misspelt names."""

from gauntlet.spelling import did_you_mean


def test_a_close_name_is_suggested_and_a_strange_one_is_not() -> None:
    assert did_you_mean("metrc", ["unit", "metric"]) == "did you mean 'metric'?"
    assert did_you_mean("zzz", ["unit", "metric"]) == did_you_mean("unit", []) == ""
