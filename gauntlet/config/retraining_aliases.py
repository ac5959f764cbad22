"""Settings of retraining under the names that people know from elsewhere, such as `performance_threshold`, as ours.

`RetrainingConfig` is flat; the files of other systems have sections (`retraining`, `drift_detection`, `ab_testing`,
`retraining_rules`, …). Both are read. What belongs to another part of Gauntlet is refused with its place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from gauntlet.config import Config, RetrainConfig
from gauntlet.config.load import in_words_of_yaml, split_error
from gauntlet.config.misplaced_names import ELSEWHERE, holds
from gauntlet.config.rehearsal import as_written, rehearsed
from gauntlet.config.section import LONGEST, Seconds
from gauntlet.errors import ConfigError
from gauntlet.spelling import did_you_mean

_SECTIONS = ("retraining", "drift_detection", "ab_testing", "logging", "retraining_config")
_DAY = 86_400.0
_GREATEST = sys.float_info.max

Patch = dict[str, Any]
Maker = Callable[[Any], Patch]


def _to(path: str, **also: Any) -> Maker:
    """The value itself at `path` of `retrain`, and `also` beside it."""
    *parents, last = path.split(".")
    return lambda value: _nested(parents, {last: value, **also})


def _nested(parents: list[str], leaf: Patch) -> Patch:
    for parent in reversed(parents):
        leaf = {parent: leaf}
    return leaf


def _days(path: str) -> Maker:
    return lambda value: _to(path)(_duration(value, _DAY))


def _duration(value: Any, unit: float) -> float:
    """Seconds of so many units."""
    number = _number(value)
    if number < 0:
        raise ValueError(f"must be at least 0, not {value!r}")
    if number > LONGEST / unit:
        raise ValueError(f"must be at most {LONGEST / unit:,.0f}, a hundred years, not {number:g}")
    return number * unit


def _switch(trigger: str, **on: Any) -> Maker:
    return lambda value: {"triggers": {trigger: {"enabled": _boolean(value), **(on if value else {})}}}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_GREATEST <= value <= _GREATEST:
        shown = repr(value)
        raise ValueError(f"must be a number, not {shown if len(shown) <= 40 else f'{shown[:40]} …'}")
    return float(value)


def _seconds(kind: type[Seconds], value: Any) -> Any:
    """A duration: all are numbers of seconds here."""
    return kind.checked(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _significance(value: Any) -> Patch:
    return {"confidence": 1.0 - _number(value)}


def _rule_of_days(name: str, condition: str) -> Maker:
    return lambda value: {
        "triggers": {"rules": [{"name": name, "condition": condition.format(_duration(value, _DAY) / _DAY)}]}
    }


def _rules(value: Any) -> Patch:
    """`retraining_rules`: {name: {condition, action, trigger}}, or a list of rules that have their `name`, as the
    configuration file has them; what the `trigger` is called is said by its name."""
    rules = [{"name": name, **_mapping(rule)} for name, rule in value.items()] if isinstance(value, Mapping) else value
    if not isinstance(rules, list) or not all("name" in _mapping(rule) for rule in rules):
        raise ValueError(_RULES)
    return {"triggers": {"rules": [{k: v for k, v in rule.items() if k != "trigger"} for rule in rules]}}


_RULES = 'must be rules by their names, as in {"low": {"condition": "accuracy < 0.85", "action": "retrain"}}'


def _mapping(rule: Any) -> Mapping[str, Any]:
    if not isinstance(rule, Mapping):
        raise ValueError(_RULES)
    return rule


_PERFORMANCE = {"mode": "automatic"}
"""Who sets a threshold for it wants it to act; by itself it only suggests."""

NAMES: dict[str, Maker] = {
    "performance_enabled": _switch("performance", **_PERFORMANCE),
    "performance_threshold": _to("triggers.performance.fall", **_PERFORMANCE),
    "accuracy_threshold": _to("triggers.performance.fall", **_PERFORMANCE),
    "r2_threshold": _to("triggers.performance.r2_fall", **_PERFORMANCE),
    "rmse_threshold": _to("triggers.performance.rmse_rise", **_PERFORMANCE),
    "min_accuracy": lambda value: _to("triggers.performance.floors", **_PERFORMANCE)({"accuracy": value}),
    "min_samples_for_check": _to("triggers.performance.min_outcomes"),
    "drift_enabled": _switch("drift"),
    "drift_threshold": _to("triggers.drift.statistic", on_inputs=True),
    "ks_statistic_threshold": _to("triggers.drift.statistic", on_inputs=True),
    "drift_alert_threshold": _to("triggers.drift.urgent", on_inputs=True),
    "transition_drift_threshold": _to("triggers.drift.transition", on_inputs=True),
    "data_drift_threshold": _to("triggers.drift.p_value", on_inputs=True),
    "max_drift_features": _to("triggers.drift.features", on_inputs=True),
    "quality_enabled": _switch("quality"),
    "data_quality_threshold": _to("triggers.quality.score"),
    "min_new_samples": _to("triggers.volume.samples", mode="automatic"),
    "max_days_since_training": _rule_of_days("max_days_since_training", "days_since_training > {:g}"),
    "retraining_rules": _rules,
    "min_data_points": _to("min_data_points"),
    "min_training_samples": _to("min_data_points"),
    "min_samples_for_retraining": _to("min_data_points"),
    "max_retrain_frequency_hours": lambda value: {"min_interval": _duration(value, 3600.0)},
    "training_data_window_days": _days("window"),
    "promotion_min_improvement": _to("min_improvement"),
    "improvement_threshold": _to("min_improvement"),
    "accuracy_improvement_threshold": _to("min_improvement"),
    "statistical_significance_threshold": _significance,
    "latency_increase_tolerance": _to("max_latency_increase"),
    "n_bootstrap": _to("bootstrap"),
}
"""Each name, and what it sets in `retrain`."""

SCHEDULE = (
    "schedule_enabled",
    "schedule_interval_days",
    "retrain_frequency_days",
    "schedule_day_of_week",
    "schedule_time",
    "schedule_cron",
    "schedule_timezone",
)
PROMOTION = ("auto_promote", "promotion_stage")

_IGNORED = ("model_name", "model")
"""The experiment's name, which the caller has checked."""


