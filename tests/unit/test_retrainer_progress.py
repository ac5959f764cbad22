"""How far a job is: every job tells the steps that it has planned, and the share of the whole never falls."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data

from gauntlet import adapters
from gauntlet.cli.retrain import text
from gauntlet.config.retrain import RecipeConfig
from gauntlet.retraining_document import JobDocument, Progress
from retrainer.api import documents
from retrainer.jobs import dataset, job
from retrainer.jobs.job_dir import JobFolder, Spec, Step
from retrainer.jobs.progress import planned

SEARCHED = RecipeConfig(name="searched", search={"C": [0.1, 1.0]})


@pytest.mark.parametrize(
    ("rule", "recipe", "stages"),
    [
        ("prove", RecipeConfig(name="default"), ["collect", "train", "compare", "register"]),
        ("refresh", SEARCHED, ["collect", "search", "train", "compare", "refit", "register"]),
    ],
)
async def test_a_job_tells_every_planned_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, recipe: RecipeConfig, stages: list[str]
) -> None:
    config = retraining_data.configuration(tmp_path, rule=rule)
    now = await retraining_data.lay(config)
    reader = adapters.local_reader(config)
    spec = Spec(job="j1", champion="v0001", now=now, ends=await dataset.ends(reader), config=config, recipe=recipe)
    await reader.close()
    folder, told = JobFolder(tmp_path / "j1"), list[Step]()
    folder.prepare(spec)
    report = JobFolder.report

    def heard(self: JobFolder, *said: object) -> None:
        report(self, *said)  # type: ignore[arg-type]
        step = self.step()
        assert step is not None
        told.append(step)

    monkeypatch.setattr(JobFolder, "report", heard)
    answer = await asyncio.to_thread(job.run, folder)
    assert answer.accepted, answer.reason or answer.error
    assert planned(spec) == stages
    assert {step.planned for step in told} == {len(stages)}
    assert sorted({step.done for step in told}) == list(range(len(stages)))
    shares = [step.share or 0.0 for step in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1 - 1 / len(stages))
    if recipe is SEARCHED:
        assert [step.share for step in told if "combination" in step.step] == [1 / 6, 1.5 / 6]
    shown = documents.progress(folder, None)
    assert (shown.steps_done, shown.steps_planned, shown.share) == (len(stages) - 1, len(stages), shares[-1])


def test_before_its_first_word_nothing_is_done(tmp_path: Path) -> None:
    shown = documents.progress(JobFolder(tmp_path), None)
    assert (shown.step, shown.steps_done, shown.steps_planned, shown.share) == ("starting", 0, None, 0.0)


def test_a_person_reads_the_place_and_the_share() -> None:
    progress = Progress(step="training on 900 rows", steps_done=1, steps_planned=4, share=0.25, seconds=3.0)
    names = ("id", "model", "trigger", "request", "severity", "reason", "champion", "recipe", "by")
    known = dict.fromkeys(names, "") | dict.fromkeys(("created", "updated", "ended")) | {"seconds": 0.0, "starts": 1}
    found = msgspec.convert({**known, "status": "running", "progress": progress}, JobDocument)
    assert "training on 900 rows for 3 s, 2 of 4 steps, 25% of the job" in text.job(found)
