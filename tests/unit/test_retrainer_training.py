"""A successor from rows: the champion's kind refitted, or a clear word on why there is none."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import retraining_data
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig
from gauntlet.registry.artifact import Feature, Predictor, Schema
from gauntlet.types import Label, Task
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.training import TrainingError, algorithm, code_of, fit, unweighted

FEATURES = (Feature(name="x1"), Feature(name="x2"))
RECIPE = RecipeConfig(name="r")
SETTINGS = RetrainConfig(seed=1)


class ByHand:
    """A model that is not a scikit-learn estimator."""

    def predict_proba(self, rows: object) -> object:
        return np.array([[0.5, 0.5]])


def rows(labels: tuple[Label, Label], count: int = 60) -> JobRows:
    rng = np.random.default_rng(1)
    features = [{"x1": float(a), "x2": float(b)} for a, b in rng.normal(size=(count, 2))]
    return JobRows(
        features=features, targets=[labels[int(r["x1"] > 0)] for r in features], times=[float(i) for i in range(count)]
    )


def champion(model: object, labels: tuple[Label, Label] = (0, 1)) -> Predictor:
    return Predictor(model, Schema(task=Task.CLASSIFICATION, features=FEATURES, classes=labels), "v1")


@pytest.mark.parametrize("labels", [(0, 1), (False, True), ("late", "on time")])
def test_a_clone_of_the_champion_learns_the_rows_and_keeps_its_settings(labels: tuple[Label, Label]) -> None:
    given = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
    model, schema = fit(champion(given, labels), RECIPE, SETTINGS, rows(labels))
    assert model is not given
    assert model["logisticregression"].C == 0.5  # type: ignore[index]
    assert not hasattr(given["logisticregression"], "coef_"), "the champion itself is untouched"
    assert schema.classes == labels
    found = Predictor(model, schema, "v2").predict([{"x1": 3.0, "x2": 0.0}, {"x1": -3.0, "x2": 0.0}])
    assert found[0, 1] > 0.9 > 0.1 > found[1, 1]
    assert algorithm(model) == "LogisticRegression"


def test_weights_reach_the_last_step_of_a_pipeline_and_a_trainer_that_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row with the weight 3 is learned like three rows; who takes no weights is named."""
    given, weights = rows((0, 1)), [1.0 + 2.0 * (i % 3 == 0) for i in range(60)]
    weighted = msgspec.structs.replace(given, weights=weights)
    whole = [i for i, weight in enumerate(weights) for _ in range(int(weight))]
    repeated = JobRows(
        features=[given.features[i] for i in whole],
        targets=[given.targets[i] for i in whole],
        times=[given.times[i] for i in whole],
    )
    pipeline = make_pipeline(MinMaxScaler(), LogisticRegression())
    model, _ = fit(champion(pipeline), RECIPE, SETTINGS, weighted)
    same, _ = fit(champion(pipeline), RECIPE, SETTINGS, repeated)
    assert model["logisticregression"].coef_ == pytest.approx(same["logisticregression"].coef_)  # type: ignore[index]
    assert unweighted(model, RECIPE, SETTINGS, weighted) == []
    assert unweighted(KNeighborsClassifier(), RECIPE, SETTINGS, weighted)[0].startswith("KNeighborsClassifier takes no")
    assert unweighted(KNeighborsClassifier(), RECIPE, SETTINGS, given) == []

    got: list[Any] = []

    def trainer(features: Sequence[Mapping[str, Any]], targets: Any, weights: Any = None) -> object:
        got.append(weights)
        return LogisticRegression().fit([[row["x1"], row["x2"]] for row in features], targets)

    monkeypatch.setattr("builders.retraining_data.good_trainer", trainer)
    own = RecipeConfig(name="own", trainer="builders.retraining_data:good_trainer")
    for each in (weighted, given):
        fit(champion(LogisticRegression()), own, SETTINGS, each)
        assert unweighted(None, own, SETTINGS, each) == []
    assert got[0] == pytest.approx(weights)
    assert got[1] is None
    plain = RecipeConfig(name="own", trainer="builders.retraining_data:narrow_trainer")
    assert "takes no weights" in unweighted(None, plain, SETTINGS, weighted)[0]


def test_the_code_of_a_trainer_is_that_of_its_file() -> None:
    assert retraining_data.__file__ is not None
    expected = hashlib.sha256(Path(retraining_data.__file__).read_bytes()).hexdigest()
    assert code_of("builders.retraining_data:good_trainer", "retrain.trainer") == expected
    assert code_of("math:sqrt", "retrain.trainer") == "", "it stands in no file that can be read"


def test_the_same_seed_gives_the_same_model() -> None:
    def predicted(seed: int) -> list[float]:
        model, schema = fit(
            champion(RandomForestClassifier(n_estimators=5)),
            RECIPE,
            msgspec.structs.replace(SETTINGS, seed=seed),
            rows((0, 1)),
        )
        return [float(p) for p in Predictor(model, schema, "v2").predict(rows((0, 1)).features)[:, 1]]

    assert predicted(1) == predicted(1)
    assert predicted(1) != predicted(2)


@pytest.mark.parametrize(
    ("model", "labels", "trainer", "words"),
    [
        (ByHand(), (0, 1), None, "not a scikit-learn estimator.*retrain.trainer"),
        (LogisticRegression(C=-1.0), (0, 1), None, "fitting LogisticRegression on 60 rows failed"),
        (LogisticRegression(), (0, 5), None, r"no example of \[5\]"),
        (LogisticRegression(), (0, 1), "no_such_module:train", "can't be imported"),
        (LogisticRegression(), (0, 1), "math:no_such_function", "can't be imported"),
        (LogisticRegression(), (0, 1), "operator:truediv", "failed on 60 rows: TypeError"),
        (LogisticRegression(), (0, 1), "builtins:zip", "can't take the champion's place"),
    ],
)
def test_what_gives_no_model_says_why(model: object, labels: tuple[int, int], trainer: str | None, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        fit(champion(model, labels), RecipeConfig(name="r", trainer=trainer), SETTINGS, rows((0, 1)))


def test_a_successor_that_knows_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import operator

    def odd(features: object, targets: object) -> object:
        return DummyClassifier().fit([[0.0], [1.0]], ["a", "b"])

    monkeypatch.setattr(operator, "odd", odd, raising=False)
    with pytest.raises(TrainingError, match="classes"):
        fit(champion(LogisticRegression()), RecipeConfig(name="r", trainer="operator:odd"), SETTINGS, rows((0, 1)))


def test_a_recipe_sets_parameters_or_gives_them_to_its_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    given = make_pipeline(StandardScaler(), LogisticRegression())
    recipe = RecipeConfig(name="weak", parameters={"logisticregression__C": 0.01})
    model, _ = fit(champion(given), recipe, SETTINGS, rows((0, 1)))
    assert model["logisticregression"].C == 0.01  # type: ignore[index]
    with pytest.raises(TrainingError, match="parameters do not fit Pipeline"):
        fit(champion(given), RecipeConfig(name="odd", parameters={"depth": 3}), SETTINGS, rows((0, 1)))

    def trainer(features: list[dict[str, float]], targets: np.ndarray, strength: float) -> object:
        return LogisticRegression(C=strength).fit([[row["x1"], row["x2"]] for row in features], targets)

    monkeypatch.setattr("operator.own", trainer, raising=False)
    recipe = RecipeConfig(name="own", trainer="operator:own", parameters={"strength": 0.25})
    model, _ = fit(champion(given), recipe, SETTINGS, rows((0, 1)))
    assert model.C == 0.25  # type: ignore[attr-defined]
