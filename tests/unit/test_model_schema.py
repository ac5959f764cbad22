"""Features and their kinds, read off a fitted model: what `check` accepts can be sent, and is answered alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from builders import small_experiment
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from gauntlet import first_start
from gauntlet.cli import main
from gauntlet.errors import ConfigError, ModelUnusable
from gauntlet.registry import model_schema
from gauntlet.registry.artifact import Feature, Predictor
from gauntlet.registry.model_inputs import Input, inputs
from gauntlet.types import Task

N = 120
RNG = np.random.default_rng(5)
FRAME = pd.DataFrame(
    {
        "age": RNG.normal(40, 9, N),
        "city": RNG.choice(["Rome", "Paris", "Oslo"], N),
        "zip": RNG.choice(["00123", "10115"], N),
        "member": RNG.choice([True, False], N),
        "rooms": RNG.integers(1, 6, N),
        "note": RNG.choice(["a quiet street", "near the park", "loud and bright"], N),
    }
)
Y = ((FRAME["city"] == "Rome") ^ (RNG.random(N) < 0.2)).astype(int).to_numpy()
KINDS = {"age": "number", "city": "text", "zip": "text", "member": "number", "rooms": "number", "note": "text"}
TABULAR = ["age", "city", "zip", "member", "rooms"]
ENCODED = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), ["city", "zip"]), (StandardScaler(), ["age"]), remainder="passthrough"
)
PLAIN = make_pipeline(ENCODED, LogisticRegression())
IMPUTED = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression())

NAMED: dict[str, tuple[Any, list[str]]] = {
    "encoder, scaler and remainder": (PLAIN, TABULAR),
    "columns chosen by type": (
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(), make_column_selector(dtype_exclude=(np.number, bool))),
                (StandardScaler(), make_column_selector(dtype_include=(np.number, bool))),
            ),
            LogisticRegression(),
        ),
        TABULAR,
    ),
    "ordinal and target encoder": (
        make_pipeline(
            make_column_transformer((OrdinalEncoder(), ["city", "rooms"]), (TargetEncoder(), ["zip"])),
            DecisionTreeClassifier(max_depth=3),
        ),
        ["city", "rooms", "zip"],
    ),
    "imputed texts": (IMPUTED, ["city", "zip"]),
    "imputer within a column": (
        make_pipeline(
            make_column_transformer((IMPUTED[:2], ["city"]), (SimpleImputer(), ["age"])), LogisticRegression()
        ),
        ["age", "city"],
    ),
    "words of a column": (
        make_pipeline(
            make_column_transformer((TfidfVectorizer(), "note"), (StandardScaler(), ["age"])), LogisticRegression()
        ),
        ["note", "age"],
    ),
    "a union": (
        make_pipeline(
            make_union(
                ColumnTransformer([("city", OneHotEncoder(), ["city"])]),
                ColumnTransformer([("age", StandardScaler(), ["age"])]),
            ),
            LogisticRegression(),
        ),
        ["age", "city"],
    ),
    "identity first": (make_pipeline(FunctionTransformer(), PLAIN), TABULAR),
    "a function of numbers": (make_pipeline(FunctionTransformer(np.abs), LogisticRegression()), ["age", "rooms"]),
    "calibrated": (CalibratedClassifierCV(PLAIN, cv=2), TABULAR),
    "voting": (VotingClassifier([("a", PLAIN), ("b", PLAIN)], voting="soft"), TABULAR),
    "stacking": (StackingClassifier([("a", PLAIN)], LogisticRegression(), cv=2), TABULAR),
    "grid search": (GridSearchCV(PLAIN, {"logisticregression__C": [0.5, 1.0]}, cv=2), TABULAR),
    "frozen": (FrozenEstimator(PLAIN), TABULAR),
    "bags of columns": (BaggingClassifier(max_features=0.5, n_estimators=3, random_state=0), ["age", "rooms"]),
    "integers as categories": (
        make_pipeline(make_column_transformer((OneHotEncoder(), ["rooms", "member"])), LogisticRegression()),
        ["rooms", "member"],
    ),
}


def fitted(model: Any, frame: pd.DataFrame) -> Any:
    if isinstance(model, FrozenEstimator):
        return FrozenEstimator(model.estimator.fit(frame, Y))
    return model.fit(frame, Y)


def sent(frame: pd.DataFrame, place: int) -> dict[str, Any]:
    """A row of the frame as a client sends it."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in frame.iloc[place].items()}


