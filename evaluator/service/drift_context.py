"""Drift context of a look: the effect of an open episode on each arm, and whether it met both alike. Pure.

The tests compare arms on the same traffic, so drift that meets both moves neither of them apart. The context shows that
in numbers, so that drift is not taken for the challenger's fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from evaluator.stats import Block
from evaluator.stats.score_process import Arm
from gauntlet.events import Drift, DriftCondition
from gauntlet.types import CHALLENGER, CHAMPION

FEWEST_BLOCKS = 3
"""Blocks on either side of the episode's beginning that a test of the difference needs."""
_ALIKE = 0.01
"""p value of a difference between the arms' changes from which nothing tells the drift apart from one of both; small,
for it is asked at every look."""


def open_episode(history: Sequence[Drift], at: float) -> tuple[Drift, float] | None:
    """The last step of the episode that is open at event time `at`, and when it began; None when none is.

    history: drift events in the order in which they were found.
    """
    known = [event for event in history if event.at <= at]
    if not known or known[-1].event == "close":
        return None
    last = known[-1]
    return last, next(event.at for event in known if event.episode == last.episode)


def condition(episode: Drift, since: float, before: Sequence[Block], after: Sequence[Block]) -> DriftCondition:
    """What the episode did: each arm's mean gain (minus the primary loss) before and after it began, and the p value of
    a difference between the two changes.

    The contrast of arms in a block is S / I, weighed by I; its variance is that of the blocks (Cochran 1977, 6.11), and
    Welch's t compares both sides.
    """
    gains = {
        CHAMPION: (_mean([b.champion for b in before]), _mean([b.champion for b in after])),
        CHALLENGER: (_mean([b.challenger for b in before]), _mean([b.challenger for b in after])),
    }
    p_value = _difference(before, after)
    known = [(was, now) for was, now in gains.values() if was is not None and now is not None]
    alike = None if p_value is None or len(known) < len(gains) else p_value >= _ALIKE
    return DriftCondition(
        episode=episode.episode,
        severity=episode.severity,
        root_cause=episode.root_cause,
        since=since,
        before={arm: was for arm, (was, _) in gains.items() if was is not None},
        after={arm: now for arm, (_, now) in gains.items() if now is not None},
        p_value=p_value,
        alike=alike,
    )


def sentence(found: DriftCondition, metric: str) -> str:
    """The condition as a reason."""
    what = f"drift is open ({found.severity}, {found.root_cause})"
    if found.alike is None:
        return f"{what}: too few blocks to tell whether it met both arms alike"
    moved = ", ".join(
        f"{name}'s {-found.before[arm]:.4g} → {-found.after[arm]:.4g}"
        for arm, name in ((CHAMPION, "champion"), (CHALLENGER, "challenger"))
    )
    if found.alike:
        return f"{what}, and nothing shows that it met the arms differently (loss by {metric}: {moved})"
    return f"{what} and did not meet both arms alike (loss by {metric}: {moved}; p = {found.p_value:.2g})"


def _mean(arms: Sequence[Arm]) -> float | None:
    rows = sum(arm.n for arm in arms)
    return sum(arm.total for arm in arms) / rows if rows else None


def _difference(before: Sequence[Block], after: Sequence[Block]) -> float | None:
    sides = []
    for blocks in (before, after):
        known = [block for block in blocks if block.information > 0]
        if len(known) < FEWEST_BLOCKS:
            return None
        weight = np.array([block.information for block in known])
        effect = np.array([block.score for block in known]) / weight
        mean = float(np.average(effect, weights=weight))
        n = len(known)
        variance = float((weight**2 * (effect - mean) ** 2).sum() / weight.sum() ** 2) * n / (n - 1)
        sides.append((mean, variance, n))
    (was, was_variance, m), (now, now_variance, n) = sides
    variance = was_variance + now_variance
    if variance <= 0.0:
        return 1.0 if was == now else 0.0
    freedom = variance**2 / (was_variance**2 / (m - 1) + now_variance**2 / (n - 1))
    return float(2.0 * stdtr(freedom, -abs(now - was) / math.sqrt(variance)))
