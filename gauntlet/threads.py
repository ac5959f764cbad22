"""Between an event loop and threads: blocking methods as coroutines, and results of a thread for its waiters."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")


def in_thread(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Each call of the method runs in a thread of the default pool."""

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    return call


async def detached(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in a daemon thread of its own: one that does not come back holds up neither the pool's other calls nor the
    end of the process."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            result = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            deliver([(future, error)])
        else:
            deliver([(future, result)])

    threading.Thread(target=work, name=getattr(call, "__qualname__", "detached"), daemon=True).start()
    return await future


def deliver(results: Sequence[tuple[asyncio.Future[T], T | Exception]]) -> None:
    """Settle futures of one event loop from another thread, in one call: each wake-up costs as much as a request."""
    with contextlib.suppress(RuntimeError):  # the loop has closed: no caller is left
        results[0][0].get_loop().call_soon_threadsafe(_settle, results)


def _settle(results: Sequence[tuple[asyncio.Future[T], T | Exception]]) -> None:
    for future, result in results:
        if future.done():  # its caller was cancelled, or has timed out
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
