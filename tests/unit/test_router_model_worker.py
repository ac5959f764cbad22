"""Model worker: batches, live before shadow calls, and what a model may raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from gauntlet.errors import InvalidOutput
from gauntlet.registry.artifact import Feature, Predictor, Rows, Schema
from gauntlet.types import Task
from router.model_worker import ModelWorker

SCHEMA = Schema(task=Task.REGRESSION, features=(Feature(name="x"),), input="rows")


class Gated:
    """A regression that answers with `x`, keeps what it was asked in each call, and waits for its gate where told."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, rows: Rows) -> Any:
        values = [row["x"] for row in rows]
        self.calls.append(values)
        self.entered.set()
        assert self.gate.wait(20)
        for value in values:
            if isinstance(value, BaseException):
                raise value
        return np.array(values, dtype=float)

    def shut(self) -> None:
        self.entered.clear()
        self.gate.clear()

    async def busy(self) -> None:
        """Return once the model is inside a call."""
        assert await asyncio.to_thread(self.entered.wait, 20)


@contextmanager
def worker_of(model: Gated, **settings: int) -> Iterator[ModelWorker]:
    before = set(threading.enumerate())
    worker = ModelWorker(Predictor(model, SCHEMA, "v1"), **settings)
    (thread,) = set(threading.enumerate()) - before
    try:
        yield worker
    finally:
        model.gate.set()
        worker.close()
        thread.join(20)
        assert not thread.is_alive(), "close ends the thread"


def rows(*values: Any) -> list[dict[str, Any]]:
    return [{"x": value} for value in values]


async def ask(worker: ModelWorker, *values: Any, shadow: bool = False) -> list[float]:
    output, valid = await worker.predict(rows(*values), 20, shadow=shadow)
    assert len(output) == len(valid) == len(values)
    return output.tolist()  # type: ignore[no-any-return]


async def test_what_waits_is_one_batch_and_everybody_gets_his_own() -> None:
    model = Gated()
    with worker_of(model) as worker:
        model.shut()
        first = asyncio.create_task(ask(worker, 0))
        await model.busy()
        rest = [asyncio.create_task(ask(worker, *range(10 * n, 10 * n + n))) for n in range(1, 5)]
        await asyncio.sleep(0)  # they have queued up
        await asyncio.sleep(0)
        model.gate.set()
        assert await first == [0]
        assert await asyncio.gather(*rest) == [[10], [20, 21], [30, 31, 32], [40, 41, 42, 43]]
    assert model.calls == [[0], [10, 20, 21, 30, 31, 32, 40, 41, 42, 43]]


async def test_a_batch_has_its_limit_but_one_large_call_stays_whole() -> None:
    model = Gated()
    with worker_of(model, max_batch=4) as worker:
        model.shut()
        tasks = [asyncio.create_task(ask(worker, 0))]
        await model.busy()
        tasks += [asyncio.create_task(ask(worker, *values)) for values in ([1, 1], [2, 2], [3], [4] * 6, [5])]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.calls == [[0], [1, 1, 2, 2], [3], [4] * 6, [5]]


async def test_live_calls_go_before_shadow_work_that_came_first() -> None:
    model = Gated()
    with worker_of(model) as worker:
        model.shut()
        tasks = [asyncio.create_task(ask(worker, 0))]
        await model.busy()
        tasks += [asyncio.create_task(ask(worker, value, shadow=True)) for value in (101, 102)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(ask(worker, value)) for value in (1, 2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        model.gate.set()
        assert await asyncio.gather(*tasks) == [[0], [101], [102], [1], [2]]
    assert model.calls == [[0], [1, 2], [101], [102]]  # one shadow call at a time: a live one waits for one at most


async def test_one_bad_request_does_not_fail_its_neighbours() -> None:
    model = Gated()
    with worker_of(model) as worker:
        model.shut()
        first = asyncio.create_task(ask(worker, 0))
        await model.busy()
        rest = [asyncio.create_task(ask(worker, value)) for value in (1, KeyError("what"), 3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        model.gate.set()
        await first
        found = await asyncio.gather(*rest, return_exceptions=True)
        assert (found[0], found[2]) == ([1], [3])
        assert isinstance(found[1], KeyError)


@pytest.mark.parametrize("raised", [StopIteration("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
async def test_whatever_a_model_raises_is_an_answer_and_the_worker_lives_on(raised: BaseException) -> None:
    with worker_of(Gated()) as worker:
        with pytest.raises(RuntimeError, match=f"the model raised {type(raised).__name__}"):
            await ask(worker, raised)
        assert await ask(worker, 1) == [1]


async def test_invalid_rows_are_marked_and_a_wrong_shape_is_raised() -> None:
    with worker_of(Gated()) as worker:
        _, valid = await worker.predict(rows(1.0, float("nan")), 20)
        assert valid.tolist() == [True, False]

    class Short(Gated):
        def predict(self, rows: Rows) -> Any:
            return super().predict(rows)[1:]

    with worker_of(Short()) as worker, pytest.raises(InvalidOutput):
        await ask(worker, 1, 2)


async def test_a_caller_who_gave_up_is_not_computed_for() -> None:
    model = Gated()
    with worker_of(model) as worker:
        model.shut()
        first = asyncio.create_task(ask(worker, 0))
        await model.busy()
        with pytest.raises(TimeoutError):
            await worker.predict(rows(1), 0.01)
        with pytest.raises(TimeoutError):
            await worker.predict(rows(2), 0.01, shadow=True)
        model.gate.set()
        await first
        assert await ask(worker, 3) == [3]
    assert model.calls == [[0], [3]]


async def test_close_still_answers_what_was_under_way() -> None:
    model = Gated()
    with worker_of(model) as worker:
        model.shut()
        tasks = [asyncio.create_task(ask(worker, 0))]
        await model.busy()
        tasks += [asyncio.create_task(ask(worker, 1)), asyncio.create_task(ask(worker, 2, shadow=True))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        worker.close()
        model.gate.set()
        assert await asyncio.gather(*tasks) == [[0], [1], [2]]


def test_a_loop_that_is_gone_does_not_kill_the_worker() -> None:
    model = Gated()

    async def give_up() -> None:
        model.shut()
        task = asyncio.create_task(ask(worker, 0))
        await model.busy()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with worker_of(model) as worker:
        asyncio.run(give_up())
        model.gate.set()
        assert asyncio.run(ask(worker, 1)) == [1]
