"""Planning a test before its first row: sample size, duration and power, by closed forms and by simulation.

Invariant: reads the question alone; the same question (and seed) gives the same answer.
"""

from evaluator.planning.drawing import World
from evaluator.planning.planner import plan, simulated
from evaluator.planning.question import Question
from evaluator.planning.result import PlanReport, SimulationReport

__all__ = ["PlanReport", "Question", "SimulationReport", "World", "plan", "simulated"]