def asked(champion: first_start.Champion, row: dict[str, Any]) -> list[float]:
    schema = champion.fitted.schema
    schema.check_row(row, "here")
    answer: list[float] = Predictor(champion.model, schema, "v").predict([row])[0].tolist()
    return answer


@pytest.mark.parametrize("name", NAMED)
def test_a_pipeline_fitted_on_a_frame_needs_no_list_of_features(tmp_path: Path, name: str) -> None:
    model, columns = NAMED[name]
    frame = FRAME[columns]
    model = fitted(model, frame)
    champion = first_start.read_champion(small_experiment.load(small_experiment.write(tmp_path, model, features=[])))
    assert {f.name: f.kind for f in champion.fitted.schema.features} == {name: KINDS[name] for name in columns}
    assert champion.fitted.assumed == ()
    for place in (0, 7):
        assert asked(champion, sent(frame, place)) == pytest.approx(model.predict_proba(frame)[place])


def test_categories_of_a_frame_are_texts_to_histogram_boosting(tmp_path: Path) -> None:
    frame = FRAME[["age", "city"]].astype({"city": "category"})
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(frame, Y)
    champion = first_start.read_champion(small_experiment.load(small_experiment.write(tmp_path, model, features=[])))
    assert {f.name: f.kind for f in champion.fitted.schema.features} == {"age": "number", "city": "text"}
    assert asked(champion, sent(FRAME[["age", "city"]], 3)) == pytest.approx(model.predict_proba(frame)[3])


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), CountVectorizer(), HashingVectorizer(n_features=64)])
def test_a_vectorizer_in_front_is_given_the_texts_alone(tmp_path: Path, vectorizer: Any) -> None:
    model = make_pipeline(vectorizer, LogisticRegression()).fit(FRAME["note"], Y)
    champion = first_start.read_champion(
        small_experiment.load(small_experiment.write(tmp_path, model, features=["note"]))
    )
    schema = champion.fitted.schema
    assert (schema.input, schema.features[0].kind) == ("column", "text")
    assert asked(champion, {"note": "near the park"}) == pytest.approx(model.predict_proba(["near the park"])[0])
    config = small_experiment.load(small_experiment.write(tmp_path, model, features=["note", "age"]))
    with pytest.raises(ModelUnusable, match="one column of texts, and `features` has 2"):
        first_start.read_champion(config)
    config = small_experiment.load(small_experiment.write(tmp_path, model, features=[]))
    with pytest.raises(ModelUnusable, match=r"takes one text, .* give it one, such as  features: \[text\]"):
        first_start.read_champion(config)


def test_rows_of_a_dict_vectorizer_are_named_by_it(tmp_path: Path) -> None:
    rows = FRAME[["age", "city"]].to_dict("records")
    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, Y)
    champion = first_start.read_champion(small_experiment.load(small_experiment.write(tmp_path, model, features=[])))
    schema = champion.fitted.schema
    assert (schema.input, {f.name: f.kind for f in schema.features}) == ("rows", {"age": "number", "city": "text"})
    assert asked(champion, rows[4]) == pytest.approx(model.predict_proba(rows)[4])


def test_without_names_the_kinds_go_by_place(tmp_path: Path) -> None:
    matrix = FRAME[["city", "zip"]].to_numpy()
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(matrix, Y)
    path = small_experiment.write(tmp_path, model, features=["town", "code"])
    champion = first_start.read_champion(small_experiment.load(path))
    assert [(f.name, f.kind) for f in champion.fitted.schema.features] == [("town", "text"), ("code", "text")]
    assert asked(champion, {"town": "Oslo", "code": "00123"}) == pytest.approx(
        model.predict_proba(np.array([["Oslo", "00123"]], dtype=object))[0]
    )


