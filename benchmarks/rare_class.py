"""Losses of which most lie in rare outcomes: whom the gross-harm watch takes out, and after how many pairs.

Labels of a rare class that come first (reported fraud, clicks): two logistic regressions, fitted on other rows with
other features or class weights, of about the same loss. The watch knows the champion's usual losses, and then sees the
positives only, the first 2,000 of them. Beside that what it must not lose: the pairs that it takes for an inverted
model and for one with half more loss, with labels as they come; and what bets at the best cap and stake, known
beforehand, would take for the latter on average. The last row is a regression with heavy tails: squared errors with
Student's t of four degrees.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from benchmarks import header, main, progress, row
from benchmarks.decisions import LOSSES
from evaluator.stats.harm_watches import GrossHarmWatch
from evaluator.stats.score_process import Floats
from gauntlet.config.evidence import EvidenceConfig
from gauntlet.losses import loss

KNOWN = 10_000
"""Losses of the champion before the challenger comes."""
TRAINED = 1_500
ALIKE = 0.1
"""Models whose mean losses differ by no more count as equal."""


def pairs_to_alarm(usual: Floats, champion: Floats, challenger: Floats) -> int | None:
    """Pairs until the alarm, or None."""
    evidence = EvidenceConfig()
    watch = GrossHarmWatch(evidence.gross_margin, evidence.gross_alpha)
    watch.usual.add(usual)
    for end in range(watch.batch, len(champion) + 1, watch.batch):
        part = slice(end - watch.batch, end)
        if watch.add(champion[part], challenger[part]):
            return end
    return None


def models(positives: float, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Losses on the same rows of the champion, of an equal challenger and of an inverted champion, and the truth."""
    rows, truth = make_classification(
        60_000, 12, n_informative=6, weights=[1.0 - positives], flip_y=0.05, class_sep=0.7, random_state=seed
    )
    first, second, rest = slice(TRAINED), slice(TRAINED, 2 * TRAINED), slice(2 * TRAINED, None)
    theirs = slice(3, None) if seed % 2 else slice(9)
    weights = None if seed % 2 else {0: 1.0, 1: 0.75}
    champion = LogisticRegression().fit(rows[first, :9], truth[first])
    challenger = LogisticRegression(class_weight=weights).fit(rows[second, theirs], truth[second])
    known = truth[rest].astype(np.float64)
    served = champion.predict_proba(rows[rest, :9])
    answers = (served, challenger.predict_proba(rows[rest, theirs]), served[:, ::-1])
    ours, equal, inverted = (np.asarray(loss("log_loss", each, known)) for each in answers)
    return ours, equal, inverted, known


def fewest_pairs(champion: Floats, times: float) -> float:
    """Of the best bets against the watch's null, at one cap and stake that are known beforehand."""
    evidence, mean = EvidenceConfig(), float(champion.mean())
    most = 0.0
    for cap, stake in itertools.product(mean * np.geomspace(1.5, 100.0, 25), np.linspace(0.05, 1.0, 20)):
        kept = np.minimum(1.0, cap / np.maximum(times * champion, mean)) * (times - 1.0) * champion
        allowed = evidence.gross_margin * mean + float(np.maximum(champion - cap, 0.0).mean())
        most = max(most, float(np.log1p(stake * (kept - allowed) / (cap + allowed)).mean()))
    return math.log(1.0 / evidence.gross_alpha) / most


def run(runs: int = 40) -> Iterator[str]:
    titles = ["positives", "equal, positives first: taken out", "equal, as they come", "inverted", "loss × 1.5"]
    yield header(*titles, "loss × 1.5, the best bets")
    for positives in (0.03, 0.1, 0.3):
        first, mixed, inverted, more, least = [], [], [], [], []
        for seed in progress(range(runs), f"{positives:.0%}"):
            ours, theirs, wrong, truth = models(positives, seed)
            usual, after = ours[:KNOWN], slice(KNOWN, KNOWN + 20_000)
            rare = KNOWN + np.flatnonzero(truth[KNOWN:] == 1)[:2_000]
            if abs(theirs.mean() / ours.mean() - 1.0) <= ALIKE:
                first.append(pairs_to_alarm(usual, ours[rare], theirs[rare]))
                mixed.append(pairs_to_alarm(usual, ours[after], theirs[after]))
            inverted.append(pairs_to_alarm(usual, ours[after], wrong[after]))
            more.append(pairs_to_alarm(usual, ours[after], 1.5 * ours[after]))
            least.append(fewest_pairs(ours, 1.5))
        yield row(
            f"{positives:.0%}", _share(first), _share(mixed), _pairs(inverted), _pairs(more), f"{np.median(least):.0f}"
        )
    more = []
    for seed in range(runs):
        ours = LOSSES["regression"](np.random.default_rng(seed), 2 * KNOWN)
        more.append(pairs_to_alarm(ours[:KNOWN], ours[KNOWN:], 1.5 * ours[KNOWN:]))
    best = fewest_pairs(LOSSES["regression"](np.random.default_rng(runs), 1_000_000), 1.5)
    yield row("regression", "–", "–", "–", _pairs(more), f"{best:.0f}")


def _share(found: list[int | None]) -> str:
    return f"{sum(each is not None for each in found)} of {len(found)}"


def _pairs(found: list[int | None]) -> str:
    """How many were seen, and after how many pairs."""
    seen = [each for each in found if each is not None]
    after = f"; median {np.median(seen):.0f}, most {max(seen)} pairs" if seen else ""
    return f"{_share(found)}{after}"


if __name__ == "__main__":
    main(run)
