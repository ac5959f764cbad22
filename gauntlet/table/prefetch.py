"""Prefetching: a background thread makes an iterator's next items while the caller works on the last one.

It pays where both sides release the interpreter lock for long, such as parsing and array arithmetic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")
_AHEAD = 2
"""Items held in memory before they are asked for."""
_END: Any = object()


def read_ahead(items: Generator[T]) -> Generator[T]:
    """The same items in the same order; an error is raised in its item's place. Closing it closes `items`."""
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        coming = deque(thread.submit(next, items, _END) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(thread.submit(next, items, _END))
                yield item
        finally:
            for future in coming:
                future.cancel()
