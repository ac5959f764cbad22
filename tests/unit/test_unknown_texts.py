"""Texts that a model was not fitted with: told by `compare` of the held-out rows, and by `check` of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gauntlet
from gauntlet.cli import command as cli
from gauntlet.registry.unknown_texts import known_texts, unknown_texts

CITIES = ["Bern", "Oslo", "Rome"]
KNOWN = {"city": frozenset(CITIES)}


def rows(n: int, seed: int) -> pd.DataFrame:
    """Whether it is late depends on the city and on x."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"x": rng.normal(size=n), "city": rng.choice(CITIES, n)})
    score = table.x + 3.0 * (table.city == "Rome") - 1.0 + rng.logistic(size=n)
    return table.assign(late=(score > 0).astype(int))


def encoded(table: pd.DataFrame, strength: float = 1.0) -> Pipeline:
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((StandardScaler(), ["x"]), (texts, ["city"]))
    return make_pipeline(columns, LogisticRegression(C=strength)).fit(table[["x", "city"]], table.late)


def test_what_encoders_were_fitted_with_is_known() -> None:
    table = rows(300, 1)
    assert known_texts(encoded(table), ["x", "city"]) == KNOWN
    trees = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=2)
    typed = table[["x", "city"]].astype({"city": "category"})
    assert known_texts(trees.fit(typed, table.late), ["x", "city"]) == KNOWN
    assert known_texts(StandardScaler().fit(table[["x"]]), ["x"]) == {}


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"Rome": 990, "rome": 10}, "10 of 1,000 values of city are spelt otherwise than the model knows them"),
        ({"Rome": 9995, "rome": 5}, None),  # a typing error
        ({"Rome": 10, "Paris": 30}, "30 of 40 values of city are none that the model was fitted with"),
        ({"Rome": 30, "Paris": 10}, None),  # a few are to be expected
        ({}, None),
    ],
)
def test_more_than_a_few_unknown_texts_are_told(counts: dict[str, int], said: str | None) -> None:
    found = list(unknown_texts("the model", KNOWN, {"city": counts}))
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_a_comparison_says_that_both_models_do_not_know_the_cities(tmp_path: Path) -> None:
    """Half of what they have learned is lost on such rows, and the better one may be the other."""
    champion, challenger = encoded(rows(300, 2), 0.001), encoded(rows(2000, 3))
    held_out = rows(1000, 4)
    told = [
        note
        for table in (held_out, held_out.assign(city=held_out.city.str.upper()))
        for note in gauntlet.compare(champion, challenger, table, target="late").notes
        if "values of city" in note
    ]
    (note,) = told
    assert note.startswith("1,000 of 1,000 values of city are spelt otherwise than either model knows them")
    assert "'ROME' for 'Rome'" in note
    shouting = encoded(rows(2000, 3).assign(city=lambda t: t.city.str.upper()))
    (note,) = [n for n in gauntlet.compare(champion, shouting, held_out, target="late").notes if "of city" in n]
    assert "than the challenger knows them" in note


def test_check_says_so_of_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(400, 5)
    skops.io.dump(encoded(table), tmp_path / "model.skops")
    table.assign(city=table.city.str.lower()).to_csv(tmp_path / "rows.csv", index=False)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"experiment: cities\ntask: classification\ndata: {tmp_path}/data\n"
        f"champion: {{model: {tmp_path}/model.skops, reference: {tmp_path}/rows.csv, target: late}}\n"
    )
    assert cli.main(["check", str(config)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "values of city" in line]
    assert told == [
        "note: champion.reference: 400 of 400 values of city are spelt otherwise than the model knows them, and are to "
        f"it as good as missing: {said(table)}"
    ]


def said(table: pd.DataFrame) -> str:
    """The spellings, the most frequent first."""
    counts = table.city.value_counts()
    names = sorted(counts.index, key=lambda city: (-counts[city], city.lower()))
    return ", ".join(f"{city.lower()!r} for {city!r}" for city in names)
