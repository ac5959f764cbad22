"""The retrainer killed with signal 9 in each state that a job can be in, and started again.

Whatever the state, the job ends under its id, with one version, one rollout and one line in the job log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop

from gauntlet import control, events, keys
from gauntlet.errors import TransitionRefused
from retrainer.jobs.job_dir import JobFolder
from retrainer.store import RetrainerStore

pytestmark = pytest.mark.asyncio


@contextlib.contextmanager
def dying(store: RetrainerStore) -> Iterator[None]:
    """The retrainer dies at its next commit, just before that is on disk."""

    def die() -> bool:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            yield


async def triggered(loop: RetrainerLoop) -> str:
    """A job that is pending: its trigger has been answered, and the loop has not turned since."""
    now = retraining_data.START + 40 * retraining_data.DAY
    await loop.publish(keys.DRIFT, retraining_data.drift(now, severity="LOW"))
    await loop.worker.step()
    _, answer = await loop.worker.operations.trigger("ann", "new labels", force=False, key="k")
    (job,) = msgspec.json.decode(answer)["jobs"]
    return str(job)


async def test_killed_while_it_waits_runs_has_answered_and_is_challenged(tmp_path: Path) -> None:
    """Scenarios 1 to 4: pending; running; its process has answered and nobody has looked; its version has its rollout,
    and that is not written yet."""
    config = retraining_data.configuration(tmp_path)
    await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        job = await triggered(loop)
        await loop.killed()
        assert [(j.id, j.status) for j in loop.store.jobs.values()] == [(job, "pending")]

        await loop.worker.step()
        await loop.killed()
        assert [(j.id, j.status, j.starts) for j in loop.store.jobs.values()] == [(job, "running", 1)]
        repeated = await loop.worker.operations.trigger("ann", "new labels", force=False, key="k")
        assert msgspec.json.decode(repeated[1])["jobs"] == [job]

        folder = JobFolder(Path(config.data) / "jobs" / job)
        await loop.worker.step()
        await loop.worker.runner.ended()
        assert folder.answer() is not None
        await loop.killed()
        assert loop.store.jobs[job].status == "running"

        await loop.worker.step()
        await loop.worker.runner.ended()
        with dying(loop.store):
            await loop.worker.step()
        _, record = await control.read(loop.state, "turning")
        assert record is not None
        assert record.challenged_by("v0002") is not None
        await loop.killed()
        assert loop.store.jobs[job].status == "running", "it knows nothing of the rollout yet"
        with pytest.raises(TransitionRefused, match="has its rollout"):
            await loop.worker.operations.cancel("ann", job, "too late")

        await loop.turn_until(lambda: loop.store.live is None)
        assert [(j.id, j.status, j.accepted) for j in loop.store.jobs.values()] == [(job, "completed", True)]
        await loop.killed()
        await loop.worker.step()
        assert [v.note for v in loop.registry.versions()] == ["", job]
        history = await control.history(loop.state, "turning")
        assert [c.last.command for _, c in history if c.last] == ["begin", "challenge"]
        assert len((Path(config.data) / "retraining_jobs.jsonl").read_text().splitlines()) == 1
        told = [e.status for e in await loop.events(keys.JOBS) if isinstance(e, events.Job)]
        assert told[0] == "pending"
        assert told[-1] == "completed"


async def test_killed_while_it_is_cancelled_it_is_cancelled_again(tmp_path: Path) -> None:
    """Scenario 5: the process is ended, and the cancelling is not written: nobody was told, and the job goes on."""
    config = retraining_data.configuration(tmp_path)
    await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        job = await triggered(loop)
        await loop.worker.step()
        with dying(loop.store):
            await loop.worker.operations.cancel("ann", job, "wrong data")
        await loop.killed()
        assert loop.store.jobs[job].status == "running"
        assert [one.command for one in loop.worker.operations.history(0)] == ["trigger"]
        cancelled = await loop.worker.operations.cancel("ann", job, "wrong data")
        assert (cancelled.status, cancelled.error) == ("cancelled", "cancelled by ann: wrong data")
        await loop.killed()
        await loop.worker.step()
        assert loop.store.jobs[job].status == "cancelled"
        assert [v.version for v in loop.registry.versions()] == ["v0001"]
        assert [one.outcome for one in loop.worker.operations.history(0)] == ["started", "cancelled"]
