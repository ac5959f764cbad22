"""Sequential statistics of a champion and a challenger. The methods are described in docs/statistics.md.

Invariant: pure functions and records, without I/O, clock or randomness, that import nothing else of Gauntlet; live
rollouts, `gauntlet analyze` and `gauntlet plan` use the same code.
"""

from evaluator.stats.alpha_spending import Spending
from evaluator.stats.errors import NoAnswer, OrderError, OutcomeError, PlanError, PropensityError, StatsError
from evaluator.stats.evidence import Evidence
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.interim_analysis import Look, State, Stop, advance, advance_at_scales
from evaluator.stats.sample_ratio_mismatch import AssignmentCounts, SampleRatio, sample_ratio
from evaluator.stats.score_process import Arm, Block, PairedSums, SplitSums, TailSums, paired_blocks, split_blocks
from evaluator.stats.sequential_test import Plan, Side, horizon_information
from evaluator.stats.tails import Tails
from evaluator.stats.verdict import Guardrail, Verdict, judge

__all__ = [
    "Arm",
    "AssignmentCounts",
    "Block",
    "Boundary",
    "Evidence",
    "Guardrail",
    "Look",
    "NoAnswer",
    "OrderError",
    "OutcomeError",
    "PairedSums",
    "Plan",
    "PlanError",
    "PropensityError",
    "SampleRatio",
    "Side",
    "Spending",
    "SplitSums",
    "State",
    "StatsError",
    "Stop",
    "TailSums",
    "Tails",
    "Verdict",
    "advance",
    "advance_at_scales",
    "horizon_information",
    "judge",
    "paired_blocks",
    "sample_ratio",
    "split_blocks",
]
