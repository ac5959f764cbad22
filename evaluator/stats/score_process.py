"""The score process: sufficient sums of one metric in one block, and each block's score, information and variance.

With A = 1 for the challenger, π the logged probability of that, Y the outcome and m a prediction of Y from earlier
blocks, a unit of split traffic has score (A−π)(Y−m) and information π(1−π); a pair has score Y_challenger − Y_champion
and information 1. S/I estimates the effect.

Invariants: every unit is rounded to fixed point on its own and summed in integers, so that sums are the same bit for
bit however units are ordered, partitioned and merged; and because m comes from earlier blocks, under no effect every
block's score has mean zero whatever the ramp, the drift and the delay did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from evaluator.stats.errors import OutcomeError, PropensityError, StatsError

# One unit of the fixed point is 2^-60 (about 9e-19). Squared errors of daily returns are near 1e-8 and their squares
# near 1e-16; with 2^-40 they would all round to nothing and the variance would vanish without a word.
RESOLUTION = 2.0**60
_UNIT = 2**60
# Summing many: limbs of 45 bits, chunks of 2^14 values: partial sums stay under 2^60 and chunks in the cache.
_LIMB = 45
_CHUNK = 2**14
_ROUNDING = 1e-15
# Squares of larger outcomes are no longer finite once they are scaled; nor are fourth powers of larger ones.
LARGEST_OUTCOME = 1e100
_LARGEST_OF_TAIL = 1e58
# A spread that is a smaller part of the mean is lost in the rounding of fourth powers.
_LEAST_RELATIVE_SPREAD = 1e-3

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class CellArrays:
    """A frozen record of arrays, one entry a cell. Its snapshot has the fields in `kept`, by default all."""

    kept: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """A snapshot, fit for JSON."""
        return {name: to_json(getattr(self, name)) for name in self.kept or vars(self)}

    def restored(self, data: dict[str, Any]) -> Self:
        """The record of that snapshot; `self` is one of the same settings and cells."""
        old = {name: getattr(self, name) for name in self.kept or vars(self)}
        arrays = {name: from_json(data[name]).astype(array.dtype) for name, array in old.items()}
        return replace(self, **arrays)  # type: ignore[type-var]


def to_json(values: NDArray[Any]) -> list[Any]:
    """An array as a list, with null for NaN."""
    return [None if value != value else value for value in values.tolist()]


def from_json(values: Sequence[Any]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _exact_total(values: Floats, resolution: float = RESOLUTION) -> int:
    """Σ round(v · resolution) as a Python integer: in limbs, so that no partial sum leaves the range of int64."""
    total = 0
    for start in range(0, len(values), _CHUNK):
        rest, shift = np.rint(values[start : start + _CHUNK] * resolution), 0
        while rest.any():
            high = np.trunc(rest * 2.0**-_LIMB)
            total += int((rest - high * 2.0**_LIMB).astype(np.int64).sum()) << shift
            rest, shift = high, shift + _LIMB
    return total


def _outcomes(values: Floats | float) -> Floats:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    bad = np.flatnonzero(~(np.abs(array) <= LARGEST_OUTCOME))
    if bad.size:
        raise OutcomeError(f"outcome {array[bad[0]]!r} at position {bad[0]} is not a finite number of usable size")
    return array


@dataclass(slots=True)
class _Sums:
    """Sums as integers, counts as they are and the others in units of 2^-60."""

    # Names of the fields: a look merges thousands of sums, and `fields` would make a list of each anew.
    __match_args__: ClassVar[tuple[str, ...]]

    def merge(self, other: Self) -> Self:
        """The sums of both parts, as a new object. Associative and commutative bit for bit."""
        return type(self)(*(mine + theirs for mine, theirs in zip(self.to_list(), other.to_list(), strict=True)))

    def to_list(self) -> list[int]:
        """Integers (of any size) in the order of the fields: fit for JSON, not for 64-bit formats."""
        return [getattr(self, name) for name in self.__match_args__]

    @classmethod
    def from_list(cls, values: Sequence[int]) -> Self:
        width = len(cls.__match_args__)
        if len(values) != width or not all(type(value) is int for value in values):
            raise StatsError(f"a snapshot of these sums is {width} integers, not {list(values)!r}")
        return cls(*values)

    def to_texts(self) -> list[str]:
        """`to_list` with each integer as a text, which fits every format."""
        return [str(value) for value in self.to_list()]

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> Self:
        return cls.from_list([int(text) for text in texts])

    def _add_totals(self, **terms: Floats) -> None:
        """Add the exact sum of each array to the field of that name."""
        for name, values in terms.items():
            setattr(self, name, getattr(self, name) + _exact_total(values))


@dataclass(slots=True)
class SplitSums(_Sums):
    """Sums over the units of one block of split traffic, for one metric oriented so that larger is better.

    a = A − π. Because Σ aY, Σ a, Σ a²Y and so on are kept apart, any prediction m of Y can be applied afterwards
    (`score`, `variance`).
    """

    n_champion: int = 0
    n_challenger: int = 0
    y_champion: int = 0
    y_challenger: int = 0
    yy_champion: int = 0
    yy_challenger: int = 0
    a: int = 0
    aa: int = 0
    ay: int = 0
    aay: int = 0
    aayy: int = 0
    i: int = 0  # Σ π(1−π): information
    iy: int = 0  # Σ π(1−π)Y and Σ π(1−π)Y²: the variance of S over re-randomisations of the same units
    iyy: int = 0

    def add(self, treated: Bools | bool, propensity: Floats | float, y: Floats | float) -> None:
        """Count matured units, one or arrays of shape (n,); `propensity` is π in force at their assignment.

        Raises OutcomeError on a y that is not finite (or beyond ±1e100) and PropensityError on π outside (0, 1),
        leaving the sums as they were.
        """
        outcome = _outcomes(y)
        arm = np.atleast_1d(np.asarray(treated, dtype=np.bool_))
        share = np.ascontiguousarray(np.broadcast_to(propensity, outcome.shape), dtype=np.float64)
        if arm.shape != outcome.shape or outcome.ndim != 1:
            raise StatsError(f"arms of shape {arm.shape} do not fit outcomes of shape {outcome.shape}")
        bad = np.flatnonzero(~((share > 0.0) & (share < 1.0)))
        if bad.size:
            raise PropensityError(f"propensity {share[bad[0]]!r} at position {bad[0]} is not strictly between 0 and 1")
        square = outcome * outcome
        a = np.where(arm, 1.0 - share, -share)
        aa, i = a * a, share * (1.0 - share)
        self.n_champion += int((~arm).sum())
        self.n_challenger += int(arm.sum())
        self._add_totals(y_champion=outcome[~arm], yy_champion=square[~arm])
        self._add_totals(y_challenger=outcome[arm], yy_challenger=square[arm])
        self._add_totals(a=a, aa=aa, ay=a * outcome, aay=aa * outcome, aayy=aa * square)
        self._add_totals(i=i, iy=i * outcome, iyy=i * square)

    @property
    def units(self) -> int:
        return self.n_champion + self.n_challenger

    @property
    def information(self) -> float:
        """I = Σ π(1−π), in units: S / I estimates the mean difference between the arms."""
        return self.i / _UNIT

    def score(self, m: float) -> float:
        """S = Σ (A−π)(Y−m) for any prediction m made without looking at this block."""
        return self.ay / _UNIT - m * (self.a / _UNIT)

    def variance(self, m: float) -> float:
        """Σ (A−π)²(Y−m)², the robust variance of S if units are independent."""
        return _quadratic(self.aayy, self.aay, self.aa, m)

    def randomisation_variance(self, m: float) -> float:
        """Σ π(1−π)(Y−m)², the variance of S over re-randomisations of the same outcomes."""
        return _quadratic(self.iyy, self.iy, self.i, m)


@dataclass(slots=True)
class PairedSums(_Sums):
    """Sums over requests scored by both arms: D = Y_challenger − Y_champion = loss(champion) − loss(challenger)."""

    n: int = 0
    d: int = 0
    dd: int = 0
    y_champion: int = 0
    y_challenger: int = 0
    yy_champion: int = 0
    yy_challenger: int = 0

    def add(self, y_champion: Floats | float, y_challenger: Floats | float) -> None:
        """Count requests whose truth is known, one or arrays of shape (n,). Raises OutcomeError as `SplitSums.add`."""
        champion, challenger = _outcomes(y_champion), _outcomes(y_challenger)
        if champion.shape != challenger.shape or champion.ndim != 1:
            raise StatsError(f"outcomes of shapes {champion.shape} and {challenger.shape} are not pairs")
        d = challenger - champion
        self.n += len(d)
        self._add_totals(d=d, dd=d * d, y_champion=champion, y_challenger=challenger)
        self._add_totals(yy_champion=champion * champion, yy_challenger=challenger * challenger)

    def mirrored(self) -> PairedSums:
        """The same pairs with the arms in each other's place."""
        return PairedSums(
            self.n, -self.d, self.dd, self.y_challenger, self.y_champion, self.yy_challenger, self.yy_champion
        )

    @property
    def units(self) -> int:
        return self.n

    @property
    def information(self) -> float:
        """I = number of pairs: S / I estimates the mean difference between the arms."""
        return float(self.n)

    @property
    def champion_variance(self) -> float:
        """Of a single outcome of the champion; 0 without any."""
        n = max(1, self.n)
        return max(0.0, self.yy_champion / n / _UNIT - (self.y_champion / n / _UNIT) ** 2)

    def score(self, m: float = 0.0) -> float:
        """S = Σ (D−m), with m a covariate's prediction of D."""
        return self.d / _UNIT - m * self.n

    def variance(self, m: float = 0.0) -> float:
        """Σ (D−m)², uncentred, the variance of S if requests are independent."""
        return max(0.0, self.dd / _UNIT - 2.0 * m * (self.d / _UNIT) + m * m * self.n)


