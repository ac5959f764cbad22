"""Prometheus with a given configuration, asked over its HTTP API; and promtool, its checker.
Invariant: an answer is the server's own; a query that it refuses raises with its message and is never an empty list."""

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from parts.part import Part, PartError
from parts.port import HOST


@dataclass(frozen=True)
class Sample:
    """One series' value at one instant (Unix seconds)."""

    labels: Mapping[str, str]
    time: float
    value: float


@dataclass(frozen=True)
class Series:
    """One series over a range: (Unix seconds, value), in time order."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


def scrape_config(targets: Mapping[str, Sequence[str]], *, interval: str = "200ms") -> str:
    """A configuration that scrapes /metrics of each job's `host:port` targets every `interval`."""
    jobs = [{"job_name": job, "static_configs": [{"targets": list(hosts)}]} for job, hosts in targets.items()]
    # JSON is YAML.
    return json.dumps({"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs})


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool, for example `promtool("check", "config", path)`; the caller judges the exit code."""
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


class Prometheus(Part):
    """A real Prometheus at `url`, started with `config` (default: it scrapes nothing) and reloadable with another."""

    name: ClassVar[str] = "prometheus"

    def __init__(self, config: str | None = None) -> None:
        super().__init__()
        self._config = scrape_config({}) if config is None else config

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("prometheus") else "prometheus is not on the PATH (apt-get install prometheus)"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def load(self, config: str) -> None:
        """Replace the configuration of the running server; PartError with its message when it refuses.

        Its first scrape of new targets comes within 5 s: Prometheus passes targets on at that beat.
        """
        (self.folder / "prometheus.yml").write_text(config)
        status, body = self._http("POST", "/-/reload")
        if status != 200:
            raise PartError(f"prometheus refused the configuration: {body.decode(errors='replace').strip()}")

    def query(self, expression: str, *, at: float | None = None) -> list[Sample]:
        """The instant query's samples, now or at a Unix time; empty when no series matches."""
        found = self._api("query", {"query": expression} | ({} if at is None else {"time": repr(at)}))
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][0]), float(found["result"][1]))]
        return [Sample(one["metric"], float(one["value"][0]), float(one["value"][1])) for one in found["result"]]

    def query_range(self, expression: str, *, start: float, end: float, step: float) -> list[Series]:
        """The range query's series from `start` to `end` (Unix seconds), every `step` seconds."""
        asked = {"query": expression, "start": repr(start), "end": repr(end), "step": repr(step)}
        found = self._api("query_range", asked)["result"]
        return [Series(one["metric"], tuple((float(at), float(value)) for at, value in one["values"])) for one in found]

    def await_samples(self, expression: str, *, seconds: float = 20.0) -> list[Sample]:
        """Ask until the query has samples; PartError after `seconds`, with what the targets' health is."""
        deadline = time.monotonic() + seconds
        while True:
            samples = self.query(expression)
            if samples:
                return samples
            if time.monotonic() > deadline:
                health = self.query("up")
                raise PartError(f"no samples for {expression!r} within {seconds:.0f} s; up: {health}")
            time.sleep(0.05)

    def _prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(self._config)

    def _command(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]

    def _answers(self) -> bool:
        return self._http("GET", "/-/ready")[0] == 200

    def _api(self, path: str, asked: Mapping[str, str]) -> Any:
        _status, body = self._http("GET", f"/api/v1/{path}?{urlencode(asked)}")
        answer = json.loads(body)
        if answer["status"] != "success":
            raise PartError(f"prometheus refused {asked['query']!r}: {answer['error']}")
        return answer["data"]

    def _http(self, method: str, path: str) -> tuple[int, bytes]:
        # http.client, since it never goes through a proxy that the environment names.
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10.0)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"prometheus broke off {method} {path}") from error
        finally:
            connection.close()
