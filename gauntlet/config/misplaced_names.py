"""Names from other systems whose settings belong to another part of Gauntlet: where each one is set here.

A value that agrees with the configuration is accepted and changes nothing; any other is refused, with the remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import Any, NamedTuple

from gauntlet.config import Config
from gauntlet.config.retrain import LOOK_SECONDS
from gauntlet.types import Rule

_FILE = "of the configuration file"
_DAY = 86_400.0

Holds = Callable[[Any, Config], bool]


class Elsewhere(NamedTuple):
    """`place`: where it is set, as it stands in a refusal. `holds`: whether a value is what the configuration has;
    `always`: whether it holds with every configuration."""

    place: str
    holds: Holds = lambda value, config: False
    always: Callable[[Any], bool] = lambda value: False


def _same(value: Any, ours: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isclose(value, ours)


def _last_share(value: Any, config: Config) -> bool:
    return _same(value, config.ladder(config.retrain.rule)[1][-1].share)


def _duration(value: Any, config: Config) -> bool:
    refresh = config.retrain.rule is Rule.REFRESH
    return _same(value, (config.refresh.duration if refresh else config.evidence.duration) / _DAY)


def _outcomes(value: Any, config: Config) -> bool:
    """Some stage before a promotion waits for as many."""
    shadow, ramp = config.ladder(config.retrain.rule)
    return isinstance(value, int | float) and value <= max(stage.min_outcomes for stage in (shadow, *ramp))


def _seldomer(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= LOOK_SECONDS


_SPLIT = f"`refresh.ramp` {_FILE} (`ramp` with `rule: prove`), as in `refresh: {{ramp: [{{share: 0.05}}]}}`"
_DURATION = f"`refresh.duration` {_FILE} (`evidence.duration` with `rule: prove`), as in `refresh: {{duration: 7d}}`"
_OUTCOMES = f"`min_outcomes` of the shadow or of a stage {_FILE}, as in `shadow: {{min_outcomes: 500}}`"
_PARAMETERS = f"among the `parameters` of a recipe with a `trainer` in `retrain.recipes` {_FILE}"

ELSEWHERE: dict[str, Elsewhere] = {
    "enable_notifications": Elsewhere(
        f"`notify` {_FILE}; without it nobody is told",
        always=lambda value: value is True,  # each target of `notify` is told, and without any nobody
    ),
    "notification_email": Elsewhere(
        f"an entry of `notify` {_FILE} with `apprise`, whose environment variable holds a mailto:// address",
        always=lambda value: value is None,
    ),
    "notification_handler": Elsewhere(
        f"an entry of `notify` {_FILE} with `handler`, a module:function", always=lambda value: value is None
    ),
    "enabled": Elsewhere(
        f"`retrain.enabled` {_FILE}, or start-monitoring and stop-monitoring",
        lambda value, config: value is config.retrain.enabled,
    ),
    "traffic_split": Elsewhere(_SPLIT, _last_share),
    "test_duration_days": Elsewhere(_DURATION, _duration),
    "duration_days": Elsewhere(_DURATION, _duration),
    "min_samples": Elsewhere(_OUTCOMES, _outcomes),
    "min_samples_for_decision": Elsewhere(_OUTCOMES, _outcomes),
    "primary_metric": Elsewhere(
        f"`evidence.metric` {_FILE}: log_loss, brier or accuracy; mse or mae",
        lambda value, config: value == config.metric,
    ),
    "error_threshold": Elsewhere(
        f"`drift.concept_rise` {_FILE}", lambda value, config: _same(value, config.drift.concept_rise)
    ),
    "outlier_pct_threshold": Elsewhere(
        f"`drift.outliers` {_FILE}, as a share", lambda value, config: _same(value, 100 * config.drift.outliers)
    ),
    "z_score_threshold": Elsewhere(
        "nothing to be set: drift counts values beyond three standard deviations",
        always=lambda value: _same(value, 3.0),
    ),
    "window_size": Elsewhere("nothing to be set: drift has windows of 64 to 16,384 outcomes side by side"),
    "check_interval_seconds": Elsewhere(
        f"nothing to be set: the triggers are looked at every {LOOK_SECONDS:g} seconds", always=_seldomer
    ),
    "log_to_file": Elsewhere(
        "nothing to be set: every job is a line of retraining_jobs.jsonl in the `data` folder",
        always=lambda value: isinstance(value, str) or value is True,
    ),
    "log_to_mlflow": Elsewhere(
        f"`registry` {_FILE}, as in `registry: mlflow+http://mlflow.example:5000`, or `registry: local`",
        lambda value, config: value is config.registry.startswith("mlflow+"),
    ),
    "num_epochs": Elsewhere(_PARAMETERS),
    "batch_size": Elsewhere(_PARAMETERS),
    "target_column": Elsewhere(
        f"`champion.target` {_FILE}; live rows have their outcome",
        lambda value, config: value == (config.champion.target or "target"),
    ),
    "force_retrain": Elsewhere("the trigger's `force`", always=lambda value: value is False),
    "drift_report_path": Elsewhere("nothing to be set: drift is on the event log; Airflow's DAG has `drift_report`"),
}


def holds(name: str, value: Any, config: Config | None) -> bool:
    """Whether the value says what holds anyway: always, or with this configuration as it is written."""
    there = ELSEWHERE.get(name)
    return there is not None and (there.always(value) or (config is not None and there.holds(value, config)))
