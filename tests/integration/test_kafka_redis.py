"""The same loop on a real Kafka broker and a real Redis: 20,000 predictions and outcomes, and the embedded run's
counts."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import parts
import pytest
from builders import service_processes, small_experiment

from evaluator.service.checkpoint import Checkpoint

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(280)]

N = 20_000
EVIDENCE = {"outcome_horizon": "2h", "block": "6h", "harm_block": "2h", "min_samples": 30_000}


async def counts(folder: Path, **changes: Any) -> dict[str, int]:
    """One run of 20,000 with a challenger in shadow; what the evaluator counted."""
    path = small_experiment.write(folder, clock="events", evidence=EVIDENCE, retrain={"enabled": False}, **changes)
    async with service_processes.loop(path) as running:
        await running.challenge()
        predictions, outcomes = await service_processes.send(running, N, 250)
        await running.counted(predictions, outcomes, shadows=N)
    config = small_experiment.load(path)
    checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
    checkpoint.close()
    return {name: count for name, count in checkpoint.saved.counts.items() if name != "orphan"}


async def test_kafka_and_redis_count_what_the_embedded_run_counts(
    tmp_path: Path, kafka: parts.Kafka, redis_server: parts.Redis
) -> None:
    embedded = await counts(tmp_path / "embedded")
    name = uuid.uuid4().hex[:8]
    scaled = await counts(
        tmp_path / "scaled", log=f"{kafka.url}?prefix={name}-", state=f"{redis_server.url}?prefix={name}:"
    )
    assert embedded["predictions"] == embedded["shadows"] == N
    assert scaled == embedded
