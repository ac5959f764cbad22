"""Aliases and statuses of the registry through a whole life, from nothing but the control record."""

from gauntlet.rollout import Command, Control, Stage, begin
from gauntlet.transitions import apply
from retrainer.registry_sync import aliases, statuses

SHADOW = Stage(share=0.0, min_seconds=0)
RAMP = (Stage(share=0.01, min_seconds=0), Stage(share=0.1, min_seconds=0))


def after(control: Control, name: str, **more: object) -> Control:
    return apply(control, Command(name=name, actor="t", reason="r", **more), 1.0)  # type: ignore[arg-type]


def challenged(control: Control, version: str) -> Control:
    return after(control, "challenge", version=version, shadow=SHADOW, stages=RAMP)


def test_a_life_from_staging_to_production_and_back() -> None:
    control = begin("e", "v1", 0.0)
    known: dict[str, str] = {}

    def seen(*versions: str) -> dict[str, str]:
        nonlocal known
        known = statuses(control, versions, known)
        return known

    assert aliases(control) == {"champion": "v1"}
    assert seen("v1", "v2") == {"v1": "production", "v2": "staging"}
    control = challenged(control, "v2")
    assert aliases(control) == {"champion": "v1", "challenger": "v2"}
    assert seen("v1", "v2") == {"v1": "production", "v2": "staging"}
    control = after(control, "advance")
    assert seen("v1", "v2") == {"v1": "production", "v2": "canary"}
    control = after(control, "advance")
    control = after(control, "promote", bake_seconds=10.0)
    assert aliases(control) == {"champion": "v2", "previous": "v1"}
    assert seen("v1", "v2") == {"v1": "archived", "v2": "production"}
    control = challenged(control, "v3")
    assert seen("v1", "v2", "v3") == {"v1": "archived", "v2": "production", "v3": "staging"}
    control = after(control, "archive")
    assert seen("v1", "v2", "v3") == {"v1": "archived", "v2": "production", "v3": "archived"}
    control = after(control, "rollback")
    assert aliases(control) == {"champion": "v1", "previous": "v2"}
    assert seen("v1", "v2", "v3") == {"v1": "production", "v2": "archived", "v3": "archived"}


def test_what_was_missed_is_put_right_from_any_start() -> None:
    control = after(after(challenged(begin("e", "v1", 0.0), "v2"), "advance"), "promote")
    wrong = {"v0": "production", "v1": "production", "v2": "canary", "v8": "canary", "v9": "archived"}
    right = {"v0": "archived", "v1": "archived", "v2": "production", "v8": "archived", "v9": "archived"}
    assert statuses(control, list(wrong), wrong) == right, "also those whose rollout the record has long forgotten"
