"""Any model of scikit-learn, and any Python callable: it is taken as it is, or the refusal says in one line what to do.

Every estimator of the installed scikit-learn is fitted on a few rows, saved with skops and checked as a user would.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import small_experiment
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from gauntlet.cli import main

RNG = np.random.default_rng(0)
X = np.abs(RNG.normal(size=(80, 3)))
CLASS = (X[:, 0] > X[:, 1]).astype(int)
VALUE = X[:, 0] + 1
FEATURES = list(small_experiment.FEATURES)

SEVERAL_TARGETS = {
    *("ClassifierChain", "MultiOutputClassifier", "MultiOutputRegressor", "RegressorChain", "CCA", "PLSCanonical"),
    *("MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV"),
}
NO_PROBABILITIES = {
    *("LinearSVC", "NuSVC", "OneVsOneClassifier", "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier"),
    *("RidgeClassifierCV", "SGDClassifier", "SVC"),
}
"""They know distances only; calibrated they are taken."""
ESTIMATORS = [(task, name, cls) for task in ("classifier", "regressor") for name, cls in all_estimators(task)]


def checked(capsys: pytest.CaptureFixture[str], folder: Path, model: Any, **settings: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `gauntlet check`."""
    path = small_experiment.write(folder, model, **settings)
    code = main(["check", str(path)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("task", "name", "cls"), ESTIMATORS, ids=[name for _, name, _ in ESTIMATORS])
def test_every_estimator_of_scikit_learn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, task: str, name: str, cls: Any
) -> None:
    classifier = task == "classifier"
    y = CLASS if classifier else VALUE
    if name in SEVERAL_TARGETS:
        y = np.column_stack([y, 1 - y])
    x, features = (X[:, :1], FEATURES[:1]) if name == "IsotonicRegression" else (X, FEATURES)
    base = LogisticRegression() if classifier else Ridge()
    model = fitted(cls, base, x, y)
    settings = {"task": "classification" if classifier else "regression", "features": features}
    code, out, err = checked(capsys, tmp_path, model, **settings)
    if name in SEVERAL_TARGETS:
        assert (code, "save one model a target" in err) == (2, True), err
    elif name in NO_PROBABILITIES:
        assert (code, f"CalibratedClassifierCV({name}(…)).fit(X, y)" in err) == (2, True), err
        code, out, err = checked(capsys, tmp_path, CalibratedClassifierCV(model).fit(x, y), **settings)
        assert (code, err) == (0, "")
    elif name == "VotingClassifier":
        assert (code, "VotingClassifier(…, voting='soft')" in err) == (2, True), err
        code, out, err = checked(capsys, tmp_path, model.set_params(voting="soft").fit(x, y), **settings)
        assert (code, err) == (0, "")
    elif name == "OutputCodeClassifier":
        assert (code, "has none: save a model that gives probabilities" in err) == (2, True), err
    else:
        assert (code, err) == (0, "")
        assert "prediction: sent" in out


def fitted(cls: Any, base: Any, x: Any, y: Any) -> Any:
    """The estimator with as few arguments as it asks for."""
    for arguments in ({}, {"estimator": base}, {"estimators": [("a", base), ("b", base)]}, {"n_components": 1}):
        try:
            return cls(**arguments).fit(x, y)
        except (TypeError, ValueError) as error:
            reason = error
    raise reason


def test_the_list_of_estimators_is_scikit_learns() -> None:
    assert len(ESTIMATORS) > 90
    assert {name for _, name, _ in ESTIMATORS} >= SEVERAL_TARGETS | NO_PROBABILITIES


def share(rows: Any) -> list[float]:
    return [0.25 for _ in rows]


def share_above(limit: float, rows: Any) -> list[float]:
    return [float(row["x1"] > limit) for row in rows]


def with_a_default(rows: Any, limit: float = 0.5) -> list[float]:
    return share_above(limit, rows)


def factory() -> Any:
    return LogisticRegression().fit(X, CLASS)


def factory_of_a_function() -> Any:
    return share


class Half:
    """A class without arguments, which is called to make the model."""

    def predict_proba(self, rows: Any) -> Any:
        return np.full((len(rows), 2), 0.5)


