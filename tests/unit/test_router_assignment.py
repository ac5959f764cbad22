"""Assignment: the same everywhere and for ever, nested, and in the shares that were asked for."""

import itertools
import math
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from router import assignment

# Made once with the published XXH3-64 of "flights\x1fflights-r0001\x1f" + unit; they must never change.
GOLDEN = {
    "a": 465863,
    "unit-1": 908338,
    "unit-2": 639867,
    "Zürich": 809824,
    "0192f0c1-2345-7abc-8def-0123456789ab": 662925,
}


def test_buckets_are_pinned() -> None:
    salt = assignment.salt("flights", "flights-r0001")
    assert {unit: assignment.bucket(salt, unit) for unit in GOLDEN} == GOLDEN


def test_another_process_assigns_alike() -> None:
    code = (
        "from router import assignment; s = assignment.salt('flights', 'flights-r0001');"
        f"print([assignment.bucket(s, u) for u in {list(GOLDEN)!r}])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == str(list(GOLDEN.values()))


@given(st.integers(1, 12), st.data())
def test_slots_are_disjoint_and_shares_are_as_ordered(slots: int, data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.floats(0, 1 / slots), min_size=slots, max_size=slots))
    ranges = [assignment.buckets(slot, slots, share) for slot, share in enumerate(shares)]
    for before, after in itertools.pairwise(ranges):
        assert before.stop <= after.start
    assert ranges[0].start >= 0
    assert ranges[-1].stop <= assignment.BUCKETS
    for buckets, share in zip(ranges, shares, strict=True):
        # A slot's own size is the number of buckets divided and rounded, so a full one may lack one.
        assert -1 <= len(buckets) - assignment.cut(share) <= 0


@given(st.integers(1, 12), st.data())
def test_nobody_leaves_a_challenger_on_a_step_up(slots: int, data: st.DataObject) -> None:
    slot = data.draw(st.integers(0, slots - 1))
    low, high = sorted(data.draw(st.tuples(st.floats(0, 1 / slots), st.floats(0, 1 / slots))))
    few, many = assignment.buckets(slot, slots, low), assignment.buckets(slot, slots, high)
    assert few.start == many.start
    assert few.stop <= many.stop


def test_a_single_slot_is_the_first_buckets() -> None:
    assert assignment.buckets(0, 1, 0.05) == range(50_000)


def test_shares_of_three_challengers_at_once_lie_within_three_sigma_at_each_stage() -> None:
    n = 200_000
    salt = assignment.salt("shares", "r1")
    units = [assignment.bucket(salt, f"user-{i}") for i in range(n)]
    for shares in ((0.01, 0.05, 0.10), (0.10, 0.01, 0.05), (0.30, 0.30, 0.30)):
        for slot, share in enumerate(shares):
            buckets = assignment.buckets(slot, 3, share)
            hits = sum(bucket in buckets for bucket in units)
            assert abs(hits - n * share) < 3 * math.sqrt(n * share * (1 - share))


def test_rollouts_draw_anew() -> None:
    first, second = assignment.salt("e", "r1"), assignment.salt("e", "r2")
    cut = assignment.cut(0.1)
    both = sum(
        assignment.bucket(first, str(i)) < cut and assignment.bucket(second, str(i)) < cut for i in range(100_000)
    )
    assert abs(both - 1000) < 3 * math.sqrt(1000)  # independent draws: 1 % are in both


def test_shadow_selection_is_independent_of_the_arm() -> None:
    salt, cut = assignment.salt("e", "r"), assignment.cut(0.5)
    units = [str(i) for i in range(40_000)]
    theirs = [u for u in units if assignment.bucket(salt, u) < cut]
    shadowed = sum(assignment.shadowed(salt, u, cut) for u in theirs)
    assert abs(shadowed - len(theirs) / 2) < 3 * math.sqrt(len(theirs) / 4)


def test_the_finest_share_is_exact() -> None:
    assert assignment.cut(0.0001) == 100
    assert assignment.cut(0.0) == 0
    assert assignment.cut(1.0) == assignment.BUCKETS


@given(st.integers(1, 6), st.data())
def test_a_changed_share_concerns_only_the_buckets_between_the_old_one_and_the_new(
    slots: int, data: st.DataObject
) -> None:
    """Whatever the shares within the slots, as under Thompson allocation: nobody moves but by its own share."""
    share = st.floats(0.0001, 1 / slots)
    before = data.draw(st.lists(share, min_size=slots, max_size=slots))
    changed, new = data.draw(st.integers(0, slots - 1)), data.draw(share)
    after = [new if slot == changed else old for slot, old in enumerate(before)]
    for slot in range(slots):
        old, now = assignment.buckets(slot, slots, before[slot]), assignment.buckets(slot, slots, after[slot])
        assert old.start == now.start
        assert (old == now) or slot == changed
        others = [assignment.buckets(other, slots, after[other]) for other in range(slots) if other != slot]
        assert all(now.stop <= other.start or other.stop <= now.start for other in others)
