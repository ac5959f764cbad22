"""What the reference's own stretches say of rows that depend on their neighbours, from counts at places of the file.

The counts up to a few hundred places are kept; their differences are overlapping stretches of any part of the file, so
that one pass without rows in memory gives what `evaluator.drift.calibration` gives from all rows.

A bounded sample of a table's rows, spread evenly over it, the same however the rows come in batches.

It carries grids and plots; counts and evidence come from all rows.

The reference of a file as a profile: grids from a spread sample, counts and dependence from all rows.

Only the sample, target and prediction are ever held in memory, whatever the file's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import INDEPENDENT, Calibration, block_length, of_stretches
from evaluator.drift.columns import is_categorical
from evaluator.drift.concept import ErrorReference
from evaluator.drift.feature import Column, Feature
from evaluator.drift.markov import RegimeReference, remembers
from evaluator.drift.pane import count_parts
from evaluator.drift.performance import Task, losses_of, outcomes
from evaluator.drift.profile import MISSING, SPECIALS, Profile, Truth
from evaluator.offline.drift.columns import every, joined, taken
from evaluator.offline.drift.prediction_type import Answer, Roles, infer, of_kind
from evaluator.offline.drift.scan import Batch
from evaluator.offline.drift.settings import Settings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACES = 128
"""Stretches of the reference that are compared with the rest of it."""


class Stretches:
    """Stretches of a file of `rows` rows that stand for `window` rows, cut as the counts go by."""

    def __init__(self, rows: int, window: int) -> None:
        self.rows, self.window = rows, window
        self.block = block_length(window, rows)
        if self.block < 2:
            self.starts = np.empty(0, dtype=np.int64)
        else:
            last = rows - self.block
            self.starts = np.unique(np.linspace(0, last, min(PLACES, last + 1)).astype(np.int64))
        self.cuts = np.unique(np.concatenate([self.starts, self.starts + self.block]))
        self._wanted = frozenset(self.cuts.tolist())
        self._at: dict[int, npt.NDArray[np.uint32]] = {}

    def cuts_within(self, done: int, rows: int) -> list[int]:
        """Where the next `rows` rows, after `done` ones, are to be cut; the last one is `rows`."""
        cuts = self.cuts - done
        return sorted({*cuts[(cuts > 0) & (cuts < rows)].tolist(), rows}) if rows else []

    def keep(self, place: int, counts: Ints) -> None:
        """The count vector of the first `place` rows; kept where a stretch begins or ends."""
        if place in self._wanted:
            self._at[place] = counts.astype(np.uint32)

    def counts(self, part: slice) -> Floats:
        """Counts of each stretch in a part of the count vector, shape (places, slots)."""
        at = self._at
        upper = [at[start + self.block][part] for start in self.starts.tolist()]
        lower = [at[start][part] for start in self.starts.tolist()]
        if not upper:
            return np.empty((0, part.stop - part.start))
        return (np.array(upper) - np.array(lower)).astype(np.float64)

    def calibrate(self, counts: Floats, total: Floats, *, ordered: bool) -> Calibration:
        """Limit and efficiency of a column from its stretches' `counts` (places, slots) and the file's `total`."""
        if not len(self.starts):
            return INDEPENDENT
        return of_stretches(counts, total, self.rows, self.window, ordered=ordered)


SIZE = 16_384
"""At least so many rows (where there are so many) and fewer than twice as many are kept: a grid's limits at 0.05 % then
rest on eight rows or more."""


class Sample:
    """Every k-th row of columns as they stream by; k doubles so that between `size` and twice as many are kept."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._stride = 1
        self._parts: dict[str, list[Column]] = {}
        self.rows = 0
        self._kept = 0

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """The next `rows` rows; columns are the same in each call."""
        first = -self.rows % self._stride
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(every(values, first, self._stride))
        self.rows += rows
        self._kept += len(range(first, rows, self._stride))
        while self._kept >= 2 * self._size:
            self._parts = {name: [every(joined(parts), 0, 2)] for name, parts in self._parts.items()}
            self._stride *= 2
            self._kept = -(-self._kept // 2)

    def columns(self) -> dict[str, Column]:
        """What is kept."""
        return {name: joined(parts) for name, parts in self._parts.items()}


_SEED = 20130101
"""Of the one permutation that takes the meaning from the order of rows."""
NOTHING = ""
"""The name of the column that stands for the rows where no column is watched; nobody is told of it."""
_REGIMES = 16
"""Columns of few values whose transitions are counted at most: they have to be, before it is known which remember."""
FEWEST_ERRORS = 30
"""Losses below which nothing is said of them."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one pass over the reference gave: rows, a sample of its columns, and all of target and prediction."""

    rows: int
    sample: Mapping[str, Column]
    target: Column | None
    prediction: Column | None
    roles: Roles | None
    answer: Answer

    @property
    def score(self) -> bool:
        """Whether the prediction is a probability."""
        return self.roles is not None and self.roles.says == "probability"

    def truth(self, target: Column) -> Column:
        """Any rows' target as the rules take it; unknown where it can't be a truth."""
        if self.roles is not None:
            return self.roles.truth(target)
        return of_kind(target, texts=self.target is not None and is_categorical(self.target))

    def said(self, prediction: Column) -> Column:
        """Any rows' prediction, unknown where it can't be one."""
        return prediction if self.roles is None else self.roles.said(prediction)


def learn(reader: Iterable[Batch], settings: Settings) -> Known:
    """Read the reference once. Raises DriftRequestError when target and prediction don't fit each other."""
    sample, rows = Sample(), 0
    asked = [name for name in (settings.target, settings.prediction) if name is not None]
    whole: dict[str, list[Column]] = {name: [] for name in asked}
    for batch in reader:
        sample.add({n: values for n, values in batch.columns.items() if n != settings.target}, batch.rows)
        for name in asked:
            whole[name].append(batch.columns[name])
        rows += batch.rows
    target = joined(whole[settings.target]) if settings.target is not None else None
    prediction = joined(whole[settings.prediction]) if settings.prediction is not None else None
    roles = infer(settings, target, prediction) if target is not None and prediction is not None else None
    answer = Answer() if prediction is None else Answer.of(prediction, roles)
    return Known(rows, sample.columns(), target, prediction, roles, answer)


def grids(known: Known, settings: Settings, name: str) -> Profile:
    """The profile with the final grids and truth; counts and dependence are still those of the sample."""
    said = settings.prediction
    columns = dict(known.sample) or {NOTHING: np.zeros(1)}
    profile = Profile.fit(
        columns,
        reference_id=name,
        pane=1,
        windows=(1,),
        prediction=said if said is not None and not known.score else None,
        score=said if known.score else None,
    )
    truth = None if known.target is None else _truth(known, settings, known.target, 1)[0]
    kinds = {feature.name: feature for feature in profile.features}
    few = [kinds[name] for name in profile.few_valued[:_REGIMES]] if settings.ordered else []
    states = tuple(RegimeReference.of_states(f.name, f.counts, ordered=f.numeric) for f in few)
    return _exchanged(profile, known.rows, 1, profile.features, None, truth, states)


def completed(profile: Profile, known: Known, batches: Iterable[Batch], settings: Settings, window: int) -> Profile:
    """The profile of all rows of the reference, judged on stretches that stand for `window` rows."""
    window = max(1, window)
    stretches = Stretches(known.rows, window)
    counts, done = np.zeros(profile.width, dtype=np.int64), 0
    stretches.keep(0, counts)
    paths: list[list[Ints]] = [[] for _ in profile.regimes]
    for batch in batches:
        for path, regime in zip(paths, profile.regimes, strict=True):
            slots = profile.column_slots(profile.index[regime.feature], batch.columns[regime.feature])
            path.append(regime.path(slots).astype(np.int8))
        cuts = stretches.cuts_within(done, batch.rows)
        for cut, part in zip(cuts, count_parts(profile, batch.columns, cuts), strict=True):
            counts = counts + part
            stretches.keep(done + cut, counts)
        done += batch.rows
    features = tuple(_feature(profile, i, counts, stretches, settings) for i in range(len(profile.features)))
    truth, losses = None, None
    if known.target is not None:
        truth, losses = _truth(known, settings, known.target, window)
    errors = None
    if losses is not None and len(losses) >= FEWEST_ERRORS:
        errors = ErrorReference.fit(losses, windows=(window,))
    walked = [
        regime.fitted(np.concatenate(path).astype(np.int64))
        for regime, path in zip(profile.regimes, paths, strict=True)
        if path
    ]
    regimes = tuple(regime for regime in walked if remembers(regime.counts))
    return _exchanged(profile, known.rows, window, features, errors, truth, regimes)


def _exchanged(
    profile: Profile,
    rows: int,
    window: int,
    features: tuple[Feature, ...],
    errors: ErrorReference | None,
    truth: Truth | None,
    regimes: tuple[RegimeReference, ...],
) -> Profile:
    return Profile(
        profile.reference_id,
        rows,
        window,
        (window,),
        features,
        errors,
        truth,
        regimes,
        given=profile.given,
        prediction=profile.prediction,
        score=profile.score,
    )


def _feature(profile: Profile, i: int, counts: Ints, stretches: Stretches, settings: Settings) -> Feature:
    fitted, slots = profile.features[i], profile.span(i)
    special = profile.slots + SPECIALS * i
    wild = profile.slots + SPECIALS * len(profile.features) + i
    own, outliers = counts[slots], int(counts[wild])
    missing, absent, mistyped, infinite = counts[special : special + SPECIALS].tolist()
    shape = gaps = outlying = INDEPENDENT
    if settings.ordered:
        shape = stretches.calibrate(stretches.counts(slots), own.astype(np.float64), ordered=fitted.numeric)
        gaps = _share(stretches, special + MISSING, missing)
        outlying = _share(stretches, wild, outliers)
    return replace(
        fitted,
        counts=own - fitted.chosen if len(fitted.chosen) else own,
        specials=(missing, absent, mistyped, infinite),
        outliers=outliers,
        shape=(shape,),
        missing=(gaps,),
        outlying=(outlying,),
    )


def _share(stretches: Stretches, place: int, total: int) -> Calibration:
    """Of cells of one kind among all."""
    of_kind = stretches.counts(slice(place, place + 1))
    both = np.column_stack([stretches.block - of_kind, of_kind])
    return stretches.calibrate(both, np.array([stretches.rows - total, total], dtype=np.float64), ordered=False)


def _truth(known: Known, settings: Settings, target: Column, window: int) -> tuple[Truth | None, Floats | None]:
    truth, said = known.truth(target), None if known.prediction is None else known.said(known.prediction)
    if not settings.ordered:
        order = np.random.default_rng(_SEED).permutation(known.rows)
        truth, said = taken(truth, order), None if said is None else taken(said, order)
    name = settings.prediction or ""
    fitted = Profile.fit(
        {name: truth if said is None else said},
        reference_id=name,
        pane=window,
        windows=(window,),
        prediction=name if said is not None and not known.score else None,
        score=name if known.score else None,
        targets=truth,
        task=None if known.roles is None else known.roles.task,
    )
    if said is None or fitted.truth is None or fitted.truth.performance is None:
        return fitted.truth, None
    return fitted.truth, losses(fitted.truth.performance.task, truth, said)


def losses(task: Task, truth: Column, said: Column) -> Floats:
    """Loss of each row with both: 1 for a miss and 0 for a hit, or the absolute error of a number."""
    squared = outcomes(task, truth, said)[1]
    return losses_of(task, squared[np.isfinite(squared)])
