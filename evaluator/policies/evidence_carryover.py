"""One information clock for two stages: evidence of pairs in shadow goes on into the split ramp.

Invariant: the stages are weighted by numbers fixed before the later one starts, so the sum of their scores is one
martingale with known variance, and one spending function and one boundary run over both.

Stage k has score S_k, variance V_k and information I_k, all blocks counted, with effect S_k/I_k of variance V_k/I_k².
What an effect is worth knowing is 1/Var, which is I_k / v_k with v_k = V_k/I_k: a pair knows far more than a unit of
split traffic, because D = Y_challenger − Y_champion varies less than Y. Inverse-variance weighting is
    S = κ S_1 + S_2,   V = κ² V_1 + V_2,   I = κ I_1 + I_2,   κ = v_2 / v_1,
in the units of the split stage, so the horizon stays the one planned for it: κ I_1 of it are already in. With κ right,
V/I is the same in both stages and S/I is the best estimate; with any other κ fixed by the past the level still holds
(S is a martingale of variance V), only some power is lost. κ chosen after seeing the later stage is not allowed. Looks
at the paired stage alone have the same z at any κ; it only says what time it is, so fix it by the first look and keep
it: time must not go back.

The null is the same in both stages ("no effect on the same outcome"). Where an effect can differ between them (users
react to what they are served), S/I estimates the average weighted by κ I_1 and I_2, and a crossing says that it is not
zero in at least one of them. (In exact mode the stages' e-values multiply instead: see `betting`.)
"""

from __future__ import annotations

import math

import numpy as np

from evaluator.stats.errors import PlanError
from evaluator.stats.score_process import Floats


def exchange_rate(paired_variance: float, paired_information: float, split_variance: float) -> float:
    """κ: how much information of the split stage one unit of information of the paired stage is worth.

    paired_variance, paired_information: V and I (the number of pairs) when the paired stage ends, V as the look uses it
    (blocks and widening included). split_variance: V/I to expect of the split stage, from data before it, as
    `planning.split_variance` computes it (times the design effect that V shows in the paired stage, if there is one).
    """
    for name, value in (
        ("paired variance", paired_variance),
        ("paired information", paired_information),
        ("split variance", split_variance),
    ):
        if not (math.isfinite(value) and value > 0.0):
            raise PlanError(f"the {name} {value!r} is not a finite number above 0")
    return split_variance * paired_information / paired_variance


def carried(rows: Floats, rate: Floats | float) -> Floats:
    """Blocks of the paired stage in the units of the split stage: put them in front of the split stage's blocks.

    rows: shape (…, blocks, 4), columns (score, information, unit variance, units) as in `statistic.rows_of`.
    rate: κ, one number or shape (…): one for each cell. The count of units stays what it is.
    """
    kappa = np.asarray(rate, dtype=np.float64)
    if not bool(np.all(np.isfinite(kappa) & (kappa > 0.0))):
        raise PlanError(f"the rate {rate!r} is not a finite number above 0")
    factors = np.stack([kappa, kappa, kappa * kappa, np.ones_like(kappa)], axis=-1)
    return np.asarray(rows * factors[..., None, :], dtype=np.float64)
