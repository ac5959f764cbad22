"""Coupled settings of which nothing can come are refused with both their numbers; one step further they are taken.

What has no effect, or cannot be meant, is a note of `check` and of the first start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import small_experiment

from gauntlet.cli import main
from gauntlet.config import load as configs
from gauntlet.errors import ConfigError
from gauntlet.types import Rule, Task
from retrainer.jobs import holdout_gate

BASE = "experiment: e\ntask: classification\nchampion: {model: m.skops, target: y, reference: r.csv}\n"
DAY = 86_400.0

IMPOSSIBLE = {
    # settings, the line of the refusal, its words, and the same settings as they are just possible
    "a holdout of less than five blocks": (
        "retrain: {validation: 2d, test: 2d}",
        "`retrain.validation` and `retrain.test` together (4d) must hold at least 5 blocks of outcomes (of 1d, by "
        "`evidence.cycle`), or the gate can't answer: they hold 4",
        "retrain: {validation: 2d, test: 3d}",
    ),
    "a block as long as the holdout": (
        "evidence: {block: 7d}",
        "(14d) must hold at least 5 blocks of outcomes (of 7d, by `evidence.block`), or the gate can't answer: "
        "they hold 2",
        "evidence: {block: 7d}\nretrain: {validation: 20d, test: 15d}",
    ),
    "no holdout, and nothing is retrained": (
        "evidence: {block: 7d}\nretrain: {min_data_points: 20}",
        "they hold 2",
        "evidence: {block: 7d}\nretrain: {enabled: false}",
    ),
    "a test that ends before a win": (
        "evidence: {duration: 2d, max_duration: 2d}",
        "`evidence.max_duration` (2d) is too short: a test ends after twice that, and a win needs 5 times "
        "`evidence.cycle` and `evidence.outcome_horizon`, 6 d",
        "evidence: {duration: 2d, max_duration: 3d}",
    ),
    "outcomes that come after the test": (
        "evidence: {outcome_horizon: 90d}",
        "and a win needs 5 times `evidence.cycle` and `evidence.outcome_horizon`, 95 d",
        "evidence: {outcome_horizon: 75d}\nbake: {time: 76d}",
    ),
    "a cycle longer than the duration": (
        "evidence: {cycle: 2d, duration: 1d}",
        "`evidence.duration` (1d) must be at least `evidence.cycle` (2d)",
        "evidence: {cycle: 2d, duration: 2d}",
    ),
    "a block longer than any test": (
        "evidence: {block: 41d}\nretrain: {enabled: false}\nbake: {time: 60d}",
        "`evidence.block` (41d) must be at most `evidence.max_duration` (40d)",
        "evidence: {block: 40d}\nretrain: {enabled: false}\nbake: {time: 60d, window: 40d}",
    ),
    "no time for an outcome": (
        "evidence: {outcome_horizon: 0}",
        "`evidence.outcome_horizon` must be greater than 0",
        "evidence: {outcome_horizon: 0}\nclock: events",
    ),
    "no room for a pair": (
        "router: {shadow_queue: 0}",
        "`router.shadow_queue` must be greater than 0 with `evidence.form: paired`",
        "router: {shadow_queue: 0}\nevidence: {form: split}",
    ),
    "a margin beyond any accuracy": (
        "evidence: {metric: accuracy, margin: 1}",
        "`evidence.margin` must be less than 1, the most by which accuracy can differ",
        "evidence: {metric: accuracy, margin: 0.99}",
    ),
    "a guardrail in per cent": (
        "guardrails: [{metric: recall, label: 1, margin: 2}]",
        "`guardrails` must have a margin less than 1 for recall of 1, the most by which it can differ: with 2 it "
        "guards nothing (a percentage is written as a share)",
        "guardrails: [{metric: recall, label: 1, margin: 0.02}]",
    ),
    "a rate that never fails": (
        "guardrails: [{metric: fallback_rate, margin: 0}]\nevidence: {require_safe: true}",
        "`guardrails` must have a margin greater than 0 for fallback_rate with `evidence.require_safe`",
        "guardrails: [{metric: fallback_rate, margin: 0}]",
    ),
    "a recipe without a row to train on": (
        "retrain: {recipes: [{name: short, window: 14d}]}",
        "`retrain.recipes` must have windows longer than `validation` and `test` together (14d): short would have "
        "nothing to train on within 14d",
        "retrain: {recipes: [{name: short, window: 15d}, {name: long, window: all}]}",
    ),
    "an improvement in per cent": (
        "retrain: {min_improvement: 5}\nevidence: {metric: accuracy}",
        "`retrain.min_improvement` must be less than 1, the most by which accuracy can improve, not 5",
        "retrain: {min_improvement: 5}",
    ),
    "a bake before the first outcome": (
        "bake: {time: 47h}",
        "`bake.time` (47h) must be at least a block of outcomes and `evidence.outcome_horizon`, 2 d",
        "bake: {time: 48h}",
    ),
    "a window without a block": (
        "bake: {window: 59m}",
        "`bake.window` (59m) must be at least the finest block of outcomes (1h), or it never holds one",
        "bake: {window: 1h}",
    ),
    "a fall beyond any accuracy": (
        "bake: {max_drop: 5}",
        "`bake.max_drop` must be less than 1, the most by which accuracy can fall, not 5",
        "bake: {max_drop: 0.05}",
    ),
    "units held out that a challenger had": (
        "slots: 9\nworth: {holdout: 0.2}",
        "`worth.holdout` must be at most 0.1",
        "slots: 9\nworth: {holdout: 0.1}",
    ),
    "a holdout beside no pairs": (
        "worth: {holdout: 0.01}\nshadow: {fraction: 0}\nevidence: {form: split}",
        "`shadow.fraction` must be greater than 0 with `worth.holdout`",
        "worth: {holdout: 0.01}\nshadow: {fraction: 0.1}\nevidence: {form: split}",
    ),
    "keys that open nothing": (
        "keys: [{name: a, role: viewer, env: A}]",
        "`keys` must have one with the role ingest, operator or admin",
        "keys: [{name: a, role: ingest, env: A}]",
    ),
    "an approval that nobody may give": (
        "keys: [{name: a, role: ingest, env: A}]\nshadow: {approval: true}",
        "`keys` must have one with the role operator or admin: a stage waits for an approval",
        "keys: [{name: a, role: operator, env: A}]\nshadow: {approval: true}",
    ),
    "a share below the router's resolution": (
        "shadow: {fraction: 0.0000001}",
        "`fraction` must have at most six decimals",
        "shadow: {fraction: 0.000001}",
    ),
    "two things at one path": (
        "data: ./m.skops",
        "`champion.model` must be another path than `data`, m.skops",
        "data: m",
    ),
    "the outcome among the inputs": (
        "features: [x, y]",
        "`features` must leave out `champion.target`, 'y'",
        "features: [x]",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_can_never_succeed_is_refused_with_its_numbers(name: str) -> None:
    impossible, words, possible = IMPOSSIBLE[name]
    with pytest.raises(ConfigError) as caught:
        configs.parse(BASE + impossible, "c.yaml")
    assert words in str(caught.value)
    line = str(caught.value).removeprefix("c.yaml:").partition(":")[0]
    assert int(line) >= 3, "the line of a setting that was written, not of a default"
    configs.parse(BASE + possible)


def test_the_line_is_that_of_the_named_setting_that_was_written() -> None:
    text = BASE + "# a remark\nretrain:\n  window: 30d\n  test: 1d\nbake:\n  time: 1h\n"
    with pytest.raises(ConfigError, match=r"^c\.yaml:9: top level: `bake\.time`"):
        configs.parse(text, "c.yaml")
    text = BASE + "retrain:\n  window: 60d\nevidence:\n  block: 7d\n"
    with pytest.raises(ConfigError, match=r"^c\.yaml:7: top level: `retrain\.validation` and `retrain\.test`"):
        configs.parse(text, "c.yaml")


@pytest.mark.parametrize(("days", "answered"), [(4, False), (5, True)])
def test_a_holdout_is_answered_from_five_blocks_on(days: int, answered: bool) -> None:
    rng = np.random.default_rng(3)
    times = np.sort(rng.uniform(0, days * DAY, 4000))
    truth = rng.integers(0, 2, 4000).astype(float)
    worse, better = np.full((4000, 2), 0.5), np.column_stack([0.9 - 0.8 * truth, 0.1 + 0.8 * truth])
    found = holdout_gate.compare(
        "log_loss",
        worse,
        better,
        truth,
        times,
        task=Task.CLASSIFICATION,
        block=DAY,
        margin=0.05,
        min_improvement=0.01,
        confidence=0.95,
        repetitions=200,
        seed=1,
        rule=Rule.PROVE,
    )
    assert found.accepted == answered


NOTES = {
    "evidence: {min_blocks: 30}": "evidence.min_blocks has no effect with `evidence.block: auto`",
    "evidence: {block: 1d, cycle: 12h}": "evidence.cycle has no effect with `evidence.block: 1d`",
    "evidence: {aa_round: 7d}": "evidence.aa_round has no effect with `evidence.aa_slice: 0`",
    "thompson: {floor: 0.02}": "thompson has no effect without `thompson.enabled`",
    "evidence: {block: 1d, duration: 9d}": "evidence.duration has no effect with `evidence.block: 1d`",
    "evidence: {block: 1d, min_blocks: 90}": "a win needs 91 d of outcomes, more than twice max_duration, 80 d",
    "drift: {enabled: false}": "retrain.enabled: no job starts by itself with `drift.enabled: false`",
    "retrain: {cool_down: 90d}": "retrain.cool_down: 90d pass between a rollout's end and the next job",
    "segments: [x1]": "segments: 'x1' is a feature; a segment is a label that each request brings",
    "champion: {model: model.skops, target: y}": "champion.target has no effect without `champion.reference`",
    "champion: {model: 'test_config_consistency:half'}\nclasses: [0, 1]": (
        "retrain: a function can't be refitted by itself, so every job would fail; give `retrain.trainer`"
    ),
}


def half(rows: Any) -> list[float]:
    return [0.5 for _ in rows]


@pytest.mark.parametrize("text", NOTES)
def test_what_has_no_effect_is_a_note(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    path = small_experiment.write(tmp_path)
    section = text.partition(":")[0]
    kept = [line for line in path.read_text().splitlines() if not line.startswith("champion")]
    kept = [line for line in kept if not line.startswith("  model:")]
    more = "" if section == "champion" else "champion: {model: model.skops}\n"
    path.write_text("\n".join(kept) + f"\n{more}{text}\n")
    assert main(["check", str(path)]) == 0
    noted = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len([note for note in noted if NOTES[text] in note]) == 1, noted
    assert len(noted) == 1 or section == "champion"


def test_the_defaults_are_worth_no_note(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", str(small_experiment.write(tmp_path))]) == 0
    assert "note:" not in capsys.readouterr().out


def test_durations_are_shown_as_they_are_written() -> None:
    from gauntlet.config.section import span

    assert [span(x) for x in (0.25, 59, 90, 100, 3600, 5400, 86_400, 93_600, 129_600, 1e5 / 3)] == [
        "250ms",
        "59s",
        "1.5m",
        "100s",
        "1h",
        "1.5h",
        "1d",
        "26h",
        "1.5d",
        "9.259h",
    ]
