"""When a changed setting takes effect (at the next start, with the next rollout, or never), and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from gauntlet.config.records import without_password
from gauntlet.config.retrain import WindowLength
from gauntlet.config.section import BlockLength, Seconds, Section, span

if TYPE_CHECKING:
    from gauntlet.config import Config


class TakesEffect(StrEnum):
    """When a change counts."""

    START = "at the next start"
    ROLLOUT = "with the next rollout"
    NEVER = "never"
    REFUSED = "refused at start"


COUNTED = ("metric", "block", "harm_block", "cycle", "block_offset", "outcome_horizon")
"""Settings of `evidence` that make the evaluator's sums: they may change until it has counted anything."""

A_NEW_ONE = "give it an `experiment` and a `data` folder of its own"

_EFFECTS: dict[str, tuple[TakesEffect, str]] = {
    "": (TakesEffect.START, ""),
    "experiment": (TakesEffect.REFUSED, "set the name back, or give the new experiment a `data` folder of its own"),
    "profile": (
        TakesEffect.REFUSED,
        "set it back, for what was counted under one clock means nothing under another; give the other profile a "
        "`data` folder of its own",
    ),
    "task": (TakesEffect.REFUSED, f"set it back; for another task, {A_NEW_ONE}"),
    "clock": (TakesEffect.REFUSED, f"set it back, for the times on the log go by it; for another clock, {A_NEW_ONE}"),
    "log": (TakesEffect.REFUSED, f"set it back, for the evaluator has counted that log; for another log, {A_NEW_ONE}"),
    "registry": (TakesEffect.REFUSED, f"set it back, for the versions are there; for another registry, {A_NEW_ONE}"),
    "champion.model": (
        TakesEffect.NEVER,
        "make it a version with  gauntlet register CONFIG MODEL  and challenge with it",
    ),
    "champion.reference": (
        TakesEffect.NEVER,
        "a reference belongs to a version: give it with  gauntlet register --reference CONFIG MODEL",
    ),
    "champion.trusted": (TakesEffect.START, "counts for models that are registered from then on"),
    "champion.input": (TakesEffect.START, "counts for models that are registered from then on"),
    "champion.allow_pickle": (TakesEffect.START, "counts for models that are registered from then on"),
    "features": (TakesEffect.NEVER, f"versions share the features of the first; for others, {A_NEW_ONE}"),
    "classes": (TakesEffect.NEVER, f"versions share the classes of the first; for others, {A_NEW_ONE}"),
    "evidence": (TakesEffect.ROLLOUT, ""),
    **{f"evidence.{name}": (TakesEffect.START, "") for name in ("inconclusive", "aa_slice", *COUNTED)},
    "evidence.aa_round": (TakesEffect.START, "the round under way is then not counted"),
    "guardrails": (TakesEffect.ROLLOUT, ""),
    "segments": (TakesEffect.ROLLOUT, ""),
    "shadow": (TakesEffect.ROLLOUT, ""),
    "shadow.fraction": (TakesEffect.START, "the plan of a running rollout keeps its own"),
    "ramp": (TakesEffect.ROLLOUT, ""),
    "refresh": (TakesEffect.ROLLOUT, ""),
    "retrain.rule": (TakesEffect.ROLLOUT, ""),
    "retrain.up_to": (TakesEffect.ROLLOUT, ""),
    "slots": (TakesEffect.START, "a ramp that is under way keeps its own until it is empty"),
    "bake.time": (TakesEffect.START, "counts from the next promotion on"),
    "worth.time": (TakesEffect.START, "counts from the next promotion on"),
    "worth.holdout": (TakesEffect.START, "counts from the next promotion on"),
    "drift.pane": (TakesEffect.START, "the champion is then watched from scratch"),
    "drift.season": (TakesEffect.START, "the champion is then watched from scratch"),
    "drift.regimes": (TakesEffect.START, "the champion is then watched from scratch"),
    "drift.reference_rows": (TakesEffect.START, "counts for a champion whose reference is not complete yet"),
} | {
    f"champion.{name}": (
        TakesEffect.NEVER,
        "a reference belongs to a version: give it with  gauntlet register --reference CONFIG MODEL",
    )
    for name in ("target", "time", "held_out")
}
"""By setting or section; the longest that fits holds."""

_ADDRESSES = ("log", "state", "records")

_COUNTED = (
    "set it back; or, to count the whole log again, move evaluator.db away (and its record in a shared state store)"
)


def effect_of(setting: str) -> tuple[TakesEffect, str]:
    """When a change of `setting` counts, and what else is to be said or done."""
    steps = setting.replace("[", ".[").split(".")
    for length in range(len(steps), 0, -1):
        if (found := _EFFECTS.get(".".join(steps[:length]))) is not None:
            return found
    return _EFFECTS[""]


def counting_settings(config: Config) -> dict[str, Any]:
    """Settings that the evaluator's sums are made with: under any other value they mean something else."""
    evidence = config.evidence
    return {
        "task": str(config.task),
        "evidence.metric": config.metric,
        "evidence.block": evidence.longest_block,
        "evidence.harm_block": evidence.finest_block,
        "evidence.block_offset": float(evidence.block_offset),
        "evidence.outcome_horizon": float(evidence.outcome_horizon),
        "outcomes.correction": config.outcomes.correction,
    }


_BEFORE_IT_WAS_A_SETTING = {"outcomes.correction": "first"}


def recounted(config: Config, before: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Each counting setting with another value than `before`: its name, both values in words, and the remedy."""
    before = _BEFORE_IT_WAS_A_SETTING | before
    for name, value in counting_settings(config).items():
        if before.get(name) != value:
            yield name, _words(name, before.get(name)), _words(name, value), _COUNTED


def _words(name: str, value: Any) -> str:
    return span(value) if isinstance(value, float) else str(value)


def flat(config: Config) -> dict[str, str]:
    """Every setting by its dotted name, as the file would have it. Guardrails go by their names."""
    settings = dict(_flat(config, ""))
    for guard in config.guardrails:
        settings |= {f"guardrails.{guard.name}.{name}": _shown(getattr(guard, name)) for name in ("margin", "alpha")}
    return settings


def _flat(section: Section, prefix: str) -> Iterator[tuple[str, str]]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section) and name != "schedule":  # which may be none
            yield from _flat(value, f"{prefix}{name}.")
        elif name in ("ramp", "keys", "recipes", "rules", "notify"):
            for place, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}[{place}].")
        elif name not in ("guardrails", "features"):
            yield f"{prefix}{name}", without_password(value) if name in _ADDRESSES else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, BlockLength) and value.auto:
        return "auto"
    if isinstance(value, WindowLength) and not value:
        return "all"
    if isinstance(value, Seconds):
        return span(value)
    if isinstance(value, Section):
        fields = [(field, getattr(value, field.name)) for field in msgspec.structs.fields(value)]
        return ", ".join(f"{field.name} {_shown(given)}" for field, given in fields if given != field.default)
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
