"""A plan, or its simulation, as text for a terminal, as a page and as plots."""

from __future__ import annotations

from evaluator.offline.planning.result import PlanReport, SimulationReport
from evaluator.offline.render import rendered, signed


def text(report: PlanReport | SimulationReport) -> str:
    """The whole report, ending with a newline."""
    template = "simulation.txt" if isinstance(report, SimulationReport) else "plan.txt"
    return rendered(template, {"report": report, "question": _planned(report)})


def html(report: PlanReport) -> str:
    """The page."""
    from evaluator.offline.render import figures, plot

    with plot.drawing():
        drawn = plot.svg(figures.plan(report), "plan", "Power and duration by the true effect, and the evidence by day")
    return rendered("plan.html", {"report": report, "question": _planned(report), "figure": drawn})


def picture(report: PlanReport | SimulationReport, kind: str) -> bytes:
    """The plots as a file: png, svg or pdf."""
    from evaluator.offline.render import figures, plot

    with plot.drawing():
        drawn = figures.plan(report) if isinstance(report, PlanReport) else figures.simulation(report)
        return plot.saved(drawn, kind)


def _planned(report: PlanReport | SimulationReport) -> str:
    asked = report.settings
    what = "a proportion of" if asked["sd"] is None else f"a mean (sd {asked['sd']:g}) of"
    return (
        f"{what} {asked['baseline']:g}, smallest effect worth having {signed(float(asked['effect']))}; alpha "
        f"{asked['alpha']:g} two-sided for a win, {asked['harm_alpha']:g} one-sided for harm"
    )
