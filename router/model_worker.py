"""Model worker: one loaded model on a thread of its own, with dynamic micro-batching.

All calls that queued up during one batch form the next, so a lone request never waits for a batch to fill. A model
that hangs blocks only its own thread: its callers time out, and the thread ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import InvalidOutput
from gauntlet.registry.artifact import Predictor, Rows
from gauntlet.threads import deliver

_REAP_SECONDS = 0.02  # how much later than its deadline a call may time out
MAX_BATCH = 1024  # rows in one model call; beyond it latency grows faster than throughput

Output = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Outputs, one row per instance, and a mask of the rows that are valid."""

_Call = tuple[Rows, "asyncio.Future[Output]"]


class ModelWorker:
    """One model version, ready to answer. Live calls go before shadow calls.

    After `close` the calls under way are still answered, then the thread ends.
    """

    def __init__(self, predictor: Predictor, *, max_batch: int = MAX_BATCH) -> None:
        self.predictor = predictor
        self._max_batch = max_batch
        self.version = predictor.version
        self.schema = predictor.schema
        self._live: deque[_Call] = deque()
        self._shadow: deque[_Call] = deque()
        self._incoming: list[_Call] = []  # of this turn of the event loop: the thread is woken once for all of them
        self._deadlines: list[tuple[float, asyncio.Future[Output]]] = []
        self._work = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name=f"model-{self.version}", daemon=True).start()

    async def predict(self, rows: Rows, seconds: float, *, shadow: bool = False) -> Output:
        """The outputs for `rows`, in order. Raises TimeoutError after `seconds`, or whatever the model raised."""
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

    async def attempt(self, rows: Rows, seconds: float, *, shadow: bool = False) -> Output | str:
        """As `predict`, but a failure is the answer: `timeout`, `invalid_output`, or the name of what was raised."""
        try:
            return await self.predict(rows, seconds, shadow=shadow)
        except TimeoutError:
            return "timeout"
        except InvalidOutput:
            return "invalid_output"
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            return type(error).__name__

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        """Time out the calls that are past their deadline. One sweep for all: a timer per call costs as much as the
        model."""
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
        return self._closed

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            # A caller that timed out needs no answer: do not compute for it.
            self._answer([(rows, answer) for rows, answer in batch if not answer.done()])

    def _next(self) -> list[_Call] | None:
        """The next batch: all waiting live calls, or else one shadow call; None once closed and empty."""
        with self._work:
            while not (self._live or self._shadow or self._closed):
                self._work.wait()
            if not self._live:
                return [self._shadow.popleft()] if self._shadow else None
            batch = [self._live.popleft()]
            size = len(batch[0][0])
            while self._live and size + len(self._live[0][0]) <= self._max_batch:
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
            deliver([(batch[0][1], _failure(error))])
            return
        answers: list[tuple[asyncio.Future[Output], Output | Exception]] = []
        start = 0
        for rows, answer in batch:
            stop = start + len(rows)
            answers.append((answer, (output[start:stop], valid[start:stop])))
            start = stop
        deliver(answers)


def _failure(error: BaseException) -> Exception:
    """`error` in a form that a future accepts: SystemExit would end the event loop, StopIteration is refused."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the model raised {type(error).__name__}: {error}")


def breaker_kind(failure: str | None) -> str | None:
    """The kind of a failure as the breaker and `fallback` count it: whatever was raised is an `error`."""
    return failure if failure in (None, "timeout", "invalid_output") else "error"


def as_json(output: Any) -> list[float] | float:
    """One row of a checked output in the form that events carry."""
    return output.tolist()  # type: ignore[no-any-return]
