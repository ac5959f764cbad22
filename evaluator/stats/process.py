"""From closed blocks to the statistic of one look: how strong the evidence is, once clusters are accounted for.

Invariant: a block's score uses a prediction m made from earlier blocks only, so that under no effect every block's
score has mean zero whatever the ramp, the drift and the delay did.

Units of one day, storm or customer err together, so scores are summed within blocks and the variance is built from the
blocks (Liang & Zeger 1986). Few, skewed and correlated blocks make that optimistic; four safeguards answer it:

1. f = (1+r)/(1−r) widens the variance for a lag-1 correlation r of the blocks, r = clip((n r̂ + 1.5)/(n − 4), 0,
   0.85). The
   estimate is biased towards zero by about (1+4ρ)/n (Marriott & Pope 1954), and looking again and again finds its low
   moments; with (n r̂ + 1)/(n − 3) one side at .025 rejects .033 of 30 blocks with ρ = .5, with the constants here
   .029.
2. z_bounded = T √n' / √(n' − 1 + T²), T the t statistic with the widened variance, n' = n/f: for f = 1 this is S /
   √(Σ s²) with
   the uncentred sum, which can't exceed √n.
3. z_skew: Hall's (1992) transformation of T removes the effect of skewness, then t_{n−1} → normal. What is better on
   most
   days and far worse on a few looks like a winner until the bad day comes; its blocks are skewed.
4. The variance is at least that of independent units.

The smaller of z_bounded and z_skew decides, in each direction. Both are functions of T alone, so intervals come by
inverting them exactly: the lower limit at bound b is above the null just when z_win is above b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from evaluator.stats.refusal import NoAnswer, StatsError
from evaluator.stats.sums import RESOLUTION, PairedSums, SplitSums

# A higher correlation than this would ask for more than twelve times the evidence; blocks are then simply too short.
MOST_CORRELATION: Final = 0.85
# Below this many blocks the correlation can't be estimated, and no block statistic is given.
FEWEST_BLOCKS: Final = 5


@dataclass(frozen=True, slots=True)
class Arm:
    """Count, sum and sum of squares of one arm's outcomes."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Arm) -> Arm:
        return Arm(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    @property
    def fewest(self) -> float:
        """How many outcomes of the rarer kind there are if they are of two kinds (0 and 1, or 0 and −1), else the
        count.""" if self.squares == abs(self.total):
            return min(abs(self.total), self.n - abs(self.total))
        return self.n


@dataclass(frozen=True, slots=True)
class Block:
    """One closed block of one metric: S, I and the unit variance of S at the prediction in force, and both arms' sums.

    `variance` is for independent units. A block that could not be scored yet has information 0: its outcomes count, its
    evidence does not.
    """

    champion: Arm
    challenger: Arm
    score: float = 0.0
    information: float = 0.0
    variance: float = 0.0
    units: int = 0


def _arm(n: int, total: int, squares: int) -> Arm:
    return Arm(n, total / int(RESOLUTION), squares / int(RESOLUTION))


def split_blocks(sums: Sequence[SplitSums], prior_mean: float | None = None) -> list[Block]:
    """Blocks of split traffic in time order, each scored at the champion's mean over all EARLIER blocks.

    `prior_mean` is the champion's mean known before the experiment (its holdout score, say) and serves until the
    first block is closed. Without it the blocks before the first champion outcome have no prediction that did not
    look at them; they are kept for the means and left out of the evidence.
    """
    blocks: list[Block] = []
    n, total = 0, 0
    for part in sums:
        champion = _arm(part.n_champion, part.y_champion, part.yy_champion)
        challenger = _arm(part.n_challenger, part.y_challenger, part.yy_challenger)
        units = part.n_champion + part.n_challenger
        m = total / (n * int(RESOLUTION)) if n else prior_mean
        if m is None or not units:
            blocks.append(Block(champion, challenger))
        else:
            variance = max(part.variance(m), part.randomisation_variance(m))
            blocks.append(Block(champion, challenger, part.score(m), part.information, variance, units))
        n += part.n_champion
        total += part.y_champion
    return blocks


def paired_blocks(sums: Sequence[PairedSums]) -> list[Block]:
    """Blocks of requests that both arms answered, in time order. No prediction is needed: the champion is one."""
    return [
        Block(
            _arm(part.n, part.y_champion, part.yy_champion),
            _arm(part.n, part.y_challenger, part.yy_challenger),
            part.score(),
            part.information,
            part.variance(),
            part.n,
        )
        for part in sums
    ]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One look's statistics against the null "effect = −margin". All of it is a function of the blocks.

    score, information and effect are S, I and S/I (not shifted by the margin); variance is that of S, widened;
    n_blocks are the scored ones, n_effective = n_blocks / widening. `autocorrelation` is r after correction,
    `skewness` that of the block residuals (negative: rare blocks in which the challenger does far worse).
    """

    n_blocks: int
    score: float
    information: float
    variance: float
    unit_variance: float
    autocorrelation: float
    widening: float
    skewness: float
    margin: float
    clustered: bool

    @property
    def effect(self) -> float:
        return self.score / self.information

    @property
    def n_effective(self) -> float:
        return max(2.0, self.n_blocks / self.widening)

    @property
    def t(self) -> float:
        """T = (S + margin·I) / √V."""
        return (self.score + self.margin * self.information) / math.sqrt(self.variance)

    @property
    def z_win(self) -> float:
        """Evidence for effect > −margin, on the normal scale."""
        return self._z(self.t, self.skewness)

    @property
    def z_harm(self) -> float:
        """Evidence for effect < −margin, on the normal scale (positive is harm)."""
        return self._z(-self.t, -self.skewness)

    @property
    def z(self) -> float:
        """The decision's statistic with the effect's sign."""
        return self.z_win if self.t >= 0.0 else -self.z_harm

    def lower(self, bound: float) -> float:
        """The largest effect that the win side with this bound (≥ 0) would not have ruled out from below; may be
        −inf.""" return self.effect - self._reach(bound, self.skewness) * math.sqrt(self.variance) / self.information

    def upper(self, bound: float) -> float:
        """The smallest effect that the harm side with this bound (≥ 0) would not have ruled out from above; may be
        inf.""" return self.effect + self._reach(bound, -self.skewness) * math.sqrt(self.variance) / self.information

    def _z(self, t: float, skewness: float) -> float:
        if not self.clustered:
            return t
        n = self.n_effective
        bounded = t * math.sqrt(n / (n - 1.0 + t * t))
        return min(bounded, _hall_z(t, self.widening, self.n_blocks, skewness))

    def _reach(self, bound: float, skewness: float) -> float:
        """The T at which the deciding z equals the bound."""
        if not self.clustered or math.isinf(bound):
            return bound
        n = self.n_effective
        if bound * bound >= n:
            return math.inf
        bounded = bound * math.sqrt((n - 1.0) / (n - bound * bound))
        return max(bounded, _hall_t(bound, self.widening, self.n_blocks, skewness))


def _hall_z(t: float, widening: float, n: int, skewness: float) -> float:
    """Normal score of T after Hall's transformation (Hall 1992, On the removal of skewness by transformation, eq.
    2.2).""" s = t * math.sqrt(widening / (n - 1))  # mean / standard deviation with divisor n, before widening g =
    skewness h = math.sqrt(n) * (s + g * s * s / 3.0 + g * g * s**3 / 27.0 + g / (6.0 * n)) scaled = h * math.sqrt((n
    - 1) / (n * widening)) return _t_to_z(scaled, n - 1)


def _hall_t(z: float, widening: float, n: int, skewness: float) -> float:
    """The inverse of `_hall_z` in t: the transformation is a cube, x ↦ ((1 + gx/3)³ − 1)/g."""
    scaled = _z_to_t(z, n - 1)
    h = scaled * math.sqrt(n * widening / (n - 1))
    g = skewness
    u = h / math.sqrt(n) - g / (6.0 * n)
    s = u if abs(g) < 1e-9 else 3.0 * (float(np.cbrt(1.0 + g * u)) - 1.0) / g
    return s * math.sqrt((n - 1) / widening)


def _t_to_z(t: float, degrees: int) -> float:
    return math.copysign(float(-ndtri(stdtr(degrees, -abs(t)))), t)


def _z_to_t(z: float, degrees: int) -> float:
    return math.copysign(float(-stdtrit(degrees, ndtr(-abs(z)))), z)


def evidence(blocks: Sequence[Block], *, margin: float = 0.0, clustered: bool = True) -> Evidence | NoAnswer:
    """The statistics of one look at time-ordered closed blocks, or why there are none.

    `margin` ≥ 0 moves the null to effect = −margin (non-inferiority). With `clustered=False` units are declared
    independent: the variance is the sum of the units', blocks serve only to keep the prediction from the past.
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise StatsError(f"the margin {margin!r} is not a finite number of at least 0")
    champion = sum((block.champion for block in blocks), Arm())
    challenger = sum((block.challenger for block in blocks), Arm())
    rows = np.array([(b.score, b.information, b.variance, b.units) for b in blocks if b.information > 0.0])
    n = len(rows)

    def refuse(reason: str) -> NoAnswer:
        return NoAnswer(reason, champion.n, challenger.n, n)

    if not n:
        return refuse("no block with evidence is closed yet")
    if clustered and n < FEWEST_BLOCKS:
        return refuse(f"{n} of at least {FEWEST_BLOCKS} blocks are closed")
    s, i = rows[:, 0], rows[:, 1]
    score, information, units_variance, units = (float(total) for total in rows.sum(axis=0))
    if units_variance <= 0.0:
        return refuse("every score is zero: the outcomes do not vary, so there is no noise to compare an effect with")
    if not clustered:
        return Evidence(n, score, information, units_variance, units_variance, 0.0, 1.0, 0.0, margin, False)
    residual = s - (score / information) * i
    spread = float(residual @ residual)
    noise = spread > 1e-18 * float(s @ s)
    r = _autocorrelation(residual, spread, n) if noise else 0.0
    widening = (1.0 + r) / (1.0 - r)
    skewness = float((residual**3).mean()) / (spread / n) ** 1.5 if noise else 0.0
    # Units' variance about the effect itself. Where every unit shows the same difference nothing varies at all; the
    # deviation from no effect then has to serve as noise.
    independent = units_variance - score * score / units
    floor = max(independent, 0.0) if independent > 1e-12 * units_variance else 0.0
    variance = max(widening * spread * n / (n - 1), floor) if noise or floor else score * score / n
    return Evidence(n, score, information, variance, units_variance, r, widening, skewness, margin, True)


def _autocorrelation(residual: np.ndarray[tuple[int], np.dtype[np.float64]], spread: float, n: int) -> float:
    raw = float(residual[1:] @ residual[:-1]) / (n - 1) / (spread / n)
    return min(max((n * raw + 1.5) / (n - 4), 0.0), MOST_CORRELATION)
