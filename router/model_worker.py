"""An arm: a loaded model behind a thread of its own, its micro-batches, and its breaker.

Whatever queued up while the last batch was computing is the next batch, so a lone request waits for nothing. A model
that hangs blocks only its own thread: callers time out, and the thread dies with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.config import BreakerConfig
from gauntlet.registry.artifact import Predictor, Rows

_REAP_SECONDS = 0.02  # how much later than its deadline a call may time out
_MAX_BATCH = 1024  # rows in one model call; beyond it latency grows faster than throughput

Output = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Answers, one row an instance, and which of them are valid."""

_Call = tuple[Rows, "asyncio.Future[Output]"]


class Arm:
    """One model version, ready to answer. `close` lets its thread end after the calls under way.

    Callers who wait for an answer go first; shadow work fills the time in between.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.version = predictor.version
        self.schema = predictor.schema
        self._live: deque[_Call] = deque()
        self._shadow: deque[_Call] = deque()
        self._incoming: list[_Call] = []  # of this turn of the event loop: the thread is woken once for all of them
        self._deadlines: list[tuple[float, asyncio.Future[Output]]] = []
        self._work = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name=f"arm-{self.version}", daemon=True).start()

    async def predict(self, rows: Rows, seconds: float, *, shadow: bool = False) -> Output:
        """The answers for `rows`, in order. Raises TimeoutError after `seconds`, else what the model did."""
        if self._closed:
            raise RuntimeError(f"{self.version} is no longer served")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Output] = loop.create_future()
        if shadow:
            with self._work:
                self._shadow.append((rows, answer))
                self._work.notify()
        else:
            if not self._incoming:
                loop.call_soon(self._wake)
            self._incoming.append((rows, answer))
        self._deadlines.append((loop.time() + seconds, answer))
        if len(self._deadlines) == 1:
            loop.call_later(_REAP_SECONDS, self._reap, loop)
        return await answer

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        """Time out whoever has waited too long: one sweep for all, because a timer a request costs as much as
        the model."""
        now = loop.time()
        self._deadlines = [(due, answer) for due, answer in self._deadlines if not answer.done()]
        for due, answer in self._deadlines:
            if due <= now:
                answer.set_exception(TimeoutError(f"{self.version} did not answer in time"))
        if self._deadlines:
            loop.call_later(_REAP_SECONDS, self._reap, loop)

    def _wake(self) -> None:
        with self._work:
            self._live.extend(self._incoming)
            self._work.notify()
        self._incoming.clear()

    @property
    def closed(self) -> bool:
        """Nobody answers here any more."""
        return self._closed

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            # A caller that timed out needs no answer any more: do not compute for it.
            self._answer([(rows, answer) for rows, answer in batch if not answer.done()])

    def _next(self) -> list[_Call] | None:
        """The next batch: all that waits live, or else one shadow call; None once closed and empty."""
        with self._work:
            while not (self._live or self._shadow or self._closed):
                self._work.wait()
            if not self._live:
                return [self._shadow.popleft()] if self._shadow else None
            batch = [self._live.popleft()]
            size = len(batch[0][0])
            while self._live and size + len(self._live[0][0]) <= _MAX_BATCH:
                batch.append(self._live.popleft())
                size += len(batch[-1][0])
            return batch

    def _answer(self, batch: list[_Call]) -> None:
        if not batch:
            return
        try:
            output = self.predictor.predict([row for rows, _ in batch for row in rows])
            valid = self.predictor.valid(output)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; its callers decide what follows
            if len(batch) > 1:  # one bad request must not fail its neighbours in the batch
                for single in batch:
                    self._answer([single])
                return
            _hand_over([(batch[0][1], _failure(error))])
            return
        answers: list[tuple[asyncio.Future[Output], Output | Exception]] = []
        start = 0
        for rows, answer in batch:
            stop = start + len(rows)
            answers.append((answer, (output[start:stop], valid[start:stop])))
            start = stop
        _hand_over(answers)


def _failure(error: BaseException) -> Exception:
    """`error` as one that may cross into the event loop: SystemExit would end it, StopIteration no future takes."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the model raised {type(error).__name__}: {error}")


def _hand_over(answers: list[tuple[asyncio.Future[Output], Output | Exception]]) -> None:
    """Give all answers of a batch to their loop in one call: each wake-up of the loop costs as much as a request."""
    try:
        answers[0][0].get_loop().call_soon_threadsafe(_settle, answers)
    except RuntimeError:  # the loop has closed: nobody waits any more
        return


def _settle(answers: list[tuple[asyncio.Future[Output], Output | Exception]]) -> None:
    for answer, result in answers:
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)


class Breaker:
    """Opens when too many of the challenger's latest calls failed; stays open for the rollout that it belongs to.

    A failure is an error, a time-out or an invalid output. Pure: it counts, its owner acts.
    """

    def __init__(self, settings: BreakerConfig) -> None:
        self._settings = settings
        self._latest: deque[bool] = deque(maxlen=settings.window)
        self._failures = 0
        self.open = False
        self.reasons: dict[str, int] = {}

    def record(self, reason: str | None, calls: int = 1) -> bool:
        """Count `calls` results (`reason` None: success); return True if this opened the breaker."""
        if reason is not None:
            self.reasons[reason] = self.reasons.get(reason, 0) + calls
        for _ in range(calls):
            if len(self._latest) == self._settings.window:
                self._failures -= self._latest[0]
            self._latest.append(reason is not None)
            self._failures += reason is not None
        if self.open or self._failures < self._settings.min_failures:
            return False
        if self._failures < self._settings.failure_share * len(self._latest):
            return False
        self.open = True
        return True

    def __str__(self) -> str:
        named = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{self._failures} of the latest {len(self._latest)} calls failed ({named} since it started)"


def as_json(output: Any) -> list[float] | float:
    """One row of a checked output as it goes on the log."""
    return output.tolist()  # type: ignore[no-any-return]
