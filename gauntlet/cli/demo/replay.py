"""The replay: flights become requests at scheduled departure, arrivals become outcomes, on the flights' own clock.

The clock runs as fast as the services keep up: at the end of each day it waits until the day before is evaluated and
decided on, and while a model is being trained, because the minutes that takes are nothing on the flights' clock.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import skops.io
from tqdm import tqdm

from gauntlet import adapters, control, keys
from gauntlet.cli import register
from gauntlet.cli.demo import flights as data
from gauntlet.config import Config
from gauntlet.errors import BadInput, GauntletError
from gauntlet.status import EvaluatorProgress, RetrainerProgress, RouterProgress

_TICK = 3600  # seconds of the flights' clock in one request: about 50 flights in the day
_ROUTER_SECONDS = 60.0  # how long the router may be away, at the start or in a restart
_SETTLE_SECONDS = 300.0
_POLL_SECONDS = 0.02
_NOT_RECORDED = "events_not_recorded"

P = TypeVar("P", EvaluatorProgress, RetrainerProgress, RouterProgress)


@dataclass(frozen=True)
class Submission:
    """A challenger that a person hands in on a day of the year, whatever else goes on."""

    day: int
    name: str
    train: Callable[[Sequence[Any], Any], Any]
    reason: str


@dataclass
class Sent:
    """What the replay sent (flights, outcomes, and flights that never get one), and what the router acknowledged."""

    flights: int = 0
    outcomes: int = 0
    never: int = 0
    answered: int = 0
    accepted: int = 0
    seconds: float = 0.0
    end: float = 0.0


@dataclass
class Replay:
    """One pass over the first `days` days of 2013."""

    config: Config
    flights: data.Flights
    folder: Path
    port: int
    days: int
    submissions: Sequence[Submission]

    def __post_init__(self) -> None:
        self._waiting = [s for s in self.submissions if s.day < self.days]
        # One connection a route. The standard library's client costs a tenth of an asynchronous one.
        routes = ("predict", "outcomes", "other")
        self._connections = {r: http.client.HTTPConnection("127.0.0.1", self.port, timeout=60) for r in routes}
        self._sent = Sent()

    async def run(self) -> Sent:
        """Send everything and wait until it is evaluated. Raises `GauntletError` when a service refuses a request,
        and `BadInput` where the router can't record what it answers: the run could never add up."""
        self._state = adapters.state(self.config)
        reader = None
        try:
            await _until(self._ready, _ROUTER_SECONDS, f"the router did not come up; see {self.folder}/router.log")
            self._reader = reader = await adapters.log_reader(self.config)
            began = time.monotonic()
            await self._replay()
            self._sent.seconds = time.monotonic() - began
            return self._sent
        finally:
            for connection in self._connections.values():
                connection.close()
            if reader is not None:
                await reader.close()
            await self._state.close()

    async def _ready(self) -> bool:
        return (await self._request("GET", "/readyz")).status == 200

    async def _replay(self) -> None:
        departures = self.flights.departure
        departures = departures[: np.searchsorted(departures, data.YEAR_START + self.days * data.DAY)]
        arrivals = self.flights.arrival[: len(departures)]
        order = np.argsort(arrivals, kind="stable")[: np.count_nonzero(~np.isnan(arrivals))]  # NaN sorts last
        arrivals = arrivals[order]
        self._sent.never = len(departures) - len(order)
        rows = self.flights.rows(0, len(departures))
        sent = landed = 0
        settled: asyncio.Task[None] | None = None
        with tqdm(total=len(rows), unit=" flights", unit_scale=True, desc="2013-01-01", mininterval=0.5) as bar:
            for day in range(self.days + 2):  # two days more, for the last arrivals
                midnight = data.YEAR_START + day * data.DAY
                for tick in range(midnight, midnight + data.DAY, _TICK):
                    stop = int(np.searchsorted(departures, tick + _TICK))
                    arrived = int(np.searchsorted(arrivals, tick))
                    # What departs in this tick beside what had arrived before it: their predictions are all there.
                    await asyncio.gather(
                        self._predict(rows, sent, stop), self._outcomes(order[landed:arrived].tolist())
                    )
                    bar.update(stop - sent)
                    sent, landed = stop, arrived
                bar.set_description(datetime.fromtimestamp(midnight, UTC).strftime("%Y-%m-%d"), refresh=False)
                if settled is not None:
                    await settled
                await self._submit(day)
                settled = asyncio.create_task(self._settle())
            if settled is not None:
                await settled
        self._sent.end = float(midnight + data.DAY)
        await self._settle()

    async def _predict(self, rows: list[data.Row], start: int, stop: int) -> None:
        if start == stop:
            return
        ids, times = self.flights.key, self.flights.departure[start:stop].tolist()
        instances = [{"features": rows[i], "id": ids[i], "at": at} for i, at in enumerate(times, start)]
        answer = await self._post("/v1/predict", {"instances": instances})
        self._sent.flights += stop - start
        self._sent.answered += len(answer["predictions"])

    async def _outcomes(self, due: Sequence[int]) -> None:
        if not due:
            return
        flights = self.flights
        outcomes = [{"id": flights.key[i], "value": int(flights.late[i]), "at": float(flights.arrival[i])} for i in due]
        answer = await self._post("/v1/outcomes", {"outcomes": outcomes})
        self._sent.outcomes += len(due)
        self._sent.accepted += answer["accepted"]

    async def _post(self, route: str, body: dict[str, Any]) -> Any:
        """Send until it is taken: a restarting router is waited for, a refusal is an error of the demo."""
        content = msgspec.json.encode(body)
        deadline = time.monotonic() + _ROUTER_SECONDS
        while True:
            answered = await self._request("POST", route, content)
            status, answer = answered.status, answered.body
            if not answered.recorded:
                raise BadInput(f"--run {self.folder}: {await self._why_unrecorded()}; then start the demo again")
            if 200 <= status < 300:
                return msgspec.json.decode(answer)
            if 300 <= status < 500 or time.monotonic() > deadline:
                raise GauntletError(f"{route}: the router answered {status or 'nothing'}: {answer[:300].decode()}")
            await asyncio.sleep(0.2)

    async def _why_unrecorded(self) -> str:
        """What the router says of it, and what to do."""
        status = await self._request("GET", f"/v1/experiments/{self.config.experiment}")
        problems = msgspec.json.decode(status.body)["problems"] if status.status == 200 else []
        found = next((one for one in problems if one["code"] == _NOT_RECORDED), None)
        return f"{found['text']}: {found['remedy']}" if found else "events can't be recorded: free space on its disk"

    async def _request(self, method: str, route: str, content: bytes | None = None) -> Answered:
        """Status 0 where nobody answers."""
        connection = self._connections.get(route.rpartition("/")[2], self._connections["other"])
        return await asyncio.to_thread(_exchange, connection, method, route, content)

    async def _settle(self) -> None:
        """Wait until all that was sent so far is evaluated, decided on and in force, and no model is being trained."""
        flights, outcomes = self._sent.flights, self._sent.outcomes
        behind = f"the services fell behind by more than {_SETTLE_SECONDS:g} s; see their logs in {self.folder}"
        await _until(lambda: self._settled(flights, outcomes), _SETTLE_SECONDS, behind)

    async def _settled(self, flights: int, outcomes: int) -> bool:
        name = self.config.experiment
        counts = (await self._progress(keys.evaluator_progress(name), EvaluatorProgress)).counts
        if counts.get("predictions", 0) < flights or counts.get("outcomes", 0) < outcomes:
            return False
        retrainer = await self._progress(keys.retrainer_progress(name), RetrainerProgress)
        if retrainer.running is not None:
            return False
        for topic in (keys.EVALUATIONS, keys.DRIFT):
            for partition in await self._reader.partitions(topic):
                end = await self._reader.end(topic, partition)
                if end > retrainer.offsets.get(f"{topic}/{partition}", 0):
                    return False
        version, _ = await control.read(self._state, name)
        routers = await self._state.keys(keys.router_progress(name, ""))
        return all([(await self._progress(key, RouterProgress)).version >= version for key in routers])

    async def _progress(self, key: str, kind: type[P]) -> P:
        """A service's report about itself; empty before its first one."""
        _, value = await self._state.get(key)
        return msgspec.json.decode(value or b"{}", type=kind)

    async def _submit(self, day: int) -> None:
        """Register a due challenger and ask for its rollout; ask again tomorrow while another rollout is running."""
        if not self._waiting or self._waiting[0].day > day:
            return
        due = self._waiting[0]
        today = data.YEAR_START + (day + 1) * data.DAY
        model = self.folder / f"{due.name}.skops"
        if not model.exists():
            rows, labels = await asyncio.to_thread(self.flights.between, today - 60 * data.DAY, today - data.DAY)
            await asyncio.to_thread(skops.io.dump, await asyncio.to_thread(due.train, rows, labels), model)
            self._version = await register.register(self.config, str(model), due.name, allow_pickle=False)
        order = msgspec.json.encode({"version": self._version, "reason": due.reason})
        answered = await self._request("POST", f"/v1/experiments/{self.config.experiment}/challenge", order)
        if answered.status == 200:
            self._waiting.pop(0)
        elif answered.status != 409:
            raise GauntletError(f"challenge: the router answered {answered.status}: {answered.body[:300].decode()}")


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float, problem: str) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise GauntletError(problem)
        await asyncio.sleep(_POLL_SECONDS)


class Answered(NamedTuple):
    """An answer of the router. recorded: False where it says that the events could not be kept."""

    status: int
    body: bytes
    recorded: bool = True


def _exchange(connection: http.client.HTTPConnection, method: str, route: str, content: bytes | None) -> Answered:
    """The answer; once more on a fresh connection, because the router closes one that was silent for long."""
    for _ in range(2):
        try:
            connection.request(method, route, content, {"content-type": "application/json"})
            response = connection.getresponse()
            return Answered(response.status, response.read(), response.getheader("x-gauntlet-recorded") != "no")
        except (OSError, http.client.HTTPException):
            connection.close()
    return Answered(0, b"")
