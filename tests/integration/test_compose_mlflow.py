"""The MLflow server of docker-compose.yml, as its command has it: started for real, it answers under the names that it
has there and refuses others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import parts
import pytest
import yaml
from parts.environment import python
from parts.port import HOST

pytestmark = pytest.mark.xdist_group("mlflow")
CONTAINER: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"][
    "mlflow"
]


class ComposedMlflow(parts.MlflowServer):
    """The container's command in this machine's folders and ports."""

    name: ClassVar[str] = "mlflow"

    def _command(self) -> list[str]:
        mlflow, *words = CONTAINER["command"]
        here = {"--host=0.0.0.0": f"--host={HOST}", "--port=5000": f"--port={self.port}"}
        assert here.keys() <= set(words)
        settings = [f"{name}={value}" for name, value in CONTAINER["environment"].items()]
        program = [str(python("mlflow-server")), "-m", mlflow]
        return ["env", *settings, *program, *(here.get(w, w).replace("/mlflow/", f"{self.folder}/") for w in words)]

    def status(self, path: str, name: str) -> int:
        """The answer's status to somebody who calls the server by this name."""
        try:
            with urlopen(Request(f"{self.url}{path}", headers={"Host": name}), timeout=30) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    def _answers(self) -> bool:
        return self.status("/api/2.0/mlflow/experiments/search?max_results=1", "mlflow:5000") == 200


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[ComposedMlflow]:
    request.getfixturevalue("mlflow_server")  # skips where MLflow is not installed
    with ComposedMlflow() as running:
        yield running


def test_it_answers_by_its_names_and_its_health_is_seen(server: ComposedMlflow) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert [server.status(search, name) for name in ("mlflow:5000", "127.0.0.1:5000")] == [200, 200]
    assert server.status(search, "elsewhere.example") == 403
    check = CONTAINER["healthcheck"]["test"][-1]
    assert "/health" in check
    assert server.status("/health", "127.0.0.1:5000") == 200
    assert (server.folder / "mlflow.db").exists()
