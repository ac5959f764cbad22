"""Planning a test before its first row: sample size, duration and power, by closed forms and by simulation.

Invariant: reads the settings alone; the same settings (and seed) give the same answer.
"""

from evaluator.offline.planning.planner import plan, simulate
from evaluator.offline.planning.result import PlanReport, SimulationReport
from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld, SimulationSettings

__all__ = ["PlanReport", "PlanSettings", "SimulatedWorld", "SimulationReport", "SimulationSettings", "plan", "simulate"]
