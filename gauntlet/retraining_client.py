"""The retrainer's API in Python: the verbs that `gauntlet retrain` has, with the answers as plain values.

    client = RetrainingClient("http://127.0.0.1:8422", key, model="my-model")
    if client.check()["should_retrain"]:
        jobs = client.trigger("nightly check")["jobs"]

Every method raises `NotReached` where no retrainer answers, and `Refused` with the retrainer's reason.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

import msgspec

from gauntlet.errors import BadInput
from gauntlet.service_client import Refused, ServiceClient

Json = dict[str, Any]
T = TypeVar("T")


class _Retrainer(ServiceClient):
    service = "retrainer"
    prefix = "retraining"


class RetrainingClient:
    """The retrainer at `url`, asked with `key`, about `model`: its experiment; by default the one that it serves."""

    def __init__(
        self, url: str, key: str | None = None, model: str | None = None, *, start: str = "gauntlet up CONFIG"
    ) -> None:
        self._http = _Retrainer(url, key, start=start)
        self._model = model
        self.url = self._http.url

    @property
    def model(self) -> str:
        if self._model is None:
            self._model = str(self.status()["model"])
        return self._model

    def status(self) -> Json:
        """What runs, what waits, what was last, and what needs somebody."""
        return self._json(self._http.get("status"))

    def check(self) -> Json:
        """Whether a job is due, with every condition."""
        return self._get("check")

    def trigger(self, reason: str, *, force: bool = False, idempotency_key: str | None = None) -> Json:
        """Start a round of jobs. A call that is repeated with its key gets the first one's answer, whatever happened
        between. Refusals are answers, too: `accepted` is false, and `conditions` say why.
        """
        key = idempotency_key or str(uuid.uuid4())
        body = {"trigger_type": "manual", "reason": reason, "force": force}
        try:
            answer = self._http.post(self.model, "trigger", body=body, headers={"idempotency-key": key})
        except Refused as refused:
            if refused.code != "retraining_refused":
                raise
            answer = refused.body
        return self._json(answer)

    def jobs(self, limit: int | None = None) -> list[Json]:
        """The jobs, the newest first."""
        return self._list(self._http.get(self.model, "jobs", limit=limit))

    def job(self, job: str) -> Json:
        """One job, and while it runs what it does."""
        return self._get("jobs", job)

    def log(self, job: str) -> str:
        """The end of what the job printed."""
        return self._http.get(self.model, "jobs", job, "log").decode("utf-8", "replace")

    def cancel(self, job: str, reason: str) -> Json:
        """End a job that waits or runs; nothing of it stays."""
        return self._post("jobs", job, "cancel", body={"reason": reason})

    def approve(self, request: str, reason: str) -> Json:
        """Let an open request that asks for it have its jobs."""
        return self._post("requests", request, "approve", body={"reason": reason})

    def decline(self, request: str, reason: str) -> Json:
        """Close an open request of a person, of the schedule or after a rollback: it gets no jobs."""
        return self._post("requests", request, "decline", body={"reason": reason})

    def history(self, after: int | None = None) -> list[Json]:
        """Every command that was given: who, what, why, and what came of it."""
        return self._list(self._http.get(self.model, "history", after=after))

    def report(self) -> Json:
        """The model's retraining life: one line a job, from its trigger to its outcome."""
        return self._get("report")

    def versions(self) -> list[Json]:
        """The versions of the registry with their lineage."""
        return self._list(self._http.get(self.model, "versions"))

    def configure(self, settings: Json, reason: str = "") -> Json:
        """Change settings of retraining, by the names of the configuration; null takes a change back."""
        return self._json(self._http.post("configure", body=settings, reason=reason or None))

    def initialize(self, baseline_metrics: Json | None = None, reason: str = "") -> Json:
        """Set the metrics from which a fall is measured; by default the champion's own."""
        return self._post("initialize", body={"baseline_metrics": baseline_metrics, "reason": reason})

    def start_monitoring(self, reason: str = "") -> Json:
        """Let triggers start jobs by themselves."""
        return self._post("start-monitoring", body={"reason": reason})

    def stop_monitoring(self, reason: str = "") -> Json:
        """Let nothing start a job by itself; by hand they still start."""
        return self._post("stop-monitoring", body={"reason": reason})

    def _get(self, *path: str) -> Json:
        return self._json(self._http.get(self.model, *path))

    def _post(self, *path: str, body: Json) -> Json:
        return self._json(self._http.post(self.model, *path, body=body))

    def _json(self, body: bytes) -> Json:
        return self._decoded(body, Json)

    def _list(self, body: bytes) -> list[Json]:
        return self._decoded(body, list[Json])

    def _decoded(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise BadInput(f"{self.url} answers otherwise than this release does ({error})") from error
