"""A retraining job on the small recorded stream, ordered and run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from builders import retraining_data
from gauntlet import adapters
from gauntlet.config import Config
from retrainer.jobs import dataset, job
from retrainer.jobs.job_dir import Answer, JobFolder, Spec


async def order(config: Config, now: float, name: str = "retrain_20231224_001") -> JobFolder:
    reader = adapters.local_reader(config)
    folder = JobFolder(Path(config.data) / "jobs" / name)
    ends = await dataset.ends(reader)
    folder.prepare(Spec(job=name, champion=retraining_data.CHAMPION, now=now, ends=ends, config=config))
    await reader.close()
    return folder


async def run(folder: JobFolder) -> Answer:
    """The job's work in this process: the same code without a second start of Python."""
    answer = await asyncio.to_thread(job.run, folder)
    assert answer == folder.answer()
    return answer


def untimed(answer: Answer) -> Answer:
    """The answer without what a clock has told."""
    metrics = {name: figures for name, figures in answer.metrics.items() if name != "latency"}
    return msgspec.structs.replace(answer, training_seconds=0.0, metrics=metrics)
