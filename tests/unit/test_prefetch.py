"""Items made ahead by a thread: the same in the same order, errors in their place, nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from gauntlet.table.prefetch import read_ahead


def running() -> int:
    return sum(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def numbers(closed: list[int], end: int, bad: int | None = None) -> Generator[int]:
    try:
        for i in range(end):
            if i == bad:
                raise ValueError(f"no {i}")
            yield i
    finally:
        closed.append(end)


def test_the_same_items_in_the_same_order() -> None:
    closed: list[int] = []
    assert list(read_ahead(numbers(closed, 1000))) == list(range(1000))
    assert list(read_ahead(numbers(closed, 0))) == []
    assert closed == [1000, 0]
    assert not running()


def test_an_error_comes_after_the_items_before_it() -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="no 7"):
        seen.extend(read_ahead(numbers([], 1000, bad=7)))
    assert seen == list(range(7))
    assert not running()


def test_leaving_early_ends_the_thread_and_closes_the_items() -> None:
    closed: list[int] = []
    items = read_ahead(numbers(closed, 10**9))
    assert next(items) == 0
    items.close()
    assert closed == [10**9]
    assert not running()


def test_few_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []

    def counted() -> Generator[int]:
        for i in range(100):
            made.append(i)
            yield i

    for i in read_ahead(counted()):
        assert len(made) <= i + 4
