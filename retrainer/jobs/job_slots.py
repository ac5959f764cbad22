"""Slots for jobs: up to a fixed number of jobs run side by side, each in a process of its own warm host, so that a job
that hangs or crashes affects no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from retrainer.jobs.job_command import JobCommand
from retrainer.jobs.job_dir import JobFolder
from retrainer.jobs.job_host import JobHost, ProcessEnd


@dataclass
class _Slot:
    host: JobHost | JobCommand
    process: asyncio.Task[ProcessEnd]
    began: float  # monotonic


class JobSlots:
    """What runs now, by the job's id, until it is released. hidden: environment variables that jobs don't get; command:
    what runs them, where that is not this machine's own host."""

    def __init__(self, hidden: Collection[str] = (), command: Sequence[str] = ()) -> None:
        self._hidden = frozenset(hidden)
        self._command = command
        self._taken: dict[str, _Slot] = {}
        self._idle: list[JobHost | JobCommand] = []

    def __len__(self) -> int:
        return len(self._taken)

    def __contains__(self, id: str) -> bool:
        return id in self._taken

    def start(self, id: str, folder: JobFolder, time_limit: float, memory_limit: int | None) -> None:
        """Run the job in `folder`, for `time_limit` seconds and with `memory_limit` bytes at most."""
        host = self._idle.pop() if self._idle else self._host()
        host.memory_limit = memory_limit
        process = asyncio.create_task(host.run(folder, time_limit), name=id)
        self._taken[id] = _Slot(host, process, time.monotonic())

    def _host(self) -> JobHost | JobCommand:
        return JobCommand(self._command, self._hidden) if self._command else JobHost(hidden=self._hidden)

    def ended(self) -> dict[str, asyncio.Task[ProcessEnd]]:
        """Those whose processes have ended and that were not released yet."""
        return {id: slot.process for id, slot in self._taken.items() if slot.process.done()}

    def release(self, id: str) -> None:
        """Let the slot of a job that has ended take another."""
        self._idle.append(self._taken.pop(id).host)

    async def stop(self, id: str) -> float:
        """Kill the job's processes if it runs here; the seconds that it had taken."""
        slot = self._taken.get(id)
        if slot is None:
            return 0.0
        seconds = time.monotonic() - slot.began
        slot.process.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slot.process
        self.release(id)
        return seconds

    def memory(self, id: str) -> int | None:
        """Bytes that the job's processes hold; None where that is not known."""
        return self._taken[id].host.memory if id in self._taken else None

    def limit(self, memory: int | None) -> None:
        """Let this memory limit hold for those that run, too."""
        for slot in self._taken.values():
            slot.host.memory_limit = memory

    async def wait(self) -> None:
        """Until all that run now have ended."""
        if self._taken:
            await asyncio.wait([slot.process for slot in self._taken.values()])

    async def rest(self) -> None:
        """Let hosts go that have been idle for long."""
        for host in list(self._idle):
            await host.rest()
            if not host.alive:
                self._idle.remove(host)

    async def close(self) -> None:
        """Kill what runs, and end the hosts."""
        for id in list(self._taken):
            await self.stop(id)
        while self._idle:
            await self._idle.pop().close()
