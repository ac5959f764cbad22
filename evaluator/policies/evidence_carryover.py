"""Evidence carry-over: the score process of pairs in shadow goes on into the split ramp, under one boundary.

Stage k has score S_k, variance V_k and information I_k, so that v_k = V_k/I_k and the effect's precision is I_k / v_k.
Inverse-variance weighting in the units of the split stage is
    S = κ S_1 + S_2,   V = κ² V_1 + V_2,   I = κ I_1 + I_2,   κ = v_2 / v_1.

Invariant: κ is fixed before the split stage starts, so S is one martingale of known variance and the level holds
whatever κ is; a wrong κ costs power only. Fix it by the first look and keep it, as information must not decrease. Both
stages test "no effect on the same outcome"; where the effect differs between them, S/I estimates its average weighted
by κ I_1 and I_2. (In exact mode the stages' e-values multiply instead: see `e_process`.)
"""

from __future__ import annotations

import math

import numpy as np

from evaluator.stats.errors import PlanError, require_between
from evaluator.stats.score_process import Floats


def exchange_rate(paired_variance: float, paired_information: float, split_variance: float) -> float:
    """κ: information of the split stage that one unit of information of the paired stage is worth.

    paired_variance, paired_information: V and I (the number of pairs) when the paired stage ends, V as the look uses it
    (blocks and widening included). split_variance: V/I to expect of the split stage, from data before it, as
    `power.split_variance` computes it (times the design effect that V shows in the paired stage, if there is one).
    """
    for name, value in (
        ("paired variance", paired_variance),
        ("paired information", paired_information),
        ("split variance", split_variance),
    ):
        require_between(f"{name} of the exchange rate", value, 0.0, math.inf)
    return split_variance * paired_information / paired_variance


def carried(rows: Floats, rate: Floats | float) -> Floats:
    """Blocks of the paired stage in the units of the split stage, to put in front of that stage's blocks.

    rows: shape (…, blocks, 4), columns as in `cluster_robust.rows_of`. rate: κ, one number or one a cell, shape (…).
    """
    kappa = np.asarray(rate, dtype=np.float64)
    if not bool(np.all(np.isfinite(kappa) & (kappa > 0.0))):
        raise PlanError(f"the rate {rate!r} is not a finite number above 0")
    factors = np.stack([kappa, kappa, kappa * kappa, np.ones_like(kappa)], axis=-1)
    return np.asarray(rows * factors[..., None, :], dtype=np.float64)
