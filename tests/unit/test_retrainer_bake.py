"""The watch over a promoted champion: what takes the promotion back, in the bake and after it, and what does not."""

import msgspec
import pytest
from builders.decisions import CONFIG, DAY, control, decided, named

from gauntlet.config import BakeConfig, WorthConfig
from gauntlet.config.load import parse
from gauntlet.events import Health
from gauntlet.rollout import Bake, Command, Control, Promotion
from gauntlet.transitions import apply


def watched(**changes: object) -> Control:
    bake = Bake(rollout="e-r0001", since=10 * DAY, until=24 * DAY, reference={"accuracy": 0.9, "rmse": 2.0})
    promotion = Promotion(rollout="e-r0001", since=10 * DAY, until=24 * DAY)
    known = Control(experiment="e", champion="v2", previous="v1", bake=bake, promotion=promotion)
    return msgspec.structs.replace(known, **changes)


def health(accuracy: float, at: float = 15 * DAY, outcomes: int = 500, **changes: object) -> Health:
    known = Health(
        id="h1",
        at=at,
        experiment="e",
        model="v2",
        outcomes=100,
        metrics={},
        window_outcomes=outcomes,
        window={"accuracy": accuracy, "rmse": 3 - accuracy},
    )
    return msgspec.structs.replace(known, **changes)


def test_a_fall_during_the_bake_takes_the_promotion_back() -> None:
    command = decided(watched(), health(0.8499))
    assert command is not None
    assert (command.name, command.rollout, command.version) == ("rollback", "e-r0001", None)
    assert apply(watched(), command, 15 * DAY).champion == "v1"
    assert "0.9000 to 0.8499" in command.reason
    assert named(watched(), health(0.8501)) is None
    assert named(watched(), health(0.5, outcomes=499)) is None, "too few outcomes to judge"
    assert named(watched(), health(0.5, model="v1")) is None, "that was the champion before"
    assert named(watched(), health(0.5, at=9 * DAY)) is None, "that was before the promotion"
    assert named(watched(bake=None), health(0.5)) is None


@pytest.mark.parametrize(("shown", "now"), [(0.9, 0.85), (0.52, 0.47), (0.54, 0.49)])
def test_a_fall_by_exactly_what_may_be_lost_takes_nothing_back(shown: float, now: float) -> None:
    bake = Bake(rollout="e-r0001", since=10 * DAY, until=24 * DAY, reference={"accuracy": shown, "rmse": 2.0})
    assert named(watched(bake=bake), health(now)) is None
    assert named(watched(bake=bake), health(now - 1e-9)) == "rollback"
    regression = parse("experiment: e\ntask: regression\nchampion: {model: m.skops}\n")
    assert named(watched(bake=bake), health(0.9, window={"rmse": 2.1}), regression) is None
    assert named(watched(bake=bake), health(0.9, window={"rmse": 2.1 + 1e-9}), regression) == "rollback"


def test_a_fall_that_the_champion_of_before_shares_is_the_world_and_not_a_reason_to_go_back() -> None:
    def both(previous: str, outcomes: int, accuracy: float) -> Health:
        return health(
            0.5,
            previous=previous,
            previous_outcomes=outcomes,
            previous_window={"accuracy": accuracy, "rmse": 3 - accuracy},
        )

    regression = parse("experiment: e\ntask: regression\nchampion: {model: m.skops}\n")
    for config in (CONFIG, regression):
        assert named(watched(), both("v1", 500, 0.5), config) is None
        assert named(watched(), both("v1", 500, 0.51), config) is None, (
            "what little is left is for the paired comparison"
        )
        assert named(watched(), both("v1", 500, 0.7), config) == "rollback", "it does better by more than may be lost"
        assert named(watched(), both("v1", 499, 0.7), config) is None, "too few to know yet"
        assert named(watched(), both("v1", 0, 0.4), config) == "rollback", "it is not scored: nobody will ever know"
        assert named(watched(), both("v0", 500, 0.4), config) == "rollback", "that is somebody else"


def test_a_model_that_is_better_in_what_it_was_promoted_for_stays_though_its_accuracy_falls() -> None:
    """A storm's week: fewer flights right than the model before it, and the better probabilities."""
    seen = {"previous": "v1", "previous_outcomes": 500}
    ours, theirs = {"accuracy": 0.5, "log_loss": 0.60}, {"accuracy": 0.7, "log_loss": 0.61}
    assert named(watched(), health(0.5, window=ours, previous_window=theirs, **seen)) is None
    alike = {"accuracy": 0.7, "log_loss": 0.60}
    assert named(watched(), health(0.5, window=ours, previous_window=alike, **seen)) is None
    worse = {"accuracy": 0.7, "log_loss": 0.59}
    assert named(watched(), health(0.5, window=ours, previous_window=worse, **seen)) == "rollback"


