"""Model artifacts: what a model takes and gives, which rows and labels are refused, what loads and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
from builders import small_experiment
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gauntlet.errors import BadInput, InvalidOutput, ModelUnusable
from gauntlet.registry import artifact, model_schema
from gauntlet.registry.artifact import Feature, Predictor, Rows, Schema
from gauntlet.types import Task

X3 = tuple(Feature(name=name) for name in small_experiment.FEATURES)


class Constant:
    """A model that always answers with the same thing; no scikit-learn about it."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def predict_proba(self, rows: Any) -> Any:
        return self.answer

    predict = predict_proba


def larger_x1(rows: Rows) -> list[float]:
    """A function of rows that is a model."""
    return [row["x1"] for row in rows]


def unusable(code: str, *given: Any, **named: Any) -> str:
    call = artifact.load if isinstance(given[0], str) else model_schema.schema_of
    with pytest.raises(ModelUnusable) as caught:
        call(*given, **named)
    assert caught.value.code == code
    return str(caught.value)


class TestSchema:
    def test_of_a_model_fitted_on_a_matrix(self) -> None:
        schema = model_schema.schema_of(small_experiment.classifier(), Task.CLASSIFICATION, X3)
        assert (schema.input, schema.classes) == ("matrix", (0, 1))
        assert [f.name for f in schema.features] == list(small_experiment.FEATURES)
        assert msgspec.json.decode(msgspec.json.encode(schema), type=Schema) == schema

    def test_of_a_model_fitted_on_a_frame_comes_from_the_model(self) -> None:
        frame = pd.DataFrame({"b": [0.0, 1.0, 2.0, 3.0], "a": [1.0, 1.0, 0.0, 0.0]})
        model = LogisticRegression().fit(frame, ["no", "no", "yes", "yes"])
        schema = model_schema.schema_of(model, Task.CLASSIFICATION)
        assert (schema.input, [f.name for f in schema.features], schema.classes) == ("frame", ["b", "a"], ("no", "yes"))
        output = Predictor(model, schema, "v").predict([{"a": 0, "b": 3.0}, {"b": 0, "a": 1}])
        assert output == pytest.approx(model.predict_proba(pd.DataFrame({"b": [3.0, 0], "a": [0.0, 1]})))

    def test_of_texts_is_a_frame(self) -> None:
        frame = pd.DataFrame({"port": ["EWR", "JFK", "EWR", "JFK"], "wind": [1.0, 2.0, np.nan, 4.0]})
        encode = ColumnTransformer([("port", OneHotEncoder(handle_unknown="ignore"), ["port"])])
        model = make_pipeline(encode, LogisticRegression()).fit(frame, [True, False, True, False])
        features = [Feature(name="port", kind="text"), Feature(name="wind", required=False)]
        schema = model_schema.schema_of(model, Task.CLASSIFICATION, features)
        assert (schema.input, schema.classes) == ("frame", (False, True))
        assert {type(c) for c in schema.classes} == {bool}
        assert Predictor(model, schema, "v").predict([{"port": "EWR"}])[0, 1] > 0.5

    def test_of_a_dict_vectorizer_is_rows(self) -> None:
        rows = [{"port": "EWR"}, {"port": "JFK"}] * 10
        model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, [0, 1] * 10)
        schema = model_schema.schema_of(model, Task.CLASSIFICATION, [Feature(name="port", kind="text")])
        assert schema.input == "rows"
        predictor = Predictor(model, schema, "v")
        assert predictor.inputs([{"port": "EWR", "more": 1}]) == [{"port": "EWR"}]
        assert predictor.predict([{"port": "JFK"}])[0, 1] > 0.5

    def test_says_what_is_missing(self) -> None:
        unusable("no_features", small_experiment.classifier(), Task.CLASSIFICATION)
        unusable("no_probabilities", object(), Task.CLASSIFICATION, X3)
        unusable("no_classes", Constant(), Task.CLASSIFICATION, X3)
        unusable("no_predict", object(), Task.REGRESSION, X3)
        model = small_experiment.classifier()
        assert "[0, 1], not [1, 0]" in unusable("other_classes", model, Task.CLASSIFICATION, X3, [1, 0])
        assert "3 features, not 2" in unusable("other_features", model, Task.CLASSIFICATION, X3[:2])

    def test_features_that_the_model_was_not_fitted_with_are_refused_by_name(self) -> None:
        model = LogisticRegression().fit(pd.DataFrame({"radius": [0.0, 1.0], "texture": [1.0, 0.0]}), [0, 1])

        def refused(*names: str) -> str:
            return unusable("other_features", model, Task.CLASSIFICATION, [Feature(name=name) for name in names])

        assert refused("radius", "textur") == (
            "`features` has 'textur', which the model was not fitted with; "
            "the model was fitted with 'texture', which `features` has not; did you mean 'texture'?"
        )
        assert refused("radius") == "the model was fitted with 'texture', which `features` has not"
        assert refused("radius", "texture", "hue") == "`features` has 'hue', which the model was not fitted with"

    def test_features_that_a_dict_vectorizer_does_not_know_are_ignored(self) -> None:
        """A challenger may use fewer features than the champion."""
        model = make_pipeline(DictVectorizer(), LogisticRegression()).fit([{"a": 0.0}, {"a": 1.0}] * 9, [0, 1] * 9)
        names = ["unused", "a"]
        schema = model_schema.schema_of(model, Task.CLASSIFICATION, [Feature(name=name) for name in names])
        assert [feature.name for feature in schema.features] == ["a", "unused"]
        assert Predictor(model, schema, "v").predict([{"unused": 5.0, "a": 1.0}])[0, 1] > 0.5
        told = unusable("other_features", model, Task.CLASSIFICATION, [Feature(name="b")])
        assert "'a', which `features` has not" in told

    @pytest.mark.parametrize("kind", ["auto", "matrix"])
    def test_features_in_another_order_reach_the_model_in_its_own(self, kind: str) -> None:
        frame = pd.DataFrame({"b": [0.0, 1.0, 2.0, 3.0], "a": [1.0, 1.0, 0.0, 0.0]})
        model = LogisticRegression().fit(frame, [0, 0, 1, 1])
        schema = model_schema.schema_of(model, Task.CLASSIFICATION, [Feature(name="a"), Feature(name="b")], kind=kind)
        assert Predictor(model, schema, "v").predict([{"a": 0.0, "b": 3.0}])[0, 1] > 0.8

    def test_a_column_that_the_pipeline_drops_need_not_be_a_feature(self) -> None:
        frame = pd.DataFrame({"id": [1, 2, 3, 4], "wind": [1.0, 2.0, 3.0, 4.0], "rain": [0.0, 1.0, 0.0, 1.0]})
        for step in (
            ColumnTransformer([("keep", "passthrough", ["wind", "rain"])]),
            ColumnTransformer([("id", "drop", ["id"])], remainder="passthrough"),
        ):
            model = make_pipeline(step, LogisticRegression()).fit(frame, [0, 0, 1, 1])
            features = [Feature(name="wind"), Feature(name="rain")]
            schema = model_schema.schema_of(model, Task.CLASSIFICATION, features)
            assert Predictor(model, schema, "v").predict([{"wind": 1.0, "rain": 0.0}]).shape == (1, 2)
            assert "fitted with 'rain'" in unusable("other_features", model, Task.CLASSIFICATION, features[:1])

    @pytest.mark.parametrize(("task", "other"), [("regression", "classifier"), ("classification", "regressor")])
    def test_a_model_of_the_other_task_is_refused(self, task: str, other: str) -> None:
        model = small_experiment.classifier() if other == "classifier" else small_experiment.regressor()
        for one in (model, make_pipeline(StandardScaler(), model)):
            message = unusable("wrong_task", one, Task(task), X3)
            assert message == f"`task: {task}`, but the model is a {other} ({type(one).__name__})"

    def test_a_callables_classes_come_from_the_caller(self) -> None:
        assert model_schema.schema_of(Constant(), Task.CLASSIFICATION, X3, ["a", "b"]).classes == ("a", "b")


