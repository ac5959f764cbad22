"""What an operator has to know of what is judged: where the absence of a verdict would read as health. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.watermark import WENT_BACK
from gauntlet.clock import lasting
from gauntlet.config import Config
from gauntlet.status import FalseAlarms, Problem
from gauntlet.types import Severity

_FEWEST = 100
"""Outcomes that count for nothing from which that is worth telling."""


def findings(
    config: Config,
    monitor: ChampionMonitor | None,
    counts: Mapping[str, int],
    aa: FalseAlarms | None,
    gaps: Mapping[str, tuple[float, float]],
) -> Iterator[Problem]:
    """Problems of what is judged. counts: of outcomes since this start, by what became of them; gaps: of each partition
    whose clock was set back, the time before and the latest since."""
    for source, (before, since) in gaps.items():
        yield Problem(
            code="clock_went_back",
            severity=Severity.HIGH,
            source=source,
            text=f"the times of its requests went back: after {_utc(before)} came {_utc(since)}. Some {WENT_BACK} "
            "requests count for nothing; then watches go on, and looks at what was not over by the earlier clock",
            remedy="keep the routers' clocks in step (NTP). A rollout that gets no look any more waits until "
            f"{_utc(before)}: end it with `gauntlet rollback`, and challenge anew",
        )
    if config.drift.enabled and monitor is not None and (waits := monitor.waits) is not None:
        yield Problem(
            code="drift_not_judged",
            severity=Severity.LOW,
            source=monitor.version,
            text=f"drift can't be judged yet: {waits}",
            remedy="nothing, it goes on by itself; with a `reference` a champion is judged from the start",
        )
    if config.drift.enabled and monitor is not None:
        yield from _of_columns(monitor)
    late, orphans, joined = (counts.get(kind, 0) for kind in ("late", "orphan", "joined"))
    if late + orphans > max(_FEWEST, joined):
        horizon = lasting(float(config.evidence.outcome_horizon))
        yield Problem(
            code="outcomes_unused",
            severity=Severity.HIGH,
            source="evaluator",
            text=f"most outcomes count for nothing: {late:,} came more than {horizon} after their prediction, "
            f"{orphans:,} much later still or for no known prediction, and {joined:,} in time",
            remedy="set `evidence.outcome_horizon` to the time in which outcomes come, and start again; or see that "
            "they carry the ids that the predictions were answered with",
        )
    if aa is not None and aa.too_many:
        yield Problem(
            code="false_alarms",
            severity=Severity.MEDIUM,
            source="evaluator",
            text=f"the tests raise more false alarms than declared: in the continuous A/A slice {aa.reason}",
            remedy="trust no verdict that is close; outcomes err together over longer than `evidence.cycle` or `block` "
            "(make it longer), units share their luck (send a `unit`), or the arms are not recorded alike",
        )


def _of_columns(monitor: ChampionMonitor) -> Iterator[Problem]:
    """Values that drift can't tell, and those that are only spelt otherwise."""
    for name, share in monitor.rare:
        yield Problem(
            code="rare_values",
            severity=Severity.LOW,
            source=monitor.version,
            text=f"drift of {name} can't be fully judged: {share:.1%} of its values are too rare to be counted one by "
            "one, and a shift among them does not show",
            remedy="nothing, where outcomes show a loss; else send what counts in it as a feature of few values, or a "
            "number",
        )
    for one in monitor.respelt:
        yield Problem(
            code="respelt_values",
            severity=Severity.LOW,
            source=monitor.version,
            text=f"{one}; to the model they are values that it has never seen",
            remedy="have the callers send the spelling that the model was trained on",
        )


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
