"""Settings of retraining under the names that people know: every name has its place, and what can't be is refused."""

import re

import msgspec
import pytest

from gauntlet.config import RetrainConfig, load
from gauntlet.config.misplaced_names import ELSEWHERE
from gauntlet.config.rehearsal import SPEED
from gauntlet.config.retrain import ScheduleConfig
from gauntlet.config.retraining_aliases import NAMES, flat, from_names, named_settings
from gauntlet.config.section import Seconds
from gauntlet.errors import ConfigError

DAY = 86_400.0
OURS = RetrainConfig()


def set_by(**names: object) -> RetrainConfig:
    return from_names(names, OURS)


def test_the_whole_of_retraining_config() -> None:
    found = set_by(
        model_name="my_model",
        performance_threshold=0.04,
        min_samples_for_check=150,
        drift_threshold=0.1,
        drift_alert_threshold=0.3,
        schedule_enabled=True,
        schedule_interval_days=7,
        schedule_day_of_week="sunday",
        schedule_time="03:00",
        min_training_samples=1000,
        training_data_window_days=30,
        auto_promote=True,
        promotion_min_improvement=0.02,
        promotion_stage="Production",
        enable_notifications=True,
        notification_email=None,
    )
    triggers = found.triggers
    assert (triggers.performance.fall, triggers.performance.min_outcomes) == (0.04, 150)
    assert triggers.performance.mode == "automatic", "who sets a threshold wants it to act"
    assert (triggers.drift.statistic, triggers.drift.urgent, triggers.drift.on_inputs) == (0.1, 0.3, True)
    assert found.schedule == ScheduleConfig(weekday="sun", time="03:00")
    assert (found.min_data_points, found.window, found.min_improvement) == (1000, 30 * DAY, 0.02)
    assert found.up_to == "production"
    assert isinstance(found.window, Seconds)


def test_what_is_not_named_stays() -> None:
    ours = RetrainConfig(max_attempts=3, schedule=ScheduleConfig(cron="0 2 * * *"), min_data_points=50)
    assert from_names({}, ours) == ours
    assert from_names({"schedule_enabled": True}, ours) == ours
    changed = from_names({"performance_threshold": 0.1}, ours)
    assert changed.max_attempts == 3
    assert from_names({"schedule_enabled": False}, ours).schedule is None


SECTIONS = {
    "retraining": {
        "schedule_enabled": True,
        "schedule_interval_days": 7,
        "drift_enabled": True,
        "drift_threshold": 0.15,
        "performance_enabled": True,
        "performance_threshold": 0.05,
        "quality_enabled": True,
        "data_quality_threshold": 0.80,
        "min_data_points": 100,
        "max_retrain_frequency_hours": 6,
    },
    "drift_detection": {"transition_drift_threshold": 0.10},
    "ab_testing": {"enabled": True, "accuracy_improvement_threshold": 0.01, "latency_increase_tolerance": 0.10},
    "retraining_rules": {
        "performance_based": {
            "trigger": "accuracy_drops_below_0.85",
            "condition": "accuracy < 0.85",
            "action": "retrain",
        },
        "drift_based": {
            "trigger": "high_data_drift",
            "condition": "drift_count > 5",
            "action": "investigate_and_retrain",
        },
    },
}


def test_the_sections_of_files() -> None:
    found = from_names(SECTIONS, OURS)
    assert found.schedule == ScheduleConfig(every=Seconds(7 * DAY), time="02:00")
    assert [(rule.name, rule.mode) for rule in found.triggers.rules] == [
        ("performance_based", "automatic"),
        ("drift_based", "approve"),
    ]
    listed = [{"name": name, **rule} for name, rule in SECTIONS["retraining_rules"].items()]
    assert from_names({**SECTIONS, "retraining_rules": listed}, OURS) == found, "as the configuration file has them"
    assert found.triggers.quality.mode == "suggest", "bad data is to be repaired rather than learned"
    assert (found.min_interval, found.min_improvement) == (6 * 3600, 0.01)
    assert from_names(SECTIONS, found) == found, "once more changes nothing"


