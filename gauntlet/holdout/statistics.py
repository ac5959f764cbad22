"""Statistics of blocks of rows under weights: each gives its value and what every block contributes to its error.

Invariant: a statistic is homogeneous in the weights, so its linearisation needs no centring, and its standard error
under the weights is √(K/(K−1) Σ w·influence²) over K blocks (infinitesimal jackknife; Efron 1982). A value that the
weighted rows don't define is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Statistic(Protocol):
    """Anything that can be bootstrapped."""

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        """Values (draws,) and influences (draws, blocks) under `weights` (draws, blocks)."""


def standard_errors(weights: Floats, influences: Floats) -> Floats:
    """Standard errors of the values under each draw's weights, shape (draws,)."""
    blocks = weights.shape[1]
    variances = np.einsum("dk,dk->d", weights, influences**2)
    return np.asarray(np.sqrt(blocks / (blocks - 1) * variances))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Σ numerator / Σ denominator, both (blocks,): a mean, a share, precision, recall or F1.

    empty: its value where the denominator is 0. root: the square root of the ratio.
    """

    numerator: Floats
    denominator: Floats
    empty: float = float("nan")
    root: bool = False

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        above, below = weights @ self.numerator, weights @ self.denominator
        known = below > 0
        safe = np.where(known, below, 1.0)
        values = np.where(known, above / safe, self.empty)
        slope = np.where(known, 1.0 / safe, 0.0)[:, None]
        ratio = np.where(known, values, 0.0)[:, None]
        influences = slope * (self.numerator - ratio * self.denominator)
        if not self.root:
            return values, influences
        roots = np.sqrt(values)
        flat = np.where(roots > 0, 0.5 / np.where(roots > 0, roots, 1.0), 0.0)
        return roots, influences * flat[:, None]


@dataclass(frozen=True, slots=True)
class Determination:
    """R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² from each block's sums (blocks,). Centre y before: the sums cancel."""

    squares: Floats
    truths: Floats
    truth_squares: Floats
    rows: Floats

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        rows = weights @ self.rows
        mean = (weights @ self.truths) / rows
        spread = weights @ self.truth_squares - mean**2 * rows
        known = spread > 1e-12 * np.abs(weights @ self.truth_squares)
        safe = np.where(known, spread, 1.0)
        ratio = (weights @ self.squares) / safe
        centre = mean[:, None]
        spreads = self.truth_squares - 2 * centre * self.truths + centre**2 * self.rows
        influences = -(self.squares - ratio[:, None] * spreads) / safe[:, None]
        return np.where(known, 1.0 - ratio, np.nan), influences


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of several statistics, as of one over the classes (macro)."""

    parts: Sequence[Statistic]

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        found = [part.evaluate(weights) for part in self.parts]
        count = len(found)
        return sum(value for value, _ in found) / count, sum(share for _, share in found) / count  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Improvement:
    """How much better the challenger is than the champion; positive is better."""

    champion: Statistic
    challenger: Statistic
    higher_is_better: bool

    def evaluate(self, weights: Floats) -> tuple[Floats, Floats]:
        sign = 1.0 if self.higher_is_better else -1.0
        before, theirs = self.champion.evaluate(weights)
        after, ours = self.challenger.evaluate(weights)
        return sign * (after - before), sign * (ours - theirs)


def change_in_words(metric: str, improvement: float, per: str = "", more: str = "") -> str:
    """A sentence by how much a metric became better or worse, `per` what."""
    if improvement == 0:
        return f"{metric} stays the same{more}"
    return f"{metric} {'gets worse' if improvement < 0 else 'improves'} by {abs(improvement):.4g}{per}{more}"


def beside(improvement: float, asked: float, *, enough: bool) -> str:
    """The clause that holds an improvement against the one that was asked for."""
    if improvement <= 0 and not enough:
        return f"where an improvement by {asked:g} is asked for"
    return f"{'at least' if enough else 'less than'} the {asked:g} asked for"
