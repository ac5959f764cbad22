"""Circuit breaker: when it opens, for which rollout it counts, and that it opens once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gauntlet.config import BreakerConfig
from router.breaker import CircuitBreaker

SETTINGS = BreakerConfig(window=10, min_failures=3, failure_share=0.5)


class Counted:
    """A breaker that follows rollout r1, and what it reported."""

    def __init__(self, settings: BreakerConfig = SETTINGS) -> None:
        self.reports: list[tuple[str, str]] = []
        self.breaker = CircuitBreaker(settings, lambda *report: self.reports.append(report))
        self.breaker.follow(["r1"])

    def record(self, failure: str | None, calls: int = 1, rollout: str = "r1") -> bool:
        """Record `calls` results; True if the rollout's breaker is open afterwards."""
        for _ in range(calls):
            self.breaker.record(rollout, failure)
        return self.breaker.is_open(rollout)


def test_needs_both_enough_failures_and_their_share() -> None:
    one = Counted()
    assert [one.record(f) for f in ("error", None, None, "error", None, "timeout")] == [False] * 5 + [True]
    assert one.reports == [("r1", "3 of the latest 6 calls failed (2 error, 1 timeout since the rollout began)")]


def test_the_share_counts() -> None:
    one = Counted()
    assert not one.record(None, 6)
    assert not one.record("error", 4)
    assert one.record("error")  # 5 of the latest 10


def test_old_failures_leave_the_window() -> None:
    one = Counted()
    one.record("error", 2)
    one.record(None, 10)
    assert not one.record("error", 2)


def test_opens_once_and_stays_open() -> None:
    one = Counted()
    assert one.record("error", 10)
    assert one.record(None, 100)
    assert len(one.reports) == 1


def test_a_step_up_keeps_the_counts_and_the_next_rollout_starts_with_none() -> None:
    one = Counted()
    one.record("error", 2)
    one.breaker.follow(["r1"])
    assert one.record("error"), "the same rollout on the next stage"
    one.breaker.follow(["r2"])
    assert not one.record("error", 2, rollout="r2")
    assert one.breaker.is_open("r1"), "a request that still holds the old table asks its challenger no more"
    one.record("error", 10, rollout="r1")
    assert not one.breaker.is_open("r2"), "late failures of the old challenger are not charged to the new one"


def test_a_breaker_of_three_takes_only_its_own_challenger_out() -> None:
    one = Counted()
    one.breaker.follow(["r1", "r2", "r3"])
    assert not one.record("error", 2, rollout="r3")
    assert one.record("error", 3)
    assert [one.breaker.is_open(rollout) for rollout in ("r1", "r2", "r3")] == [True, False, False]
    one.breaker.follow(["r2", "r3"])  # r1 is over
    assert one.record("error", rollout="r3"), "the others keep their counts"
    assert not one.breaker.is_open("r2")
    assert [rollout for rollout, _ in one.reports] == ["r1", "r3"]


@given(
    st.integers(1, 20), st.data(), st.lists(st.tuples(st.sampled_from([None, "error"]), st.integers(1, 4)), max_size=60)
)
def test_is_the_plain_count_over_the_window(
    window: int, data: st.DataObject, records: list[tuple[str | None, int]]
) -> None:
    settings = BreakerConfig(
        window=window, min_failures=data.draw(st.integers(1, window)), failure_share=data.draw(st.floats(0.01, 1))
    )
    one = Counted(settings)
    calls: list[bool] = []
    is_open = False
    for failure, times in records:
        for _ in range(times):
            calls.append(failure is not None)
            latest = calls[-window:]
            is_open = is_open or sum(latest) >= max(settings.min_failures, settings.failure_share * len(latest))
            assert one.record(failure) == is_open
    assert len(one.reports) == is_open
