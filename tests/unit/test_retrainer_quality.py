"""The quality of a job's rows, at its limit and by its cause; a job that would learn bad rows ends without a model."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import retraining_data

from gauntlet import adapters
from gauntlet.clock import lasting
from gauntlet.registry import Reference
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import Task
from retrainer.jobs import dataset, job
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.job_dir import Spec
from retrainer.jobs.quality import GONE, quality

NUMBER, TEXT = Feature(name="wind"), Feature(name="airport", kind="text", required=False)


def rows(**columns: list[Any]) -> JobRows:
    count = len(next(iter(columns.values())))
    features = [{name: values[n] for name, values in columns.items()} for n in range(count)]
    return JobRows(features=features, targets=[0] * count, times=[float(n) for n in range(count)])


def schema(*features: Feature) -> Schema:
    return Schema(task=Task.CLASSIFICATION, features=features, classes=(0, 1))


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), "12", [1]])
def test_absent_mistyped_and_infinite_values_lower_it(bad: object) -> None:
    """One of two columns (the outcome counts as one), a fifth of it bad: a tenth less."""
    found = quality(rows(wind=[1.0] * 8 + [bad] * 2), schema(NUMBER), None)
    assert (found.score, found.worst, found.share) == (0.9, "wind", pytest.approx(0.2))
    assert "wind is unusable in 20% of them" in str(found)


def test_only_what_is_worse_than_in_the_reference_counts() -> None:
    half = rows(wind=[1.0, None] * 5)
    assert quality(half, schema(NUMBER), Reference(columns={"wind": [None, 2.0]})).score == 1.0
    assert quality(half, schema(NUMBER), Reference(columns={"wind": [None, 2.0, 2.0, 2.0]})).score == 0.875
    optional = rows(airport=["EWR", None, 5, "JFK"])
    assert quality(optional, schema(TEXT), None).score == 0.875, "absent may be, a number is not text"


def test_a_feature_that_is_gone_caps_it_and_outcomes_that_are_no_truth_count() -> None:
    names = [Feature(name=f"x{n}") for n in range(9)]
    many: dict[str, list[Any]] = {feature.name: [1.0] * 10 for feature in names}
    assert quality(rows(**many), schema(*names), None).score == 1.0
    assert quality(rows(**{**many, "x3": [None] * 10}), schema(*names), None).score == GONE
    assert quality(rows(wind=[1.0] * 10), schema(NUMBER), None, unusable=10).score == 0.5
    assert quality(rows(wind=[1.0] * 10), schema(NUMBER), None, unusable=10).worst == "the outcome"
    nothing = JobRows(features=[], targets=[], times=[])
    assert (quality(nothing, schema(NUMBER), None).score, quality(nothing, schema(NUMBER), None, 1).score) == (1, 0)


@pytest.mark.parametrize(("share", "blocked"), [(0.0, False), (0.3, False), (0.31, True)])
async def test_a_job_learns_nothing_from_bad_rows(tmp_path: Path, share: float, blocked: bool) -> None:
    """Four columns with the outcome; two features unusable in 60 % of the rows: 0.70 is enough, less is not."""
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    reader = adapters.local_reader(config)
    spec = Spec(job="j1", champion="v0001", now=now, ends=await dataset.ends(reader), config=config)
    await reader.close()
    registry = adapters.registry(config)
    good = await job.collect(spec, registry, lambda _: None)
    newest = good.between(good.times[-1000], float("inf"))
    bad = [{**row, "x2": None, "x3": None} if n % 100 < 200 * share else row for n, row in enumerate(newest.features)]
    parts = {"to train on": good, "held out": msgspec.structs.replace(newest, features=bad)}
    answer = job.checked_rows(spec, registry.get("v0001").schema, registry, good, parts)
    blamed = (answer.alert, "0.7 wanted" in (answer.error or ""))
    assert blamed == (("data_quality_low", True) if blocked else ("", False))
    assert answer.split["quality"] == pytest.approx(1 - share)
    assert not answer.accepted


@pytest.mark.parametrize(("count", "enough"), [(100, True), (99, False)])
async def test_as_many_rows_as_are_wanted_are_enough(tmp_path: Path, count: int, enough: bool) -> None:
    config = retraining_data.configuration(tmp_path)
    await retraining_data.lay(config, days=1, a_day=2)
    given = JobRows(
        features=[dict.fromkeys(retraining_data.NAMES, 1.0)] * count, targets=[0] * count, times=[0.0] * count
    )
    spec = Spec(job="j1", champion="v0001", now=0.0, ends={}, config=config)
    registry = adapters.registry(config)
    parts = {"to train on": given, "held out": given}
    answer = job.checked_rows(spec, registry.get("v0001").schema, registry, given, parts)
    assert (answer.error is None) is enough


@pytest.mark.parametrize(("count", "told"), [(200, True), (100, True), (99, False)])
async def test_a_job_that_comes_too_early_says_when_there_are_rows(tmp_path: Path, count: int, told: bool) -> None:
    """A row an hour, none older than the held-out 14 days: the hundredth has only to get older. Of fewer, nobody
    knows."""
    config = retraining_data.configuration(tmp_path)
    await retraining_data.lay(config, days=1, a_day=2)
    times = [3600.0 * n for n in range(count)]
    given = JobRows(features=[{"x1": 1.0}] * count, targets=[0] * count, times=times)
    now = times[-1] + config.evidence.outcome_horizon
    spec = Spec(job="j1", champion="v0001", now=now, ends={}, config=config)
    registry = adapters.registry(config)

    def parts(end: float) -> dict[str, JobRows]:
        train, _, holdout = job.split(given, end, config.retrain, None)
        return {"to train on": train, "held out": holdout}

    answer = job.checked_rows(spec, registry.get("v0001").schema, registry, given, parts(spec.matured))
    wait = (99 + 14 * 24) * 3600.0 - times[-1]
    text = f"the newest 14 d are held out, so that there are rows to train on in {lasting(wait)}"
    assert (text in (answer.error or "")) is told, answer.error
    if told:
        later = [len(parts(spec.matured + wait + more)["to train on"]) for more in (-1.0, 1.0)]
        assert later == [99, 100], "and there are"
