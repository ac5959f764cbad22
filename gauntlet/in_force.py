"""What is in force beside what is configured: the settings of the last start, the registry, the control record and the
running rollout's plan, each compared with the configuration.

The router writes `settings.json` at each start; what a start can't change stays as at the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import adapters, control, control_copy, files, keys
from gauntlet.config import Config, FeatureSpec
from gauntlet.config.retraining_aliases import named_settings
from gauntlet.config.section import span
from gauntlet.config.takes_effect import A_NEW_ONE, COUNTED, TakesEffect, effect_of, flat, recounted
from gauntlet.errors import ConfigError, ModelUnusable, StateUnavailable
from gauntlet.registry import Version, new_version
from gauntlet.registry.artifact import AUTO, Feature, sha256
from gauntlet.rollout import Control, Rollout, Stage
from gauntlet.state import StateStore, decoded
from gauntlet.status import EvaluatorProgress, RetrainerProgress
from gauntlet.types import Rule

T = TypeVar("T")

_FILE = "settings.json"
_BY_CONTENT = ("data", "champion.model", "champion.reference")
"""Paths: a folder may move; what counts is what lies there."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings in force, by dotted name as the file would have them, and the reference file's checksum."""

    experiment: str
    settings: dict[str, str]
    reference: str | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One setting that is configured otherwise than it is in force."""

    setting: str
    in_force: str
    configured: str
    effect: TakesEffect
    remedy: str = ""

    def __str__(self) -> str:
        return self._told(_WHEN[self.effect])

    @property
    def at_start(self) -> str:
        """As told while the services start."""
        return self._told("takes effect now" if self.effect is TakesEffect.START else _WHEN[self.effect])

    def _told(self, when: str) -> str:
        what = f"{self.setting}: in force {self.in_force}, configured {self.configured}; {when}"
        return f"{what}: {self.remedy}" if self.remedy else what


_WHEN = {
    TakesEffect.START: "takes effect at the next start",
    TakesEffect.ROLLOUT: "takes effect with the next rollout",
    TakesEffect.NEVER: "never takes effect by itself",
    TakesEffect.REFUSED: "is refused at start",
}


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that has started: its settings, its control record, and what evaluator and retrainer tell of
    themselves."""

    settings: Settings
    control: Control | None = None
    evaluator: EvaluatorProgress | None = None
    retrainer: RetrainerProgress | None = None
    reachable: bool = True
    """Whether the state store answered."""


def settings(config: Config) -> Settings | None:
    """The settings of the last start in this data folder; None before the first."""
    path = adapters.data(config) / _FILE
    try:
        with files.reading(path, "it holds the settings of the last start; removed, it is recreated"):
            return msgspec.json.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return None


async def read(config: Config) -> InForce | None:
    """What is in force in this data folder; None before the first start. Writes nothing.

    A control record that the state store has lost is the router's copy, which the next start puts back. Raises
    `ConfigError` where there is none of the two.
    """
    found, trace = settings(config), control_copy.trace(config)
    if found is None and trace is None:
        return None
    name = config.experiment if found is None else found.experiment
    store = adapters.state(config)
    try:
        version, record = await control.read(store, name)
        known, copy = control_copy.read(config)
        if copy is not None and known > version and not _moved(config, found):
            control_copy.refuse_older(config, copy)
            record = copy
        if found is not None:
            return InForce(
                settings=found,
                control=record,
                evaluator=await _report(store, keys.evaluator_progress(name), EvaluatorProgress),
                retrainer=await _report(store, keys.retrainer_progress(name), RetrainerProgress),
            )
        if record is None and trace is not None:
            control_copy.refuse_lost(config, trace)
        return None
    except StateUnavailable:
        if found is None:
            return None
        return InForce(settings=found, reachable=False)
    finally:
        await store.close()


async def _report(store: StateStore, key: str, kind: type[T]) -> T | None:
    version, value = await store.get(key)
    return decoded(key, value, kind) if version else None


def champion(config: Config, found: InForce) -> str:
    """The version that serves; the first one where the state store does not tell."""
    return found.control.champion if found.control else adapters.registry(config).known()[0].version


def refuse(config: Config, found: InForce) -> None:
    """Raise `ConfigError` for a configuration that would corrupt what is in force."""
    refused = [one for one in differences(config, found) if one.effect is TakesEffect.REFUSED]
    if refused:
        raise ConfigError(f"{config.data}: " + "; ".join(map(str, refused)), code="other_settings")
    if found.control is None and found.reachable:
        before = found.settings.settings.get("state")
        control_copy.refuse_lost(config, adapters.data(config) / _FILE, before)


