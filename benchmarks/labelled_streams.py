"""Labelled streams whose concept changes, at once or gradually, and a model that was trained before.

SEA (Street and Kim 2001), sine, mixed (Gama et al. 2004), STAGGER (Schlimmer and Granger 1986), a hyperplane and a
regression, drawn by numpy and seeded. A stream is the model's losses: on a held-out reference, then live. In a
transition each row is of the new concept with a probability that rises from 0 to 1 (Bifet et al. 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from evaluator.stats.score_process import Floats

Shape = Literal["sigmoid", "linear"]
TRAINING = 5000
REFERENCE = 5000


def _tree() -> Any:
    return DecisionTreeClassifier(max_depth=8, min_samples_leaf=5, random_state=0)


@dataclass(frozen=True)
class Family:
    """How rows are drawn, what each of the `concepts` calls them, and the share of labels that are wrong, or for a
    regression the standard deviation of its noise. `learns`: the model learns on, from each row it has answered."""

    draw: Callable[[np.random.Generator, int], Floats]
    label: Callable[[Floats, int], Any]
    concepts: int
    noise: float
    model: Callable[[], Any] = _tree
    regression: bool = False
    learns: bool = False


@dataclass(frozen=True)
class Losses:
    """Losses of the model, misses or absolute errors: `reference` held out, `live` in order. The concept is the old one
    before row `start` of live, and the new one from row `end` on."""

    reference: Floats
    live: Floats
    start: int
    end: int


def _sea(x: Floats, concept: int) -> Any:
    return x[:, 0] + x[:, 1] <= (8.0, 9.0, 7.0, 9.5)[concept]


def _sine(x: Floats, concept: int) -> Any:
    below = x[:, 1] < np.sin(x[:, 0]) if concept < 2 else x[:, 1] < 0.5 + 0.3 * np.sin(3.0 * np.pi * x[:, 0])
    return below == (concept % 2 == 0)


def _mixed(x: Floats, concept: int) -> Any:
    votes = (x[:, 0] > 0.5) * 1 + (x[:, 1] > 0.5) + (x[:, 3] < 0.5 + 0.3 * np.sin(3.0 * np.pi * x[:, 2]))
    return (votes >= 2) == (concept == 0)


def _stagger(x: Floats, concept: int) -> Any:
    size, colour, shape = np.floor(3 * x).T
    if concept == 0:
        return (size == 0) & (colour == 0)
    return (colour == 1) | (shape == 1) if concept == 1 else size > 0


_ANGLES = np.radians([0.0, 15.0, 40.0, 80.0])


def _plane(x: Floats, concept: int) -> Any:
    return x[:, 0] * np.cos(_ANGLES[concept]) + x[:, 1] * np.sin(_ANGLES[concept]) + 0.5 * x[:, 2]


def _normal(rng: np.random.Generator, n: int) -> Floats:
    return rng.normal(size=(n, 4))


def _above(x: Floats, concept: int) -> Any:
    return _plane(x, concept) > 0.0


FAMILIES = {
    "SEA": Family(lambda rng, n: rng.uniform(0, 10, (n, 3)), _sea, 4, 0.10),
    "sine": Family(lambda rng, n: rng.uniform(0, 1, (n, 2)), _sine, 4, 0.0),
    "mixed": Family(lambda rng, n: rng.uniform(0, 1, (n, 4)), _mixed, 2, 0.0),
    "STAGGER": Family(lambda rng, n: rng.uniform(0, 1, (n, 3)), _stagger, 3, 0.0),
    "plane": Family(_normal, _above, 4, 0.05, LogisticRegression),
    "learning": Family(_normal, _above, 4, 0.05, LogisticRegression, learns=True),
    "regression": Family(_normal, _plane, 4, 0.5, LinearRegression, regression=True),
}


def losses(
    family: Family, rng: np.random.Generator, before: int, after: int, width: int = 0, shape: Shape = "linear"
) -> Losses:
    """One stream: `before` rows as in training, a transition of `width` rows and `after` rows of another concept, both
    concepts drawn at random."""
    old = int(rng.integers(family.concepts))
    new = int((old + 1 + rng.integers(family.concepts - 1)) % family.concepts) if family.concepts > 2 else 1 - old

    def rows(moved: Floats) -> tuple[Floats, Floats]:
        n = len(moved)
        x = family.draw(rng, n)
        y = np.where(rng.random(n) < moved, family.label(x, new), family.label(x, old))
        if family.regression:
            return x, y + family.noise * rng.normal(size=n)
        return x, np.asarray(y ^ (rng.random(n) < family.noise), dtype=np.float64)

    steps = (np.arange(width) + 0.5) / max(1, width)
    share = steps if shape == "linear" else expit(8.0 * (steps - 0.5))
    model = family.model().fit(*rows(np.zeros(TRAINING)))
    x, y = rows(np.concatenate([np.zeros(REFERENCE + before), share, np.ones(after)]))
    answers = _learning(model, x, y) if family.learns else model.predict(x)
    found = np.abs(y - answers)
    return Losses(found[:REFERENCE], found[REFERENCE:], before, before + width)


def _learning(model: Any, x: Floats, y: Floats) -> Floats:
    """The answers of a logistic regression that takes a gradient step after each."""
    weights, answers = np.append(model.coef_[0], model.intercept_), np.empty(len(y))
    design = np.column_stack([x, np.ones(len(x))])
    for row, truth in enumerate(y.tolist()):
        margin = float(design[row] @ weights)
        answers[row] = margin > 0.0
        weights += 0.02 * (truth - float(expit(margin))) * design[row]
    return answers
