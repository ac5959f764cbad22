"""A Ray cluster of one machine, from an environment of its own, that takes jobs over HTTP.
Invariant: it and all its workers end with its first process."""

from pathlib import Path
from typing import ClassVar
from urllib.request import urlopen

from parts.environment import folder, missing
from parts.part import Part
from parts.port import HOST, free_port

_NAME = "ray"


class Ray(Part):
    """A head node with one core at `url`; `program` submits jobs to it."""

    name: ClassVar[str] = "ray"
    ready_seconds: ClassVar[float] = 180.0  # nine seconds on a quiet machine

    @classmethod
    def missing(cls) -> str | None:
        return missing(_NAME)

    @property
    def program(self) -> Path:
        return folder(_NAME) / "bin" / "ray"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self._ports = {
            name: free_port() for name in ("port", "ray-client-server-port", "dashboard-agent-listen-port")
        } | {"dashboard-port": self.port}

    def _command(self) -> list[str]:
        settings = {
            "node-ip-address": HOST,
            "dashboard-host": HOST,
            "include-dashboard": "true",
            "include-log-monitor": "false",
            "num-cpus": 1,
            "object-store-memory": 80_000_000,
            "temp-dir": self.folder / "ray",
            **self._ports,
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        environment = ["-u", "PYTHONPATH", "RAY_USAGE_STATS_ENABLED=0"]
        return ["env", *environment, str(self.program), "start", "--head", "--block", *words]

    def _answers(self) -> bool:
        with urlopen(f"{self.url}/api/version", timeout=30) as answer:
            return bool(answer.status == 200)