@pytest.mark.parametrize(
    ("names", "schedule"),
    [
        ({"schedule_interval_days": 1}, ScheduleConfig(every=Seconds(DAY), time="02:00")),
        ({"retrain_frequency_days": 0.5}, ScheduleConfig(every=Seconds(DAY / 2))),
        ({"schedule_day_of_week": "Mon"}, ScheduleConfig(weekday="mon", time="02:00")),
        ({"schedule_cron": "0 2 * * 0"}, ScheduleConfig(cron="0 2 * * 0")),
        (
            {"schedule_cron": "0 2 * * 0", "schedule_timezone": "Europe/Berlin"},
            ScheduleConfig(cron="0 2 * * 0", timezone="Europe/Berlin"),
        ),
        ({"schedule_enabled": False, "schedule_interval_days": 7}, None),
    ],
)
def test_schedules(names: dict[str, object], schedule: ScheduleConfig | None) -> None:
    assert from_names(names, OURS).schedule == schedule


def test_promotion_goes_as_far_as_it_may() -> None:
    for names, up_to in (
        ({}, "production"),
        ({"auto_promote": False}, "staging"),
        ({"auto_promote": True}, "staging"),  # RetrainingConfig promotes to Staging by default
        ({"auto_promote": True, "promotion_stage": "Canary"}, "canary"),
        ({"auto_promote": True, "promotion_stage": "Production"}, "production"),
    ):
        assert from_names(names, OURS).up_to == up_to