def _moved(config: Config, found: Settings | None) -> bool:
    """Whether another state store is configured than at the last start."""
    return found is not None and found.settings.get("state", config.state) != config.state


def keep(config: Config) -> None:
    """Write what this start puts in force. What a start can't change stays as it was."""
    before, new = settings(config), flat(config)
    reference = _checksum(config.champion.reference)
    if before is not None:
        fixed = {name: value for name, value in before.settings.items() if effect_of(name)[0] is TakesEffect.NEVER}
        new |= fixed
        reference = before.reference
    made = Settings(experiment=config.experiment, settings=new, reference=reference)
    if made != before:
        files.atomic_write(adapters.data(config) / _FILE, msgspec.json.format(msgspec.json.encode(made)))


def differences(config: Config, found: InForce) -> list[Difference]:
    """Every difference, those that a start refuses first, those that never take effect next."""
    if config.experiment != found.settings.experiment:
        return [_difference("experiment", found.settings.experiment, config.experiment)]
    now = flat(config)
    if (profile := found.settings.settings.get("profile", config.profile)) != config.profile:
        return [_difference("profile", profile, config.profile)]  # every time differs with it
    before = {**found.settings.settings, **_frozen(found, now)}
    by_name = _by_name(config, found)
    made = [
        _difference(name, before.get(name, "none"), now.get(name, "none"))
        for name in {**before, **now}
        if before.get(name) != now.get(name)
        and name not in by_name
        and not _compared_otherwise(name, found)
        and (name in before or "[" in name or name.startswith("guardrails."))  # else a setting of a later release
    ]
    if found.evaluator is not None and found.evaluator.settings:
        made += [
            Difference(setting=name, in_force=old, configured=new, effect=TakesEffect.REFUSED, remedy=remedy)
            for name, old, new, remedy in recounted(config, found.evaluator.settings)
        ]
    made += _configured(by_name, now, found)
    made += _of_the_model(config, found)
    return sorted(made, key=lambda one: (_ORDER.index(one.effect), one.setting))


def _by_name(config: Config, found: InForce) -> dict[str, str]:
    """The settings that `POST /retraining/configure` has made, as they are in force over this file's; none where they
    don't fit it, which the retrainer tells."""
    configured = found.retrainer.configured if found.retrainer else {}
    try:
        retrain = named_settings(config, configured) if configured else config.retrain
    except ConfigError:
        return {}
    here = flat(config)
    over = flat(msgspec.structs.replace(config, retrain=retrain))
    return {name: over.get(name, "none") for name in {**here, **over} if over.get(name) != here.get(name)}


def _configured(by_name: dict[str, str], now: dict[str, str], found: InForce) -> list[Difference]:
    named = ", ".join(sorted(found.retrainer.configured)) if found.retrainer else ""
    remedy = f"POST /retraining/configure has set {named}; null there takes one back"
    return [
        Difference(
            setting=name, in_force=value, configured=now.get(name, "none"), effect=TakesEffect.NEVER, remedy=remedy
        )
        for name, value in by_name.items()
    ]


_ORDER = (TakesEffect.REFUSED, TakesEffect.NEVER, TakesEffect.ROLLOUT, TakesEffect.START)


def _difference(name: str, before: str, after: str) -> Difference:
    effect, remedy = effect_of(name)
    return Difference(setting=name, in_force=before, configured=after, effect=effect, remedy=remedy)


def _compared_otherwise(name: str, found: InForce) -> bool:
    counted = found.evaluator is not None and bool(found.evaluator.settings)
    by_evaluator = counted and name in ("task", "outcomes.correction", *(f"evidence.{one}" for one in COUNTED))
    return name in (*_BY_CONTENT, "features", "classes", "experiment", "state") or by_evaluator


def _frozen(found: InForce, now: dict[str, str]) -> dict[str, str]:
    """The settings that the running rollouts keep until they end; where they differ, one that is not as `now`."""
    frozen: dict[str, str] = {}
    for rollout in found.control.rollouts if found.control else ():
        plan = found.evaluator.plans.get(rollout.id, {}) if found.evaluator else {}
        kept = _stages(rollout) | _planned(plan)
        frozen |= {name: value for name, value in kept.items() if name not in frozen or value != now.get(name)}
    return frozen