def test_a_kind_that_the_model_contradicts_is_refused_by_name(tmp_path: Path) -> None:
    model = make_pipeline(ENCODED, LogisticRegression()).fit(FRAME[TABULAR], Y)
    features = [{"name": name, "kind": "number"} if name == "city" else name for name in TABULAR]
    config = small_experiment.load(small_experiment.write(tmp_path, model, features=features))
    with pytest.raises(ModelUnusable) as caught:
        first_start.read_champion(config)
    assert str(caught.value) == (
        "`features` says that 'city' is a number, and the model was fitted with texts there ('Oslo', …); "
        "write  {name: city, kind: text}"
    )


class Knows:
    """A model of somebody's own: nothing of its inputs can be read off it."""

    def predict_proba(self, rows: Any) -> Any:
        return [[0.5, 0.5] if row["city"] == "Rome" else [0.75, 0.25] for row in rows]


def lengths(rows: Any) -> list[float]:
    return [len(row["city"]) / 10 for row in rows]


def equal(rows: Any) -> list[float]:
    return [float(row["city"] == "Rome") for row in rows]


def test_what_the_model_does_not_tell_the_reference_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FRAME.assign(late=Y).to_csv(tmp_path / "rows.csv", index=False)
    champion = {"model": f"{__name__}:lengths", "reference": "rows.csv", "target": "late"}
    path = small_experiment.write(tmp_path, champion=champion, features=["city", "age"], classes=[0, 1])
    assert main(["check", str(path)]) == 0
    shown = capsys.readouterr().out
    first = FRAME.iloc[0]
    assert "features, each request needs all of them: city (text), age\n" in shown
    assert (
        f'prediction: sent {{"city": "{first.city}", "age": {float(first.age)!r}}} (of the reference), got [' in shown
    )