def test_a_fall_during_the_bake_ends_the_next_rollout_with_it() -> None:
    busy = watched(rollouts=(msgspec.structs.replace(control().rollouts[0], id="e-r0002", challenger="v3"),))
    command = decided(busy, health(0.5))
    assert command is not None
    after = apply(busy, command, 15 * DAY)
    assert (after.champion, after.rollouts) == ("v1", ())


def test_the_bake_is_settled_when_its_time_is_up() -> None:
    assert named(watched(), health(0.9, at=24 * DAY - 1)) is None
    assert named(watched(), health(0.9, at=24 * DAY)) == "confirm"
    assert named(watched(), health(0.5, at=24 * DAY)) == "rollback"
    assert named(watched(), health(0.9, at=24 * DAY, outcomes=0)) == "confirm"


def test_a_regression_is_watched_by_the_relative_rise_of_its_rmse() -> None:
    regression = parse("experiment: e\ntask: regression\nchampion: {model: m.skops}\n")
    regression = msgspec.structs.replace(regression, bake=BakeConfig(max_drop=0.1))
    assert named(watched(), health(0.79), regression) == "rollback"  # RMSE 2.21 against 2.0
    assert named(watched(), health(0.81), regression) is None
    squared = health(0.9, window={"mse": 4.9})
    assert named(watched(), squared, regression) == "rollback"  # RMSE 2.2136


def test_a_manual_promotion_is_measured_against_the_champion_before() -> None:
    bake = Bake(rollout="e-r0001", since=10 * DAY, until=24 * DAY, reference={})
    before = {"previous": "v1", "previous_outcomes": 500, "previous_window": {"accuracy": 0.8, "rmse": 2.0}}
    assert named(watched(bake=bake), health(0.5, **before)) == "rollback"
    assert named(watched(bake=bake), health(0.79, **before)) is None


def after_bake(**changes: object) -> Control:
    promotion = Promotion(rollout="e-r0001", since=10 * DAY, until=100 * DAY)
    return msgspec.structs.replace(watched(bake=None, promotion=promotion), **changes)


def realised(upper: float | None, at: float = 50 * DAY, **changes: object) -> Health:
    known = {"previous": "v1", "promotion": "e-r0001", "realised_gain": -0.02, "realised_pairs": 9000}
    return health(0.9, at, **{**known, "realised_upper": upper, **changes})


@pytest.mark.parametrize("record", [watched(promotion=after_bake().promotion), after_bake()], ids=["bake", "later"])
def test_harm_since_the_promotion_takes_it_back_in_the_bake_and_after_it(record: Control) -> None:
    at = 15 * DAY
    command = decided(record, realised(-0.004, at))
    assert command is not None
    assert (command.name, command.rollout, command.evidence) == ("rollback", "e-r0001", "h1")
    assert "worse than v1 since the promotion by 0.02 (at least 0.004) over 9,000 pairs" in command.reason
    after = apply(record, command, at)
    assert (after.champion, after.previous, after.bake, after.promotion) == ("v1", "v2", None, None)
    for upper in (0.0, 0.01, None):
        assert named(record, realised(upper, at)) is None, "not shown"
    assert named(record, realised(-0.004, at, promotion="e-r0000")) is None, "an earlier promotion of the same version"
    assert named(record, realised(-0.004, at, promotion=None)) is None


def test_harm_after_the_bake_takes_nothing_back_where_that_is_switched_off() -> None:
    off = msgspec.structs.replace(CONFIG, worth=WorthConfig(revert=False))
    assert named(after_bake(), realised(-0.004), off) is None
    assert named(watched(promotion=after_bake().promotion), realised(-0.004, 15 * DAY), off) == "rollback"


def test_after_the_bake_only_the_paired_comparison_takes_back_and_it_ends_when_its_time_is_up() -> None:
    assert named(after_bake(), health(0.1)) is None, "a fall below what was shown is for the bake"
    assert named(after_bake(), health(0.9, at=100 * DAY - 1)) is None
    assert named(after_bake(), health(0.9, at=100 * DAY)) == "close"
    assert named(after_bake(), realised(-0.004, 100 * DAY)) == "rollback"
    closed = apply(after_bake(), Command(name="close", actor="a", reason="r", rollout="e-r0001"), 100 * DAY)
    assert (closed.champion, closed.previous, closed.promotion) == ("v2", "v1", None)
    assert named(closed, realised(-0.004, 101 * DAY)) is None


def test_harm_after_the_bake_is_taken_back_while_somebody_challenges() -> None:
    busy = after_bake(rollouts=(msgspec.structs.replace(control().rollouts[0], id="e-r0002", challenger="v3"),))
    command = decided(busy, realised(-0.004))
    assert command is not None
    after = apply(busy, command, 50 * DAY)
    assert (after.champion, after.rollouts) == ("v1", ())
