"""The replay: flights become requests at their scheduled departure, arrivals become outcomes, on the flights' own
clock.

The clock runs as fast as the services keep up: at the end of each day it waits until the day before is evaluated and
decided on, and while a model is being trained, because the minutes that takes are nothing on the flights' clock.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import skops.io
from tqdm import tqdm

from gauntlet import adapters, control, keys
from gauntlet import status as progress
from gauntlet.cli import register
from gauntlet.cli.demo import flights as data
from gauntlet.config import Config
from gauntlet.errors import GauntletError

_TICK = 1800  # seconds of the flights' clock in one request: about 25 flights in the day
_START_SECONDS = 60.0
_SETTLE_SECONDS = 300.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Submission:
    """A challenger that a person hands in on a day of the year, whatever else goes on."""

    day: int
    name: str
    train: Callable[[Sequence[Any], Any], Any]
    reason: str


@dataclass
class Sent:
    """What the replay sent, and what it got back."""

    flights: int = 0
    outcomes: int = 0
    never: int = 0
    answered: int = 0
    accepted: int = 0
    seconds: float = 0.0
    end: float = 0.0
    submissions: list[dict[str, Any]] = field(default_factory=list)


class Replay:
    """One pass over the first `days` days of 2013."""

    def __init__(
        self,
        config: Config,
        flights: data.Flights,
        folder: Path,
        port: int,
        days: int,
        submissions: Sequence[Submission],
    ) -> None:
        self._config = config
        self._flights = flights
        self._folder = folder
        self._days = days
        self._waiting = [s for s in submissions if s.day < days]
        # One connection a route. The standard library's client costs a tenth of an asynchronous one, and there is no
        # crowd.
        self._connections = {
            route: http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for route in ("predict", "outcomes", "other")
        }
        self._sent = Sent()

    async def run(self) -> Sent:
        """Send everything and wait until it is evaluated. Raises when a service refuses what it should take."""
        state = adapters.state(self._config)
        reader = None
        try:
            await self._ready()
            reader = await adapters.log_reader(self._config)
            self._state, self._reader = state, reader
            began = time.monotonic()
            await self._replay()
            self._sent.seconds = time.monotonic() - began
            return self._sent
        finally:
            for connection in self._connections.values():
                connection.close()
            if reader is not None:
                await reader.close()
            await state.close()

    async def _ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if (await self._request("GET", "/readyz"))[0] == 200:
                return
            if time.monotonic() > deadline:
                raise GauntletError(
                    f"the router did not come up within {_START_SECONDS:g} s; see {self._folder}/router.log"
                )
            await asyncio.sleep(0.05)

    async def _replay(self) -> None:
        flights = self._flights
        end = data.YEAR_START + self._days * data.DAY
        total = int(np.searchsorted(flights.departure, end))
        rows = flights.rows(0, total)
        departures = flights.departure[:total].tolist()
        arrivals = flights.arrival[:total]
        order = np.argsort(arrivals, kind="stable")
        order = order[: int((~np.isnan(arrivals)).sum())]  # NaN sorts last: those flights never got an outcome
        self._sent.never = total - len(order)
        sent = landed = 0
        settled: asyncio.Task[None] | None = None
        with tqdm(total=total, unit=" flights", unit_scale=True, desc="2013-01-01", mininterval=0.5) as bar:
            for day in range(self._days + 2):  # two days more, for the last arrivals
                midnight = data.YEAR_START + day * data.DAY
                for tick in range(midnight, midnight + data.DAY, _TICK):
                    stop = sent
                    while stop < total and departures[stop] < tick + _TICK:
                        stop += 1
                    arrived = landed
                    while arrived < len(order) and arrivals[order[arrived]] < tick:
                        arrived += 1
                    due = [int(i) for i in order[landed:arrived]]
                    # What departs in this tick beside what had arrived before it: their predictions are all there.
                    await asyncio.gather(self._predict(rows, departures, sent, stop), self._outcomes(due))
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

    async def _predict(self, rows: list[data.Row], departures: list[int], start: int, stop: int) -> None:
        if start == stop:
            return
        instances = [{"features": rows[i], "id": self._flights.key[i], "at": departures[i]} for i in range(start, stop)]
        answer = await self._post("/v1/predict", {"instances": instances})
        self._sent.flights += stop - start
        self._sent.answered += len(answer["predictions"])

    async def _outcomes(self, due: Sequence[int]) -> None:
        if not due:
            return
        flights = self._flights
        outcomes = [{"id": flights.key[i], "value": int(flights.late[i]), "at": float(flights.arrival[i])} for i in due]
        answer = await self._post("/v1/outcomes", {"outcomes": outcomes})
        self._sent.outcomes += len(due)
        self._sent.accepted += answer["accepted"]

    async def _post(self, route: str, body: dict[str, Any]) -> Any:
        """Send until it is taken: a restarting router is waited for, a refusal is an error of the demo."""
        content = msgspec.json.encode(body)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            status, answer = await self._request("POST", route, content)
            if 200 <= status < 300:
                return json.loads(answer)
            if 300 <= status < 500 or time.monotonic() > deadline:
                raise GauntletError(f"{route}: the router answered {status or 'nothing'}: {answer[:300].decode()}")
            await asyncio.sleep(0.2)

    async def _request(self, method: str, route: str, content: bytes | None = None) -> tuple[int, bytes]:
        """Status and body; status 0 where nobody answers."""
        connection = self._connections.get(route.rpartition("/")[2], self._connections["other"])
        return await asyncio.to_thread(_exchange, connection, method, route, content)

    async def _settle(self) -> None:
        """Wait until all that was sent so far is evaluated, decided on and in force, and no model is being trained."""
        flights, outcomes = self._sent.flights, self._sent.outcomes
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not await self._settled(flights, outcomes):
            if time.monotonic() > deadline:
                raise GauntletError(f"the services fell behind by more than {_SETTLE_SECONDS:g} s; see their logs")
            await asyncio.sleep(_POLL_SECONDS)

    async def _settled(self, flights: int, outcomes: int) -> bool:
        name = self._config.experiment
        counts = (await self._report(keys.evaluator_progress(name), progress.EvaluatorProgress)).counts
        if counts.get("predictions", 0) < flights or counts.get("outcomes", 0) < outcomes:
            return False
        retrainer = await self._report(keys.retrainer_progress(name), progress.RetrainerProgress)
        if retrainer.running is not None:
            return False
        for topic in (keys.EVALUATIONS, keys.DRIFT):
            for partition in await self._reader.partitions(topic):
                end = await self._reader.end(topic, partition)
                if end > retrainer.offsets.get(f"{topic}/{partition}", 0):
                    return False
        version, _ = await control.read(self._state, name)
        for key in await self._state.keys(keys.router_progress(name, "")):
            if (await self._report(key, progress.RouterProgress)).version < version:
                return False
        return True

    async def _report(self, key: str, kind: Any) -> Any:
        version, value = await self._state.get(key)
        return msgspec.json.decode(value, type=kind) if version else kind(**_EMPTY.get(kind, {}))

    async def _submit(self, day: int) -> None:
        """Hand in what is due, as a colleague would: register, then ask for a rollout; again tomorrow if one is
        running."""
        if not self._waiting or self._waiting[0].day > day:
            return
        due = self._waiting[0]
        today = data.YEAR_START + (day + 1) * data.DAY
        model = self._folder / f"{due.name}.skops"
        if not model.exists():
            rows, labels = await asyncio.to_thread(self._flights.between, today - 60 * data.DAY, today - data.DAY)
            fitted = await asyncio.to_thread(due.train, rows, labels)
            await asyncio.to_thread(skops.io.dump, fitted, model)
            self._version = await register.register(self._config, str(model), due.name, allow_pickle=False)
        order = msgspec.json.encode({"version": self._version, "reason": due.reason})
        status, answer = await self._request("POST", f"/v1/experiments/{self._config.experiment}/challenge", order)
        if status == 200:
            self._waiting.pop(0)
            self._sent.submissions.append({"version": self._version, "name": due.name, "day": day, "at": today})
        elif status != 409:
            raise GauntletError(f"challenge: the router answered {status}: {answer[:300].decode()}")


def _exchange(
    connection: http.client.HTTPConnection, method: str, route: str, content: bytes | None
) -> tuple[int, bytes]:
    """Status and body; once more on a fresh connection, because the router closes one that was silent for long."""
    for _ in range(2):
        try:
            connection.request(method, route, content, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
    return 0, b""


_EMPTY: dict[Any, dict[str, Any]] = {
    progress.RouterProgress: {"at": 0.0, "replica": "", "version": 0, "allocation": 0, "champion": ""}
}