@dataclass(slots=True)
class TailSums(_Sums):
    """n and Σ yᵏ for k = 1 … 4, in units of 2^-60k: what is known of the tails of one arm's outcomes, or of the
    differences of pairs."""

    n: int = 0
    y: int = 0
    yy: int = 0
    yyy: int = 0
    yyyy: int = 0

    def add(self, y: Floats) -> None:
        """Count outcomes of shape (n,), those beyond ±1e58 as that much. Raises OutcomeError as `SplitSums.add`."""
        values = np.clip(_outcomes(y), -_LARGEST_OF_TAIL, _LARGEST_OF_TAIL)
        powers = values.copy()
        self.n += len(values)
        for k, name in enumerate(("y", "yy", "yyy", "yyyy"), start=1):
            setattr(self, name, getattr(self, name) + _exact_total(powers, RESOLUTION**k))
            powers = powers * values

    def mirrored(self) -> TailSums:
        """The sums of the same outcomes with the other sign."""
        return TailSums(self.n, -self.y, self.yy, -self.yyy, self.yyyy)

    @property
    def moments(self) -> tuple[float, float, float, float, float]:
        """n, the mean, and the second to fourth central moments; those of a normal law where the spread is so small
        beside the mean that higher ones are lost in rounding."""
        n, a, b, c, d = self.to_list()
        if not n:
            return 0.0, 0.0, 0.0, 0.0, 0.0
        mean, second = _exact_ratio(a, n, 1), _exact_ratio(n * b - a * a, n**2, 2)
        if second <= (_LEAST_RELATIVE_SPREAD * mean) ** 2:
            second = second if second > _ROUNDING * mean * mean else 0.0
            return float(n), mean, second, 0.0, 3.0 * second * second
        third = _exact_ratio(n * n * c - 3 * n * a * b + 2 * a**3, n**3, 3)
        fourth = _exact_ratio(n**3 * d - 4 * n * n * a * c + 6 * n * a * a * b - 3 * a**4, n**4, 4)
        return float(n), mean, second, third, max(fourth, 0.0)


