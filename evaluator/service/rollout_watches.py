"""The watches of the running rollouts, between looks: gross harm on every pair (or outcome of split traffic) as it
comes in, and guardrails on rates and label arrival on every request.

The watches see events in the order of arrival, which may differ between two readings of the same log; sums and looks
do not depend on it.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from evaluator.service.design import WATCH_SHARE, Guard, RolloutPlan
from evaluator.service.guardrails import LABEL_ARRIVAL
from evaluator.service.join_records import Contest, Exposure, JoinResult
from evaluator.service.request_counts import class_end, quantile_class, time_class
from evaluator.stats.harm_watches import GrossHarm, GrossHarmWatch, RateHarm, RateWatch, UsualLosses
from evaluator.stats.score_process import Floats
from gauntlet.config import RATES
from gauntlet.types import CHALLENGER, CHAMPION

_WAITING = 64
_REMEMBERED = 10_000
"""The champion's latest losses that a new rollout's measure begins with, about so many."""
_STEPS = 8
"""Steps of exposure time in the age at which label arrival is judged."""
_USUAL = 0.95
"""Share of the labels whose age, doubled, is that age."""


class _Watched(msgspec.Struct, kw_only=True):
    """One rollout's watch. waiting: latest losses of the champion that none of the challenger's stood beside yet."""

    watch: GrossHarmWatch
    waiting: list[float] = []
    reported: bool = False


class GrossHarmMonitor:
    """One watch for each rollout, made with its first pair.

    It measures harm by the champion's usual loss, which begins with what was served before the rollout: the first pairs
    of one that begins in a calm night would take any difference for gross.
    """

    def __init__(self, margin: float, alpha: float) -> None:
        """`margin`: share of the champion's loss; `alpha`: level of a false alarm over a rollout's life."""
        self._margin = margin
        self._alpha = alpha
        self._rollouts: dict[str, _Watched] = {}
        self._usual = UsualLosses()

    def served(self, losses: Floats) -> None:
        """Losses of what was served, shape (n,): the champion's but for the ramp's share."""
        if self._usual.n > _REMEMBERED:
            self._usual.halve()
        self._usual.add(losses)

    def pairs(self, rollout: str, champion: Floats, challenger: Floats) -> None:
        """Both arms' losses on the same requests, shape (n,)."""
        self._of(rollout).watch.add(champion, challenger)

    def arms(self, rollout: str, champion: Floats, challenger: Floats) -> None:
        """Losses of split traffic: each of the challenger's is compared with one of the champion's of that time."""
        watched = self._of(rollout)
        ours = [*watched.waiting, *champion.tolist()]
        n = min(len(ours), len(challenger))
        watched.watch.add(np.array(ours[:n]), challenger[:n])
        watched.waiting = ours[n:][-_WAITING:]

    def take(self, rollout: str) -> GrossHarm | None:
        """An alarm that was not taken yet."""
        watched = self._rollouts.get(rollout)
        if watched is None or watched.reported or watched.watch.alarm is None:
            return None
        watched.reported = True
        return watched.watch.alarm

    def forget(self, keep: Iterable[str]) -> None:
        """Drop rollouts that are not in `keep`."""
        kept = set(keep)
        self._rollouts = {name: watched for name, watched in self._rollouts.items() if name in kept}

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins({"rollouts": self._rollouts, "usual": self._usual}, str_keys=True)
        return found

    def restore(self, data: dict[str, Any]) -> None:
        self._usual = msgspec.convert(data["usual"], UsualLosses, strict=False)
        self._rollouts = msgspec.convert(data["rollouts"], dict[str, _Watched], strict=False)

    def _of(self, rollout: str) -> _Watched:
        if rollout not in self._rollouts:
            watch = GrossHarmWatch(self._margin, self._alpha, usual=copy.deepcopy(self._usual))
            self._rollouts[rollout] = _Watched(watch=watch)
        return self._rollouts[rollout]


class RateAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail that a watch has shown to be broken: what was counted, and in words."""

    guard: Guard
    found: RateHarm
    reason: str


class _Rates(msgspec.Struct, kw_only=True):
    """One rollout's watches, each with its guardrail; the last is of label arrival.

    slower: by guardrail, the class of served times above which a request counts as slow in the present window; times:
    the champion's requests by class. age: seconds after which a request's label is asked for; asked: requests since
    `begins` by step of their time and propensity, as [champion's, challenger's, and those of each with their label];
    latest: the last request's time.
    """

    guards: list[Guard]
    watches: list[RateWatch]
    age: float
    begins: float = 0.0
    latest: float = 0.0
    slower: dict[str, int | None] = {}
    times: dict[int, int] = {}
    asked: dict[int, dict[float, list[int]]] = {}
    reported: bool = False

    @property
    def arrival(self) -> RateWatch | None:
        """The watch of label arrival, unless that is switched off."""
        asks = self.guards and self.guards[-1].metric == LABEL_ARRIVAL
        return self.watches[-1] if asks else None


Request = tuple[Exposure, Contest]
"""A request as one comparison sees it."""


class RateMonitor:
    """The watches of every rollout's guardrails on rates, made with its first request."""

    def __init__(self, plan: RolloutPlan, horizon: float) -> None:
        """`plan`: of rollouts that begin from now on; `horizon`: of outcomes, in seconds."""
        self._plan = plan
        self._horizon = horizon
        self._rollouts: dict[str, _Rates] = {}
        self._lags: dict[int, int] = {}

    def observe(self, joined: JoinResult) -> None:
        """Count the requests, shadow scores and outcomes that a batch has joined."""
        requests: dict[str, list[Request]] = defaultdict(list)
        scored: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for e in joined.exposures:
            for contest in () if e.forced else e.contests:
                if e.arm_in(contest) is not None:
                    requests[contest.rollout].append((e, contest))
        for each in joined.scored:
            scored[each.contest.rollout].append((each.champion, each.challenger))
        for name, exposures in requests.items():
            self._requests(self._of(name), exposures)
        for name, answers in scored.items():
            self._answers(self._of(name), np.array(answers, dtype=np.float64))
        for match in joined.arrivals:
            e, lag = match.exposure, max(0.0, match.truth.at - match.exposure.at)
            self._lags[time_class(lag)] = self._lags.get(time_class(lag), 0) + 1
            for contest in filter(e.is_draw, e.contests):
                rates = self._rollouts.get(contest.rollout)
                if rates is not None and rates.arrival and e.at >= rates.begins and lag <= rates.age:
                    rates.asked[_step(rates, e.at)][contest.share][2 + (e.assigned == CHALLENGER)] += 1

    def mature(self, now: float) -> None:
        """Count the labels of requests that are old enough at the event time `now`. Outcomes must have been read as for
        the looks."""
        for rates in self._rollouts.values():
            watch, age = rates.arrival, self._age
            if watch is None:
                continue
            if watch.fresh and not 0.5 * rates.age <= age <= 2.0 * rates.age:
                rates.age, rates.asked, rates.begins = age, {}, math.nextafter(rates.latest, math.inf)
            width = rates.age / _STEPS
            for step in sorted(step for step in rates.asked if (step + 1) * width + rates.age <= now):
                rates.begins = (step + 1) * width
                for share, (ours, theirs, came, came_theirs) in rates.asked.pop(step).items():
                    # Half of the champion's labels, so that the null is "at least half as many of the challenger's".
                    good = np.repeat([0.5, 0.0, 1.0, 0.0], [came, ours - came, came_theirs, theirs - came_theirs])
                    watch.add(np.arange(ours + theirs) >= ours, np.full(ours + theirs, share), good)

    def take(self, rollout: str) -> RateAlarm | None:
        """The first alarm of a rollout, once."""
        rates = self._rollouts.get(rollout)
        if rates is None or rates.reported:
            return None
        for guard, watch in zip(rates.guards, rates.watches, strict=True):
            if watch.alarm is not None:
                rates.reported = True
                return RateAlarm(guard=guard, found=watch.alarm, reason=_reason(rates, guard, watch.alarm))
        return None

    def forget(self, keep: Iterable[str]) -> None:
        """Drop rollouts that are not in `keep`."""
        kept = set(keep)
        self._rollouts = {name: rates for name, rates in self._rollouts.items() if name in kept}

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins({"rollouts": self._rollouts, "lags": self._lags}, str_keys=True)
        return found

    def restore(self, data: dict[str, Any]) -> None:
        self._rollouts = msgspec.convert(data["rollouts"], dict[str, _Rates], strict=False)
        self._lags = msgspec.convert(data["lags"], dict[int, int], strict=False)

    @property
    def _age(self) -> float:
        """Twice the age that most labels had, or the horizon while that is not known. Any age compares the arms."""
        usual = quantile_class(self._lags, _USUAL)
        return self._horizon if usual is None else min(self._horizon, max(1.0, 2.0 * class_end(usual)))

    def _of(self, rollout: str) -> _Rates:
        if rollout not in self._rollouts:
            plan = self._plan
            guards = [guard for guard in plan.guards if guard.metric in RATES]
            watches = [RateWatch(guard.margin, WATCH_SHARE * guard.alpha) for guard in guards]
            if plan.label_arrival_margin < 1.0:
                guard = Guard(
                    name=LABEL_ARRIVAL, metric=LABEL_ARRIVAL, margin=plan.label_arrival_margin, alpha=plan.alpha / 2
                )
                guards, watches = [*guards, guard], [*watches, RateWatch(0.0, WATCH_SHARE * guard.alpha)]
            self._rollouts[rollout] = _Rates(guards=guards, watches=watches, age=self._age)
        return self._rollouts[rollout]

    def _requests(self, rates: _Rates, requests: Sequence[Request]) -> None:
        draws = [(e, contest) for e, contest in requests if e.is_draw(contest)]
        drawn = [e for e, _ in draws]
        treated = np.array([e.assigned == CHALLENGER for e in drawn], dtype=np.bool_)
        share = np.array([contest.share for _, contest in draws])
        for guard, watch in zip(rates.guards, rates.watches, strict=True):
            does_well = self._rule(rates, guard, watch)
            if drawn and does_well is not None:
                watch.add(treated, share, np.array([does_well(e) for e in drawn], dtype=np.float64))
        for e, _ in requests:
            if e.assigned == CHAMPION:
                index = time_class(e.seconds)
                rates.times[index] = rates.times.get(index, 0) + 1
        for e, contest in ((e, contest) for e, contest in draws if rates.arrival and e.at >= rates.begins):
            rates.latest = max(rates.latest, e.at)
            counts = rates.asked.setdefault(_step(rates, e.at), {}).setdefault(contest.share, [0, 0, 0, 0])
            counts[e.assigned == CHALLENGER] += 1

    def _rule(self, rates: _Rates, guard: Guard, watch: RateWatch) -> Callable[[Exposure], bool] | None:
        """What a request must be to do well; None where that is not known at once, or not of requests."""
        if guard.metric == LABEL_ARRIVAL or (guard.metric == "coverage" and self._plan.paired):
            return None
        if guard.metric == "error_rate":
            return lambda e: not e.failed
        if guard.metric != "latency":
            return lambda e: e.fallback is None
        if watch.fresh or rates.slower.get(guard.name) is None:
            rates.slower[guard.name] = quantile_class(rates.times, guard.quantile)
        slowest = rates.slower[guard.name]
        return None if slowest is None else lambda e: time_class(e.seconds) <= slowest

    def _answers(self, rates: _Rates, valid: Floats) -> None:
        for guard, watch in zip(rates.guards, rates.watches, strict=True):
            if guard.metric == "coverage" and self._plan.paired:
                watch.add_pairs(valid[:, 0], valid[:, 1])


def _step(rates: _Rates, at: float) -> int:
    return int(at // (rates.age / _STEPS))


def _reason(rates: _Rates, guard: Guard, found: RateHarm) -> str:
    """The alarm in words."""
    if guard.metric == LABEL_ARRIVAL:
        return (
            f"label arrival: {rates.age:.3g} s after the request, {found.challenger_good:.0f} of the challenger's "
            f"{found.challenger:.0f} outcomes had come, and {2 * found.champion_good:.0f} of the champion's "
            f"{found.champion:.0f}: fewer than half as many"
        )
    slowest = rates.slower.get(guard.name)
    what = {
        "latency": f"took more than {0.0 if slowest is None else class_end(slowest):.3g} s",
        "coverage": "got no valid answer",
        "error_rate": "failed",
        "fallback_rate": "were answered by the champion",
    }[guard.metric]
    return (
        f"{guard.name}: {found.challenger - found.challenger_good:.0f} of the challenger's {found.challenger:.0f} "
        f"requests {what}, and {found.champion - found.champion_good:.0f} of the champion's {found.champion:.0f}; "
        f"that is worse by more than the margin of {guard.margin:g}"
    )
