"""The published false-alarm rate: at most the declared level where labels are drawn by chance, seen to be above it
where they are not. Seeded, with binomial limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import config
from builders.statistics import at_most

from evaluator.service.continuous_aa import ContinuousAA
from evaluator.service.design import evaluation_design
from evaluator.service.join_records import Draw, Exposure, Match, Truth
from gauntlet.config.section import BlockLength, Seconds
from gauntlet.status import FalseAlarms
from gauntlet.types import CHAMPION

DAY = 24.0
PER_DAY = 60
SHARE = 0.2
TRUTH = Truth(0.0, 1)

EXPLICIT: dict[str, Any] = {"block": BlockLength(DAY), "harm_block": Seconds(DAY)}
AUTO: dict[str, Any] = {
    "block": BlockLength(0),
    "harm_block": None,
    "cycle": Seconds(DAY),
    "duration": Seconds(7 * DAY),
}


def published(folder: Path, rounds: int, seed: int, *, shared: float = 0.0, **evidence: Any) -> FalseAlarms:
    """What is told after so many rounds of a champion with good and bad days, a weekly cycle and a drift.

    `shared`: luck that all requests of the phantom arm have in common in a round: the label is not drawn by chance.
    """
    made = config(folder, aa_slice=SHARE, **evidence)
    aa, rng = ContinuousAA(made.evidence, evaluation_design(made)), np.random.default_rng(seed)
    days = round(made.evidence.aa_length / DAY)
    for number in range(rounds):
        times = number * made.evidence.aa_length + (np.arange(days * PER_DAY) + 0.5) * DAY / PER_DAY
        day = (times // DAY).astype(int)
        level = 1.0 + 0.3 * np.sin(day * 2 * np.pi / 7) + 0.002 * day % 1 + rng.gamma(1.0, 0.3, day.max() + 1)[day]
        drawn = rng.random(len(times)) < SHARE
        losses = rng.gamma(1.5, level / 1.5) + drawn * shared * rng.standard_normal()
        matches = [
            Match(
                Exposure(
                    at, CHAMPION, CHAMPION, 1, "v0001", None, [], 0.0, None, False, phantom=Draw(number, SHARE, a)
                ),
                TRUTH,
                None,
            )
            for at, a in zip(times.tolist(), drawn.tolist(), strict=True)
        ]
        aa.observe([], matches, losses)
        aa.advance((number + 1) * made.evidence.aa_blocks)
    found = aa.report()
    assert found is not None
    assert found.rounds == rounds
    return found


@pytest.mark.parametrize(("mode", "rounds"), [(EXPLICIT, 120), (AUTO, 3)], ids=["explicit", "auto"])
def test_the_rate_is_at_most_the_level(tmp_path: Path, mode: dict[str, Any], rounds: int) -> None:
    found = published(tmp_path, rounds, 7, **mode)
    assert found.alarms <= at_most(rounds, found.level)
    assert found.lower < found.level
    assert not found.too_many


def test_labels_that_are_not_drawn_by_chance_are_found_with_confidence(tmp_path: Path) -> None:
    found = published(tmp_path, 25, 8, shared=0.5, **EXPLICIT)
    assert found.lower > found.level
    assert found.too_many
    assert f"{found.alarms} of 25 rounds" in found.reason