def test_what_nobody_tells_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(function: str, *features: object) -> tuple[int, str, str]:
        champion = {"model": f"{__name__}:{function}"}
        path = small_experiment.write(tmp_path, champion=champion, features=list(features), classes=[0, 1])
        code = main(["check", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    code, _, err = check("lengths", "city", "age")
    assert code == 2
    assert 'sent {"city": 1.0, "age": 1.0}, got TypeError' in err
    assert "nothing tells whether city, age are numbers: write {name: city, kind: text} under `features`" in err
    code, out, _ = check("equal", "city", "age")
    assert code == 0
    assert "note: features: city, age: taken for numbers, as neither the model nor a reference tells" in out
    code, out, _ = check("equal", {"name": "city", "kind": "text"}, {"name": "age", "kind": "number"})
    assert code == 0
    assert "taken for numbers" not in out


def test_names_that_the_model_lacks_are_proposed_from_the_reference(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FRAME[["age", "rooms"]].to_numpy(), Y)
    FRAME[["rooms", "age"]].assign(late=Y).to_csv(tmp_path / "rows.csv", index=False)
    champion = {"model": "model.skops", "reference": "rows.csv", "target": "late"}
    config = small_experiment.load(small_experiment.write(tmp_path, model, champion=champion, features=[]))
    with pytest.raises(ModelUnusable) as caught:
        first_start.read_champion(config)
    assert str(caught.value) == (
        "the model does not name its features; list them under `features`: it was fitted with 2, and the reference "
        "has rooms, age; if that is their order, write  features: [rooms, age]"
    )
    single = LogisticRegression().fit(FRAME[["age"]].to_numpy(), Y)
    FRAME[["age"]].assign(late=Y).to_csv(tmp_path / "rows.csv", index=False)
    config = small_experiment.load(small_experiment.write(tmp_path, single, champion=champion, features=[]))
    assert [f.name for f in first_start.read_champion(config).fitted.schema.features] == ["age"]


def test_a_model_slower_than_the_deadline_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = small_experiment.write(
        tmp_path,
        champion={"model": f"{__name__}:slow"},
        classes=[0, 1],
        router={"deadline": "30ms", "challenger_timeout": "10ms"},
    )
    with pytest.raises(
        ModelUnusable, match=r"the model needs 0\.\d+ s for two rows, and `router\.deadline` is 0\.03 s"
    ):
        first_start.read_champion(small_experiment.load(path))


def slow(rows: Any) -> list[float]:
    import time

    time.sleep(0.1)
    return [0.5 for _ in rows]


def test_a_trained_model_keeps_the_kinds_of_its_champion() -> None:
    model = make_pipeline(ENCODED, LogisticRegression()).fit(FRAME[TABULAR], Y)
    features = [Feature(name=name, kind=KINDS[name]) for name in TABULAR]
    assert model_schema.schema_of(model, Task.CLASSIFICATION, features).features == tuple(features)


def test_examples_are_values_that_the_model_was_fitted_with() -> None:
    model = make_pipeline(ENCODED, LogisticRegression()).fit(FRAME[TABULAR], Y)
    found = dict(zip(TABULAR, inputs(model, TABULAR), strict=True))
    assert found["city"] == Input("text", "Oslo", frozenset({"Oslo", "Paris", "Rome"}))
    assert found["zip"] == Input("text", "00123", frozenset({"00123", "10115"}))
    assert found["age"].kind == "number"


def test_a_saved_pipeline_tells_as_much_as_the_fitted_one(tmp_path: Path) -> None:
    model = make_pipeline(ENCODED, LogisticRegression()).fit(FRAME[TABULAR], Y)
    skops.io.dump(model, tmp_path / "m.skops")
    assert inputs(skops.io.load(tmp_path / "m.skops"), TABULAR) == inputs(model, TABULAR)


@pytest.mark.parametrize(
    ("labels", "written", "hint"),
    [
        (["no", "yes"], [False, True], "; YAML reads yes, no, on and off as true and false: write them in quotes"),
        (["0", "1"], [0, 1], "; write them in quotes"),
        ([0, 1], ["0", "1"], "; write them without quotes"),
        ([0, 1], [1, 0], ""),
        (["a", "b"], ["a", "c"], ""),
    ],
)
def test_classes_that_differ_by_quotes_alone_say_so(labels: list[Any], written: list[Any], hint: str) -> None:
    model = LogisticRegression().fit(FRAME[["age"]].to_numpy(), np.array(labels)[Y])
    with pytest.raises(ModelUnusable) as caught:
        model_schema.schema_of(model, Task.CLASSIFICATION, [Feature(name="age")], written)
    assert str(caught.value) == f"the model's classes are {labels}, not {written}{hint}"


def no_ones(rows: Any) -> list[float]:
    """A model that can't take one value."""
    if any(row["x1"] == 1 for row in rows):
        raise ValueError("no ones")
    return [0.5 for _ in rows]


def test_a_single_value_that_a_model_cannot_take_does_not_refuse_it(tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path, champion={"model": f"{__name__}:no_ones"}, classes=[0, 1])
    assert first_start.read_champion(small_experiment.load(path)).trial.row["x1"] == 0.5


@pytest.mark.parametrize("written", [("No", "Yes"), (" no", "yes "), ("false", "true"), ("0", "1")])
def test_a_target_that_spells_the_classes_otherwise_is_told_so(tmp_path: Path, written: tuple[str, str]) -> None:
    model = LogisticRegression().fit(FRAME[["age"]], np.array(["no", "yes"])[Y])
    FRAME[["age"]].assign(late=np.array(written)[Y]).to_csv(tmp_path / "rows.csv", index=False)
    champion = {"model": "model.skops", "reference": "rows.csv", "target": "late"}
    config = small_experiment.load(small_experiment.write(tmp_path, model, champion=champion, features=[]))
    with pytest.raises(ConfigError, match=r"none of the classes \('no', 'yes'\); does it mean '(no|yes)'\?"):
        first_start.read_champion(config)
