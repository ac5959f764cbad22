"""Models that load from skops without a list of trusted types, and crafted files that don't."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import skops.io
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, TweedieRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from gauntlet.errors import ModelUnusable
from gauntlet.registry import artifact

RNG = np.random.default_rng(7)
X = np.column_stack([RNG.normal(size=(200, 3)), RNG.integers(0, 3, size=200)])
CLASS = (X[:, 0] + (X[:, 3] == 1) + RNG.normal(size=200) > 0).astype(int)
VALUE = np.abs(X[:, 0]) + X[:, 3]

FOREST = RandomForestClassifier(5, random_state=0)
MIXED = ColumnTransformer([("number", StandardScaler(), [0, 1, 2]), ("kind", OneHotEncoder(), [3])])

MODELS = [
    HistGradientBoostingClassifier(max_iter=5, categorical_features=[3]),
    HistGradientBoostingRegressor(max_iter=5),
    GradientBoostingClassifier(n_estimators=5),
    GradientBoostingRegressor(n_estimators=5),
    FOREST,
    RandomForestRegressor(5),
    make_pipeline(MIXED, HistGradientBoostingClassifier(max_iter=5)),
    make_pipeline(SelectKBest(k=2), LogisticRegression()),
    make_pipeline(FunctionTransformer(np.exp), SplineTransformer(), LogisticRegression()),
    make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
    CalibratedClassifierCV(FOREST, method="isotonic"),
    StackingClassifier([("a", FOREST), ("b", LogisticRegression())], DecisionTreeClassifier()),
    GridSearchCV(FOREST, {"max_depth": [2, 3]}, cv=2),
    KNeighborsClassifier(),
    KNeighborsClassifier(p=3, metric_params={"w": np.ones(4)}),
    MLPClassifier(hidden_layer_sizes=(3,), max_iter=2, random_state=0),
    TweedieRegressor(power=1.5),
    GaussianProcessRegressor(),
]


def write(model: object, path: Path) -> str:
    skops.io.dump(model, path)
    return str(path)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(type(model[-1] if hasattr(model, "steps") else model)))
def test_a_model_of_scikit_learn_loads_without_a_list_and_answers_alike(model: Any, tmp_path: Path) -> None:
    target = VALUE if hasattr(model, "score") and "regressor" in str(type(model)).lower() else CLASS
    fitted = clone(model).fit(X, target)
    loaded = artifact.load(write(fitted, tmp_path / "m.skops"))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))  # type: ignore[attr-defined]


def test_columns_that_are_selected_by_type_load_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": X[:, 0], "kind": np.where(X[:, 3] > 0, "a", "b")})
    select = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include=np.number)),
        (OneHotEncoder(), make_column_selector(dtype_exclude=np.number)),
        remainder="passthrough",
    )
    fitted = make_pipeline(select, LogisticRegression()).fit(frame, CLASS)
    loaded = artifact.load(write(fitted, tmp_path / "m.skops"))
    np.testing.assert_array_equal(loaded.predict(frame), fitted.predict(frame))  # type: ignore[attr-defined]


def test_what_was_trusted_is_logged_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gauntlet")
    path = write(clone(FOREST).fit(X, CLASS), tmp_path / "m.skops")
    artifact.load(path)
    (line,) = caplog.messages
    assert line.startswith(f"event=model_types_trusted model={path} types=sklearn.tree._tree.Tree ")
    assert 'reason="part of a fitted scikit-learn estimator"' in line


def test_a_retrained_forest_is_kept_as_skops(tmp_path: Path) -> None:
    kept = artifact.save(clone(FOREST).fit(X, CLASS), tmp_path / "model")
    assert kept.suffix == ".skops"
    artifact.load(str(kept))


def crafted(path: Path, func: dict[str, Any]) -> str:
    """A skops file of a transformer that calls `func` with the rows: what a person with bad intentions would send."""
    data = io.BytesIO(skops.io.dumps(FunctionTransformer(np.exp)))
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(path, "w") as new:
        schema = json.loads(old.read("schema.json"))
        schema["content"]["content"]["func"] = func
        for name in old.namelist():
            new.writestr(name, json.dumps(schema) if name == "schema.json" else old.read(name))
    return str(path)


def node(loader: str, name: str, **more: Any) -> dict[str, Any]:
    module, _, attribute = name.rpartition(".")
    return {"__class__": attribute, "__module__": module, "__loader__": loader, **more}


def text(value: object) -> dict[str, Any]:
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def memmap(path: Path) -> dict[str, Any]:
    """A class of numpy that truncates the file it is called with."""
    arguments = [text(str(path)), text("uint8"), text("w+"), text(0), text(8)]
    return node(
        "ConstructorFromReduceNode", "numpy.memmap", content=node("TupleNode", "builtins.tuple", content=arguments)
    )


def method(_: Path) -> dict[str, Any]:
    """A method of an estimator that is trusted itself."""
    name = "sklearn.preprocessing._function_transformer.FunctionTransformer"
    return node("MethodNode", name, content={"func": "fit", "obj": node("ObjectNode", name)})


ATTACKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "numpy.memmap": memmap,
    "sklearn.preprocessing._function_transformer.FunctionTransformer.fit": method,
} | {
    name: (lambda _, loader=loader, name=name: node(loader, name))  # type: ignore[misc]
    for loader, name in (
        ("FunctionNode", "posix.system"),
        ("TypeNode", "builtins.eval"),
        ("TypeNode", "subprocess.Popen"),
        # Of packages whose estimators are trusted.
        ("FunctionNode", "sklearn.utils._testing.check_output"),
        ("FunctionNode", "sklearn.datasets._base.load_files"),
        ("TypeNode", "sklearn.utils._mocking.CheckingClassifier"),
        ("FunctionNode", "numpy.lib._npyio_impl.fromregex"),
        ("TypeNode", "numpy.f2py.__main__"),
        ("FunctionNode", "scipy.io.matlab._mio.loadmat"),
        ("TypeNode", "xgboost.tracker.RabitTracker"),
    )
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_crafted_file_is_refused_with_the_line_to_add(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = crafted(tmp_path / "m.skops", ATTACKS[name](victim))
    with pytest.raises(ModelUnusable) as caught:
        artifact.load(path, trusted=["my.Own"])
    assert caught.value.code == "model_untrusted"
    assert str(caught.value).endswith(f"write under `champion:` in the configuration:  trusted: [my.Own, {name}]")
    assert victim.read_bytes() == b"precious"


def test_a_name_in_a_file_is_not_imported(tmp_path: Path) -> None:
    path = crafted(tmp_path / "m.skops", node("TypeNode", "numpy.f2py.__main__.Type"))
    with pytest.raises(ModelUnusable):
        artifact.load(path)
    assert "numpy.f2py.__main__" not in sys.modules


def test_a_distribution_of_scipy_that_would_execute_its_state_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    distribution = type(scipy.stats.norm)(name="norm")
    state = distribution.__getstate__()
    state["_parse_arg_template"] = f"open({str(marker)!r}, 'w').close()"
    with contextlib.suppress(Exception):
        distribution.__setstate__(state)
    assert marker.exists(), "scipy no longer executes the state: the comment in trusted_types can go"
    marker.unlink()
    path = write({"distribution": distribution}, tmp_path / "m.skops")
    with pytest.raises(ModelUnusable, match=r"trusted: \[.*scipy\.stats\._continuous_distns\.norm_gen.*\]"):
        artifact.load(path)
    assert not marker.exists()


def damage_tree(tree: Any, field: str, value: int) -> Any:
    state = tree.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][0] = value
    damaged = type(tree)(tree.n_features, tree.n_classes, tree.n_outputs)
    damaged.__setstate__(state)
    return damaged


@pytest.mark.parametrize(
    ("field", "value"), [("left_child", 10**6), ("right_child", 0), ("feature", 4), ("feature", -9)]
)
def test_a_tree_that_would_read_outside_its_arrays_is_refused(field: str, value: int, tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(X, CLASS)
    model.tree_ = damage_tree(model.tree_, field, value)
    refused(model, tmp_path)
    forest = clone(FOREST).fit(X, CLASS)
    forest.estimators_[2].tree_ = damage_tree(forest.estimators_[2].tree_, field, value)
    refused(forest, tmp_path)


def test_a_forest_bounds_the_features_of_its_trees_whatever_they_say_themselves(tmp_path: Path) -> None:
    forest = clone(FOREST).fit(X, CLASS)
    forest.estimators_[0] = DecisionTreeClassifier().fit(np.hstack([np.zeros_like(X), X]), CLASS)
    refused(forest, tmp_path)


def test_boosting_with_damaged_trees_is_refused(tmp_path: Path) -> None:
    for field, value in (("left", 10**6), ("feature_idx", 4), ("bitset_idx", 99), ("is_categorical", 1)):
        model = HistGradientBoostingClassifier(max_iter=2, categorical_features=[3]).fit(X, CLASS)
        nodes = model._predictors[0][0].nodes
        place = np.flatnonzero(nodes["is_categorical"])[0] if field == "bitset_idx" else 0
        assert field != "is_categorical" or nodes["feature_idx"][0] != 3
        nodes[field][place] = value
        refused(model, tmp_path)
    staged = GradientBoostingClassifier(n_estimators=3).fit(X, CLASS)
    staged.estimators_ = np.hstack([staged.estimators_] * 3)
    refused(staged, tmp_path)


def test_neighbours_with_indices_outside_are_refused(tmp_path: Path) -> None:
    model = KNeighborsClassifier(algorithm="kd_tree").fit(X, CLASS)
    state = list(model._tree.__getstate__())
    state[1] = state[1] + 500
    model._tree.__setstate__(tuple(state))
    refused(model, tmp_path)
    weighted = KNeighborsClassifier(p=3, metric_params={"w": np.ones(4)}).fit(X, CLASS)
    metric = next(part for part in weighted._tree.__getstate__() if hasattr(part, "pairwise"))
    metric.__setstate__((3.0, np.ones(2), np.zeros((1, 1))))
    refused(weighted, tmp_path)


def test_a_tree_without_an_estimator_is_refused(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, CLASS)
    model.extra = DecisionTreeClassifier().fit(X, CLASS).tree_
    refused(model, tmp_path)


def refused(model: object, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="damaged or crafted") as caught:
        artifact.load(write(model, tmp_path / "m.skops"))
    assert caught.value.code == "model_broken"


def test_whoever_lists_a_type_answers_for_its_content(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, CLASS)
    model.extra = DecisionTreeClassifier().fit(X, CLASS).tree_
    loaded: Any = artifact.load(write(model, tmp_path / "m.skops"), trusted=["sklearn.tree._tree.Tree"])
    assert (loaded.predict(X) == model.predict(X)).all()
    assert loaded.extra.node_count == model.extra.node_count


def test_a_sparse_array_with_indices_outside_is_refused(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, CLASS).sparsify()
    model.coef_.indices[0] = 99
    with pytest.raises(ModelUnusable, match="indices must be") as caught:
        artifact.load(write(model, tmp_path / "m.skops"))
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize("listed", [[], ["sklearn.pipeline.Pipeline"]])
def test_a_pipeline_with_a_cache_is_refused_because_a_refit_would_load_its_pickles(
    listed: list[str], tmp_path: Path
) -> None:
    inner = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())]).fit(X, CLASS)
    inner.memory = str(tmp_path / "cache")
    model = Pipeline([("all", inner)])
    path = write(model, tmp_path / "m.skops")
    with pytest.raises(ModelUnusable, match=rf"{path}.*Pipeline has memory='{inner.memory}'.*memory=None") as caught:
        artifact.load(path, trusted=listed)
    assert caught.value.code == "model_untrusted"
    inner.memory = None
    assert isinstance(artifact.load(write(model, tmp_path / "n.skops"), trusted=listed), Pipeline)