def _planned(plan: dict[str, Any]) -> dict[str, str]:
    """The settings in a rollout's plan."""
    guards = {
        f"guardrails.{guard['name']}.{name}": str(guard[name])
        for guard in plan.get("guards", ())
        for name in ("margin", "alpha")
    }
    return guards | {
        f"evidence.{name}": span(plan[name]) if name in ("duration", "max_duration") else _plain(plan[name])
        for name in _PLANNED
        if name in plan
    }


_PLANNED = (
    *("form", "alpha", "harm_alpha", "min_samples", "duration", "max_duration", "min_blocks", "min_harm_blocks"),
    *("margin", "label_arrival_margin", "require_safe", "gross_margin", "min_effect"),
)
"""Settings of `evidence` that stand in a rollout's plan."""


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stages(rollout: Rollout) -> dict[str, str]:
    if rollout.rule != Rule.PROVE:
        return {}
    named = {"shadow": rollout.shadow} | {f"ramp[{place}]": stage for place, stage in enumerate(rollout.stages)}
    return {f"{where}.{name}": value for where, stage in named.items() for name, value in _stage(where, stage).items()}


def _stage(where: str, stage: Stage) -> dict[str, str]:
    found = {
        "min_time": span(stage.min_seconds),
        "min_outcomes": str(stage.min_outcomes),
        "approval": _plain(stage.approval),
    }
    return found if where == "shadow" else {"share": str(stage.share), **found}


def _of_the_model(config: Config, found: InForce) -> list[Difference]:
    """Differences from what the registry holds: the model file, the reference, the features and the classes."""
    registry = adapters.registry(config)
    versions = registry.known()
    if not versions:
        return []
    made = []
    schema = versions[0].schema
    if (other := _other_features(config.feature_specs(), schema.features)) is not None:
        made.append(_difference("features", *other))
    if config.classes and list(config.classes) != list(schema.classes):
        made.append(_difference("classes", str(list(schema.classes)), str(config.classes)))
    if (model := _model(config, versions, champion(config, found))) is not None:
        made.append(model)
    if (reference := _reference(config.champion.reference, found.settings)) is not None:
        made.append(_difference("champion.reference", *reference))
    return made


def _reference(path: str | None, kept: Settings) -> tuple[str, str] | None:
    """The reference of the first start and the configured one in words, where they are not the same."""
    if path is None:
        return None if kept.reference is None else (Path(kept.settings["champion.reference"]).name, "none")
    if _checksum(path) in (None, kept.reference):
        return None
    return "none" if kept.reference is None else "another content", Path(path).name


def _other_features(specs: Sequence[FeatureSpec], held: Sequence[Feature]) -> tuple[str, str] | None:
    """Both lists in words where the configuration declares other features than the versions have; else None."""
    known = {feature.name: feature for feature in held}
    alike = {spec.name for spec in specs} == known.keys() and all(
        spec.required == known[spec.name].required and spec.kind in (AUTO, known[spec.name].kind) for spec in specs
    )
    return None if alike or not specs else (_listed(held), _listed(specs))


def _listed(features: Sequence[Feature] | Sequence[FeatureSpec]) -> str:
    return f"[{', '.join(map(feature_in_words, features))}]"


def feature_in_words(feature: Feature | FeatureSpec) -> str:
    """A feature's name, and what else is known of it."""
    return feature.name + (" (text)" if feature.kind == "text" else "") + ("" if feature.required else " (optional)")


def _model(config: Config, versions: list[Version], champion: str) -> Difference | None:
    """The configured model beside the registered ones; None where it is the first or the present champion."""
    source, path = config.champion.model, Path(config.champion.model)
    first, serving = versions[0].version, champion
    if path.is_file():
        checksum = sha256(path)
        same = [version.version for version in versions if version.checksum == checksum]
    elif ":" in source:
        same = [version.version for version in versions if version.source == source]
    else:  # the registry has its copy
        return None
    if first in same or serving in same:
        return None
    effect, remedy = effect_of("champion.model")
    try:
        if not same:
            new_version.read(config, adapters.registry(config), champion, source)
    except ModelUnusable as error:
        remedy = f"it can't be made a version: {error}; put that right, or {A_NEW_ONE}"
    return Difference(
        setting="champion.model",
        in_force=serving if serving == first else f"{serving} ({first} at the first start)",
        configured=f"{path.name}, which is {same[-1] if same else 'not a version'}",
        effect=effect,
        remedy=f"challenge with {same[-1]}" if same else remedy.replace("MODEL", source),
    )


def _checksum(path: str | None) -> str | None:
    return sha256(Path(path)) if path is not None and Path(path).is_file() else None
