"""The drift thresholds of the configuration are those of the drift rules, under the same names."""

from __future__ import annotations

from dataclasses import fields

from evaluator.drift import DriftSettings
from evaluator.service.drift_baseline import rules
from gauntlet.config.drift import DriftConfig

NO_THRESHOLD = {"enabled", "regimes", "season", "pane", "reference_rows"}


def test_every_threshold_of_the_configuration_is_one_of_the_rules_with_the_same_default() -> None:
    names = {field.name for field in fields(DriftSettings)}
    assert {*DriftConfig.__struct_fields__} - names == NO_THRESHOLD
    assert rules(DriftConfig(accept_after=0)) == DriftSettings()


def test_a_threshold_of_the_configuration_reaches_the_rules() -> None:
    changed = rules(DriftConfig(quality_alarm=0.9, concept_rise=0.3, total_variation=0.2))
    assert changed == DriftSettings(quality_alarm=0.9, concept_rise=0.3, total_variation=0.2, accept_after=20_000)
