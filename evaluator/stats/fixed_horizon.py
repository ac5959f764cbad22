"""The fixed-horizon test: one decision, at the first look with the whole planned information."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import ndtr, ndtri

from evaluator.stats.alpha_spending import consistent_p
from evaluator.stats.errors import require_between
from evaluator.stats.score_process import Bools, Floats, from_json


@dataclass(frozen=True, eq=False)
class FixedHorizon:
    """The classical test of one side: a cell's first look at t ≥ 1 decides at z_{1−α}. p is 1 before it and stays."""

    alpha: float
    p: Floats
    done: Bools

    @classmethod
    def start(cls, alpha: float, cells: int = 1) -> Self:
        require_between("level", alpha, 0.0, 0.5)
        return cls(alpha, np.ones(cells), np.zeros(cells, dtype=np.bool_))

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        now = ready & ~self.done & (t >= 1.0)
        bounds = np.where(now, -ndtri(self.alpha), np.inf)
        p = np.where(now, ndtr(-np.where(now, z, 0.0)), self.p)
        return bounds, replace(self, p=consistent_p(p, self.p, now & (z >= bounds), self.alpha), done=self.done | now)

    def to_dict(self) -> dict[str, Any]:
        return {"p": self.p.tolist(), "done": self.done.tolist()}

    def restored(self, data: dict[str, Any]) -> Self:
        return replace(self, p=from_json(data["p"]), done=np.array(data["done"], dtype=np.bool_))
