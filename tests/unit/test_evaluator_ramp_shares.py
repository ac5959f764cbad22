"""Thompson shares in the evaluator: who is on the ramp, whose part is told, and that reading order does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    Evaluator,
    MemoryLog,
    batch,
    config,
    contender,
    outcome,
    prediction,
    shadow,
    treated,
)

from gauntlet import events
from gauntlet.config import Config, ThompsonConfig

SECOND = "test-r0002"


def on(folder: Path, **settings: Any) -> Config:
    made = config(folder, form="paired", min_blocks=5, min_harm_blocks=5)
    return msgspec.structs.replace(made, thompson=ThompsonConfig(**({"enabled": True} | settings)))


def stream(n: int, *, second: float | None = None, until: int = 10**9, first: float = 0.3) -> list[events.AnyEvent]:
    """Requests of a rollout at `first`, and of another at `second` that is out after `until` requests. The first
    challenger is better than the champion on most requests, the second is worse."""
    rng, found = np.random.default_rng(4), []
    for i in range(n):
        at, truth, drawn = 1000.0 + i, int(rng.random() < 0.5), rng.random()
        both = second is not None and i < until
        contenders = [contender(propensity=first), *([contender(SECOND, "v0003", second or 0.0)] if both else [])]
        right = 0.55 + 0.1 * rng.random()
        better, worse = (right + rng.normal(0.03, 0.1), right - rng.normal(0.05, 0.1))
        answers = {"champion": right, "v0002": better, "v0003": worse}
        output = {name: [1 - p, p] if truth else [p, 1 - p] for name, p in answers.items()}
        if drawn < first:
            made = treated(i, at, contenders=contenders, output=output["v0002"])
        elif both and drawn < first + (second or 0.0):
            made = treated(i, at, contenders=contenders, output=output["v0003"], rollout=SECOND)
            made = msgspec.structs.replace(made, rollout=SECOND, contenders=contenders)
        else:
            made = prediction(i, at, contenders=contenders, output=output["champion"])
        found.append(made)
        if made.served != "champion":
            found.append(shadow(i, at, arm="champion", model="v0001", output=output["champion"], rollout=None))
        if made.model != "v0002":
            found.append(shadow(i, at, output=output["v0002"]))
        if both and made.model != "v0003":
            found.append(shadow(i, at, model="v0003", output=output["v0003"], rollout=SECOND))
        found.append(outcome(i, at + 10.0, truth))
    return found


def looks(made: Config, folder: Path, found: list[events.AnyEvent], *, every: int = 10**9) -> list[events.Evaluation]:
    """All evaluations of a stream that is read in pieces."""
    evaluator = Evaluator(made, folder / f"{every}.db", MemoryLog())
    out: list[Any] = []
    for start in range(0, len(found), every):
        evaluator.pipeline.step(batch(found[start : start + every]))
        out += evaluator.pipeline.evaluate({})
    evaluator.close()
    return [event for event in out if isinstance(event, events.Evaluation)]


def of(found: list[events.Evaluation], rollout: str = "test-r0001") -> list[float | None]:
    return [event.ramp_share for event in found if event.rollout == rollout]


def test_off_no_share_is_told(tmp_path: Path) -> None:
    assert set(of(looks(on(tmp_path, enabled=False), tmp_path, stream(900)))) == {None}


def test_a_better_challenger_gets_nearly_all_of_the_ramp_and_a_worse_one_its_floor(tmp_path: Path) -> None:
    found = looks(on(tmp_path, floor=0.02), tmp_path, stream(900, second=0.2))
    first, second = of(found)[-1], of(found, SECOND)[-1]
    assert first is not None
    assert second is not None
    assert 0.9 < first <= 0.96
    assert 0.02 <= second < 0.021


def test_in_shadow_nobody_has_a_share_of_the_ramp(tmp_path: Path) -> None:
    found = looks(on(tmp_path), tmp_path, stream(900, first=0.0))
    assert any(event.effect is not None for event in found)
    assert set(of(found)) == {None}


def test_one_in_shadow_takes_nothing_from_one_that_serves(tmp_path: Path) -> None:
    alone = looks(on(tmp_path / "a"), tmp_path, stream(900))
    beside = looks(on(tmp_path / "b"), tmp_path / "b", stream(900, second=0.0))
    assert of(beside, SECOND)
    assert set(of(beside, SECOND)) == {None}
    assert of(beside) == pytest.approx(of(alone), rel=1e-12)


def test_the_burn_in_is_waited_for(tmp_path: Path) -> None:
    found = looks(on(tmp_path, burn_in=400), tmp_path, stream(900))
    assert [event.ramp_share is not None for event in found] == [event.pairs >= 400 for event in found]


def test_who_is_out_is_no_arm_any_more(tmp_path: Path) -> None:
    found = looks(on(tmp_path), tmp_path, stream(1100, second=0.2, until=600))
    gone = 1000.0 + 600 + 2 * BLOCK
    last = [event for event in found if event.rollout == SECOND and event.at > gone]
    assert last
    assert {event.ramp_share for event in last} == {None}
    assert of(found)[-1] is not None


def test_shares_do_not_depend_on_how_the_stream_was_cut(tmp_path: Path) -> None:
    made, found = on(tmp_path), stream(700, second=0.2)
    whole, pieces = looks(made, tmp_path, found), looks(made, tmp_path, found, every=7)
    assert {event.id: event.ramp_share for event in whole} == {event.id: event.ramp_share for event in pieces}
