"""Assignment: the same everywhere and for ever, nested, and in the shares that were asked for."""

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


@given(st.text(min_size=1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_nobody_leaves_the_challenger_on_a_step_up(unit: str, low: float, rise: float) -> None:
    bucket = assignment.bucket(assignment.salt("e", "r"), unit)
    if assignment.arm(bucket, assignment.cut(low)) == "challenger":
        assert assignment.arm(bucket, assignment.cut(low + rise)) == "challenger"


def test_realised_shares_lie_within_three_sigma_at_each_stage() -> None:
    n = 400_000
    salt = assignment.salt("shares", "r1")
    buckets = [assignment.bucket(salt, f"user-{i}") for i in range(n)]
    for share in (0.01, 0.05, 0.10):
        hits = sum(assignment.arm(b, assignment.cut(share)) == "challenger" for b in buckets)
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