def from_names(mapping: Mapping[str, Any], settings: RetrainConfig, config: Config | None = None) -> RetrainConfig:
    """`settings` with what `mapping` sets under known names. What it does not name stays. With `config`, as it is
    written, a name that belongs to another part may have the value that holds there.

    Raises `ConfigError` with the name and the reason: for a name that is not known (and the closest that is), one that
    belongs elsewhere, a value of another kind, and thresholds that can't be.
    """
    given = dict(flat(mapping))
    patch: Patch = {}
    places: dict[tuple[str, ...], str] = {}
    for name, value in given.items():
        if name in (*SCHEDULE, *PROMOTION, *_IGNORED):
            continue
        check_name(name, value, config)
        if name in ELSEWHERE:
            continue
        try:
            made = NAMES[name](value)
        except ValueError as error:
            raise ConfigError(f"`{name}` {error}") from error
        if "min_data_points" in made and isinstance(before := patch.get("min_data_points"), int):
            made = made if isinstance(value, int) and value > before else {}  # of two minimums the greater one counts
        places |= dict.fromkeys(_paths(made), name)
        patch = _merged(patch, made)
    try:
        patch = _merged(patch, {**_schedule(given, settings), **_promotion(given)})
        whole = _merged(msgspec.to_builtins(settings, enc_hook=float), patch)
        return msgspec.convert(whole, RetrainConfig, dec_hook=_seconds, strict=True)
    except ValueError as error:
        raise ConfigError(_in_their_names(str(error), places)) from error


def named_settings(config: Config, mapping: Mapping[str, Any]) -> RetrainConfig:
    """`config.retrain` with what `mapping` sets under known names, as if the file had it: in a rehearsal
    its times pass faster, too. Raises `ConfigError` as `from_names` does, and for what does not fit other sections."""
    written = as_written(config)
    retrain = from_names(mapping, written.retrain, written)
    try:
        whole = msgspec.structs.replace(written, retrain=retrain)
        return (rehearsed(whole) if whole.profile == "rehearsal" else whole).retrain
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_name(name: str, value: object, config: Config | None = None) -> None:
    """Raises `ConfigError` for a name that is not known (with the closest that is), or that belongs elsewhere with a
    value that would change something there."""
    if name in ELSEWHERE:
        if not holds(name, value, config):
            raise ConfigError(f"`{name}` is not a setting of retraining; here it is {ELSEWHERE[name].place}")
        return
    known = [*NAMES, *SCHEDULE, *PROMOTION]
    if name not in (*known, *_IGNORED):
        closest = did_you_mean(name, [*known, *ELSEWHERE])
        raise ConfigError(f"there is no setting `{name}`; {closest or f'there are {_listed()}'}")


