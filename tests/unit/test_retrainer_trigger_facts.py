"""Facts at their exact limits: windows, counts, the figures' bounds, and what of a drift episode counts."""

from __future__ import annotations

import math

import pytest
from builders.retraining_data import drift
from scipy.stats import t as student

from gauntlet.events import DriftSignal, Health
from retrainer.triggers.facts import ChampionFacts as Champion
from retrainer.triggers.facts import Facts, OutcomeBlock, estimate, fold, latest, learned


def health(at: float, outcomes: int = 10, model: str = "v0001", **metrics: float) -> Health:
    return Health(
        id=f"{model}-{at}", at=at, experiment="turning", model=model, outcomes=outcomes, metrics=metrics or {"a": 0.5}
    )


def folded(*events: Health) -> Facts:
    facts = Facts()
    for event in events:
        facts = fold(facts, event)
    return facts


def test_what_is_kept_is_bounded_and_no_row_is_lost_by_it() -> None:
    full = folded(*(health(float(at)) for at in range(1_000)))
    assert len(full.labelled) == 1_000
    more = fold(full, health(1_000.0))
    assert (len(more.labelled), more.labelled[0], more.labelled[1]) == (1_000, (1.0, 20), (2.0, 10))
    assert sum(rows for _, rows in more.labelled) == 10_010
    own = more.of("v0001")
    assert [block.at for block in own.first] == [float(at) for at in range(60)]
    assert [block.at for block in own.blocks] == [float(at) for at in range(801, 1_001)]


def test_the_latest_champions_are_kept_the_present_one_last() -> None:
    facts = folded(*(health(float(n), model=f"v{n}") for n in range(5)))
    assert [*facts.champions] == ["v1", "v2", "v3", "v4"]
    back = fold(facts, health(9.0, model="v2"))
    assert [*back.champions] == ["v1", "v3", "v4", "v2"]
    assert fold(back, health(8.0, model="v4")) == back, "late news of a champion of before"
    assert [*fold(back, health(9.0, model="v4")).champions][-1] == "v4", (
        "but of the same time it may be the present one"
    )


def test_blocks_or_an_episode_are_word_of_a_champion() -> None:
    assert not Champion().heard
    assert folded(health(1.0)).of("v0001").heard
    assert fold(Facts(), drift(1.0)).of("v0001").heard


def test_a_block_counts_once_and_only_in_order() -> None:
    facts = folded(health(1.0), health(2.0))
    for again in (health(2.0), health(1.5), health(1.0)):
        assert fold(facts, again).of("v0001") == facts.of("v0001")


def test_the_window_ends_before_its_own_length_ago() -> None:
    blocks = [OutcomeBlock(at, 1, {}) for at in (0.0, 1.0, 2.0)]
    assert [block.at for block in latest(blocks, 10.0, 9.0)] == [2.0]
    assert [block.at for block in latest(blocks, 10.0, 9.001)] == [1.0, 2.0]


def test_a_champion_shows_its_own_figure_with_just_enough_outcomes() -> None:
    own = Champion(
        first=[OutcomeBlock(1.0, 40, {"a": 0.5}), OutcomeBlock(2.0, 60, {"a": 1.0}), OutcomeBlock(3.0, 1, {})]
    )
    assert learned(own, "a", 101) == (pytest.approx(0.8), 101)
    assert learned(own, "a", 100) == (pytest.approx(0.8), 100)
    assert learned(own, "a", 40) == (0.5, 40)
    assert learned(own, "a", 102) is None
    assert learned(own, "b", 1) is None


def test_limits_are_students_over_blocks_weighted_by_their_outcomes() -> None:
    blocks = [
        OutcomeBlock(float(n), rows, {"a": value}) for n, (rows, value) in enumerate([(10, 0.9), (30, 0.6), (20, 0.75)])
    ]
    found = estimate(blocks, "a", 0.95)
    assert found is not None
    mean = (9 + 18 + 15) / 60
    spread = sum((rows * (value - mean)) ** 2 for rows, value in ((10, 0.9), (30, 0.6), (20, 0.75)))
    half = math.sqrt(spread * 3 / 2) / 60 * student.ppf(0.95, 2)
    assert (found.value, found.lower, found.upper) == pytest.approx((mean, mean - half, mean + half))
    bare = estimate(blocks, "a", 0.5)
    assert bare is not None
    assert (bare.value, bare.lower, bare.upper) == pytest.approx((mean, mean, mean))
    alone = estimate([*blocks[:1], OutcomeBlock(9.0, 0, {"a": 0.1}), OutcomeBlock(9.0, 5, {"b": 0.1})], "a", 0.95)
    assert alone is not None
    assert (alone.value, alone.lower, alone.upper) == (0.9, None, None), "one block says nothing of its spread"
    certain = estimate(blocks[:1], "a", 0.5)
    assert certain is not None
    assert (certain.lower, certain.upper) == (0.9, 0.9), "but the bare figure needs none"