SCHEMA = Schema(
    task=Task.CLASSIFICATION,
    features=(Feature(name="x"), Feature(name="t", kind="text"), Feature(name="o", required=False)),
    classes=("a", "b"),
)


class TestRows:
    @pytest.mark.parametrize(
        "row",
        [
            {"x": 1, "t": "a"},
            {"x": True, "t": "", "o": None},
            {"x": -1.5e308, "t": "ü", "o": 0},
            {"x": 10**308, "t": "a", "z": 1},
        ],
    )
    def test_that_are_taken(self, row: dict[str, Any]) -> None:
        given = dict(row)
        SCHEMA.check_row(row, "here")
        assert row == given, "a check changes nothing"

    @pytest.mark.parametrize(
        ("row", "code", "named"),
        [
            ([], "bad_instance", "here"),
            (None, "bad_instance", "here"),
            ("x", "bad_instance", "here"),
            ({"t": "a"}, "missing_feature", "'x', which is required (`required: false` under `features`"),
            ({"x": None, "t": "a"}, "missing_feature", "'x'"),
            ({"x": 1, "t": "a", "O ": 2.0}, "missing_feature", "no value for feature 'o', but for 'O '"),
            ({"X": 1.0, "t": "a"}, "missing_feature", "no value for feature 'x', but for 'X'"),
            ({"x": "1", "t": "a"}, "wrong_type", "'x' is a number, not str"),
            ({"x": [1], "t": "a"}, "wrong_type", "'x'"),
            ({"x": {}, "t": "a"}, "wrong_type", "'x'"),
            ({"x": 1, "t": 1}, "wrong_type", "'t' is a text, not int"),
            ({"x": 1, "t": True}, "wrong_type", "'t'"),
            ({"x": 1, "t": "a", "o": "no"}, "wrong_type", "'o'"),
            ({"x": float("nan"), "t": "a"}, "not_finite", "'x'"),
            ({"x": float("inf"), "t": "a"}, "not_finite", "'x'"),
            ({"x": -float("inf"), "t": "a"}, "not_finite", "'x'"),
            ({"x": 10**400, "t": "a"}, "not_finite", "'x'"),
            ({"x": -(10**400), "t": "a"}, "not_finite", "'x'"),
            ({"x": 1, "t": "a", "o": float("nan")}, "not_finite", "'o'"),
        ],
    )
    def test_that_are_refused_by_name(self, row: Any, code: str, named: str) -> None:
        with pytest.raises(BadInput) as caught:
            SCHEMA.check_row(row, "here")
        assert caught.value.code == code
        assert str(caught.value).startswith("here")
        assert named in str(caught.value)


