"""Facts of each champion that the triggers go by, folded from the evaluator's health and drift events. Pure.

The state is a function of the events in the log's order; an event that comes again changes nothing. It is kept in the
store with the offsets, and is bounded: the latest champions, the latest blocks.
"""

from __future__ import annotations

import math

import msgspec

from gauntlet.events import Drift, Health
from gauntlet.types import Severity

_MODELS = 4  # the champion, the one before it, and what a rollback may bring back
_FIRST = 60
_BLOCKS = 200
_COUNTS = 1_000

_DISTANCES = ("distribution", "categories", "displaced")
"""Kinds of drift signal that say how far a feature is from the reference."""


class OutcomeBlock(msgspec.Struct, frozen=True, array_like=True):
    """The champion's matured outcomes of one block that became complete at `at`."""

    at: float
    outcomes: int
    metrics: dict[str, float]


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """The open drift episode, as its latest step has it. `since`: when it opened; `worse_since`: when its severity
    became what it is. `news`: the step that told of a further break of the concept, which asks as a new episode does;
    empty before one."""

    id: str
    since: float
    worse_since: float
    severity: Severity
    root_cause: str
    action: str
    reason: str
    quality: float | None = None
    statistic: float = 0.0
    transition: float = 0.0
    p_value: float | None = None
    features: int = 0
    r2_fall: float = 0.0
    news: str = ""


class ChampionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one version since it became champion.

    `first` and `blocks`: its first and its latest blocks; `since`: by the key of a trigger, the event time since which
    its cause is there.
    """

    first: list[OutcomeBlock] = []
    blocks: list[OutcomeBlock] = []
    episode: Episode | None = None
    episodes: int = 0
    since: dict[str, float] = {}

    @property
    def heard(self) -> bool:
        """Whether the evaluator has told anything about it."""
        return bool(self.blocks or self.episodes)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the latest champions by version, the present one last, and the labelled rows of all: [time of the block,
    rows]. `at`: the latest event; `warned`: the alert of bad data is raised; `taken_back`: the
    latest rollout whose model was taken back after its promotion, and was asked about."""

    champions: dict[str, ChampionFacts] = {}
    labelled: list[tuple[float, int]] = []
    at: float = 0.0
    warned: bool = False
    taken_back: str = ""

    def of(self, champion: str) -> ChampionFacts:
        return self.champions.get(champion, ChampionFacts())

    def put(self, champion: str, own: ChampionFacts) -> Facts:
        """The facts with those of one champion, which counts as the present one; the oldest are forgotten."""
        others = {name: other for name, other in self.champions.items() if name != champion}
        kept = dict([*others.items(), (champion, own)][-_MODELS:])
        return msgspec.structs.replace(self, champions=kept)


def fold(facts: Facts, event: Health | Drift) -> Facts:
    """The facts after one event. A champion that comes back after a rollback is monitored from scratch: its open
    episode of before never closes, and is forgotten."""
    own = facts.of(event.model)
    if facts.champions and event.model != [*facts.champions][-1]:
        if event.model in facts.champions and event.at < facts.at:
            return facts  # late news of a champion of before
        own = msgspec.structs.replace(own, episode=None)
    facts = msgspec.structs.replace(facts, at=max(facts.at, event.at))
    if isinstance(event, Drift):
        return facts.put(event.model, _drift(own, event))
    if own.blocks and event.at <= own.blocks[-1].at:
        return facts  # blocks come once and in order: this one has been here
    block = OutcomeBlock(event.at, event.outcomes, event.metrics)
    own = msgspec.structs.replace(own, first=[*own.first, block][:_FIRST], blocks=[*own.blocks, block][-_BLOCKS:])
    return msgspec.structs.replace(facts, labelled=_counted(facts.labelled, block)).put(event.model, own)


def _counted(labelled: list[tuple[float, int]], block: OutcomeBlock) -> list[tuple[float, int]]:
    labelled = [*labelled, (block.at, block.outcomes)]
    if len(labelled) > _COUNTS:
        (_, first), (at, second), *rest = labelled
        labelled = [(at, first + second), *rest]
    return labelled


