"""From closed blocks to the statistic of one look: how strong the evidence is, once clusters are accounted for.

Invariant: a block's score uses a prediction m made from earlier blocks only, so that under no effect every block's
score has mean zero whatever the ramp, the drift and the delay did.

Units of one day, storm or customer err together, so scores are summed within blocks and the variance is built from the
blocks (Liang & Zeger 1986). Few, skewed and correlated blocks make that optimistic; four safeguards answer it:

1. f = (1+r)/(1−r) widens the variance for a lag-1 correlation r of the blocks, r = clip((n r̂ + 1.75)/(n − 4), 0, 0.85).
   The estimate is biased towards zero by about (1+4ρ)/n (Marriott & Pope 1954), and looking again and again finds its
   low moments: with (n r̂ + 1)/(n − 3) one side at .025 rejects .034 of 30 blocks with ρ = .5, with these .029.
2. z_bounded = T √n' / √(n' − 1 + T²), with T the t statistic at the widened variance and n' = n_e/f, where
   n_e = (Σ i)² / Σ i² blocks of equal information would be worth as much (fewer on a ramp). For f = 1 and equal blocks
   this is S / √(Σ s²) with the uncentred sum. It can't exceed √n': few blocks that agree are no proof.
3. z_skew: Hall's (1992) transformation of T removes the effect of skewness, then t_{n_e−1} → normal. What is better
   on most days and far worse on a few looks like a winner until the bad day comes; its blocks are skewed.
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
from evaluator.stats.sums import RESOLUTION, Floats, PairedSums, SplitSums

# A higher correlation than this would ask for more than twelve times the evidence; blocks are then simply too short.
MOST_CORRELATION: Final = 0.85
# Below this many blocks the correlation can't be estimated, and no block statistic is given.
FEWEST_BLOCKS: Final = 5
# Far under the resolution of the sums; only keeps powers of it from vanishing.
_LEAST_NOISE: Final = 1e-150


@dataclass(frozen=True, slots=True)
class Arm:
    """Count, sum and sum of squares of one arm's outcomes."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    @property
    def fewest(self) -> float:
        """Outcomes of the rarer kind if there are two kinds (0 and 1, or 0 and −1), else all outcomes."""
        if self.squares == abs(self.total):
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
    n_blocks are the scored ones, n_equal = I² / Σ i² as many blocks of equal information (Kish). `autocorrelation` is
    r after correction, `skewness` that of the block residuals (negative: rare blocks go far worse for the challenger).
    """

    n_blocks: int
    n_equal: float
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
        """Independent blocks of equal information that the variance is worth."""
        return max(2.0, self.n_equal / self.widening)

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
        """The effect at which the win side's z is this bound (≥ 0): those below are ruled out. May be −inf."""
        return self.effect - self._reach(bound, self.skewness) * math.sqrt(self.variance) / self.information

    def upper(self, bound: float) -> float:
        """The effect at which the harm side's z is this bound (≥ 0): those above are ruled out. May be inf."""
        return self.effect + self._reach(bound, -self.skewness) * math.sqrt(self.variance) / self.information

    def _z(self, t: float, skewness: float) -> float:
        if not self.clustered:
            return t
        n = self.n_effective
        bounded = t * math.sqrt(n / (n - 1.0 + t * t))
        # T with the plain standard deviation (divisor n, not widened), which is what the skewness distorts.
        plain = math.sqrt(self.widening * self.n_blocks / (self.n_blocks - 1))
        moved = _hall(t * plain, skewness / math.sqrt(self.n_blocks)) / plain
        return min(bounded, _t_to_z(moved, max(1.0, self.n_equal - 1.0)))

    def _reach(self, bound: float, skewness: float) -> float:
        """The T at which the deciding z equals the bound."""
        if not self.clustered or math.isinf(bound):
            return bound
        n = self.n_effective
        if bound * bound >= n:
            return math.inf
        bounded = bound * math.sqrt((n - 1.0) / (n - bound * bound))
        plain = math.sqrt(self.widening * self.n_blocks / (self.n_blocks - 1))
        moved = _z_to_t(bound, max(1.0, self.n_equal - 1.0)) * plain
        return max(bounded, _hall_inverse(moved, skewness / math.sqrt(self.n_blocks)) / plain)


def _hall(t: float, g: float) -> float:
    """The transformation of Hall (1992), "On the removal of skewness by transformation", for a sum of skewness g."""
    return t + g * t * t / 3.0 + g * g * t**3 / 27.0 + g / 6.0


