"""Which parts a test run may not do without: the environment variable GAUNTLET_REQUIRE, a comma list.
Invariant: a name that nobody knows is refused, so that a misspelt requirement can't silently skip its tests."""

from collections.abc import Mapping

VARIABLE = "GAUNTLET_REQUIRE"
NAMES = frozenset(
    {"airflow", "chromium", "curl", "kafka", "mlflow", "postgres", "prometheus", "promtool", "ray", "redis"}
)


def required(environment: Mapping[str, str]) -> frozenset[str]:
    """The names in GAUNTLET_REQUIRE; ValueError naming those that are no part."""
    names = frozenset(filter(None, (name.strip() for name in environment.get(VARIABLE, "").split(","))))
    if names - NAMES:
        raise ValueError(f"{VARIABLE} names {sorted(names - NAMES)}; known are {sorted(NAMES)}")
    return names
