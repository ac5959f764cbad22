"""The continuous A/A slice in the evaluator: what a round is, when it counts, and that nothing else hears of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    HORIZON,
    Evaluator,
    MemoryLog,
    MemoryState,
    batch,
    config,
    labelled,
    one_pass,
    outcome,
    prediction,
    traffic,
)
from builders.samples import sample

from evaluator.service import gauges
from evaluator.service.continuous_aa import ContinuousAA
from evaluator.service.design import evaluation_design
from evaluator.service.join_records import Draw, Exposure, Match, Truth
from evaluator.service.problems import findings
from gauntlet import events, keys
from gauntlet.config import Config
from gauntlet.config.section import Seconds
from gauntlet.events import Phantom
from gauntlet.status import EvaluatorProgress
from gauntlet.types import CHAMPION

LENGTH = 6 * 2 * BLOCK
SETTINGS: dict[str, Any] = {"aa_slice": 0.25, "aa_round": Seconds(LENGTH), "min_blocks": 3, "min_harm_blocks": 3}
PER_ROUND = 600


def sliced(folder: Path, **more: Any) -> Config:
    return config(folder, **(SETTINGS | more))


def fresh(made: Config) -> ContinuousAA:
    return ContinuousAA(made.evidence, evaluation_design(made))


def match(at: float, number: int, drawn: bool, share: float = 0.25) -> Match:
    exposure = Exposure(
        at, CHAMPION, CHAMPION, 1, "v0001", None, [], [0.5, 0.5], None, False, phantom=Draw(number, share, drawn)
    )
    return Match(exposure, Truth(at + 1.0, 1), None)


def feed(
    aa: ContinuousAA, made: Config, number: int, seed: int, *, harm: float = 0.0, first: float = 0.0, last: float = 1.0
) -> None:
    """A round's traffic between the parts `first` and `last` of it; the phantom arm's losses are larger by `harm`."""
    rng = np.random.default_rng(seed)
    times = (number + np.linspace(first, last, PER_ROUND, endpoint=False)) * made.evidence.aa_length
    drawn = rng.random(PER_ROUND) < 0.25
    losses = rng.gamma(2.0, 0.3, PER_ROUND) + harm * drawn
    matches = [match(float(at), made.evidence.aa_number(at), bool(a)) for at, a in zip(times, drawn, strict=True)]
    aa.observe([m.exposure for m in matches], matches, losses)


def after(made: Config, number: int) -> int:
    """The first open block when that round has matured."""
    return (number + 1) * made.evidence.aa_blocks


def test_rounds_are_whole_blocks_of_the_evidence(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    assert made.evidence.aa_blocks == 12
    assert [made.evidence.aa_number(at) for at in (0.0, LENGTH - 0.01, LENGTH, 5.5 * LENGTH)] == [0, 0, 1, 5]
    shifted = sliced(tmp_path, block_offset=Seconds(10))
    assert [shifted.evidence.aa_number(at) for at in (LENGTH + 9.9, LENGTH + 10)] == [0, 1]


def test_a_round_is_by_default_what_a_rollout_is_planned_with(tmp_path: Path) -> None:
    assert config(tmp_path, aa_slice=0.1).evidence.aa_length == 25 * 2 * BLOCK


def test_a_finished_round_is_counted_once_and_its_false_alarm_with_it(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    aa = fresh(made)
    feed(aa, made, 3, 1)
    feed(aa, made, 4, 2, harm=0.5)
    assert not aa.advance(after(made, 3) - 1)
    report = aa.report()
    assert report is not None
    assert (report.rounds, report.rate, report.crossed) == (0, None, None)
    assert report.information_fraction == pytest.approx(0.9, abs=0.15)
    assert aa.advance(after(made, 4))
    report = aa.report()
    assert report is not None
    assert (report.rounds, report.alarms, report.rate) == (2, 1, 0.5)
    assert report.lower < 0.5 < report.upper
    assert report.level == pytest.approx(0.025 + 0.05)
    feed(aa, made, 4, 2, harm=0.5)  # a partition that lags tells of it again
    assert not aa.advance(after(made, 9))
    assert aa.report() == report


def test_the_round_under_way_is_told(tmp_path: Path) -> None:
    made = sliced(tmp_path, aa_round=Seconds(2 * LENGTH))
    aa = fresh(made)
    feed(aa, made, 3, 1, harm=2.0)
    aa.advance(after(made, 3) - 1)
    report = aa.report()
    assert report is not None
    assert report.crossed == "worse"
    assert report.round_ends is not None
    assert report.round_ends.timestamp() == 8 * LENGTH + HORIZON


@pytest.mark.parametrize(("first", "last"), [(0.5, 1.0), (0.0, 0.5)])
def test_a_round_that_missed_its_beginning_or_end_is_a_shorter_test_and_does_not_count(
    tmp_path: Path, first: float, last: float
) -> None:
    made = sliced(tmp_path)
    aa = fresh(made)
    feed(aa, made, 3, 1, harm=2.0, first=first, last=last)
    assert aa.advance(after(made, 3))
    report = aa.report()
    assert report is not None
    assert report.rounds == 0


def test_losses_that_are_all_alike_give_no_round(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    aa = fresh(made)
    matches = [match(3 * LENGTH + i, 3, i % 4 == 0) for i in range(int(LENGTH))]
    aa.observe([], matches, np.full(len(matches), 0.7))
    assert aa.advance(after(made, 3))
    report = aa.report()
    assert report is not None
    assert report.rounds == 0


def test_a_router_with_another_length_of_rounds_is_not_counted(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    aa = fresh(made)
    wrong = match(3 * LENGTH, 2, True)
    aa.observe([wrong.exposure], [wrong], np.array([1.0]))
    assert aa.names == []


def test_a_snapshot_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    one, other = fresh(made), fresh(made)
    for number in (3, 4):
        feed(one, made, number, number, harm=0.5)
        one.advance(after(made, number) - 3)
        other.restore(json.loads(json.dumps(one.to_dict())))
        assert other.report() == one.report()
        feed(other, made, number + 5, number)
        feed(one, made, number + 5, number)
        assert other.advance(after(made, number + 5)) == one.advance(after(made, number + 5))
        assert json.dumps(other.to_dict()) == json.dumps(one.to_dict())
        one, other = fresh(made), fresh(made)


def test_another_level_begins_to_count_anew_and_another_length_drops_the_round_under_way(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    aa = fresh(made)
    feed(aa, made, 3, 1)
    aa.advance(after(made, 3))
    feed(aa, made, 4, 2)
    saved = json.loads(json.dumps(aa.to_dict()))
    stricter, longer = fresh(sliced(tmp_path, alpha=0.01)), fresh(sliced(tmp_path, aa_round=Seconds(2 * LENGTH)))
    off = fresh(sliced(tmp_path, aa_slice=0.0))
    for each in (stricter, longer, off):
        each.restore(saved)
        assert each.names == []
    told = [each.report() for each in (stricter, longer, off)]
    assert [report and report.rounds for report in told] == [0, 1, None]


def test_too_many_false_alarms_are_a_problem_and_as_many_as_declared_are_none(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    for harm, expected in ((0.0, 0), (0.6, 1)):
        aa = fresh(made)
        for number in range(12):
            feed(aa, made, number, number, harm=harm)
        aa.advance(after(made, 11))
        report = aa.report()
        assert report is not None
        assert report.too_many is bool(expected)
        found = [p for p in findings(made, None, {}, report, {}) if p.code == "false_alarms"]
        assert len(found) == expected
        assert all(f"{report.alarms} of {report.rounds} rounds" in p.text for p in found)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"aa_round": Seconds(2 * 2 * BLOCK)}, "3 or more"),
        ({"aa_round": Seconds(3.5 * 2 * BLOCK)}, "a whole number of times"),
        ({"aa_slice": 0.12345678}, "at most six decimals"),
    ],
)
def test_rounds_that_would_mean_nothing_are_refused(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sliced(tmp_path, **more)


def test_no_evaluation_and_no_health_hears_of_the_slice(tmp_path: Path) -> None:
    """The same requests with and without labels: every event that goes out is the same byte for byte."""
    off, on = config(tmp_path, min_blocks=3, min_harm_blocks=3), sliced(tmp_path)
    plain = traffic(700)
    out = []
    for made, stream, name in ((off, plain, "off"), (on, labelled(plain, on), "on")):
        evaluator = Evaluator(made, tmp_path / f"{name}.db", MemoryLog())
        evaluator.pipeline.step(batch(stream))
        out.append([events.encode(event) for event in evaluator.pipeline.evaluate({})])
        report = evaluator.pipeline.false_alarms
        assert (report is None) == (made is off)
        assert report is None or report.rounds == 2
        evaluator.close()
    assert out[0] == out[1]
    assert len(out[0]) > 10


def test_a_unit_that_comes_back_is_one_draw_in_a_round_and_another_in_the_next(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    start = 10 * LENGTH
    for number in range(3 * int(LENGTH)):
        at = start + number
        label = Phantom(round=made.evidence.aa_number(at), propensity=0.25, drawn=number % 9 == 0)
        request = prediction(number, at, unit=f"u{number % 30}", phantom=label, rollout=None)
        evaluator.pipeline.step(batch([request, outcome(number, at + 1.0)]))
    rounds = evaluator.pipeline.state(1, {}).aa["rounds"]
    units = [sum(int(sums[0]) + int(sums[1]) for sums in one["blocks"].values()) for one in rounds.values()]
    assert units == [30, 30, 30]
    evaluator.pipeline.evaluate({})
    left = evaluator.checkpoint.db.execute("SELECT DISTINCT rollout FROM units").fetchall()
    assert {name for (name,) in left} == {"A/A 12"}
    evaluator.close()


@pytest.mark.parametrize(
    "changes",
    [{"forced": True}, {"phantom": Phantom(round=8, propensity=1.5)}, {"phantom": Phantom(round=8, propensity=0.0)}],
)
def test_forced_requests_and_impossible_labels_are_no_evidence(tmp_path: Path, changes: dict[str, Any]) -> None:
    evaluator = Evaluator(sliced(tmp_path), tmp_path / "e.db", MemoryLog())
    label = {"phantom": Phantom(round=8, propensity=0.25, drawn=True)}
    evaluator.pipeline.step(batch([prediction(1, 8 * LENGTH, **(label | changes)), outcome(1, 8 * LENGTH + 1)]))
    assert evaluator.pipeline.state(1, {}).aa["rounds"] == {}
    evaluator.close()


def test_the_rate_stands_on_metrics_beside_its_level(tmp_path: Path) -> None:
    made = sliced(tmp_path)
    evaluator = Evaluator(made, tmp_path / "e.db", MemoryLog())
    gauges.show("aa-gauges", evaluator.pipeline)
    assert math.isnan(sample("gauntlet_aa_false_alarm_ratio", experiment="aa-gauges") or 0.0), "no round, no rate"
    evaluator.pipeline.step(batch(labelled(traffic(700), made)))
    evaluator.pipeline.evaluate({})
    gauges.show("aa-gauges", evaluator.pipeline)
    evaluator.close()
    told = evaluator.pipeline.false_alarms
    assert told is not None
    names = ("rounds", "false_alarms", "false_alarm_ratio", "false_alarm_ratio_lower", "false_alarm_ratio_upper")
    values = [sample(f"gauntlet_aa_{name}", experiment="aa-gauges") for name in (*names, "level_ratio")]
    assert values == [2.0, 0.0, 0.0, told.lower, told.upper, told.level]


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", [2, 9, 23, 40])
async def test_killed_in_a_round_its_counts_are_those_of_one_pass(tmp_path: Path, steps: int) -> None:
    made = sliced(tmp_path, aa_round=Seconds(6 * BLOCK))
    stream, state, log = labelled(traffic(700), made), MemoryState(), MemoryLog()
    log.add(*stream)
    first = Evaluator(made, tmp_path / "e.db", log)
    for _ in range(steps):
        await first.worker.step()
    first.checkpoint.begin()
    first.pipeline.step(batch(labelled(traffic(50, start=9000), made)))  # folded and not committed
    first.close()
    second = await Evaluator(made, tmp_path / "e.db", log, state).read_all()
    assert second.facts() == one_pass(made, tmp_path, stream)
    second.close()
    progress = msgspec.json.decode(state.records[keys.evaluator_progress("test")].value, type=EvaluatorProgress)
    assert progress.false_alarms is not None
    assert progress.false_alarms.rounds == 4
