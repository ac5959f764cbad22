"""Labels that change, for one arm only: an A/A that the wrong first labels would promote. Invariant: it is shown to be
promoted where nobody looks at corrections."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    HORIZON,
    ROLLOUT,
    Evaluator,
    MemoryLog,
    MemoryState,
    batch,
    config,
    outcome,
    prediction,
    treated,
)
from prometheus_client import REGISTRY

from evaluator.service import gauges
from gauntlet import events, telemetry
from gauntlet.config import Config
from gauntlet.decision_table import figures
from gauntlet.rollout import Control, Rollout, Stage
from gauntlet.types import VerdictCause
from retrainer.decisions import decide

EVERY = 0.25  # seconds between requests
LAST = "\noutcomes: {correction: last}\ndrift: {enabled: false}\n"
FIRST = "\ndrift: {enabled: false}\n"

Corrections = Callable[[bool, bool, np.random.Generator], float | None]
"""Of a request's arm (challenger?) and whether it was answered rightly: seconds after which a first, wrong label is
corrected; None where the first is right."""


def one_sided(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
    """The issue's case: 30 % of one arm's errors are first reported as right."""
    return 20.0 if rng.random() < 0.3 and challenger and not right else None


def none(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
    return one_sided(False, right, rng)  # the same draws


def of_errors(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
    """30 % of either arm's errors: fewer of an arm that errs less."""
    return one_sided(True, right, rng)