def test_rmse_is_the_root_of_a_mean_of_squares_and_never_below_zero() -> None:
    blocks = [OutcomeBlock(1.0, 10, {"rmse": 3.0}), OutcomeBlock(2.0, 30, {"rmse": 5.0})]
    bare = estimate(blocks, "rmse", 0.5)
    assert bare is not None
    assert (bare.value, bare.lower, bare.upper) == pytest.approx((math.sqrt(21.0),) * 3)
    wide = estimate(blocks, "rmse", 0.99)
    assert wide is not None
    assert wide.lower == 0.0
    assert wide.upper is not None
    assert wide.upper > math.sqrt(21.0)


def signal(name: str, statistic: float, kind: str, p_value: float | None = None) -> DriftSignal:
    return DriftSignal(name=name, statistic=statistic, kind=kind, p_value=p_value)


def test_an_episodes_figures_are_the_worst_of_their_kind() -> None:
    raised = [
        signal("x1", 0.2, "distribution", 0.04),
        signal("x1", 0.1, "displaced", 0.01),
        signal("x2", 0.4, "categories"),
        signal("x3", 0.12, "regime"),
        signal("x4", 0.3, "regime", 0.02),
        signal("", 0.07, "r2"),
        signal("", 0.06, "r2"),
        signal("x5", 0.9, "quality", 0.001),
    ]
    features = [signal(f"x{n}", 0.5, "distribution") for n in range(1, 8)]
    episode = fold(Facts(), drift(1.0, raised=raised, features=features)).of("v0001").episode
    assert episode is not None
    assert (episode.statistic, episode.transition, episode.r2_fall) == (0.4, 0.3, 0.07)
    assert (episode.features, episode.p_value) == (2, 0.01), "features of distances; the data's quality has no p value"
    assert episode.reason == "HIGH drift, root cause concept (x1, x2, x3, x4, x5)"
    bare = fold(Facts(), drift(1.0)).of("v0001").episode
    assert bare is not None
    assert (bare.statistic, bare.transition, bare.r2_fall, bare.features, bare.p_value) == (0.0, 0.0, 0.0, 0, None)
    assert bare.reason == "HIGH drift, root cause concept"


def test_only_a_later_step_at_the_known_severity_is_news() -> None:
    opened = fold(Facts(), drift(1.0))
    episode = opened.of("v0001").episode
    assert episode is not None
    assert (episode.since, episode.worse_since, episode.news) == (1.0, 1.0, "")
    again = fold(opened, drift(1.0, event="escalate")).of("v0001").episode
    assert again is not None
    assert again.news == "", "the step that made it known, once more"
    further = fold(opened, drift(2.0, event="escalate"))
    news = further.of("v0001").episode
    assert news is not None
    assert (news.news, news.since, news.worse_since) == ("e1-escalate", 1.0, 1.0)
    worse = fold(further, drift(3.0, "CRITICAL", event="escalate")).of("v0001").episode
    assert worse is not None
    assert (worse.news, worse.since, worse.worse_since) == ("e1-escalate", 1.0, 3.0)
    eased = fold(opened, drift(2.0, event="deescalate")).of("v0001").episode
    assert eased is not None
    assert eased.news == ""


def test_episodes_are_counted_once_each_and_only_the_open_one_is_closed() -> None:
    opened = fold(Facts(), drift(1.0))
    assert fold(opened, drift(2.0, event="escalate")).of("v0001").episodes == 1
    other = fold(opened, drift(2.0, event="close", episode="e2"))
    assert other.of("v0001").episode == opened.of("v0001").episode
    closed = fold(opened, drift(2.0, event="close"))
    assert (closed.of("v0001").episode, closed.of("v0001").episodes) == (None, 1)
    assert fold(closed, drift(3.0, episode="e2")).of("v0001").episodes == 2
