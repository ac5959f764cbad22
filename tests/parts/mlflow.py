"""The MLflow server, from an environment of its own: its application alone, without the helpers that `mlflow server`
starts beside it.
Invariant: database and artifacts survive stop and start."""

from typing import ClassVar
from urllib.request import urlopen

from parts.environment import missing, python
from parts.part import Part
from parts.port import HOST

_NAME = "mlflow-server"


class MlflowServer(Part):
    """A real tracking server and registry at `url`, with its artifacts served by itself."""

    name: ClassVar[str] = "mlflow"
    ready_seconds: ClassVar[float] = 120.0  # it imports for ten seconds on a quiet machine

    @classmethod
    def missing(cls) -> str | None:
        return missing(_NAME)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _command(self) -> list[str]:
        settings = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self.folder / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self.folder / "artifacts"),
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        server = [str(python(_NAME)), "-m", "uvicorn", "--host", HOST, "--port", str(self.port)]
        return ["env", *words, *server, "--log-level", "warning", "mlflow.server.fastapi_app:app"]

    def _answers(self) -> bool:
        # It answers /health before it has made its tables, which takes seconds.
        with urlopen(f"{self.url}/api/2.0/mlflow/experiments/search?max_results=1", timeout=30) as answer:
            return bool(answer.status == 200)
