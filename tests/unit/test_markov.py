"""The regime model: its transition matrix, its spectral gap, and its whole way through registry and retraining."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from gauntlet import adapters
from gauntlet.config.load import parse
from gauntlet.config.retrain import RecipeConfig
from gauntlet.markov import MarkovRegimes
from gauntlet.registry import artifact, model_schema
from gauntlet.types import Task
from retrainer.jobs import training
from retrainer.jobs.dataset import JobRows

TRUE = np.array([[0.90, 0.08, 0.02], [0.10, 0.80, 0.10], [0.05, 0.15, 0.80]])
NAMES = np.array(["bear", "bull", "flat"])


def chain(steps: int, seed: int = 1) -> np.ndarray:
    rng, at = np.random.default_rng(seed), 0
    found = [at]
    for draw in rng.random(steps):
        at = int(np.searchsorted(TRUE[at].cumsum(), draw))
        found.append(min(at, 2))
    return NAMES[found]


def test_it_finds_the_transitions_and_their_spectral_gap() -> None:
    states = chain(40_000)
    model = MarkovRegimes().fit(states[:-1, None], states[1:])
    assert np.abs(model.transition_ - TRUE).max() < 0.02
    assert np.allclose(model.transition_.sum(axis=1), 1)
    second = np.sort(np.abs(np.linalg.eigvals(TRUE)))[-2]
    assert model.spectral_gap == pytest.approx(1 - second, abs=0.02)
    assert training.warnings(model) == [], "0.14: regimes last, and do change"
    assert model.predict([["bear"]]).tolist() == ["bear"]


def test_the_gap_of_chains_that_are_known() -> None:
    """Cycling for ever has no gap, independent draws have all of it; what never changes has none."""
    cycle = np.array([0, 1] * 500)
    assert MarkovRegimes(smoothing=0).fit(cycle[:-1, None], cycle[1:]).spectral_gap == pytest.approx(0)
    draws = np.random.default_rng(2).integers(0, 2, 20_000)
    free = MarkovRegimes().fit(draws[:-1, None], draws[1:])
    assert free.spectral_gap == pytest.approx(1, abs=0.03)
    assert "outside 0.1 to 0.5" in training.warnings(free)[0]
    other = MarkovRegimes().fit(np.array([["a"], ["b"]]), np.array([1, 2]))
    assert other.spectral_gap is None


def test_a_regime_that_was_never_seen_is_answered_by_the_shares_of_all() -> None:
    model = MarkovRegimes(smoothing=0).fit(np.array([[1.0], [1.0], [2.0], [2.0]]), np.array([1, 2, 2, 2]))
    assert model.predict_proba(np.array([[1.0], [2.0], [9.0], [np.nan]])).tolist() == [
        [0.5, 0.5],
        [0.0, 1.0],
        [0.25, 0.75],
        [0.25, 0.75],
    ]
    with pytest.raises(ValueError, match="one feature"):
        model.predict(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="smoothing"):
        MarkovRegimes(smoothing=-1).fit(np.zeros((1, 1)), np.zeros(1))
    assert clone(model).smoothing == 0


def test_it_is_registered_served_and_retrained_like_any_other(tmp_path: Path) -> None:
    states = chain(2_000)
    model = MarkovRegimes().fit(pd.DataFrame({"regime": states[:-1]}), states[1:])
    schema = model_schema.schema_of(
        model, Task.CLASSIFICATION, [artifact.Feature(name="regime", kind="text")], tuple(NAMES.tolist())
    )
    config = parse(
        f"experiment: e\ntask: classification\nchampion: {{model: m.skops}}\ndata: {tmp_path}\n"
        "retrain: {recipes: [{name: smooth, parameters: {smoothing: 5}}]}\n"
    )
    registry = adapters.registry(config)
    version = registry.register(model, schema, created_at=1.0)
    champion = registry.load(version.version)
    assert champion.predict([{"regime": "bear"}])[0].tolist() == model.transition_[0].tolist()
    newer = chain(2_000, seed=9)
    rows = JobRows(
        features=[{"regime": str(state)} for state in newer[:-1]],
        targets=newer[1:].tolist(),
        times=[float(n) for n in range(2_000)],
    )
    (recipe,) = config.retrain.recipes
    assert isinstance(recipe, RecipeConfig)
    retrained, _ = training.fit(champion, recipe, config.retrain, rows)
    assert isinstance(retrained, MarkovRegimes)
    assert retrained.smoothing == 5
    assert np.abs(retrained.transition_ - TRUE).max() < 0.08
