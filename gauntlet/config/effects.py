"""When a changed setting takes effect: at the next start, with the next rollout, or never, with what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from gauntlet.config.possible import span
from gauntlet.config.records import without_password
from gauntlet.config.retrain import WindowLength
from gauntlet.config.section import BlockLength, Seconds, Section

if TYPE_CHECKING:
    from gauntlet.config import Config


class Effect(StrEnum):
    """When a change counts."""

    START = "at the next start"
    ROLLOUT = "with the next rollout"
    NEVER = "never"
    REFUSED = "refused at start"


COUNTED = ("metric", "block", "harm_block", "cycle", "block_offset", "outcome_horizon")
"""Settings of `evidence` that make the evaluator's sums: they may change until it has counted anything."""

_ANEW = "give it an `experiment` and a `data` folder of its own"

_EFFECTS: dict[str, tuple[Effect, str]] = {
    "": (Effect.START, ""),
    "experiment": (Effect.REFUSED, "set the name back, or give the new experiment a `data` folder of its own"),
    "profile": (
        Effect.REFUSED,
        "set it back, for what was counted under one clock means nothing under another; give the other profile a "
        "`data` folder of its own",
    ),
    "task": (Effect.REFUSED, f"set it back; for another task, {_ANEW}"),
    "clock": (Effect.REFUSED, f"set it back, for the times on the log go by it; for another clock, {_ANEW}"),
    "log": (Effect.REFUSED, f"set it back, for the evaluator has counted that log; for another log, {_ANEW}"),
    "registry": (Effect.REFUSED, f"set it back, for the versions are there; for another registry, {_ANEW}"),
    "champion.model": (Effect.NEVER, "make it a version with  gauntlet register CONFIG MODEL  and challenge with it"),
    "champion.reference": (
        Effect.NEVER,
        "a reference belongs to a version: give it with  gauntlet register --reference CONFIG MODEL",
    ),
    "champion.trusted": (Effect.START, "counts for models that are registered from then on"),
    "champion.input": (Effect.START, "counts for models that are registered from then on"),
    "champion.allow_pickle": (Effect.START, "counts for models that are registered from then on"),
    "features": (Effect.NEVER, f"versions share the features of the first; for others, {_ANEW}"),
    "classes": (Effect.NEVER, f"versions share the classes of the first; for others, {_ANEW}"),
    "evidence": (Effect.ROLLOUT, ""),
    **{f"evidence.{name}": (Effect.START, "") for name in ("inconclusive", "aa_slice", *COUNTED)},
    "evidence.aa_round": (Effect.START, "the round under way is then not counted"),
    "guardrails": (Effect.ROLLOUT, ""),
    "segments": (Effect.ROLLOUT, ""),
    "shadow": (Effect.ROLLOUT, ""),
    "shadow.fraction": (Effect.START, "the plan of a running rollout keeps its own"),
    "ramp": (Effect.ROLLOUT, ""),
    "refresh": (Effect.ROLLOUT, ""),
    "retrain.rule": (Effect.ROLLOUT, ""),
    "retrain.up_to": (Effect.ROLLOUT, ""),
    "slots": (Effect.START, "a ramp that is under way keeps its own until it is empty"),
    "bake.time": (Effect.START, "counts from the next promotion on"),
    "worth.time": (Effect.START, "counts from the next promotion on"),
    "worth.holdout": (Effect.START, "counts from the next promotion on"),
    "drift.pane": (Effect.START, "the champion is then watched anew"),
    "drift.season": (Effect.START, "the champion is then watched anew"),
    "drift.regimes": (Effect.START, "the champion is then watched anew"),
    "drift.reference_rows": (Effect.START, "counts for a champion whose reference is not complete yet"),
} | {
    f"champion.{name}": (
        Effect.NEVER,
        "a reference belongs to a version: give it with  gauntlet register --reference CONFIG MODEL",
    )
    for name in ("target", "time", "held_out")
}
"""By setting or section; the longest that fits holds."""

_ADDRESSES = ("log", "state", "records")

_COUNTED = (
    "set it back; or, to count the whole log again, move evaluator.db away (and its record in a shared state store)"
)


def effect_of(setting: str) -> tuple[Effect, str]:
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