def _hall_inverse(h: float, g: float) -> float:
    """t with _hall(t, g) = h: but for the shift by g/6 it is the cube ((1 + gt/3)³ − 1)/g."""
    u = h - g / 6.0
    return u if abs(g) < 1e-9 else 3.0 * (float(np.cbrt(1.0 + g * u)) - 1.0) / g


def _t_to_z(t: float, degrees: float) -> float:
    # Tails under 1e-300 are all the same to a decision, and the normal score of nothing is infinite.
    return math.copysign(float(-ndtri(max(float(stdtr(degrees, -abs(t))), 1e-300))), t)


def _z_to_t(z: float, degrees: float) -> float:
    return math.copysign(float(-stdtrit(degrees, float(ndtr(-abs(z))))), z)


def evidence(
    blocks: Sequence[Block],
    *,
    margin: float = 0.0,
    clustered: bool = True,
    most_correlation: float = MOST_CORRELATION,
) -> Evidence | NoAnswer:
    """The statistics of one look at time-ordered closed blocks, or why there are none.

    `margin` ≥ 0 moves the null to effect = −margin (non-inferiority). With `clustered=False` units are declared
    independent: the variance is the sum of the units', blocks serve only to keep the prediction from the past.
    `most_correlation` caps r and with it the widening.
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise StatsError(f"the margin {margin!r} is not a finite number of at least 0")
    rows = rows_of(blocks)
    found = evidence_of(rows, margin=margin, clustered=clustered, most_correlation=most_correlation)
    if isinstance(found, str):
        champion, challenger = arms_of(blocks)
        return NoAnswer(found, champion.n, challenger.n, len(rows))
    return found


def arms_of(blocks: Sequence[Block]) -> tuple[Arm, Arm]:
    """Champion and challenger over all blocks."""
    champions, challengers = [block.champion for block in blocks], [block.challenger for block in blocks]
    return _total(champions), _total(challengers)


def _total(arms: list[Arm]) -> Arm:
    return Arm(sum(arm.n for arm in arms), math.fsum(arm.total for arm in arms), math.fsum(arm.squares for arm in arms))


def rows_of(blocks: Sequence[Block]) -> Floats:
    """The scored blocks as rows (score, information, unit variance, units), shape (n, 4)."""
    rows = [(b.score, b.information, b.variance, b.units) for b in blocks if b.information > 0.0]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def evidence_of(rows: Floats, *, margin: float, clustered: bool, most_correlation: float) -> Evidence | str:
    """`evidence` of the rows of `rows_of`; a string says why there is none."""
    n = len(rows)
    if not n:
        return "no block with evidence is closed yet"
    if clustered and n < FEWEST_BLOCKS:
        return f"{n} of at least {FEWEST_BLOCKS} blocks are closed"
    s, i = rows[:, 0], rows[:, 1]
    score, information, units_variance, units = (float(total) for total in rows.sum(axis=0))
    if units_variance <= _LEAST_NOISE:
        return "every score is zero: the outcomes do not vary, so there is no noise to compare an effect with"
    n_equal = information * information / float(i @ i)
    if not clustered:
        return Evidence(n, n_equal, score, information, units_variance, units_variance, 0.0, 1.0, 0.0, margin, False)
    residual = s - (score / information) * i
    spread = float(residual @ residual)
    noise = spread > max(1e-18 * float(s @ s), _LEAST_NOISE)
    r = min(_autocorrelation(residual, spread, n), most_correlation) if noise else 0.0
    widening = (1.0 + r) / (1.0 - r)
    skewness = float((residual**3).mean()) / (spread / n) ** 1.5 if noise else 0.0
    # Units' variance about the effect itself. Where every unit shows the same difference nothing varies at all; the
    # deviation from no effect then has to serve as noise.
    independent = units_variance - score * score / units
    floor = max(independent, 0.0) if independent > 1e-12 * units_variance else 0.0
    variance = max(widening * spread * n / (n - 1), floor) if noise or floor else score * score / n
    return Evidence(n, n_equal, score, information, variance, units_variance, r, widening, skewness, margin, True)


def _autocorrelation(residual: Floats, spread: float, n: int) -> float:
    raw = float(residual[1:] @ residual[:-1]) / (n - 1) / (spread / n)
    return max((n * raw + 1.75) / (n - 4), 0.0)
