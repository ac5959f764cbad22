"""Prediction ids: the bits of RFC 9562, the order of time, uniqueness, and the way back to the time."""

from __future__ import annotations

import os
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet import clock
from gauntlet.ids import time_of, uuid7

AT = 1_700_000_000.123


def test_the_standard_library_reads_it_as_version_7() -> None:
    for _ in range(200):
        text = uuid7(AT)
        read = uuid.UUID(text)
        assert str(read) == text
        assert (read.version, read.variant) == (7, uuid.RFC_4122)
        assert read.int >> 80 == 1_700_000_000_123


def test_every_random_bit_is_used() -> None:
    ids = [uuid.UUID(uuid7(AT)).int for _ in range(400)]
    fixed = (0xF << 76) | (0x3 << 62) | (((1 << 48) - 1) << 80)
    ones = zeros = 0
    for value in ids:
        ones |= value
        zeros |= ~value
    assert ones & zeros & ((1 << 128) - 1) == ((1 << 128) - 1) & ~fixed


def test_ids_of_one_moment_differ() -> None:
    assert len({uuid7(AT) for _ in range(20_000)}) == 20_000


def test_a_seeded_generator_repeats_no_id() -> None:
    """A model may call `random.seed` for itself before each answer."""
    ids = set()
    for _ in range(3):
        random.seed(7)
        ids.add(uuid7(AT))
    assert len(ids) == 3


def test_a_forked_process_makes_ids_of_its_own() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, uuid7(AT).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != uuid7(AT)
    os.close(reading)
    os.close(writing)


@given(st.integers(0, 10**14 - 1), st.integers(1, 10**6))
def test_later_ids_sort_later(milliseconds: int, more: int) -> None:
    assert uuid7(milliseconds / 1000) < uuid7((milliseconds + more + 1) / 1000)


@given(st.floats(0, 1e11 - 1))
def test_the_time_comes_back_to_the_millisecond(at: float) -> None:
    made = time_of(uuid7(at))
    assert made is not None
    assert at - 0.002 < made <= at + 1e-4


@pytest.mark.parametrize(
    "other",
    [
        "",
        "order-7",
        str(uuid.UUID(int=0)),
        "0192f0c1-2345-4abc-8def-0123456789ab",
        "0192f0c1-2345-7abc-0def-0123456789ab",
        "0192f0c1_2345-7abc-8def-0123456789ab",
        "+192f0c1-2345-7abc-8def-0123456789ab",
        "0x92f0c1-2345-7abc-8def-0123456789ab",
        "0192f0c1-2345-7abc-8def-0123456789a",
        "0192f0c1-2345-7abc-8def-0123456789ab\n",
        "1_1_1_1_-2345-7abc-8def-0123456789ab",
        "customer-of-ours-7-0000-000000000000",
    ],
)
def test_other_ids_have_no_time(other: str) -> None:
    assert time_of(other) is None


def test_upper_case_is_the_same_id() -> None:
    made = uuid7(AT)
    assert time_of(made.upper()) == time_of(made) == AT


def test_the_clock_of_events_follows_them_and_never_runs_back() -> None:
    events = clock.make("events")
    assert events.now() == 0
    for at in (5.0, 9.0, 7.0):
        events.observe(at)
    assert events.now() == 9.0


def test_the_wall_clock_is_moved_by_nothing() -> None:
    wall = clock.make("wall")
    before = wall.now()
    wall.observe(before + 1e6)
    assert before <= wall.now() < before + 1e5
