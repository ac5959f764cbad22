"""An iterator's next items made by a thread of its own while the last one is worked on, in order and boundedly many.

Worth it where making and working both leave Python for long: parsing here, array arithmetic there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")
_AHEAD = 2
"""Items made before they are asked for: each is held in memory."""
_END: Any = object()


def read_ahead(items: Generator[T]) -> Generator[T]:
    """The same items. An error of theirs is raised where its item would have come; closed early, so are they."""
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        coming = deque(thread.submit(next, items, _END) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(thread.submit(next, items, _END))
                yield item
        finally:
            for future in coming:
                future.cancel()