class TestLabels:
    @pytest.mark.parametrize(
        ("classes", "value", "index"),
        [
            ((False, True), True, 1),
            ((False, True), 1, 1),
            ((False, True), 0.0, 0),
            ((False, True), "true", None),
            ((0, 1, 2), 2.0, 2),
            ((0, 1, 2), True, 1),
            ((0, 1, 2), "1", None),
            ((0, 1, 2), 1.5, None),
            (("no", "yes"), "yes", 1),
            (("no", "yes"), "Yes", None),
            (("0", "1"), 1, None),
            (("0", "1"), "1", 1),
            ((0, 1), None, None),
            ((0, 1), [1], None),
            ((0, 1), {}, None),
            ((0, 1), float("nan"), None),
            ((0, 1), 10**400, None),
            ((0.5, 1.5), 1.5, 1),
        ],
    )
    def test_of_classes(self, classes: tuple[Any, ...], value: Any, index: int | None) -> None:
        schema = msgspec.structs.replace(SCHEMA, classes=classes)
        assert schema.class_index(value) == index
        if index is not None:
            schema.check_label(value, "here")
            return
        with pytest.raises(BadInput) as caught:
            schema.check_label(value, "here")
        assert caught.value.code == "unknown_class"

    @pytest.mark.parametrize(
        ("classes", "value", "hint"),
        [
            (("bronze", "gold"), "Gold", "; does it mean 'gold'?"),
            (("no", "yes"), "true", "; does it mean 'yes'?"),
            ((0, 1), "1", "; does it mean 1?"),
            (("bronze", "gold"), "silver", ""),
            ((0, 1), 7, ""),
        ],
    )
    def test_a_label_in_another_spelling_is_told_what_it_may_mean(
        self, classes: tuple[Any, ...], value: Any, hint: str
    ) -> None:
        with pytest.raises(BadInput) as caught:
            msgspec.structs.replace(SCHEMA, classes=classes).check_label(value, "here")
        assert str(caught.value) == f"here: {value!r} is none of the classes ({', '.join(map(repr, classes))}){hint}"

    def test_of_numbers(self) -> None:
        schema = Schema(task=Task.REGRESSION, features=X3)
        for value in (0, -1.5, 10**300):
            schema.check_label(value, "here")
        for bad in (True, "1", None, float("nan"), float("inf"), 10**400, -(10**400), [1.0]):
            with pytest.raises(BadInput) as caught:
                schema.check_label(bad, "here")
            assert caught.value.code == "wrong_type"


