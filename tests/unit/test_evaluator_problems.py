"""What an operator is told where nothing is judged: a baseline in the making, outcomes that count for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.evaluator_events import batch, config, outcome, prediction

from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.checkpoint import Checkpoint
from evaluator.service.pipeline import Pipeline
from evaluator.service.problems import findings
from gauntlet import adapters
from gauntlet.config import Config
from gauntlet.config.drift import DriftConfig
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import Severity, Task


def pipeline(made: Config) -> Pipeline:
    return Pipeline(made, adapters.registry(made), Checkpoint(Path(made.data) / "evaluator.db"))


def test_outcomes_that_come_after_the_horizon_are_told_with_the_setting_to_change(tmp_path: Path) -> None:
    """150 outcomes in time and 200 that come 101 s after their prediction, of which 100 s count."""
    for late, told in ((100, False), (200, True)):
        made = config(tmp_path / str(late))
        evaluator = pipeline(made)
        evaluator.step(batch(prediction(i, at=1.0 + i) for i in range(150 + late)))
        evaluator.step(batch(outcome(i, at=1.0 + i + (50.0 if i < 150 else 101.0)) for i in range(150 + late)))
        found = [one for one in evaluator.problems if one.code == "outcomes_unused"]
        assert bool(found) is told
    assert found[0].severity is Severity.HIGH
    assert "200 came more than 1 min 40 s after their prediction, 0 much later" in found[0].text
    assert "`evidence.outcome_horizon`" in found[0].remedy


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({}, False),
        ({"orphan": 100}, False),
        ({"orphan": 60, "late": 60}, True),
        ({"orphan": 60, "late": 60, "joined": 120}, False),
    ],
)
def test_few_or_the_smaller_part_are_no_news(tmp_path: Path, counts: dict[str, int], told: bool) -> None:
    assert bool(list(findings(config(tmp_path), None, counts, None, {}))) is told


def test_a_baseline_in_the_making_is_told_until_it_is_there(tmp_path: Path) -> None:
    """That no drift is found says nothing while none can be."""
    evaluator = pipeline(config(tmp_path))
    assert evaluator.problems == []
    evaluator.step(batch(prediction(i, at=1.0 + i, rollout=None) for i in range(30)))
    (told,) = evaluator.problems
    assert (told.code, told.severity, told.source) == ("drift_not_judged", Severity.LOW, "v0001")
    assert "of its first traffic 30 of " in told.text
    assert evaluator.monitor is not None
    assert evaluator.monitor.severity is None
    off = config(tmp_path / "off", "drift: {enabled: false}\n")
    assert list(findings(off, evaluator.monitor, {}, None, {})) == []


def test_texts_too_rare_to_be_counted_are_told_live_as_they_are_of_files(tmp_path: Path) -> None:
    """2,000 equally frequent names: nearly all of them share one slot, and half of them may go unseen."""
    schema = Schema(task=Task.CLASSIFICATION, features=(Feature(name="city", kind="text"),), classes=(0, 1))
    settings = DriftConfig(pane=32, reference_rows=2000, regimes=[])
    told = {}
    for names in (200, 2000):
        monitor = ChampionMonitor("test", "v0001", 0.0, schema, settings)
        sent = [prediction(i, float(i), features={"city": f"c{i % names}"}) for i in range(2000)]
        monitor.observe_requests(sent)
        at = [float(i) for i in range(2000)]
        monitor.observe_outcomes([float(i % 2) for i in range(2000)], [[0.6, 0.4]] * 2000, [0.5] * 2000, at, at)
        assert monitor.waits is None
        told[names] = list(findings(config(tmp_path / str(names)), monitor, {}, None, {}))
    assert told[200] == []
    (rare,) = told[2000]
    assert (rare.code, rare.severity, rare.source) == ("rare_values", Severity.LOW, "v0001")
    # 255 of 2,000 have a slot of their own, chosen by one half of the rows, so that the other half has none of them.
    assert "100.0% of its values are too rare" in rare.text
