"""Pairs of two challengers, before one of them becomes the champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    HORIZON,
    config,
    contender,
    evaluations,
    fold_of,
    outcome,
    prediction,
    shadow,
)

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import TrackedMetrics
from gauntlet.types import Task

BEFORE, AFTER = "test-r0001", "test-r0003"


def stream(n: int, promotion: float, *, promoted: str = "v0002", waiting: str = "v0003") -> list[Any]:
    """The champion v0001 and two challengers in shadow, of which one becomes the champion; regression losses."""
    rng = np.random.default_rng(7)
    found: list[Any] = []
    for i in range(n):
        at = 1000.0 + 2.0 * i
        answers = {
            name: float(value) for name, value in zip(("v0001", "v0002", "v0003"), rng.normal(size=3), strict=True)
        }
        if at < promotion:
            contenders = [contender(BEFORE, promoted, 0.0), contender("test-r0002", waiting, 0.0)]
            found.append(prediction(i, at, output=answers["v0001"], contenders=contenders, propensity=0.0))
            found += [
                shadow(i, at, model=c.challenger, rollout=c.rollout, output=answers[c.challenger]) for c in contenders
            ]
        else:
            contenders = [contender(AFTER, waiting, 0.0)]
            found.append(prediction(i, at, champion=promoted, output=answers[promoted], contenders=contenders))
            found.append(shadow(i, at, model=waiting, rollout=AFTER, output=answers[waiting]))
        found.append(outcome(i, at + 5.0, float(rng.normal())))
    return found


def folded(*pieces: list[Any], paired: bool = True) -> Accumulators:
    return fold_of(*pieces, task=Task.REGRESSION, metric="mse", tracked=TrackedMetrics(paired=paired))


@pytest.mark.parametrize(("promoted", "waiting"), [("v0002", "v0003"), ("v0003", "v0002")])
def test_the_evidence_is_as_if_the_new_champion_had_been_it_all_the_time(promoted: str, waiting: str) -> None:
    promotion = 1000.0 + 2.5 * BLOCK
    n = round(5 * BLOCK / 2.0)
    fold = folded(stream(n, promotion, promoted=promoted, waiting=waiting))
    always = folded(stream(n, 0.0, promoted=promoted, waiting=waiting))
    own, known, all_the_time = (f.rollouts[AFTER] for f in (fold, fold, always))
    known = fold.evidence(AFTER)
    assert min(own.blocks) > min(known.blocks)
    assert known.blocks.keys() == all_the_time.blocks.keys()
    for index, block in all_the_time.blocks.items():
        assert known.blocks[index].paired == block.paired
        assert known.blocks[index].tails == block.tails
        assert known.blocks[index].pairs == block.pairs
    assert fold.evidence(BEFORE) is fold.rollouts[BEFORE], "the first champion was nobody's challenger"


def test_neither_the_order_of_the_events_nor_a_restart_changes_it() -> None:
    found = stream(300, 1000.0 + BLOCK)
    whole = folded(found)
    shuffled = [found[i] for i in np.random.default_rng(3).permutation(len(found)).tolist()]
    single = folded(*([event] for event in shuffled))
    assert single.evidence(AFTER) == whole.evidence(AFTER)
    restored = folded()
    restored.restore(json.loads(json.dumps(whole.to_dict())))
    assert restored.evidence(AFTER) == whole.evidence(AFTER)
    assert restored.to_dict() == whole.to_dict()


def test_what_a_running_rollout_needs_is_kept_and_the_rest_forgotten() -> None:
    fold = folded(stream(300, 1000.0 + BLOCK))
    fold.forget(1e9, [AFTER])
    assert min(fold.evidence(AFTER).blocks) < min(fold.rollouts[AFTER].blocks)
    fold.forget(1e9, [])
    assert fold.to_dict()["rivals"] == []


def test_split_traffic_has_no_pairs_to_go_on_with() -> None:
    fold = folded(stream(300, 1000.0 + BLOCK), paired=False)
    assert fold.evidence(AFTER) is fold.rollouts[AFTER]
    assert fold.to_dict()["rivals"] == []


def test_after_a_promotion_the_first_look_knows_the_pairs_from_before(tmp_path: Path) -> None:
    """And it is the first: no look is taken at the time before the rollout began."""
    made = config(tmp_path, task=Task.REGRESSION, form="paired", min_samples=300, min_blocks=5)
    promotion = 1000.0 + 6.5 * BLOCK
    found = stream(round((10 * BLOCK + HORIZON) / 2.0), promotion)
    whole, single = (
        [look for look in evaluations(tmp_path / name, made, pieces) if look.rollout == AFTER]
        for name, pieces in (("whole", [found]), ("single", [[event] for event in found]))
    )
    assert [msgspec.json.encode(e) for e in single] == [msgspec.json.encode(e) for e in whole]
    first = whole[0]
    assert first.at > promotion
    assert first.pairs > (promotion - 1000.0) / 2.0
    assert first.effect is not None, "enough blocks are known for an answer at once"
    assert first.arms["challenger"].exposures == 0
    assert first.arms["champion"].exposures < first.pairs
