"""Structured log lines: an event's name, then `key=value` fields (logfmt), through the standard library's handlers.

    _log = get_logger("gauntlet.router")
    _log.warning("forwarding_paused", error=error, waiting=1200, next="records wait in the local log")

writes `event=forwarding_paused error="…" waiting=1200 next="records wait in the local log"`. The field `next` says what
happens next, for whoever reads the line at night.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict


def get_logger(name: str) -> BoundLogger:
    """The structured logger over `logging.getLogger(name)`; level and handlers are the standard library's."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), processors=[structlog.stdlib.filter_by_level, _as_record], wrapper_class=BoundLogger
    )
    return logger


class LimitedLog:
    """Repeated events, logged at most once in `seconds`, with how many of them were counted since the line before.

    `clock` gives monotonic seconds. Every event is counted; only lines are saved.
    """

    def __init__(self, logger: BoundLogger, seconds: float = 60.0, clock: Any = time.monotonic) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._since: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def warning(self, event: str, **fields: Any) -> None:
        """Logs the first event of a kind at once, then one line per interval; `count` is what that line stands for."""
        now = self._clock()
        self._counts[event] += 1
        if event in self._since and now - self._since[event] < self._seconds:
            return
        self._since[event] = now
        self._logger.warning(event, count=self._counts.pop(event), **fields)


_LOGFMT = structlog.processors.LogfmtRenderer(key_order=["event"])


def _as_record(logger: Any, method: str, fields: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """What the standard library's method is called with: the line, and the exception where a traceback is wanted."""
    traceback = {"exc_info": fields.pop("exc_info")} if "exc_info" in fields else {}
    plain = {k: v if isinstance(v, bool | int | float | None) else " ".join(str(v).split()) for k, v in fields.items()}
    return (_LOGFMT(logger, method, plain),), traceback