class Callable:
    def __call__(self, rows: Any) -> list[float]:
        return share(rows)


class Methods:
    @staticmethod
    def score(rows: Any) -> list[float]:
        return share(rows)


class PredictsOnly:
    def predict(self, rows: Any) -> list[float]:
        return share(rows)


class Wants:
    def __init__(self, path: str) -> None:
        self.path = path


class AsyncMethod:
    async def predict_proba(self, rows: Any) -> list[float]:
        return share(rows)


async def asynchronous(rows: Any) -> list[float]:
    return share(rows)


def one_answer(rows: Any) -> float:
    return 0.5


def labels(rows: Any) -> list[str]:
    return ["yes" for _ in rows]


def dictionaries(rows: Any) -> list[dict[str, float]]:
    return [{"yes": 1.0} for _ in rows]


def percent(rows: Any) -> list[float]:
    return [25.0 for _ in rows]


def generator(rows: Any) -> Any:
    yield from share(rows)


def leaves(rows: Any) -> None:
    sys.exit(3)


def leaves_when_made() -> None:
    sys.exit(3)


def nothing(rows: Any) -> None:
    share(rows)


def makes_nothing() -> None:
    return None


def of_one_row(row: Any) -> float:
    return float(row["x1"])


def of_two(rows: Any, limit: float) -> list[float]:
    return share_above(limit, rows)


def keyword_only(rows: Any, *, limit: float) -> list[float]:
    return share_above(limit, rows)


an_object = Half()
a_partial = functools.partial(share_above, 0.5)
a_lambda = lambda rows: share(rows)  # noqa: E731
a_number = 7

TAKEN = [
    *("share", "with_a_default", "factory", "factory_of_a_function", "Half", "an_object", "a_partial", "a_lambda"),
    *("Callable", "Methods.score"),
]
REFUSED = {
    "asynchronous": "it is async, and a model runs in a thread of its own: write `def` instead of `async def`",
    "AsyncMethod": "it is async",
    "PredictsOnly": "a classification model needs predict_proba, and PredictsOnly has none",
    "Wants": "it must be given path",
    "of_two": "it must be given rows, limit, and it is called with the rows alone",
    "keyword_only": "it must be given rows, limit=",
    "of_one_row": "the function is called with a list of such rows, and returns one answer for each",
    "one_answer": "answered in shape (), not (1, 2); the function is called with a list",
    "labels": "answered with no numbers",
    "dictionaries": "answered with no numbers",
    "percent": "which is not probabilities",
    "generator": "answered with no numbers",
    "nothing": "the function is called with a list of such rows",
    "leaves": "RuntimeError: the model raised SystemExit: 3",
    "leaves_when_made": "SystemExit: 3",
    "makes_nothing": "it returned NoneType, which has no predict or predict_proba",
    "a_number": "int has no predict or predict_proba; name a function(rows)",
    "absent": "AttributeError",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_callable_that_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    champion = {"model": f"{__name__}:{name}"}
    classes = [0, 1] if name == "factory" else ["no", "yes"]
    code, out, err = checked(capsys, tmp_path, None, champion=champion, classes=classes)
    assert (code, err) == (0, "")
    assert "3 features, ok" in out


@pytest.mark.parametrize("name", REFUSED)
def test_a_callable_that_is_refused_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    champion = {"model": f"{__name__}:{name}"}
    code, _, err = checked(capsys, tmp_path, None, champion=champion, classes=["no", "yes"])
    assert code == 2
    assert err.count("\n") == 1
    assert REFUSED[name] in err
    assert "TypeError: " not in err or name == "of_one_row"


@pytest.mark.parametrize("listed", [[], ["x1", "x2", "x3"]], ids=["no features", "features listed"])
def test_a_model_that_was_never_fitted_is_told_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, listed: list[str]
) -> None:
    for model in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        code, _, err = checked(capsys, tmp_path, model, features=listed)
        assert (code, err) == (2, f"gauntlet: this {type(model).__name__} is not fitted: save it after  fit(X, y)\n")
