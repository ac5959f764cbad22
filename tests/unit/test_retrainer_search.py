"""A search chooses on the validation days alone, and what is odd about a fit is said."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import retraining_data
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gauntlet import adapters
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import ConfigError
from gauntlet.registry import artifact, model_schema
from gauntlet.registry.artifact import Predictor
from retrainer.jobs import dataset, job, training
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.job_dir import Answer, Spec
from retrainer.jobs.search import combinations, search
from retrainer.jobs.training import TrainingError

DAY = retraining_data.DAY
RECIPE = RecipeConfig(name="tuned", search={"C": [1e-6, 1.0], "fit_intercept": [True, False]})


async def laid(folder: Path, *recipes: RecipeConfig) -> tuple[Spec, JobRows]:
    """A job's specification by the first recipe, and its rows."""
    config = retraining_data.configuration(folder)
    config = msgspec.structs.replace(config, retrain=msgspec.structs.replace(config.retrain, recipes=list(recipes)))
    now = await retraining_data.lay(config)
    reader = adapters.local_reader(config)
    ends = await dataset.ends(reader)
    await reader.close()
    spec = Spec(job="j1", champion="v0001", now=now, ends=ends, config=config, recipe=recipes[0])
    return spec, await job.collect(spec, adapters.registry(config), lambda _: None)


def work(spec: Spec, rows: JobRows) -> Answer:
    return job.work(spec, rows, adapters.registry(spec.config), lambda *_: None, lambda _: None)


async def test_the_test_days_are_met_once_by_the_model_that_the_validation_days_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, rows = await laid(tmp_path, RECIPE)
    fitted: list[tuple[float, object]] = []
    scored: list[float] = []
    fit, predict = training.fit, Predictor.predict

    def spied_fit(champion: Predictor, recipe: RecipeConfig, settings: object, given: JobRows) -> object:
        fitted.append((given.times[-1], recipe.parameters.get("C")))
        return fit(champion, recipe, settings, given)  # type: ignore[arg-type]

    def spied_predict(self: Predictor, features: list[dict[str, float]]) -> object:
        times = dict(zip(map(id, rows.features), rows.times, strict=True))
        scored.extend(times[id(row)] for row in (features[0], features[-1]))
        return predict(self, features)

    monkeypatch.setattr(training, "fit", spied_fit)
    monkeypatch.setattr(Predictor, "predict", spied_predict)
    answer = work(spec, rows)
    assert answer.accepted, answer.reason
    first_validation, first_test = spec.matured - 14 * DAY, spec.matured - 7 * DAY
    assert len(fitted) == 5, "four combinations, and the one chosen"
    assert all(last < first_validation for last, _ in fitted[:4])
    assert first_validation < fitted[4][0] < first_test, "with the validation days, which the test knows nothing of"
    assert all(first_validation <= at < first_test for at in scored[:8])
    assert all(at >= first_test for at in scored[8:]), "and then the test days, by both models"
    assert fitted[4][1] == 1.0
    assert answer.metrics["holdout"]["blocks"] == 7
    assert answer.split["validation_to"] < first_test <= answer.split["holdout_from"]
    assert adapters.registry(spec.config).get("v0002").parameters["C"] == "1.0"


async def test_too_few_rows_of_any_part_end_the_job_with_the_numbers(tmp_path: Path) -> None:
    spec, rows = await laid(tmp_path, RECIPE)
    few = JobRows(
        features=rows.features, targets=rows.targets, times=[t - 8 * DAY for t in rows.times]
    )  # none on the test days
    answer = work(spec, few)
    assert not answer.accepted
    assert "to choose by and 0 held out, 100 of each wanted" in (answer.error or "")


def tried() -> tuple[Predictor, Config, JobRows]:
    x, y, times = retraining_data.rows(10, 40, None, 3, "classification")
    features = [dict(zip(retraining_data.NAMES, map(float, row), strict=True)) for row in x]
    config = parse("experiment: e\ntask: classification\nchampion: {model: m.skops}\n")
    model = retraining_data.champion_of("classification")
    schema = model_schema.schema_of(model, config.task, [artifact.Feature(name=name) for name in retraining_data.NAMES])
    return Predictor(model, schema, "v1"), config, JobRows(features=features, targets=y.tolist(), times=times.tolist())


def test_a_combination_that_fails_is_out_and_of_equals_the_first_is_taken() -> None:
    champion, config, rows = tried()
    train, validation = rows.between(-np.inf, rows.times[300]), rows.between(rows.times[300], np.inf)

    def chosen(values: list[float]) -> RecipeConfig:
        recipe = RecipeConfig(name="r", search={"C": values})
        found, trials = search(champion, recipe, config.retrain, "log_loss", train, validation, lambda *_: None)
        assert [trial.parameters["C"] for trial in trials] == values
        return found

    assert chosen([-1.0, 1.0, 1.0]).parameters == {"C": 1.0}
    with pytest.raises(TrainingError, match="no combination of the search gives a model: C=-1"):
        chosen([-1.0, -2.0])


def test_combinations_are_bounded_and_none_is_set_twice() -> None:
    assert list(combinations(RECIPE))[:2] == [{"C": 1e-6, "fit_intercept": True}, {"C": 1e-6, "fit_intercept": False}]
    assert list(combinations(RecipeConfig(name="r"))) == [{}]
    for search_values, reason in (
        ({"C": []}, "1 to 64 combinations, not 0"),
        ({"C": list(range(65))}, "1 to 64 combinations, not 65"),
    ):
        with pytest.raises(ValueError, match=reason):
            RecipeConfig(name="r", search=search_values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not name what `parameters` sets: C"):
        RecipeConfig(name="r", search={"C": [1.0]}, parameters={"C": 2.0})
    start = "experiment: e\ntask: classification\nchampion: {model: m.skops}\nretrain:\n  test: 4d\n  recipes:\n"
    with pytest.raises(ConfigError, match=r"`retrain\.test` \(4d\) must hold at least 5 blocks"):
        parse(start + "    - {name: tuned, search: {C: [1, 2]}}\n")


class Regime:
    spectral_gap = 0.05


def test_what_is_odd_about_a_fit_is_said() -> None:
    x, y, _ = retraining_data.rows(5, 40, None, 3, "classification")
    slow = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2, solver="saga", tol=1e-12))
    with pytest.warns(UserWarning, match="max_iter"):
        slow.fit(x, y)
    assert training.warnings(slow) == ["LogisticRegression used all of its 2 iterations: it may not have converged"]
    long = LogisticRegression(max_iter=1000).fit(x, y)
    for iterations, told in ((99, []), (100, ["LogisticRegression took 100 iterations to converge, 100 or more"])):
        long.n_iter_ = np.array([iterations])
        assert training.warnings(long) == told
    for calm in (LogisticRegression().fit(x, y), HistGradientBoostingClassifier(max_iter=100).fit(x, y)):
        assert training.warnings(calm) == [], "a boosting round is not an iteration towards a solution"
    assert training.warnings(DummyClassifier().fit(x, y)) == []
    assert training.warnings(Regime()) == ["Regime has a spectral gap of 0.05, outside 0.1 to 0.5"]
