"""Status records: what each service reports about itself in the state store, for status pages.

One writer per record. No decision reads them: decisions go by events and by the control record.
"""

from __future__ import annotations

import msgspec

from gauntlet.events import Drift, Evaluation, Health, Job
from gauntlet.state import StateStore


class EvaluatorProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the evaluator is, what it counted, and its latest evaluation. `offsets` is keyed by `topic/partition`."""

    at: float = 0.0
    watermark: float = 0.0
    offsets: dict[str, int] = {}
    counts: dict[str, int] = {}
    evaluation: Evaluation | None = None
    health: Health | None = None
    drift: Drift | None = None


class RetrainerProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the retrainer is with the evaluator's events, and its jobs, newest last."""

    at: float = 0.0
    offsets: dict[str, int] = {}
    running: Job | None = None
    jobs: list[Job] = []


class RouterProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The control version that one router replica serves; `problem` says why when it could not take a newer one."""

    at: float
    replica: str
    version: int
    allocation: int
    champion: str
    challenger: str | None = None
    breaker: str = "closed"
    problem: str | None = None


async def publish(store: StateStore, key: str, report: msgspec.Struct) -> None:
    """Replace a service's own report. The only writer of a key conflicts with nobody but its own predecessor."""
    version, _ = await store.get(key)
    await store.put(key, msgspec.json.encode(report), version)