class Untrusted(LogisticRegression):  # type: ignore[misc]
    """A type of the user's own, which skops has never heard of."""


class TestFiles:
    def test_a_round_trip_through_skops(self, tmp_path: Path) -> None:
        model = small_experiment.classifier()
        path = artifact.save(model, tmp_path / "model")
        assert path == tmp_path / "model.skops"
        again = artifact.load(str(path), checksum=artifact.sha256(path))
        x = np.random.default_rng(1).normal(size=(5, 3))
        assert again.predict_proba(x).tolist() == model.predict_proba(x).tolist()  # type: ignore[attr-defined]

    def test_what_skops_would_not_trust_falls_back_to_joblib(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        model = Untrusted().fit(rng.normal(size=(20, 3)), [0, 1] * 10)
        path = artifact.save(model, tmp_path / "model")
        assert path == tmp_path / "model.joblib"
        assert [p.name for p in tmp_path.iterdir()] == ["model.joblib"]
        assert type(artifact.load(str(path), allow_pickle=True, checksum=artifact.sha256(path))) is Untrusted

    def test_joblib_is_refused_before_it_is_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "model.joblib"
        joblib.dump(small_experiment.classifier(), path)
        assert "allow_pickle: true" in unusable("model_untrusted", str(path))
        assert isinstance(artifact.load(str(path), allow_pickle=True), LogisticRegression)

    def test_untrusted_types_are_named_until_they_are_trusted(self, tmp_path: Path) -> None:
        path = tmp_path / "model.skops"
        skops.io.dump(Untrusted().fit(np.eye(4), [0, 1, 0, 1]), path)
        name = f"{Untrusted.__module__}.Untrusted"
        assert name in unusable("model_untrusted", str(path))
        assert type(artifact.load(str(path), trusted=[name])) is Untrusted

    def test_a_checksum_is_checked_before_anything_loads(self, tmp_path: Path) -> None:
        path = tmp_path / "model.joblib"
        path.write_bytes(b"not even a pickle")
        reason = unusable("model_checksum", str(path), allow_pickle=True, checksum="0" * 64)
        assert str(path) in reason
        assert "0" * 12 in reason

    def test_what_does_not_load_is_named_with_its_cause(self, tmp_path: Path) -> None:
        assert str(tmp_path / "gone.skops") in unusable("model_missing", str(tmp_path / "gone.skops"))
        unusable("model_missing", str(tmp_path))
        broken = [(suffix, "model_broken") for suffix in (".skops", ".joblib", ".pkl")]
        for suffix, code in (*broken, (".bin", "model_format")):
            path = tmp_path / f"bad{suffix}"
            path.write_bytes(b"\x00garbage")
            assert str(path) in unusable(code, str(path), allow_pickle=True)
        path = tmp_path / "cut.skops"
        path.write_bytes(artifact.save(small_experiment.classifier(), tmp_path / "m").read_bytes()[:-100])
        unusable("model_broken", str(path))

    def test_the_checksum_is_sha_256(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"abc")
        assert artifact.sha256(tmp_path / "f").startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c")

    def test_a_function_gives_the_model(self) -> None:
        assert isinstance(artifact.load("builders.small_experiment:classifier"), LogisticRegression)
        assert "ModuleNotFoundError" in unusable("model_broken", "no_such_module:make")
        assert "AttributeError" in unusable("model_broken", "builders.small_experiment:no_such_function")
        assert "given metric, output, truth" in unusable("model_broken", "gauntlet.losses:loss")

    def test_a_function_of_rows_is_the_model(self) -> None:
        model = artifact.load(f"{__name__}:larger_x1")
        two = model_schema.schema_of(model, Task.CLASSIFICATION, X3, ["no", "yes"])
        rows = [{"x1": 0.25, "x2": 1.0, "x3": None, "more": 1}, {"x1": 1.0, "x2": 0.0, "x3": 0.0}]
        assert two.input == "rows"
        assert Predictor(model, two, "v").predict(rows).tolist() == [[0.75, 0.25], [0.0, 1.0]]
        number = model_schema.schema_of(model, Task.REGRESSION, X3)
        assert Predictor(model, number, "v").predict(rows).tolist() == [0.25, 1.0]
        unusable("no_features", model, Task.REGRESSION)
        unusable("no_classes", model, Task.CLASSIFICATION, X3)


class TestPredictor:
    def predictor(self, answer: Any, task: Task = Task.CLASSIFICATION, classes: tuple[Any, ...] = (0, 1)) -> Predictor:
        schema = Schema(task=task, features=X3, classes=classes if task is Task.CLASSIFICATION else ())
        return Predictor(Constant(answer), schema, "v7")

    def test_a_matrix_has_the_features_in_order_and_nan_for_none(self) -> None:
        built = self.predictor(None).inputs([{"x3": 3, "x1": True, "x2": None, "more": "?"}, {"x1": 0, "x3": 10**30}])
        assert np.array_equal(built, [[1, np.nan, 3], [0, np.nan, 1e30]], equal_nan=True)
        assert built.dtype == np.float64

    def test_a_bare_probability_is_the_second_class(self) -> None:
        assert self.predictor([0.25, 1.0]).predict([{}, {}]).tolist() == [[0.75, 0.25], [0.0, 1.0]]

    def test_a_column_is_a_regression(self) -> None:
        assert self.predictor([[1], [2]], Task.REGRESSION).predict([{}, {}]).tolist() == [1.0, 2.0]

    @pytest.mark.parametrize(
        ("task", "answer"),
        [
            (Task.CLASSIFICATION, [[0.5, 0.5]]),
            (Task.CLASSIFICATION, [[1.0], [1.0]]),
            (Task.CLASSIFICATION, [[0.1, 0.2, 0.7]] * 2),
            (Task.CLASSIFICATION, 0.5),
            (Task.CLASSIFICATION, None),
            (Task.CLASSIFICATION, [["a", "b"]] * 2),
            (Task.CLASSIFICATION, [[0.5, 0.5], [1.0]]),
            (Task.REGRESSION, [1.0]),
            (Task.REGRESSION, [[1.0, 2.0]] * 2),
            (Task.REGRESSION, "no"),
            (Task.REGRESSION, {"a": 1}),
        ],
    )
    def test_another_shape_is_no_answer(self, task: Task, answer: Any) -> None:
        with pytest.raises(InvalidOutput, match="v7"):
            self.predictor(answer, task).predict([{}, {}])

    def test_which_rows_are_valid(self) -> None:
        nan, inf = float("nan"), float("inf")
        rows = [[0.3, 0.7], [nan, 0.5], [inf, 0.0], [-0.1, 1.1], [0.6, 0.6], [0.3, 0.3], [1.0, 0.0], [0.5, 0.5 + 1e-8]]
        predictor = self.predictor(rows)
        output = predictor.predict([{}] * len(rows))
        assert predictor.valid(output).tolist() == [True, False, False, False, False, False, True, True]
        three = self.predictor([[-0.2, 0.6, 0.6], [0.2, 0.4, 0.4]], classes=("a", "b", "c"))
        assert three.valid(three.predict([{}, {}])).tolist() == [False, True]
        values = self.predictor([1.0, nan, -inf, 1e300], Task.REGRESSION)
        assert values.valid(values.predict([{}] * 4)).tolist() == [True, False, False, True]