def _drift(own: ChampionFacts, event: Drift) -> ChampionFacts:
    before = own.episode if own.episode is not None and own.episode.id == event.episode else None
    if event.event == "close":
        return own if before is None else msgspec.structs.replace(own, episode=None)
    return msgspec.structs.replace(
        own, episode=_episode(event, before), episodes=own.episodes + (1 if before is None else 0)
    )


def _episode(event: Drift, before: Episode | None) -> Episode:
    severity = Severity(event.severity)
    reason = f"{severity} drift, root cause {event.root_cause}"
    if event.features:
        reason += f" ({', '.join(f.name for f in event.features[:5])})"
    moved = [signal for signal in event.raised if signal.kind in _DISTANCES]
    p_values = [signal.p_value for signal in event.raised if signal.p_value is not None and signal.kind != "quality"]
    # One at the severity that is known already; a repetition of that which made it known is none.
    further = event.event == "escalate" and before is not None and before.severity == severity
    further = further and before is not None and event.at > before.worse_since
    return Episode(
        id=event.episode,
        since=before.since if before else event.at,
        worse_since=before.worse_since if before and before.severity == severity else event.at,
        severity=severity,
        root_cause=event.root_cause,
        action=event.action,
        reason=reason,
        quality=event.quality,
        statistic=max((signal.statistic for signal in moved), default=0.0),
        transition=max((signal.statistic for signal in event.raised if signal.kind == "regime"), default=0.0),
        p_value=min(p_values, default=None),
        features=len({signal.name for signal in moved}),
        r2_fall=max((signal.statistic for signal in event.raised if signal.kind == "r2"), default=0.0),
        news=event.id if further else before.news if before else "",
    )


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A metric over some blocks, with one-sided limits; None where the blocks are too few for them."""

    value: float
    lower: float | None
    upper: float | None


def estimate(blocks: list[OutcomeBlock], metric: str, confidence: float) -> Estimate | None:
    """The mean of `metric` over the outcomes of `blocks`, or None without any. RMSE is the root of a mean of squares.

    Limits by the spread of whole blocks, because errors of one day come and go together: the ratio estimator's
    linearised variance (Cochran 1977, eq. 6.13) with Student's t of the blocks less one. Fewer than two blocks say
    nothing of their spread, except that at 0.5 both limits are the value.
    """
    found = [(block.outcomes, block.metrics[metric]) for block in blocks if block.outcomes and metric in block.metrics]
    if not found:
        return None
    squared = metric == "rmse"
    means = [value * value if squared else value for _, value in found]
    rows = sum(n for n, _ in found)
    mean = math.fsum(n * value for (n, _), value in zip(found, means, strict=True)) / rows
    half: float | None = 0.0
    if confidence > 0.5:
        half = None
        if len(found) > 1:
            from scipy.special import stdtrit  # Student's quantile; half a second, where there is something to judge

            spread = math.fsum((n * (value - mean)) ** 2 for (n, _), value in zip(found, means, strict=True))
            error = math.sqrt(spread * len(found) / (len(found) - 1)) / rows
            half = error * float(stdtrit(len(found) - 1, confidence))
    limits = (None, None) if half is None else (mean - half, mean + half)
    if not squared:
        return Estimate(value=mean, lower=limits[0], upper=limits[1])
    roots = [None if limit is None else math.sqrt(max(limit, 0.0)) for limit in limits]
    return Estimate(value=math.sqrt(mean), lower=roots[0], upper=roots[1])


def latest(blocks: list[OutcomeBlock], now: float, window: float) -> list[OutcomeBlock]:
    """The blocks of the last `window` seconds."""
    return [block for block in blocks if block.at > now - window]


def learned(own: ChampionFacts, metric: str, least: int) -> tuple[float, int] | None:
    """What the champion showed in its own first blocks with `least` outcomes together, and the number of these; None
    while there are fewer."""
    rows = 0
    for place, block in enumerate(own.first):
        rows += block.outcomes
        if rows >= least and (found := estimate(own.first[: place + 1], metric, 0.5)) is not None:
            return found.value, rows
    return None
