"""Planning a test before its first row: `plan` answers by closed forms, `simulate` by simulated runs of the engine.

Invariant: both rest on one forecast (schedule, horizon, levels), so that their figures can be laid side by side; the
same settings (and seed) give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from scipy import special

from evaluator.offline.planning.forecast import Forecast, discordance_at, smallest_forecast
from evaluator.offline.planning.result import (
    FormPlan,
    Milestone,
    OperatingCharacteristics,
    PlanReport,
    ReferenceTest,
    Scenario,
    Share,
    SimulationReport,
)
from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld, SimulationSettings
from evaluator.offline.planning.simulation import Runs, simulate_runs
from evaluator.stats.power import information_rate, kl, least_units, wald_units
from evaluator.stats.score_process import Floats
from gauntlet.errors import BadInput

# Multiples of the planned effect in the table of powers.
_MULTIPLES: Final = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_CURVE: Final = tuple(np.linspace(-1.5, 2.0, 29).tolist())
# Of a curve: a plot shows no more.
_CURVE_LOOKS: Final = 40
# Each look weighs all blocks so far anew, so that the work grows with the square of this.
MOST_LOOKS: Final = 2000


def plan(settings: PlanSettings) -> PlanReport:
    """Sample size, duration, power and expected stopping; the other form beside it."""
    forecast = planned_forecast(settings)
    notes = _notes(forecast)
    other, assumed = None, False
    try:
        other_settings, assumed = settings.other()
        other = _form(_whole_samples(smallest_forecast(other_settings, settings.power)))
    except BadInput as error:
        notes.append(f"The other form can't be planned. {error}.")
    return PlanReport(
        settings=settings.to_dict(),
        form=_form(forecast),
        other=other,
        other_assumed=assumed,
        effects=_table(forecast, _MULTIPLES),
        stopping=tuple(forecast.characteristics(effect, name) for name, effect in scenarios(settings)),
        reference_tests=tuple(_reference_tests(forecast)),
        progress=tuple(_progress(forecast)),
        curve=_table(Forecast(settings, forecast.information, _CURVE_LOOKS), _CURVE),
        notes=tuple(notes),
    )


def _table(forecast: Forecast, multiples: Sequence[float]) -> tuple[OperatingCharacteristics, ...]:
    size = abs(forecast.settings.effect)
    return tuple(
        forecast.characteristics(by * size, f"{by:g} ×") for by in multiples if _possible(forecast.settings, by * size)
    )


def planned_forecast(settings: PlanSettings) -> Forecast:
    """The forecast at the horizon that was given, or else at the one that has the power."""
    if settings.min_samples is not None:
        return Forecast(settings, settings.horizon(settings.min_samples))
    return _whole_samples(smallest_forecast(settings, settings.power))


def _whole_samples(forecast: Forecast) -> Forecast:
    """The forecast at the horizon of a whole number of samples, as the configuration has it."""
    samples = math.ceil(forecast.settings.samples(forecast.information) - 1e-9)
    return Forecast(forecast.settings, forecast.settings.horizon(max(1, samples)))


def scenarios(settings: PlanSettings) -> list[tuple[str, float]]:
    """No effect, the effect, and harm of the same size (or half the room, where that is impossible); oriented."""
    harm = abs(settings.effect)
    if not _possible(settings, -harm):
        harm = (settings.baseline if settings.sign > 0 else 1.0 - settings.baseline) / 2.0
    return [("no effect", 0.0), ("the effect", abs(settings.effect)), ("harm", -harm)]


def _possible(settings: PlanSettings, effect: float) -> bool:
    return not settings.proportion or 0.0 < settings.baseline + settings.sign * effect < 1.0


def _form(forecast: Forecast) -> FormPlan:
    q, schedule, effect = forecast.settings, forecast.schedule, abs(forecast.settings.effect)
    outcomes, challenger = forecast.units
    variance, expected = forecast.score_variance(effect)[0], forecast.characteristics(effect)
    fixed_day = schedule.day_of(forecast.one_look(effect, q.power))
    detectable = forecast.detectable()
    return FormPlan(
        form=q.form,
        min_samples=round(q.samples(forecast.information)),
        information=forecast.information,
        outcomes=outcomes,
        champion=outcomes if schedule.paired else outcomes - challenger,
        challenger=challenger,
        days=forecast.days,
        blocks=(forecast.last + 1) // schedule.ratio,
        looks=forecast.last + 1,
        power=expected.better,
        detectable=q.sign * detectable if math.isfinite(detectable) else None,
        variance=variance,
        design_effect=q.design_effect,
        fixed_outcomes=schedule.units_at(fixed_day)[0],
        fixed_days=fixed_day,
        expected_outcomes=expected.outcomes,
        expected_days=expected.days,
    )


def _reference_tests(forecast: Forecast) -> list[ReferenceTest]:
    """Sizes of this test and of others for the same effect, level and power; the others take no account of blocks."""
    q, schedule, effect = forecast.settings, forecast.schedule, abs(forecast.settings.effect)
    alpha, miss = q.alpha / 2.0, 1.0 - q.power
    true, reported = forecast.score_variance(effect)
    expected = forecast.characteristics(effect)

    def at(name: str, information: float) -> ReferenceTest:
        day = schedule.day_of(information)
        return ReferenceTest(name, *schedule.units_at(day), day)

    return [
        ReferenceTest("this test, if it goes all the way", *forecast.units, forecast.days),
        ReferenceTest("this test, on average", expected.outcomes, expected.challenger, expected.days),
        at("classical test, one look at the end", forecast.one_look(effect, q.power)),
        at(
            "Wald's test of just this effect, on average",
            wald_units(effect, max(true, reported * q.design_effect), alpha, miss, 1.0)[1],
        ),
        at("least that any test needs on average", least_units(_rate(forecast) / q.design_effect, alpha, miss)),
    ]


def _rate(forecast: Forecast) -> float:
    """Kullback-Leibler information (nats) about a difference of the arms, at most, per unit of information."""
    q, effect = forecast.settings, abs(forecast.settings.effect)
    if not q.proportion:
        return effect * effect / (2.0 * forecast.score_variance(effect)[0] / q.design_effect)
    if q.form == "paired":  # concordant pairs tell nothing
        apart = discordance_at(q, effect)
        return apart * kl((apart + effect) / (2.0 * apart), 0.5)
    return information_rate(q.share, q.baseline, q.baseline + q.effect)[0] / (q.share * (1.0 - q.share))


def _progress(forecast: Forecast) -> list[Milestone]:
    looks, schedule = forecast.looks, forecast.schedule
    slices = schedule.slices(forecast.last + 1)
    share = slices.share[np.searchsorted(slices.block, looks.block - 1, side="right") - 1]
    return [
        Milestone(
            day=float(looks.day[k]),
            share=float(share[k]),
            fraction=float(looks.information[k] / forecast.information),
            bound_better=_finite(forecast.win_bounds[k]),
            bound_worse=_finite(-forecast.harm_bounds[k]),
        )
        for k in range(len(looks.day))
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _notes(forecast: Forecast) -> list[str]:
    q, looks = forecast.settings, forecast.looks
    found = []
    if not q.independent and looks.win_blocks[-1] <= q.min_blocks and q.min_samples is None:
        found.append(
            f"A win needs {q.min_blocks} blocks of {q.block:g} days, and those bring more evidence than this effect "
            "takes: the horizon is what they bring, and finer blocks would end sooner if the sums of blocks do not "
            "correlate."
        )
    if not np.isfinite(forecast.win_bounds).any():
        found.append("No win is possible within this horizon: there are too few blocks or outcomes by then.")
    if q.form == "split":
        found.append("Days count from the start of the ramp; a shadow stage before it comes on top.")
        found.append("The first block tells nothing: there is no earlier one to predict its outcomes from.")
    else:
        found.append("Days count from the first pair; the ramp goes on beside it and needs time of its own.")
    if q.block_correlation >= 0.3 and looks.win_blocks[-1] < 60:
        found.append(
            "Blocks are few and strongly correlated: the closed forms may promise some points of power too many here; "
            "`gauntlet simulate` measures it."
        )
    return found


# Simulation ------------------------------------------------------------------------------------------------------


def simulate(
    settings: PlanSettings,
    world: SimulatedWorld,
    simulation: SimulationSettings,
    progress: Callable[[int], object] | None = None,
) -> SimulationReport:
    """Type I errors, power, stopping, bias and coverage of simulated runs at the planned horizon. Raises BadInput."""
    forecast = planned_forecast(settings)
    if forecast.last >= MOST_LOOKS:
        raise BadInput(
            f"--block must be longer: {forecast.last + 1:,} looks are simulated, and at most {MOST_LOOKS:,} can"
        )
    effects = scenarios(settings)
    world.check_against(settings, [effect for _, effect in effects], forecast.days)
    found = []
    for place, (name, effect) in enumerate(effects):
        seed = simulation.seed * len(effects) + place
        ends = simulate_runs(
            forecast, effect, world=world, runs=simulation.runs, seed=seed, mode=simulation.mode, progress=progress
        )
        found.append(_scenario(forecast, name, effect, ends, simulation.mode))
    return SimulationReport(
        settings=settings.to_dict(),
        world=asdict(world),
        mode=simulation.mode,
        runs=simulation.runs,
        seed=simulation.seed,
        min_samples=round(settings.samples(forecast.information)),
        days=forecast.days,
        looks=forecast.last + 1,
        scenarios=tuple(found),
        notes=tuple(_simulation_notes(forecast, simulation.mode)),
    )


def _scenario(forecast: Forecast, name: str, effect: float, ended: Runs, mode: str) -> Scenario:
    q, sequential = forecast.settings, mode == "group-sequential"
    planned = forecast.characteristics(effect)
    looks = forecast.schedule.looks(forecast.last + 1)
    days, runs = looks.day[ended.look], len(ended.look)
    error, levels = effect == 0.0, (q.alpha / 2.0, q.harm_alpha)
    better, worse = (int((ended.crossed == side).sum()) for side in (1.0, -1.0))
    gap = ended.effect - effect
    known, won = np.isfinite(gap), np.isfinite(gap) & (ended.crossed > 0.0)
    covered = int(((ended.lower <= effect) & (effect <= ended.upper)).sum())
    missed = _share(runs - covered, runs, None, sum(levels))
    return Scenario(
        name=name,
        effect=q.sign * effect + 0.0,
        better=_share(better, runs, planned.better if sequential else None, levels[0] if effect <= 0.0 else None),
        worse=_share(worse, runs, planned.worse if sequential else None, levels[1] if effect >= 0.0 else None),
        undecided=_share(
            runs - better - worse, runs, 1.0 - planned.better - planned.worse if sequential else None, None
        ),
        days=float(days.mean()),
        planned_days=planned.days if sequential else forecast.days,
        day_percentiles=tuple(np.percentile(days, (10, 50, 90), method="inverted_cdf").tolist()),
        outcomes=float(looks.units[ended.look].mean()),
        challenger=float(looks.challenger[ended.look].mean()),
        estimate=q.sign * float(ended.effect[known].mean()) if known.any() else None,
        bias=q.sign * float(gap[known].mean()) if known.any() else None,
        bias_error=float(gap[known].std(ddof=1) / math.sqrt(known.sum())) if known.sum() > 1 else None,
        winners_bias=q.sign * float(gap[won].mean()) if won.any() and not error else None,
        covered=Share(
            covered,
            covered / runs,
            1.0 - missed.upper,
            1.0 - missed.lower,
            None,
            1.0 - sum(levels),
            None if missed.allowed is None else runs - missed.allowed,
            missed.held,
        ),
        ends=_ends(days, ended),
    )


def _ends(days: Floats, ended: Runs) -> tuple[tuple[float, int, int, int], ...]:
    def count(day: float, side: float) -> int:
        return int(((days == day) & (ended.crossed == side)).sum())

    return tuple((float(day), count(day, 1.0), count(day, -1.0), count(day, 0.0)) for day in np.unique(days))


def _share(count: int, runs: int, planned: float | None, level: float | None) -> Share:
    from scipy.stats import binom  # half a second, which a plan without a simulation need not wait for

    lower = float(special.betaincinv(count, runs - count + 1, 0.005)) if count else 0.0
    upper = float(special.betaincinv(count + 1, runs - count, 0.995)) if count < runs else 1.0
    allowed = None if level is None else int(binom.ppf(0.999, runs, level))
    held = None if allowed is None else count <= allowed
    return Share(count, count / runs, lower, upper, planned, level, allowed, held)


def _simulation_notes(forecast: Forecast, mode: Any) -> list[str]:
    found = [
        "Runs end at their first crossing or at the horizon; estimates of runs that crossed are too large on "
        "average, because crossing selects for it."
    ]
    if forecast.settings.block_correlation:
        found.append("Correlated blocks: the deviations of block scores follow a first-order autoregression.")
    if mode != "group-sequential":
        found.append(f"The horizon is that of the group-sequential plan; {mode} is watched up to it.")
    return found
