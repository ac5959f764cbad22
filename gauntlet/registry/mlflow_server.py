"""What is asked of an MLflow server or database, for one registered model, with MLflow's errors as Gauntlet's.

Only its client is used, never its global state: nothing is printed, and no telemetry is sent. Who may write is told by
MLflow's own environment variables (MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and _PASSWORD).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gauntlet.errors import ConfigError, GauntletError, RegistryRefused, RegistryUnavailable

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own defaults wait for minutes; whoever asks here tries again by itself.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""Set before MLflow is imported, where the environment does not say otherwise."""

_FOLDER = "model"
"""Of a run's artifacts: everything of one version."""

_STATUS, _SHA256 = "gauntlet.status", "gauntlet.sha256"
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_TRANSIENT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "ABORTED")
_MOST_PARAMETERS, _LONGEST_PARAMETER, _LONGEST_TAG = 100, 6000, 5000
_PAGE = 1000


def be_quiet() -> None:
    """Before MLflow is imported: it prints and tells nothing, and gives up soon."""
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)


class ServerVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as MLflow has it: its run, the SHA-256 of its manifest, and its status where one was set."""

    number: int
    run: str
    sha256: str
    status: str | None


class MlflowServer:
    """The versions and aliases of the registered model `name` at `url` (`sqlite:///…` or `http(s)://…`).

    Every call may raise `RegistryUnavailable`, or `RegistryRefused` where trying again does not help.
    """

    def __init__(self, url: str, name: str) -> None:
        """Raises `ConfigError` where MLflow is not installed."""
        if importlib.util.find_spec("mlflow") is None:
            raise ConfigError(f"registry: {url} needs MLflow's client: pip install 'gauntlet-ml[mlflow]'")
        be_quiet()
        self.url = url
        self._name = name

    @functools.cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What MLflow and its libraries raise in the block, as Gauntlet's errors."""
        try:
            yield
        except GauntletError:
            raise
        except Exception as error:  # MLflow lets the errors of half a dozen libraries through
            raise self._translated(error, what) from error

    def _translated(self, error: Exception, what: str) -> GauntletError:
        code, text = _code(error), " ".join(str(error).split())[:400]
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            rights = (
                "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, must give the right"
            )
            return RegistryRefused(f"the registry {self.url} does not allow to {what}: {text}; {rights}")
        read_only = isinstance(error, PermissionError) or "readonly" in text or "Read-only" in text
        if read_only:
            return RegistryRefused(f"the registry {self.url} is read-only, so it can't {what}: {text}")
        if code is None or code in _TRANSIENT:
            return RegistryUnavailable(f"the registry {self.url} does not {what}: {text or type(error).__name__}")
        return RegistryRefused(f"the registry {self.url} refuses to {what}: {text}")

    def versions(self) -> list[ServerVersion]:
        """The versions that Gauntlet has registered, oldest first."""
        found, token = [], None
        with self._told("list the versions"):
            while True:
                page = self._client.search_model_versions(f"name='{self._name}'", max_results=_PAGE, page_token=token)
                found += [_seen(one) for one in page if one.run_id and _SHA256 in one.tags]
                token = page.token
                if not token:
                    return sorted(found, key=lambda version: version.number)

    def version(self, number: int) -> ServerVersion | None:
        """None where there is none, or it is not Gauntlet's."""
        with self._told(f"find version {number}"):
            try:
                one = self._client.get_model_version(self._name, str(number))
            except Exception as error:
                if _code(error) == _ABSENT:
                    return None
                raise
            return _seen(one) if one.run_id and _SHA256 in one.tags else None

    def upload(
        self,
        folder: Path,
        sha256: str,
        tags: Mapping[str, str],
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> int:
        """A new version with the files of `folder`, and its number. It is there once all files are; whatever fails
        before leaves none."""
        with self._told("take a new version"):
            client = self._client
            name = f"{self._name}: {tags.get('gauntlet.note') or 'registered'}"
            run = client.create_run(self._experiment(), run_name=name).info.run_id
            cut = {name: value[:_LONGEST_TAG] for name, value in tags.items() if value}
            try:
                client.log_batch(run, _metrics(metrics), _parameters(parameters))
                client.log_artifacts(run, str(folder), _FOLDER)
                client.set_terminated(run)
                self._ensure_model()
                version = client.create_model_version(
                    self._name,
                    f"runs:/{run}/{_FOLDER}",
                    run_id=run,
                    tags={**cut, _SHA256: sha256},
                    await_creation_for=0,
                )
            except BaseException:
                with contextlib.suppress(Exception):
                    client.delete_run(run)
                raise
            return int(version.version)

    def download(self, version: ServerVersion, path: str, target: Path) -> Path:
        """The file or folder `path` of a version, under the folder `target`; all of it where `path` is empty."""
        with self._told(f"give the files of version {version.number}"):
            where = f"{_FOLDER}/{path}" if path else _FOLDER
            return Path(self._client.download_artifacts(version.run, where, str(target)))

    def aliases(self) -> dict[str, int]:
        with self._told("tell the aliases"):
            try:
                found = self._client.get_registered_model(self._name).aliases
            except Exception as error:
                if _code(error) == _ABSENT:
                    return {}
                raise
            return {alias: int(number) for alias, number in found.items()}

    def set_alias(self, alias: str, number: int | None) -> None:
        """None removes it."""
        with self._told(f"set the alias {alias}"):
            if number is None:
                self._client.delete_registered_model_alias(self._name, alias)
            else:
                self._client.set_registered_model_alias(self._name, alias, str(number))

    def set_status(self, number: int, status: str) -> None:
        with self._told("set a status"):
            self._client.set_model_version_tag(self._name, str(number), _STATUS, status)

    def _experiment(self) -> str:
        client = self._client
        found = client.get_experiment_by_name(self._name)
        if found is None:
            location = None
            if self.url.startswith("sqlite:"):  # else a folder below wherever the process was started
                location = str(Path(self.url.removeprefix("sqlite:///")).parent / "mlflow-artifacts")
            try:
                return str(client.create_experiment(self._name, artifact_location=location))
            except Exception:
                found = client.get_experiment_by_name(self._name)  # somebody else was quicker
                if found is None:
                    raise
        return str(found.experiment_id)

    def _ensure_model(self) -> None:
        try:
            self._client.create_registered_model(self._name)
        except Exception as error:
            if _code(error) != "RESOURCE_ALREADY_EXISTS":
                raise


def _code(error: Exception) -> str | None:
    """MLflow's own code of an error; None for those of other libraries."""
    found = getattr(error, "error_code", None)
    return found if isinstance(found, str) else None


def _seen(version: Any) -> ServerVersion:
    tags = version.tags
    return ServerVersion(
        number=int(version.version), run=version.run_id, sha256=tags[_SHA256], status=tags.get(_STATUS)
    )


def _metrics(metrics: Mapping[str, float]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, 0) for name, value in metrics.items()]


def _parameters(parameters: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param

    kept = list(parameters.items())[:_MOST_PARAMETERS]
    return [Param(name, str(value)[:_LONGEST_PARAMETER]) for name, value in kept]
