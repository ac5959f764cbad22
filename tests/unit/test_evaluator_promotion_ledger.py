"""The ledger of promotions: right sums, limits that hold at every look at once, and the same however it was read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.evaluator_events import (
    BLOCK,
    HORIZON,
    Evaluator,
    Make,
    MemoryLog,
    batch,
    config,
    contender,
    one_pass,
    outcome,
    pipelines,
    prediction,
    shadow,
    treated,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.service import primary_metric
from evaluator.service.design import evaluation_design
from evaluator.service.join_records import HoldoutDraw
from evaluator.service.pipeline import Pipeline
from evaluator.service.promotion_ledger import lineage
from evaluator.stats import Block, Look, PairedSums, SplitSums, State, advance, paired_blocks
from evaluator.stats.alpha_budget import link_level
from gauntlet import events
from gauntlet.config.load import parse
from gauntlet.promotion_ledger import Entry, Ledger


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with pipelines(tmp_path) as fresh:
        yield fresh


def probabilities(seed: int, n: int, quality: float) -> list[float]:
    """Of the true class: the better the model, the greater."""
    return np.clip(np.random.default_rng(seed).normal(quality, 0.08, n), 0.02, 0.98).round(4).tolist()


def served(
    start: int,
    n: int,
    *,
    promotion: str | None = None,
    champion: str = "v0002",
    previous: str = "v0001",
    ours: float = 0.7,
    theirs: float = 0.6,
    allocation: int = 2,
) -> list[Any]:
    """Requests of class 1, one a second, that the champion answered and the one before scored."""
    found: list[Any] = []
    mine, before = probabilities(start, n, ours), probabilities(start + 1, n, theirs)
    for k, i in enumerate(range(start, start + n)):
        at = 1000.0 + i
        alone = {"rollout": None, "champion": champion, "allocation": allocation, "output": [1 - mine[k], mine[k]]}
        found += [prediction(i, at, **alone), outcome(i, at + 30.0, 1)]
        if promotion is not None:
            score = {"arm": "previous", "model": previous, "rollout": promotion, "output": [1 - before[k], before[k]]}
            found.append(shadow(i, at, **score))
    return sorted(found, key=lambda event: event.at)


def entries(pipeline: Pipeline) -> dict[str, Entry]:
    pipeline.settle_joins()
    pipeline.evaluate({})
    return {entry.promotion: entry for entry in pipeline.ledger.entries}


def health(found: list[Any]) -> list[events.Health]:
    return [event for event in found if isinstance(event, events.Health)]


def test_a_promotion_has_its_gain_and_its_limits_by_the_closed_blocks(make: Make) -> None:
    n, pipeline = 1200, make()
    pipeline.step(batch(served(0, n, promotion="test-r0001")))
    (entry,) = entries(pipeline).values()
    closed = int((n - 1 - HORIZON) // (2 * BLOCK)) * int(2 * BLOCK)
    mine, before = np.array(probabilities(0, n, 0.7)), np.array(probabilities(1, n, 0.6))
    gains = (np.log(mine) - np.log(before))[:closed]
    assert (entry.champion, entry.previous, entry.number, entry.pairs) == ("v0002", "v0001", 1, closed)
    assert entry.gain == pytest.approx(gains.mean(), abs=1e-6)
    assert (entry.since, entry.until) == (1000.0, 1000.0 + closed)
    assert entry.lower is not None
    assert entry.upper is not None
    assert 0 < entry.lower < entry.gain < entry.upper
    assert entry.lineage_lower is not None
    assert entry.lineage_lower < entry.lower, "at a smaller level"


def test_the_limits_are_the_engines_at_one_look_after_another(make: Make, tmp_path: Path) -> None:
    """Against the engine, told block by block with one state: that is what makes them hold at all looks at once."""
    n, pipeline = 1200, make()
    pipeline.step(batch(served(0, n, promotion="test-r0001")))
    (entry,) = entries(pipeline).values()
    plan = msgspec.structs.replace(evaluation_design(config(tmp_path)).plan, form="paired").worth(0.05)
    mine, before = -np.log(probabilities(0, n, 0.7)), -np.log(probabilities(1, n, 0.6))
    size, state, look = int(2 * BLOCK), State.start(plan), None

    def blocks(length: int, end: int) -> list[Block]:
        found = []
        for start in range(0, end, length):
            sums = PairedSums()
            sums.add(-before[start : start + length], -mine[start : start + length])
            found.append(sums)
        return paired_blocks(found)

    for end in range(size, entry.pairs + 1, size):
        state, look = advance(state, blocks(size, end), plan, blocks(size // 2, end))
    assert isinstance(look, Look)
    assert (entry.lower, entry.upper) == (pytest.approx(look.lower), pytest.approx(look.upper))


def test_health_tells_of_the_present_promotion_alone(make: Make) -> None:
    """The same two versions a second time: what was before the rollback is another entry, and old news."""
    pipeline = make()
    stream = [
        *served(0, 400, promotion="test-r0001", ours=0.5),
        *served(400, 200, champion="v0001", allocation=3),
        *served(600, 400, promotion="test-r0002", allocation=4),
    ]
    pipeline.step(batch(stream))
    pipeline.settle_joins()
    told = health(pipeline.evaluate({}))
    assert told[-1].promotion == "test-r0002"
    assert told[-1].realised_gain is not None
    assert told[-1].realised_gain > 0
    found = entries(pipeline)
    assert found["test-r0001"].gain < 0 < found["test-r0002"].gain
    assert [e.number for e in found.values()] == [1, 2]
    assert told[-1].realised_pairs == found["test-r0002"].pairs


def test_an_entry_stays_when_its_pairs_are_forgotten(make: Make) -> None:
    pipeline, names = make(), [f"test-r000{k}" for k in range(1, 7)]
    first: Entry | None = None
    for k, name in enumerate(names):
        champion, previous = (("v0002", "v0001"), ("v0003", "v0002"))[k % 2]
        pipeline.step(
            batch(served(600 * k, 600, promotion=name, champion=champion, previous=previous, allocation=2 + k))
        )
        found = entries(pipeline)
        first = first or found[names[0]]
    settled = entries(pipeline)
    assert [*settled] == names
    assert settled[names[0]].pairs == 600, "all of its blocks have closed meanwhile"
    assert settled[names[0]].since == first.since if first else False
    assert len(pipeline.state(0, {}).accumulators["promotions"]) < len(names)  # type: ignore[index]
    # A straggler of a promotion whose pairs are gone changes nothing, and is no new promotion.
    late = [
        prediction(9000, 4500.0, rollout=None),
        shadow(9000, 4500.0, arm="previous", rollout=names[0], model="v0001"),
    ]
    pipeline.step(batch([*late, outcome(9000, 4501.0)]))
    assert entries(pipeline) == settled


def test_a_restart_goes_on_with_the_same_tests(make: Make) -> None:
    stream = served(0, 900, promotion="test-r0001")
    through, broken = make(), make()
    for start in range(0, len(stream), 300):
        for pipeline in (through, broken):
            pipeline.step(batch(stream[start : start + 300]))
            pipeline.settle_joins()
            pipeline.evaluate({})
        saved = broken.state(1, {})
        broken = make(saved=saved)
        broken.rebuild_joins(batch(stream[: start + 300]))
    assert broken.ledger.entries
    assert broken.ledger == through.ledger


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 1400), max_size=8), look=st.lists(st.booleans(), min_size=9, max_size=9))
def test_the_ledger_depends_on_what_was_read_and_not_on_when(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], look: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("worth")
    stream = [
        *served(0, 200, promotion="test-r0001"),
        *served(200, 150, promotion="test-r0002", champion="v0003", previous="v0002", allocation=3),
        *served(350, 200, champion="v0002", allocation=4),
    ]
    stream.sort(key=lambda event: event.at)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    evaluator = Evaluator(config(folder), folder / "cut.db", MemoryLog())
    for (start, stop), now in itertools.zip_longest(itertools.pairwise(edges), look[: len(edges) - 1]):
        evaluator.pipeline.step(batch(stream[start:stop]))
        if now:
            entries(evaluator.pipeline)
    ledger = entries(evaluator.pipeline)
    facts = evaluator.facts()
    evaluator.close()
    assert len(ledger) == 2
    assert facts == one_pass(config(folder), folder, stream)


def link(number: int, champion: str, previous: str, gain: float, width: float | None = 0.01) -> Entry:
    limits = {} if width is None else {"lineage_lower": gain - width, "lineage_upper": gain + width}
    return Entry(
        promotion=f"r{number}",
        champion=champion,
        previous=previous,
        number=number,
        since=float(number),
        until=number + 1.0,
        pairs=100,
        gain=gain,
        alpha=0.05,
        **limits,
    )


def test_the_lineage_adds_the_links_that_lead_to_the_champion_and_no_other() -> None:
    ledger = [link(1, "b", "a", 0.02), link(2, "c", "b", -0.05), link(3, "d", "b", 0.01), link(4, "e", "d", 0.005)]
    found = lineage(ledger, "e")
    assert found is not None
    assert (found.base, found.champion, found.links, found.unknown) == ("a", "e", 3, 0)
    assert found.gain == pytest.approx(0.035), "c was taken back: d came over b"
    assert (found.lower, found.upper) == (pytest.approx(0.005), pytest.approx(0.065)), "the limits add"
    assert lineage(ledger, "a") is None
    again = [*ledger, link(5, "b", "e", 0.5)]
    found = lineage(again, "b")
    assert found is not None
    assert (found.base, found.links) == ("a", 4), "a version that was champion before goes back to its first time"


def test_a_link_without_an_interval_leaves_the_sum_without_one() -> None:
    found = lineage([link(1, "b", "a", 0.02), link(2, "c", "b", 0.01, None)], "c")
    assert found is not None
    assert (found.gain, found.lower, found.upper, found.unknown) == (pytest.approx(0.03), None, None, 1)


def test_the_levels_of_all_links_add_up_to_that_of_one() -> None:
    levels = [link_level(0.05, number) for number in range(1, 20_000)]
    assert levels == sorted(levels, reverse=True)
    assert 0.0495 < sum(levels) < 0.05


def test_a_ledger_is_found_by_its_promotion() -> None:
    entry = link(1, "b", "a", 0.02)
    assert Ledger(entries=[entry]).of("r1") == entry
    assert Ledger(entries=[entry]).of(None) is None


def split(n: int, *, share: float = 0.2, ours: float = 0.7, theirs: float = 0.6) -> tuple[list[Any], list[bool]]:
    """Requests of a promotion with a share of its units held out, and which of them were."""
    held = (np.random.default_rng(3).random(n) < share).tolist()
    found: list[Any] = []
    for i, (drawn, mine, before) in enumerate(
        zip(held, probabilities(0, n, ours), probabilities(1, n, theirs), strict=True)
    ):
        p = before if drawn else mine
        holdout = events.Holdout(promotion="test-r0001", previous="v0001", propensity=share, drawn=drawn)
        at, alone = 1000.0 + i, {"rollout": None, "champion": "v0002", "output": [1 - p, p], "holdout": holdout}
        found += [prediction(i, at, **alone), outcome(i, at + 30.0, 1)]
        if not drawn:
            score = {"arm": "previous", "model": "v0001", "rollout": "test-r0001", "output": [1 - before, before]}
            found.append(shadow(i, at, **score))
    return found, held


def test_the_reverse_holdout_tells_the_causal_effect_of_a_promotion(make: Make) -> None:
    n, pipeline = 2400, make()
    stream, held = split(n)
    pipeline.step(batch(stream))
    (entry,) = entries(pipeline).values()
    found = entry.split
    assert found is not None
    closed = round(entry.until - 1000.0)
    mine, before = -np.log(probabilities(0, n, 0.7))[:closed], -np.log(probabilities(1, n, 0.6))[:closed]
    out = np.array(held[:closed])
    assert (found.units, found.held_out) == ((~out).sum(), out.sum())
    assert found.gain == pytest.approx(before[out].mean() - mine[~out].mean(), abs=0.01)
    assert found.lower is not None
    assert found.lower > 0
    assert entry.pairs == (~out).sum(), "who is held out is not a pair"


def test_who_is_held_out_is_evidence_of_nothing_else(make: Make) -> None:
    """Of no rollout, not of the champion's health, and not of its drift."""
    pipeline = make()
    holdout = events.Holdout(promotion="test-r0001", previous="v0001", propensity=0.5, drawn=True)
    own = events.Holdout(promotion="test-r0001", previous="v0001", propensity=0.5)
    stream: list[Any] = []
    for i in range(300):
        held = i % 2 == 0
        alone = {
            "champion": "v0002",
            "holdout": holdout if held else own,
            "rollout": "test-r0002",
            "challenger": "v0003",
        }
        stream += [
            prediction(i, 1000.0 + i, output=[0.9, 0.1] if held else [0.1, 0.9], **alone),
            outcome(i, 1001.0 + i, 1),
        ]
    pipeline.step(batch(stream))
    pipeline.settle_joins()
    last = health(pipeline.evaluate({}))[-1]
    assert (last.model, last.window["accuracy"]) == ("v0002", 1.0)
    saved = pipeline.state(0, {}).accumulators
    assert saved is not None
    exposures = [block["exposures"] for block in saved["rollouts"]["test-r0002"]["blocks"].values()]
    assert sum(each["champion"] for each in exposures) == 150
    assert prediction(0, 0.0, champion="v0002", holdout=holdout).model == "v0001"
    assert prediction(0, 0.0, champion="v0002", holdout=holdout, fallback="timeout").model == "v0002"


