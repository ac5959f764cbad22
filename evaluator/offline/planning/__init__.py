"""Planning a test before its first row: sample size, duration and power, by closed forms and by simulation.

Invariant: reads the question alone; the same question (and seed) gives the same answer.
"""

from evaluator.offline.planning.planner import plan, simulated
from evaluator.offline.planning.result import PlanReport, SimulationReport
from evaluator.offline.planning.settings import Question
from evaluator.offline.planning.simulation import World

__all__ = ["PlanReport", "Question", "SimulationReport", "World", "plan", "simulated"]
