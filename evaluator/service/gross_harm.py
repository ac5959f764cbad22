"""The gross-harm watches of the running rollouts: every matured pair, or outcome of split traffic, as it comes in.

The watches see pairs in the order of arrival, which may differ between two readings of the same log; sums and looks do
not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from evaluator.stats.gross_harm import GrossHarm, GrossHarmWatch

Floats = NDArray[np.float64]

_WAITING = 64


class _Watched(msgspec.Struct, kw_only=True):
    """One rollout's watch. waiting: latest losses of the champion that none of the challenger's stood beside yet."""

    watch: GrossHarmWatch
    waiting: list[float] = []
    reported: bool = False


class GrossHarmMonitor:
    """One watch for each rollout, made with its first pair."""

    def __init__(self, margin: float, alpha: float) -> None:
        """`margin`: share of the champion's loss; `alpha`: level of a false alarm over a rollout's life."""
        self._margin = margin
        self._alpha = alpha
        self._rollouts: dict[str, _Watched] = {}

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
        return {
            name: {"watch": watched.watch.to_dict(), "waiting": watched.waiting, "reported": watched.reported}
            for name, watched in self._rollouts.items()
        }

    def restore(self, data: dict[str, Any]) -> None:
        self._rollouts = {
            name: _Watched(
                watch=GrossHarmWatch.from_dict(saved["watch"]), waiting=saved["waiting"], reported=saved["reported"]
            )
            for name, saved in data.items()
        }

    def _of(self, rollout: str) -> _Watched:
        if rollout not in self._rollouts:
            self._rollouts[rollout] = _Watched(watch=GrossHarmWatch(self._margin, self._alpha))
        return self._rollouts[rollout]