def _exact_ratio(over: int, under: int, power: int) -> float:
    """over / under in units of 2^-60·power."""
    return over / (under << 60 * power)


def _quadratic(squares: int, products: int, weights: int, m: float) -> float:
    """Σ w(Y−m)² from Σ wY², Σ wY and Σ w. Rounding may leave it a hair under zero."""
    value = squares / _UNIT - 2.0 * m * (products / _UNIT) + m * m * (weights / _UNIT)
    if not math.isfinite(value):
        raise OutcomeError(f"prediction {m!r} is not a finite number of usable size")
    # Where nothing varies the three cancel but for rounding, which is not a variance.
    return value if value > _ROUNDING * (abs(squares) + m * m * abs(weights)) / _UNIT else 0.0


@dataclass(frozen=True, slots=True)
class Arm:
    """Count, sum and sum of squares of one arm's outcomes."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Block:
    """One closed block of one metric: both arms' sums, and S, I and the variance of S for independent units.

    A block that could not be scored yet has information 0: its outcomes count, its evidence does not.
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

    `prior_mean` is the champion's mean known before the experiment (its holdout score, say), used until the first block
    is closed. Without it the blocks before the first champion outcome are kept for the means and left out of the
    evidence.
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
            # The robust variance rests on the few units of the smaller arm, and understates the spread exactly when bad
            # outcomes happen to be missing there; the other takes both arms' outcomes to vary alike.
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


def arms_of(blocks: Sequence[Block]) -> tuple[Arm, Arm]:
    champions, challengers = [block.champion for block in blocks], [block.challenger for block in blocks]
    return _total(champions), _total(challengers)


def _total(arms: list[Arm]) -> Arm:
    return Arm(sum(arm.n for arm in arms), math.fsum(arm.total for arm in arms), math.fsum(arm.squares for arm in arms))