def flat(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The names with their values, out of their sections. Raises `ConfigError` for one that is given twice."""
    seen: set[str] = set()
    for name, value in mapping.items():
        inner = dict(value).items() if name in _SECTIONS and isinstance(value, Mapping) else [(name, value)]
        for key, one in inner:
            if key in seen:
                raise ConfigError(f"`{key}` is given twice")
            if name == "ab_testing" and key == "enabled":
                continue  # every new model has to show itself: there is no way without
            seen.add(str(key))
            yield str(key), one


_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _schedule(given: Mapping[str, Any], settings: RetrainConfig) -> Patch:
    """`retrain.schedule`: off, a cron expression, a weekday at a time, or every so many days at a time."""
    named = {name: given[name] for name in SCHEDULE if name in given and given[name] is not None}
    if not named:
        return {}
    if not _boolean(named.pop("schedule_enabled", True)):
        return {"schedule": None}
    zone = {"timezone": named.pop("schedule_timezone")} if "schedule_timezone" in named else {}
    if not named and not zone and settings.schedule is not None:
        return {}
    if "schedule_cron" in named:
        return {"schedule": {"cron": named["schedule_cron"], **zone}}
    time = named.get("schedule_time", "02:00")
    if (day := named.get("schedule_day_of_week")) is not None:
        name = str(day).lower()
        if name not in _WEEKDAYS and name not in [known[:3] for known in _WEEKDAYS]:
            raise ValueError(f"`schedule_day_of_week` must be {', '.join(_WEEKDAYS)}, not {day!r}")
        return {"schedule": {"weekday": name[:3], "time": time, **zone}}
    interval = next((name for name in ("schedule_interval_days", "retrain_frequency_days") if name in named), None)
    try:
        days = _duration(named[interval] if interval else 7, _DAY) / _DAY
    except ValueError as error:
        raise ValueError(f"`{interval}` {error}") from error
    if days <= 0:
        raise ValueError(f"`{interval}` must be greater than 0, not {days:g}")
    return {"schedule": {"every": days * _DAY, **({"time": time} if days.is_integer() else {}), **zone}}


_STAGES = {"none": "staging", "staging": "staging", "canary": "canary", "production": "production"}


def _promotion(given: Mapping[str, Any]) -> Patch:
    """How far a new model goes by itself: without `auto_promote` it is registered and waits."""
    if not any(name in given for name in PROMOTION):
        return {}
    stage = str(given.get("promotion_stage", "Staging"))
    if stage.lower() not in _STAGES:
        raise ValueError(f"`promotion_stage` must be Staging, Canary or Production, not {stage!r}")
    return {"up_to": _STAGES[stage.lower()] if _boolean(given.get("auto_promote", False)) else "staging"}


def _merged(base: Patch, patch: Patch) -> Patch:
    """`base` with `patch` over it, section by section; lists are joined."""
    found = dict(base)
    for key, value in patch.items():
        before = found.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and key != "schedule":
            found[key] = _merged(before, value)
        elif key == "rules" and before:
            names = [rule["name"] for rule in value]
            found[key] = [*(rule for rule in before if rule["name"] not in names), *value]
        else:
            found[key] = value
    return found


def _paths(patch: Patch, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in patch.items():
        if isinstance(value, dict) and value and key != "floors":
            yield from _paths(value, (*above, key))
        elif key not in ("mode", "on_inputs"):
            yield (*above, key)


def _in_their_names(message: str, places: Mapping[tuple[str, ...], str]) -> str:
    """The refusal with the names that were given in the place of ours."""
    reason, path = split_error(message)
    steps = tuple(str(step) for step in path)
    reason = in_words_of_yaml(reason, ["retrain", *path])
    here = next((name for place, name in places.items() if steps[: len(place)] == place), None)
    ours = {place[-1]: name for place, name in places.items()}
    reason = re.sub(r"`([\w.]+)`", lambda found: f"`{ours.get(found[1].split('.')[-1], found[1])}`", reason)
    return f"`{here}` {reason}" if here else reason


def _listed() -> str:
    return ", ".join([*NAMES, *SCHEDULE, *PROMOTION])
