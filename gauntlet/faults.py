"""Faults of files and disks: each is reported in one line, with file, cause and remedy, while it lasts.

A service waits and retries; once the fault is fixed it continues without a restart.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

from structlog.stdlib import BoundLogger

from gauntlet import adapters, status
from gauntlet.config import Config
from gauntlet.errors import (
    DamagedFile,
    GauntletError,
    LogUnavailable,
    RecordsUnavailable,
    RegistryRefused,
    RegistryUnavailable,
    StateUnavailable,
)
from gauntlet.status import Problems
from gauntlet.types import Severity

OUTAGES = (GauntletError, OSError, sqlite3.Error)
"""What comes from outside and may be over at the next try; anything else is a mistake in the code."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is the cause."""
    if error is None:
        return False
    full = getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return full or disk_full(error.__cause__)


def explained(error: Exception) -> tuple[str, str]:
    """What has failed and why, and what to do about it."""
    if isinstance(error, DamagedFile):
        return error.text, error.remedy
    if disk_full(error):
        return f"the disk is full: {error}", "free space on the disk of the `data` folder; it goes on by itself"
    if isinstance(error, StateUnavailable):
        return str(error), "the state store must answer again (`state` in the configuration); it goes on by itself"
    if isinstance(error, LogUnavailable) and error.code == "offset_lost":
        return str(error), (
            "restore the log's files; without them stop, move `evaluator.db` or `retrainer.db` of this service away "
            "with its -wal and -shm, and start again: what the log still has is then read again"
        )
    if isinstance(error, LogUnavailable):
        return str(error), "the event log must answer again (`log` in the configuration); it goes on by itself"
    if isinstance(error, RecordsUnavailable):
        return str(error), "the database of `records` must answer again; what it has missed is then written by itself"
    if isinstance(error, RegistryUnavailable):
        return str(error), "the registry must answer again (`registry` in the configuration); it goes on by itself"
    if isinstance(error, GauntletError):
        return str(error), "put right what the reason names; it is tried again by itself"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", "put right what the reason names; it is tried again by itself"
    kind = type(error).__name__
    return f"{kind}: {error}", "put right what the reason names; it is tried again by itself"


class Faults:
    """The faults that one service meets, by code: open problems, each logged when it comes, changes and goes."""

    def __init__(self, problems: Problems, logger: BoundLogger) -> None:
        self._problems = problems
        self._logger = logger

    def met(self, code: str, error: Exception, next: str, severity: Severity = Severity.HIGH) -> bool:
        """`error` came up; True when that is news. `next` is what the service does now. A mistake in the code keeps its
        traceback."""
        text, remedy = explained(error)
        news = self._problems.report(code, severity, text, remedy)
        if news:
            unexpected = None if isinstance(error, OUTAGES) else error
            self._logger.warning(code, reason=text, remedy=remedy, next=next, exc_info=unexpected)
        return news

    def over(self, code: str) -> bool:
        """Report that it works again; True when it did not before."""
        news = self._problems.clear(code)
        if news:
            self._logger.info(f"{code}_is_over", next="going on")
        return news

    @contextlib.contextmanager
    def held(self, code: str, next: str, severity: Severity = Severity.HIGH) -> Iterator[None]:
        """Files, disks and the registry must not hold up what comes after the body: what they raise in it is a fault,
        and no more."""
        try:
            yield
        except (DamagedFile, RegistryRefused, RegistryUnavailable, OSError, sqlite3.Error) as error:
            self.met(code, error, next, severity)
        else:
            self.over(code)


async def tell(config: Config, key: str, problems: Problems) -> None:
    """Put a service's problems into its report in the state store, where that is possible just now."""
    with contextlib.suppress(GauntletError, OSError):
        store = adapters.state(config)
        try:
            await status.publish_problems(store, key, problems.open)
        finally:
            await store.close()
