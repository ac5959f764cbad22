"""Records that the join produces: exposures with their comparisons, labels, matches and pairs. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Self

import msgspec

from gauntlet.events import Prediction
from gauntlet.types import CHALLENGER, CHAMPION

MOST_REPORTS = 64
"""Outcomes of one request that are kept while they wait; of more, the latest that came."""

_NOT_ASKED = "breaker_open"  # a fallback that is not a failure of the challenger's own


class Contest(msgspec.Struct, frozen=True, array_like=True):
    """What the comparison of one challenger with the champion needs of a prediction.

    share: the probability of this challenger given that it was this one or the champion; 0 in shadow, and where the
    unit was assigned to another challenger, which says nothing about these two. first: the unit's first exposure to the
    split in this rollout; only that was a draw of its own. moved: its first exposure to the other arm under the same
    allocation.
    """

    rollout: str
    challenger: str
    share: float
    rule: str
    first: bool = True
    moved: bool = False


def aa_name(number: int) -> str:
    """A round of the continuous A/A slice, where units are kept by rollout; no rollout's id looks like it."""
    return f"A/A {number}"


class Draw(msgspec.Struct, frozen=True, array_like=True):
    """A unit's first draw in a round of the continuous A/A slice: for the phantom arm or not, at that propensity."""

    round: int
    share: float
    drawn: bool


def holdout_name(promotion: str) -> str:
    """A promotion's reverse holdout, where units are kept by rollout."""
    return f"holdout {promotion}"


class HoldoutDraw(msgspec.Struct, frozen=True, array_like=True):
    """A unit's first draw in a promotion's reverse holdout: held out or not. share: the probability of the new champion
    given that it was that or the one before, as no challenger says anything about these two."""

    promotion: str
    champion: str
    previous: str
    share: float
    drawn: bool

    @classmethod
    def of(cls, event: Prediction) -> Self | None:
        """None where there is no holdout, and for a challenger's unit."""
        holdout = event.holdout
        if holdout is None or event.forced or event.assigned != CHAMPION or not 0 < holdout.propensity < 1:
            return None
        ours = (1.0 - holdout.propensity) * (1.0 - sum(each.propensity for each in event.contenders))
        share = ours / (ours + holdout.propensity)
        return cls(holdout.promotion, event.champion, holdout.previous, share, holdout.drawn)


class Exposure(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of a prediction.

    champion: of a unit that is held out, the one before, which is all that its answer tells of. holdout: None where the
    request says nothing new of the reverse holdout.

    rollout: that of the challenger which the unit was assigned to, None for the champion. segments: the declared labels
    among the request's. phantom: None where the request says nothing new of the A/A slice.
    """

    at: float
    assigned: str
    served: str
    allocation: int
    champion: str
    rollout: str | None
    contests: list[Contest]
    output: list[float] | float | None
    fallback: str | None
    forced: bool
    seconds: float = 0.0
    segments: dict[str, str] = {}
    phantom: Draw | None = None
    holdout: HoldoutDraw | None = None

    @property
    def failed(self) -> bool:
        """Whether the challenger itself was at fault."""
        return self.fallback not in (None, _NOT_ASKED)

    def is_draw(self, contest: Contest) -> bool:
        """Whether its arm was drawn, and not before for the same unit: then it compares the arms."""
        return not self.forced and contest.first and 0 < contest.share < 1

    @property
    def model(self) -> str:
        """The version that answered."""
        if self.served == CHAMPION:
            return self.champion
        return next((c.challenger for c in self.contests if c.rollout == self.rollout), self.champion)

    def arm_in(self, contest: Contest) -> str | None:
        """The arm of a comparison that the unit was assigned to; None where it was another challenger's."""
        if self.assigned == CHAMPION:
            return CHAMPION
        return CHALLENGER if self.rollout == contest.rollout else None


class Score(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of a shadow score."""

    arm: str
    model: str
    output: list[float] | float | None
    rollout: str | None = None


class Truth(msgspec.Struct, frozen=True, array_like=True):
    """What the evidence needs of an outcome."""

    at: float
    value: str | int | float | bool


def settled_label(reports: Sequence[Truth], asked: float, horizon: float) -> tuple[Truth, float | None, Counter[str]]:
    """Which of several outcomes of one request is its label, where corrections count until the horizon is over; when
    the first outcome came that contradicts it in vain; and the others by what became of them.

    The label is the latest by its time that is within `horizon` seconds of the request's, `asked`; of one time, the one
    that came last. Without any in time it is the earliest, which is late. `reports` are in the order in which they
    came, at least one.
    """
    by_time = sorted(reports, key=lambda report: report.at)
    in_time = [report for report in by_time if report.at - asked <= horizon]
    counts: Counter[str] = Counter()
    for earlier, later in itertools.pairwise(in_time):
        counts["duplicate" if earlier.value == later.value else "corrected"] += 1
    label = in_time[-1] if in_time else by_time[0]
    rest = [report for report in by_time[len(in_time) :] if report is not label]
    contradicted = [report.at for report in rest if report.value != label.value]
    counts += Counter(conflict=len(contradicted), duplicate=len(rest) - len(contradicted))
    return label, contradicted[0] if contradicted else None, counts


class Match(msgspec.Struct, frozen=True, array_like=True):
    """A prediction that has just met its outcome in time (`score` None), or a shadow score of it that has."""

    exposure: Exposure
    truth: Truth
    score: Score | None


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """A request with a truth that two models have answered: the champion and a challenger, or (`contest` None) the
    champion and the one of before, `previous`, since its `promotion`."""

    exposure: Exposure
    contest: Contest | None
    truth: Truth
    champion: list[float] | float
    other: list[float] | float
    previous: str | None = None
    promotion: str | None = None


class Rivals(msgspec.Struct, frozen=True, array_like=True):
    """A request with a truth that two challengers have answered. first, second: their versions, by name."""

    exposure: Exposure
    truth: Truth
    first: str
    second: str
    outputs: tuple[list[float] | float, list[float] | float]


class Contradiction(msgspec.Struct, frozen=True, array_like=True):
    """The first outcome that contradicts the label in use.

    at: the request's time; of an outcome after the horizon, the time of the requests that matured when it came, so
    that only looks from then on know of it.
    """

    exposure: Exposure
    at: float


class Scored(msgspec.Struct, frozen=True, array_like=True):
    """A request that both models of a comparison were asked for, and which of them gave a valid answer."""

    exposure: Exposure
    contest: Contest
    champion: bool
    challenger: bool


class JoinResult(msgspec.Struct):
    """What one batch has joined: new predictions with their exposures, outcomes that arrived in time (also those that
    wait), matches (exposure and label), pairs, those of two challengers (`rivals`), shadow scores with a label
    (`rated`), requests that both models of a comparison were asked for (`scored`, whatever becomes of their outcome),
    contradicted labels, and counts by kind."""

    predictions: list[Prediction]
    exposures: list[Exposure]
    arrivals: list[Match]
    matches: list[Match]
    pairs: list[Pair]
    rivals: list[Rivals]
    rated: list[Match]
    scored: list[Scored]
    contradictions: list[Contradiction]
    counts: Counter[str]

    @classmethod
    def nothing(cls) -> JoinResult:
        return cls([], [], [], [], [], [], [], [], [], Counter())
