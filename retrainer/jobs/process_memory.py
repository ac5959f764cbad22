"""Memory of a process and of those that it has started, as Linux shows it; elsewhere it is not known."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_SHARE = 0.75


def resident_bytes(pid: int) -> int | None:
    """Private memory that a process and its descendants hold; None where it can't be told, or when it has ended."""
    own = _private(pid)
    if own is None:
        return None
    return own + sum(resident_bytes(child) or 0 for child in _children(pid))


def default_limit() -> int | None:
    """Three quarters of the machine's memory, or of the container's where that is less; None where it is not known."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    with contextlib.suppress(OSError, ValueError):  # there is none, or it says max
        most = min(most, int(_CGROUP.read_text()))
    return int(_SHARE * most)


def _private(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()
        ]
    except OSError:
        return []
