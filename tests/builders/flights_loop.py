"""Flights of February 2013 through the real services, in one event loop: the champion learned from January, and one
day the outcomes turn. Real data, seeded thinning: the same arguments send the same flights."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
import pandas as pd
import skops.io
import yaml

from builders import retrainer_service, small_experiment
from gauntlet import adapters, control, keys
from gauntlet.cli.demo import flights as data
from gauntlet.config import Config
from gauntlet.config import load as configs
from gauntlet.status import EvaluatorProgress, RetrainerProgress, RouterProgress

_Report = TypeVar("_Report", EvaluatorProgress, RetrainerProgress, RouterProgress)

EXPERIMENT = "flights"
FIRST_DAY = 31
"""The first that is sent, counted from New Year: the first of February."""
_PARTS = 4  # requests a day


@dataclass
class Traffic:
    """A share of the flights, day by day. From day `turn` on the airlines tell which flights were on time in the place
    of those that were late."""

    flights: data.Flights
    share: float
    turn: int
    day: int = FIRST_DAY
    """The next to be sent."""
    sent: int = 0
    landed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(20130201)
        kept = (rng.random(len(self.flights)) < self.share) & (self.flights.departure >= _midnight(FIRST_DAY))
        self._picked = np.flatnonzero(kept)
        self._departures = self.flights.departure[self._picked]
        arrivals = self.flights.arrival[self._picked]
        order = np.argsort(arrivals, kind="stable")[: np.count_nonzero(~np.isnan(arrivals))]  # NaN sorts last
        self._arrivals, self._landing = arrivals[order], self._picked[order]
        self._rows = self.flights.rows()

    async def send_day(self, client: httpx.AsyncClient) -> None:
        """The day's departures as requests, and as outcomes what has landed by then."""
        for part in range(_PARTS):
            until = _midnight(self.day) + (part + 1) * data.DAY // _PARTS
            stop, landed = int(np.searchsorted(self._departures, until)), int(np.searchsorted(self._arrivals, until))
            instances = [
                {"features": self._rows[i], "id": self.flights.key[i], "at": int(self.flights.departure[i])}
                for i in self._picked[self.sent : stop]
            ]
            await _post(client, "/v1/predict", {"instances": instances})
            outcomes = [
                {"id": self.flights.key[i], "value": self._told(i), "at": float(self.flights.arrival[i])}
                for i in self._landing[self.landed : landed]
            ]
            await _post(client, "/v1/outcomes", {"outcomes": outcomes})
            self.sent, self.landed = stop, landed
        self.day += 1

    def _told(self, flight: int) -> int:
        late = int(self.flights.late[flight])
        return late if self.flights.departure[flight] < _midnight(self.turn) else 1 - late


def configuration(folder: Path, flights: data.Flights, **sections: Any) -> Config:
    """The champion, its January and a configuration in `folder`; `sections` are the file's."""
    rows, labels = flights.between(data.YEAR_START, _midnight(FIRST_DAY))
    skops.io.dump(data.train(rows, labels), folder / "january.skops")
    pd.DataFrame(rows).assign(late=labels.astype(int)).to_csv(folder / "january.csv", index=False)
    features: list[dict[str, Any]] = [{"name": name, "required": name not in data.WEATHER} for name in data.NUMERIC]
    features += [{"name": name, "kind": "text"} for name in data.CATEGORICAL]
    document = {
        "experiment": EXPERIMENT,
        "task": "classification",
        "clock": "events",
        "champion": {"model": "january.skops", "reference": "january.csv", "target": "late", "input": "rows"},
        "features": features,
        "router": {"port": 0, "deadline": "20s", "challenger_timeout": "5s"},
        "observe": {"evaluator_port": 0, "retrainer_port": 0},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return configs.load(path)


@contextlib.asynccontextmanager
async def serving(config: Config) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """The three services: a client to the router, and the retrainer's address; their failures are raised."""
    async with (
        small_experiment.running(config, "router", "evaluator") as client,
        retrainer_service.serving(config) as url,
    ):
        yield client, url


async def settled(config: Config, traffic: Traffic) -> None:
    """Return once all that was sent is evaluated and decided on, no job runs, and the router obeys what was decided."""
    state, reader = adapters.state(config), await adapters.log_reader(config)

    async def report(key: str, kind: type[_Report]) -> _Report:
        return msgspec.json.decode((await state.get(key))[1] or b"{}", type=kind)

    async def done() -> bool:
        counts = (await report(keys.evaluator_progress(EXPERIMENT), EvaluatorProgress)).counts
        if counts.get("predictions", 0) < traffic.sent or counts.get("outcomes", 0) < traffic.landed:
            return False
        retrainer = await report(keys.retrainer_progress(EXPERIMENT), RetrainerProgress)
        for topic in (keys.EVALUATIONS, keys.DRIFT):
            for partition in await reader.partitions(topic):
                if await reader.end(topic, partition) > retrainer.offsets.get(f"{topic}/{partition}", 0):
                    return False
        version, _ = await control.read(state, EXPERIMENT)
        routers = [await report(key, RouterProgress) for key in await state.keys(keys.router_progress(EXPERIMENT, ""))]
        return retrainer.running is None and all(router.version >= version for router in routers)

    try:
        await small_experiment.until(done, 60)
    finally:
        await reader.close()
        await state.close()


def _midnight(day: int) -> int:
    """In New York, in seconds since 1970; the year's first day is 0."""
    return data.YEAR_START + day * data.DAY


async def _post(client: httpx.AsyncClient, route: str, body: dict[str, list[Any]]) -> None:
    if any(body.values()):
        answer = await client.post(route, json=body)
        assert answer.is_success, answer.text