def test_other_names_of_the_same() -> None:
    found = set_by(
        min_accuracy=0.85,
        max_drift_features=5,
        min_new_samples=20_000,
        max_days_since_training=30,
        statistical_significance_threshold=0.05,
        data_drift_threshold=0.03,
        min_data_points=100,
        min_training_samples=1000,
        latency_increase_tolerance=0.2,
        n_bootstrap=1000,
    )
    assert (found.max_latency_increase, found.bootstrap) == (0.2, 1000)
    assert found.triggers.performance.floors == {"accuracy": 0.85}
    assert (found.triggers.drift.features, found.triggers.drift.p_value) == (5, 0.03)
    assert found.triggers.volume.samples == 20_000
    assert [rule.condition for rule in found.triggers.rules] == ["days_since_training > 30"]
    assert found.confidence == 0.95
    assert found.min_data_points == 1000, "the greater of two minimums"
    regression = set_by(r2_threshold=0.04, rmse_threshold=0.2)
    assert (regression.triggers.performance.r2_fall, regression.triggers.performance.rmse_rise) == (0.04, 0.2)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"performance_treshold": 0.05}, "there is no setting `performance_treshold`; did you mean 'performance_thr"),
        ({"performance_threshold": 1.5}, "`performance_threshold` must be a number < 1.0"),
        ({"performance_threshold": "high"}, "`performance_threshold` must be a number, not a text"),
        ({"drift_threshold": 0.4}, "`drift_alert_threshold`|`urgent` must be at least `drift_threshold`"),
        ({"data_quality_threshold": 0.6}, "`block` must be at most `data_quality_threshold`"),
        ({"training_data_window_days": 14}, "`training_data_window_days` must be longer than"),
        ({"training_data_window_days": -1}, "`training_data_window_days` must be at least 0"),
        ({"training_data_window_days": 36_526}, "`training_data_window_days` must be at most 36,525, a hundred years"),
        ({"schedule_interval_days": 1e12}, "`schedule_interval_days` must be at most 36,525, a hundred years"),
        ({"retrain_frequency_days": -1}, "`retrain_frequency_days` must be at least 0"),
        ({"max_retrain_frequency_hours": 1e300}, "`max_retrain_frequency_hours` must be at most 876,600"),
        ({"max_retrain_frequency_hours": 10**400}, r"must be a number, not 1000\d+ …"),
        ({"max_days_since_training": 36_526}, "`max_days_since_training` must be at most 36,525"),
        ({"min_training_samples": 10**9 + 1}, "`min_training_samples` must be at most 1,000,000,000: no job can hold"),
        ({"min_samples_for_check": 10**30}, "`min_samples_for_check` must be at most 1,000,000,000: no window has"),
        ({"min_new_samples": 10**30}, "`min_new_samples` must be at most 1,000,000,000: no job can hold more rows"),
        ({"max_drift_features": 10**30}, "`max_drift_features` must be at most 1,000,000: no model has more features"),
        ({"rmse_threshold": 1e30}, "`rmse_threshold` must be at most 1,000,000: such a rise never comes"),
        ({"promotion_min_improvement": 1e30}, "`promotion_min_improvement` must be at most 1,000,000,000,000"),
        ({"schedule_time": "25:00"}, "must be HH:MM"),
        ({"schedule_day_of_week": "someday"}, "`schedule_day_of_week` must be monday"),
        ({"schedule_interval_days": 0}, "`schedule_interval_days` must be greater than 0"),
        ({"schedule_cron": "0 0 31 2 *"}, "never comes"),
        ({"auto_promote": "yes"}, "must be true or false"),
        ({"promotion_stage": "Heaven"}, "`promotion_stage` must be Staging"),
        ({"max_retrain_frequency_hours": "6h"}, "`max_retrain_frequency_hours` must be a number"),
        ({"notification_email": "a@b.c"}, "here it is an entry of `notify`"),
        ({"retraining_rules": {"a": {"condition": "accuracy"}}}, "neither true nor false"),
        ({"retraining_rules": ["accuracy < 1"]}, "must be rules by their names"),
        ({"retraining": {"drift_threshold": 0.2}, "drift_threshold": 0.2}, "`drift_threshold` is given twice"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(names: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        from_names(names, OURS)


def test_at_its_limit_a_setting_is_taken() -> None:
    found = set_by(
        schedule_interval_days=36_525, training_data_window_days=36_525, min_data_points=10**9, rmse_threshold=1e6
    )
    assert found.schedule is not None
    assert found.schedule.every == found.window == 36_525 * DAY
    assert set_by(max_days_since_training=36_525).triggers.rules[0].condition == "days_since_training > 36525"


def test_what_says_what_holds_anyway_is_taken_and_changes_nothing() -> None:
    anyway = {
        "log_to_file": "model_registry/retraining_jobs.jsonl",
        "enable_notifications": True,
        "check_interval_seconds": 3600,
        "z_score_threshold": 3.0,
        "force_retrain": False,
    }
    assert set_by(**anyway) == OURS
    for name, value in (
        ("enable_notifications", False),
        ("notification_email", "a@example.org"),
        ("log_to_file", False),
        ("check_interval_seconds", 1),
        ("z_score_threshold", 2.5),
        ("force_retrain", True),
    ):
        with pytest.raises(ConfigError, match=f"`{name}` is not a setting of retraining; here it is"):
            set_by(**{name: value})


AB_TESTING = {
    "ab_testing": {"traffic_split": 0.05, "test_duration_days": 7, "min_samples_for_decision": 500},
    "logging": {"log_to_mlflow": True},
    "primary_metric": "brier",
    "target_column": "late",
    "outlier_pct_threshold": 4.0,
    "error_threshold": 0.2,
}
THESE = """
experiment: e
task: classification
champion: {model: m, target: late}
registry: mlflow+http://mlflow.example:5000
evidence: {metric: brier}
refresh: {ramp: [{share: 0.01}, {share: 0.05}], duration: 7d}
shadow: {min_outcomes: 500}
drift: {outliers: 0.04, concept_rise: 0.2}
"""


@pytest.mark.parametrize("profile", ["production", "rehearsal"])
def test_names_of_other_parts_are_taken_where_these_have_their_values(profile: str) -> None:
    config = load.parse(f"{THESE}profile: {profile}\n")
    assert named_settings(config, AB_TESTING) == config.retrain
    plain = load.parse("{experiment: e, task: classification, champion: {model: m}}")
    for name, value in dict(flat(AB_TESTING)).items():
        with pytest.raises(ConfigError, match=f"`{name}` is not a setting of retraining; here it is "):
            named_settings(plain, {name: value})


def test_the_remedies_in_refusals_are_configurations() -> None:
    start = "experiment: e\ntask: classification\nchampion: {model: m}\n"
    remedies = {name: re.findall(r"`(\w+: [^`]+)`", there.place) for name, there in ELSEWHERE.items()}
    written = [each for found in remedies.values() for each in found if each != "rule: prove"]
    assert len(written) >= 7
    for remedy in written:
        load.parse(start + remedy)


def test_no_name_is_in_two_places() -> None:
    assert not NAMES.keys() & ELSEWHERE.keys()


def test_settings_survive_the_way_over_json() -> None:
    found = from_names(msgspec.json.decode(msgspec.json.encode(SECTIONS)), OURS)
    assert found == from_names(SECTIONS, OURS)


def test_in_a_rehearsal_settings_by_name_pass_faster_too() -> None:
    file = "{experiment: e, task: classification, champion: {model: m}, profile: rehearsal}"
    config, day = load.parse(file), 86_400 / SPEED
    found = named_settings(config, {"max_retrain_frequency_hours": 3, "training_data_window_days": 30})
    assert (found.min_interval, found.window) == (pytest.approx(day / 8), pytest.approx(30 * day))
    others = msgspec.structs.replace(config.retrain, min_interval=found.min_interval, window=found.window)
    assert found == others
    with pytest.raises(ConfigError, match="no hours and weekdays"):
        named_settings(config, {"schedule_cron": "0 2 * * *"})