def alike(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
    return 20.0 if rng.random() < 0.06 else None


def too_late(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
    when = one_sided(challenger, right, rng)
    return None if when is None else HORIZON + 10.0


def stream(corrections: Corrections, *, n: int = 6000, seed: int = 1, better: float = 0.0) -> list[Any]:
    """An A/A of `n` requests split in halves, each arm right in 80 %; the challenger in `better` more."""
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    for i in range(n):
        at, challenger = 1000.0 + EVERY * i, bool(rng.random() < 0.5)
        y, right = int(rng.random() < 0.5), bool(rng.random() < 0.8 + better * challenger)
        output = [0.2, 0.8] if (y == 1) == right else [0.8, 0.2]
        found.append((treated if challenger else prediction)(i, at, unit=f"p{i:06d}", output=output))
        corrected = corrections(challenger, right, rng)
        found.append(outcome(i, at + 30.0, y if corrected is None else 1 - y))
        if corrected is not None:
            found.append(outcome(i, at + 30.0 + corrected, y))
    return sorted(found, key=lambda event: event.at)


def judged(folder: Path, text: str, found: list[Any]) -> tuple[list[events.Evaluation], Config, Evaluator]:
    """All looks; an evaluator that has read everything, to be closed."""
    made = config(folder, text, form="split", metric="accuracy", min_samples=2500, min_blocks=20)
    evaluator = Evaluator(made, folder / "e.db", MemoryLog())
    evaluator.pipeline.step(batch(found))
    evaluator.pipeline.settle_joins()
    looks = [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, events.Evaluation)]
    assert looks
    return looks, made, evaluator


def promoted(looks: list[events.Evaluation], made: Config) -> bool:
    """Whether any look promotes, were the rollout in its last stage with every gate open."""
    stage = Stage(share=0.5, min_seconds=0.0)
    rollout = Rollout(
        id=ROLLOUT, challenger="v0002", stages=(stage,), stage=0, started_at=0.0, stage_since=0.0, shadow=stage
    )
    control = Control(experiment="test", champion="v0001", rollouts=(rollout,), begun=1)
    commands = [decide(control, event, made, event.at) for event in looks]
    return "promote" in [command.name for command in commands if command]


def only_first(found: list[Any]) -> list[Any]:
    """What the evidence is made of under the rule `first`, without what contradicts it."""
    seen: set[str] = set()
    kept = []
    for event in found:
        if not isinstance(event, events.Outcome) or event.id not in seen:
            kept.append(event)
        if isinstance(event, events.Outcome):
            seen.add(event.id)
    return kept


def test_the_first_labels_of_one_arm_promote_nobody_once_they_are_contradicted(tmp_path: Path) -> None:
    attack = stream(one_sided)
    looks, made, evaluator = judged(tmp_path / "off", FIRST, only_first(attack))
    evaluator.close()
    assert promoted(looks, made), "the attack does not work, so nothing is proved"
    looks, made, evaluator = judged(tmp_path / "on", FIRST, attack)
    counts = evaluator.pipeline.counts
    evaluator.close()
    assert not promoted(looks, made)
    last = looks[-1]
    assert (last.result, last.cause, last.crossed) == ("invalid", VerdictCause.LABEL_CONFLICT, None)
    assert last.guardrails[0].standing == "safe"  # of label arrival, which sees nothing
    contradicted = last.arms["challenger"].contradicted
    assert last.arms["champion"].contradicted == 0
    assert 100 < contradicted <= counts["conflict"]
    assert last.label_conflict_p_value is not None
    assert last.label_conflict_p_value < 1e-20
    expected = f"label conflict mismatch: of {contradicted} requests whose label a later outcome contradicts "
    assert last.reasons[0].startswith(f"{expected}{contradicted} are the challenger's; that does not fit the ")


def test_the_guard_looks_in_both_directions(tmp_path: Path) -> None:
    """Contradictions of the champion's labels alone, which make it look better than it is, are no fair test either."""
    looks, _, evaluator = judged(
        tmp_path / "e", FIRST, stream(lambda challenger, right, rng: one_sided(not challenger, right, rng))
    )
    evaluator.close()
    assert any(look.cause == VerdictCause.LABEL_CONFLICT for look in looks)
    assert looks[-1].arms["challenger"].contradicted == 0


def test_arms_that_were_told_apart_once_stay_so(tmp_path: Path) -> None:
    """A later balance of contradictions mends no label."""
    asked = 0

    def one_and_then_the_other(challenger: bool, right: bool, rng: np.random.Generator) -> float | None:
        nonlocal asked
        asked += 1
        return one_sided(challenger == (asked <= 3000), right, rng)

    looks, _, evaluator = judged(tmp_path / "e", FIRST, stream(one_and_then_the_other))
    evaluator.close()
    arms = looks[-1].arms
    assert abs(arms["champion"].contradicted - arms["challenger"].contradicted) < 30
    assert looks[-1].cause == VerdictCause.LABEL_CONFLICT


def test_labels_that_wait_are_seen_to_arrive(tmp_path: Path) -> None:
    """The watch of label arrival, between looks, counts an outcome when it comes and not when it is evidence."""
    made = config(tmp_path, LAST, form="split", metric="accuracy")
    rng, found = np.random.default_rng(1), stream(none, n=3000)
    arm = {event.id: event.assigned for event in found if isinstance(event, events.Prediction)}
    kept: list[Any] = []
    for event in found:
        before = event.id < "p001200"  # nothing runs yet, and how old labels are is learned
        if isinstance(event, events.Prediction) and before:
            kept.append(prediction(int(event.id[1:]), event.at, rollout=None))
        elif isinstance(event, events.Prediction) or before or arm[event.id] == "champion" or rng.random() < 0.2:
            kept.append(event)
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    looks: list[events.Evaluation] = []
    for start in range(0, len(kept), 100):
        evaluator.pipeline.step(batch(kept[start : start + 100]))
        evaluator.pipeline.settle_joins()
        looks += [event for event in evaluator.pipeline.evaluate({}) if isinstance(event, events.Evaluation)]
    evaluator.close()
    alarm = next(look for look in looks if look.subject == "label_arrival")
    assert alarm.reasons[0].startswith("label arrival: ")


def test_corrected_labels_are_the_labels_under_last(tmp_path: Path) -> None:
    """Every look is bit for bit that of the same traffic whose labels were right at once: calibrated as that is."""
    made = []
    for name, corrections in (("attack", one_sided), ("clean", none)):
        looks, configured, evaluator = judged(tmp_path / name, LAST, stream(corrections))
        made.append((looks, evaluator.pipeline.state(0, {}).accumulators))
        counts = evaluator.pipeline.counts
        evaluator.close()
        assert not promoted(looks, configured)
        assert not any(look.result == "invalid" for look in looks)
    assert made[0] == made[1]
    assert counts["corrected"] == counts["conflict"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_an_a_a_with_one_sided_corrections_is_calibrated_under_last(tmp_path: Path, seed: int) -> None:
    looks, made, evaluator = judged(tmp_path / "e", LAST, stream(one_sided, seed=seed))
    corrected = evaluator.pipeline.counts["corrected"]
    evaluator.close()
    assert corrected > 100
    assert not promoted(looks, made)
    last = looks[-1]
    assert last.label_conflict_p_value is None
    assert last.effect is not None
    assert last.lower is not None
    assert last.upper is not None
    assert last.lower < 0 < last.upper
    assert abs(last.effect) < 4 * math.sqrt(4 * 0.8 * 0.2 / 6000)


@pytest.mark.parametrize("text", [FIRST, LAST])
def test_corrections_that_come_too_late_for_one_arm_make_it_invalid_by_either_rule(tmp_path: Path, text: str) -> None:
    looks, made, evaluator = judged(tmp_path / "e", text, stream(too_late))
    evaluator.close()
    assert not promoted(looks, made)
    assert looks[-1].cause == VerdictCause.LABEL_CONFLICT


@pytest.mark.parametrize(
    ("text", "corrections", "stays"),
    [(FIRST, alike, True), (LAST, alike, True), (LAST, of_errors, True), (FIRST, of_errors, False)],
)
def test_corrections_stop_a_winner_only_where_they_tell_the_arms_apart_and_do_not_count(
    tmp_path: Path, text: str, corrections: Corrections, stays: bool
) -> None:
    looks, made, evaluator = judged(tmp_path / "e", text, stream(corrections, better=0.15))
    evaluator.close()
    assert promoted(looks, made) == stays
    contradicted = looks[-1].arms["champion"].contradicted
    assert contradicted > 50 if text == FIRST else contradicted == 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("text", [FIRST, LAST])
async def test_killed_and_read_again_the_counts_are_those_of_one_pass(tmp_path: Path, text: str, shared: bool) -> None:
    """Killed every so often, with everything since the last commit read again; shared: also without its own file."""
    found = stream(one_sided, n=900)
    whole, _, evaluator = judged(tmp_path / "whole", text, found)
    facts = evaluator.facts()
    evaluator.close()
    folder = tmp_path / "killed"
    made = config(folder, text, form="split", metric="accuracy", min_samples=2500, min_blocks=20)
    if shared:
        made = msgspec.structs.replace(made, state="redis://nowhere:1/0")
    log, state = MemoryLog(), MemoryState()
    for part in range(6):
        log.add(*found[part * len(found) // 6 : (part + 1) * len(found) // 6])
        file = folder / (f"e{part}.db" if shared else "e.db")
        killed = Evaluator(made, file, log, state)
        await killed.read_all(save=False)
        killed.close()
    last = Evaluator(made, folder / "e5.db" if shared else folder / "e.db", log, state)
    await last.read_all()
    assert last.facts() == facts
    looks = [
        event for value in log.values("evaluations") if isinstance(event := events.decode(value), events.Evaluation)
    ]
    last.close()
    assert {look.id for look in looks} == {look.id for look in whole}


def test_status_and_metrics_show_contradicted_labels_by_arm(tmp_path: Path) -> None:
    looks, _, evaluator = judged(tmp_path / "e", FIRST, stream(one_sided))
    gauges.show_events("test", looks)
    evaluator.close()
    contradicted = looks[-1].arms["challenger"].contradicted
    assert f"{contradicted:,} contradicted labels ({contradicted:,} of the challenger's)" in figures(looks[-1])
    for arm, n in (("champion", 0), ("challenger", contradicted)):
        labels = {"experiment": "test", "rollout": ROLLOUT, "arm": arm}
        assert REGISTRY.get_sample_value("gauntlet_contradicted_labels", labels) == n
    labels = {"experiment": "test", "rollout": ROLLOUT}
    assert REGISTRY.get_sample_value("gauntlet_label_conflict_p_value", labels) == looks[-1].label_conflict_p_value
    telemetry.forget("test", "evaluator", [])
    assert REGISTRY.get_sample_value("gauntlet_label_conflict_p_value", labels) is None