def test_a_unit_that_comes_back_is_one_draw_and_a_challengers_is_none(make: Make) -> None:
    pipeline, (stream, _) = make(), split(400)
    stream = [msgspec.structs.replace(e, unit=f"u{int(e.id[1:]) % 40}") if hasattr(e, "unit") else e for e in stream]
    pipeline.step(batch(stream))
    saved = pipeline.state(0, {}).accumulators
    assert saved is not None
    (sums,) = saved["promotions"]
    counted = [SplitSums.from_list([int(text) for text in texts]) for texts in sums["split"].values()]
    assert sum(each.n_champion + each.n_challenger for each in counted) == 40
    draw = HoldoutDraw.of(
        prediction(
            1,
            5.0,
            champion="v0002",
            contenders=[contender("r3", "v0003", 0.1), contender("r4", "v0003", 0.2)],
            holdout=events.Holdout(promotion="r1", previous="v0001", propensity=0.04),
        )
    )
    assert draw is not None
    assert draw.share == pytest.approx(0.96 * 0.7 / (0.96 * 0.7 + 0.04)), "given one of the two"
    assert HoldoutDraw.of(treated(1, 5.0, holdout=draw_of("r1"))) is None


def draw_of(promotion: str) -> events.Holdout:
    return events.Holdout(promotion=promotion, previous="v0001", propensity=0.04)


def test_a_bad_first_day_alone_is_no_harm() -> None:
    """With `block: auto`: how much days differ is known from several, whatever the hours of the first one say."""
    design = evaluation_design(parse("experiment: e\ntask: classification\nchampion: {model: m.skops}\n"))
    plan, rng, uppers = msgspec.structs.replace(design.plan, form="paired"), np.random.default_rng(4), []
    test, state, blocks = plan.worth(0.05), State.start(plan.worth(0.05)), {}
    for day in range(6):
        for hour in range(24):
            sums, champion = PairedSums(), rng.exponential(0.5, 30)
            worse = (0.1 if day == 0 else 0.0) + rng.normal(0.0, 0.1, 30)
            sums.add(-champion, -(champion + worse))
            blocks[24 * day + hour] = (SplitSums(), sums)
        state, look = primary_metric.look(design, plan, test, state, blocks, 24 * (day + 1) - 1)
        uppers.append(look.upper if isinstance(look, Look) else None)
    assert uppers[:4] == [None] * 4
    assert all(upper is None or upper > 0 for upper in uppers)
