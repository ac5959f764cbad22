"""Wake on change: wait until a file in some folders changes, notified by the kernel (inotify) instead of polling.

This is only a hint, like the waits of the ports that use it: the caller looks again after waking, and polls now and
then in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CHANGES = 0x2 | 0x40 | 0x80 | 0x100 | 0x200  # inotify(7): modified, moved from and to, created, deleted
_SETTLE_SECONDS = 0.02  # after the first change of a burst, so that a busy writer is one hint and not thousands
_POLL_SECONDS = 0.05  # where the kernel tells nothing: another system, or no more watches to be had
_MISSING_SECONDS = 0.5  # while a folder is not there yet


class FolderWatch:
    """Changes in folders, since the last `wait` returned; none gets lost in between. For one event loop."""

    def __init__(self) -> None:
        self._kernel = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._file = self._kernel.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if self._kernel else -1
        self._news: asyncio.Future[None] | None = None

    async def wait(self, folders: Iterable[Path], seconds: float) -> None:
        """Return soon after something in `folders` has changed, or after `seconds`. Several may wait at once."""
        if not self._watches(folders):
            seconds = min(seconds, _POLL_SECONDS if self._file < 0 else _MISSING_SECONDS)
        if self._file < 0:
            await asyncio.sleep(seconds)
            return
        if self._news is None:
            loop = asyncio.get_running_loop()
            self._news = loop.create_future()
            loop.add_reader(self._file, self._changed, loop, self._news)
        news = self._news
        await asyncio.wait([news], timeout=seconds)
        if news.done():
            await asyncio.sleep(_SETTLE_SECONDS)
            if self._news is news:
                self._news = None
                with contextlib.suppress(BlockingIOError):
                    os.read(self._file, 2**16)

    def close(self) -> None:
        """Release the kernel's watches, in the event loop that waited; nobody may be waiting any more."""
        if self._news is not None and not self._news.done():
            self._news.get_loop().remove_reader(self._file)
            self._news.cancel()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _watches(self, folders: Iterable[Path]) -> bool:
        """Ask the kernel for each folder, again and again: one that was replaced is another folder to it."""
        if self._kernel is None or self._file < 0:
            return False
        found = [self._kernel.inotify_add_watch(self._file, os.fsencode(folder), _CHANGES) for folder in folders]
        return min(found, default=0) >= 0

    def _changed(self, loop: asyncio.AbstractEventLoop, news: asyncio.Future[None]) -> None:
        loop.remove_reader(self._file)
        if not news.done():
            news.set_result(None)
