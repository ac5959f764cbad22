"""Labelled streams with abrupt changes of concept, and a model that was trained before them.

SEA (Street and Kim 2001), sine, mixed (Gama et al. 2004) and STAGGER (Schlimmer and Granger 1986), drawn by numpy and
seeded. A stream is the model's misses: on a held-out reference, then live, with the row at which the concept changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from evaluator.stats.score_process import Bools, Floats

Concept = Callable[[Floats, int], Bools]
TRAINING = 5000
REFERENCE = 5000


@dataclass(frozen=True)
class Family:
    """How rows are drawn, what each of the `concepts` calls them, and the share of labels that are wrong."""

    draw: Callable[[np.random.Generator, int], Floats]
    label: Concept
    concepts: int
    noise: float


@dataclass(frozen=True)
class Misses:
    """0/1 misses of the model: `reference` held out, `live` in order; the concept changes at row `change` of live."""

    reference: Floats
    live: Floats
    change: int


def _sea(x: Floats, concept: int) -> Bools:
    return np.asarray(x[:, 0] + x[:, 1] <= (8.0, 9.0, 7.0, 9.5)[concept])


def _sine(x: Floats, concept: int) -> Bools:
    below = x[:, 1] < np.sin(x[:, 0]) if concept < 2 else x[:, 1] < 0.5 + 0.3 * np.sin(3.0 * np.pi * x[:, 0])
    return np.asarray(below == (concept % 2 == 0))


def _mixed(x: Floats, concept: int) -> Bools:
    votes = (x[:, 0] > 0.5) * 1 + (x[:, 1] > 0.5) + (x[:, 3] < 0.5 + 0.3 * np.sin(3.0 * np.pi * x[:, 2]))
    return np.asarray((votes >= 2) == (concept == 0))


def _stagger(x: Floats, concept: int) -> Bools:
    size, colour, shape = np.floor(3 * x).T
    if concept == 0:
        return np.asarray((size == 0) & (colour == 0))
    return np.asarray((colour == 1) | (shape == 1) if concept == 1 else size > 0)


FAMILIES = {
    "SEA": Family(lambda rng, n: rng.uniform(0, 10, (n, 3)), _sea, 4, 0.10),
    "sine": Family(lambda rng, n: rng.uniform(0, 1, (n, 2)), _sine, 4, 0.0),
    "mixed": Family(lambda rng, n: rng.uniform(0, 1, (n, 4)), _mixed, 2, 0.0),
    "STAGGER": Family(lambda rng, n: rng.uniform(0, 1, (n, 3)), _stagger, 3, 0.0),
}


def misses(family: Family, rng: np.random.Generator, before: int, after: int) -> Misses:
    """One stream: `before` rows as in training, then `after` rows of another concept, both drawn at random."""
    old = int(rng.integers(family.concepts))
    new = int((old + 1 + rng.integers(family.concepts - 1)) % family.concepts) if family.concepts > 2 else 1 - old

    def rows(n: int, concept: int) -> tuple[Floats, Bools]:
        x = family.draw(rng, n)
        return x, family.label(x, concept) ^ (rng.random(n) < family.noise)

    model = DecisionTreeClassifier(max_depth=8, min_samples_leaf=5, random_state=0).fit(*rows(TRAINING, old))

    def missed(n: int, concept: int) -> Floats:
        if n == 0:
            return np.empty(0)
        x, y = rows(n, concept)
        return np.asarray(model.predict(x) != y, dtype=np.float64)

    return Misses(missed(REFERENCE, old), np.concatenate([missed(before, old), missed(after, new)]), before)
