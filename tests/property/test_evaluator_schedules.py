"""However a stream was mixed, repeated and cut, the joins' counts and the sums are the same bit for bit."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from builders.evaluator_events import BLOCK, GUARDED, HORIZON, batch, config, outcome, prediction, shadow, treated
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import TrackedMetrics
from evaluator.service.checkpoint import Checkpoint
from evaluator.service.join import JoinTable
from evaluator.service.pipeline import Pipeline
from evaluator.service.request_counts import ABSENT, OTHER, VALUES, capped, kept
from evaluator.stats import SplitSums
from gauntlet import adapters, events
from gauntlet.types import Task

_REPEATS = ("prediction_duplicate", "shadow_duplicate", "duplicate", "conflict", "outcomes")


@st.composite
def lives(draw: st.DrawFn, number: int) -> tuple[list[Any], list[Any]]:
    """One id's records in the two topics, each in its topic's order: with or without any of them, late, in conflict."""
    at = float(draw(st.integers(0, 200)))
    make = draw(st.sampled_from([prediction, treated]))
    first: list[Any] = []
    if draw(st.booleans()):
        changes = draw(
            st.sampled_from(
                [
                    {},
                    {"forced": True},
                    {"propensity": 0.0},
                    {"rollout": None, "challenger": None},
                    {"fallback": "error", "served": "champion"},
                    {"fallback": "breaker_open", "served": "champion"},
                    {"segments": {"country": f"c{number}", "plan": ""}, "seconds": 0.3},
                ]
            )
        )
        first.append(make(number, at, **changes))
    if draw(st.booleans()):
        arm = draw(st.sampled_from([("challenger", "v0002"), ("champion", "v0001"), ("previous", "v0003")]))
        output = draw(st.sampled_from([None, [0.1, 0.9], [1 / 3, 2 / 3]]))
        first.append(shadow(number, at, arm=arm[0], model=arm[1], output=output))
        if draw(st.booleans()):
            first.reverse()
    delays = draw(st.lists(st.sampled_from([-5.0, 0.0, 30.0, HORIZON, HORIZON + 1e-6, 150.0]), max_size=3))
    return first, [outcome(number, max(0.0, at + delay), draw(st.sampled_from([0, 1, True]))) for delay in delays]


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[list[Any]], list[list[Any]]]:
    """Two batched readings of one set of records: one straight through, one mixed, cut and with whole redeliveries."""
    streams = [draw(lives(number)) for number in range(draw(st.integers(1, 6)))]
    straight = [event for first, second in streams for event in first + second]
    queues = [list(queue) for life in streams for queue in life if queue]
    mixed: list[Any] = []
    while queues:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        mixed.append(queue.pop(0))
        queues = [q for q in queues if q]
        if draw(st.integers(0, 9)) == 0:
            mixed += mixed[draw(st.integers(0, len(mixed))) :]  # a crash before the commit: read again from there
    cuts = sorted(draw(st.lists(st.integers(0, len(mixed)), max_size=6)))
    batches = [mixed[a:b] for a, b in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]
    return [straight], batches


def evaluate(batches: list[list[Any]], *, paired: bool = False, reopen: bool = False) -> tuple[Any, Counter[str]]:
    tracked = TrackedMetrics(
        paired=paired, losses=["brier"], recalls={"recall of 1": 1}, segments=["country", "plan"], latency=True
    )
    fold = Accumulators(Task.CLASSIFICATION, "log_loss", BLOCK, 0.0, {0: 0, 1: 1}, tracked)
    counts: Counter[str] = Counter()
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        table = JoinTable(db, HORIZON, tracked.segments)
        for events_ in batches:
            if reopen:
                table = JoinTable(db, HORIZON, tracked.segments)
            joined = table.apply(events_)
            fold.exposures(joined.exposures)
            fold.matches(joined.matches)
            fold.pairs(joined.pairs)
            fold.scored(joined.scored)
            counts += joined.counts
        counts += table.expire(1e9)
        assert len(table) == 0
    return fold.to_dict(), counts


@settings(max_examples=150, deadline=None, derandomize=True)
@given(schedules(), st.booleans(), st.booleans())
def test_mixing_repeating_and_cutting_a_stream_changes_nothing(
    schedule: tuple[list[list[Any]], list[list[Any]]], paired: bool, reopen: bool
) -> None:
    straight, cut = schedule
    sums, counts = evaluate(straight, paired=paired)
    mixed_sums, mixed_counts = evaluate(cut, paired=paired, reopen=reopen)
    assert mixed_sums == sums
    for name in counts.keys() | mixed_counts.keys():
        if name not in _REPEATS:  # those count what came again, which is the schedule's own
            assert mixed_counts[name] == counts[name], name
    read = sum(isinstance(event, events.Outcome) for events_ in cut for event in events_)
    assert mixed_counts["outcomes"] == read
    parts = ("joined", "late", "orphan", "duplicate", "conflict")
    assert sum(mixed_counts[name] for name in parts) == read  # every outcome is accounted for


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[int]]:
    """Predictions in two partitions and their outcomes, in time order over several horizons; and where it is cut."""
    first: list[Any] = []
    second: list[Any] = []
    at = 1000.0
    for number in range(draw(st.integers(2, 12))):
        at += draw(st.sampled_from([1.0, 30.0, 90.0, 250.0]))
        first.append((f"predictions/{number % 2}", draw(st.sampled_from([prediction, treated]))(number, at)))
        for delay in draw(st.lists(st.sampled_from([10.0, HORIZON, HORIZON + 1]), max_size=2)):
            second.append(("outcomes/0", outcome(number, at + delay, draw(st.sampled_from([0, 1])))))
    second.sort(key=lambda placed: placed[1].at)
    return first, second, sorted(draw(st.lists(st.integers(0, len(first)), max_size=5)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logs())
def test_expiry_on_the_way_and_everything_once_more_change_no_sum(log: tuple[list[Any], list[Any], list[int]]) -> None:
    """The tombstones of a redelivered pair are gone by then; it must not count again."""
    predictions, outcomes, cuts = log
    with tempfile.TemporaryDirectory() as folder:
        made = config(Path(folder), GUARDED)
        registry = adapters.registry(made)

        def fresh(name: str) -> tuple[Pipeline, Checkpoint]:
            checkpoint = Checkpoint(Path(folder) / name)
            return Pipeline(made, registry, checkpoint), checkpoint

        whole, one = fresh("whole.db")
        whole.step(predictions)
        whole.step(outcomes)
        whole.settle_joins()
        pieces, two = fresh("pieces.db")
        for again in (False, True):
            done = 0
            for a, b in zip([0, *cuts], [*cuts, len(predictions)], strict=True):
                pieces.step(predictions[a:b])
                # What had been written by then, as the worker reads it: all outcomes up to the latest prediction.
                now = predictions[b - 1][1].at if b < len(predictions) and b else float("inf")
                due = sum(event.at <= now for _, event in outcomes)
                pieces.step(outcomes[done:due])
                done = max(done, due)
                pieces.settle_joins()
            if not again:
                assert pieces.state(0, {}).accumulators == whole.state(0, {}).accumulators
        assert pieces.state(0, {}).accumulators == whole.state(0, {}).accumulators
        for name in ("predictions", "joined", "late"):
            assert pieces.counts[name] == whole.counts[name]
        one.close()
        two.close()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 60).map(str), min_size=30, max_size=120), st.integers(1, 119), st.randoms())
def test_which_values_are_told_apart_depends_on_the_values_alone(values: list[str], cut: int, random: Any) -> None:
    """Also where the parts were cut down before they met: sums by value are those of one pass in any order."""

    def summed(some: list[str]) -> dict[str, SplitSums]:
        sums: dict[str, SplitSums] = {}
        for value in some:
            sums.setdefault(value, SplitSums()).add(True, 0.5, 1.0)
            sums = capped(sums, kept(sums))
        return sums

    whole = summed(values)
    shuffled = list(values)
    random.shuffle(shuffled)
    first, second = summed(shuffled[:cut]), summed(shuffled[cut:])
    apart = kept([*first, *second])
    merged = capped(first, apart)
    for value, sums in capped(second, apart).items():
        merged[value] = merged[value].merge(sums) if value in merged else sums
    assert merged == whole
    assert len(whole.keys() - {OTHER, ABSENT}) <= VALUES
    assert sum(sums.n_challenger for sums in whole.values()) == len(values)


def test_a_stale_prediction_is_reported_by_its_own_partitions_time(tmp_path: Path) -> None:
    """A partition that lags behind another has nothing stale for it."""
    made = config(tmp_path)
    checkpoint = Checkpoint(tmp_path / "e.db")
    pipeline = Pipeline(made, adapters.registry(made), checkpoint)
    pipeline.step(batch([prediction(1, 10_000.0)], "predictions/a"))
    counts = pipeline.step(
        batch([prediction(2, 1000.0)], "predictions/b") + batch([prediction(3, 1000.0)], "predictions/a")
    )
    checkpoint.close()
    assert (counts["predictions"], counts["stale"]) == (1, 1)
