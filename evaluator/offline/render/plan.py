"""A plan and a simulation as text for a terminal, as a page, and as a file with plots: the answer first."""

from __future__ import annotations

import textwrap
from typing import Any

from evaluator.offline.planning.result import FormPlan, PlanReport, Scenario, Share, SimulationReport
from evaluator.offline.render.text import WIDTH, bullets, number, percent, signed, table, whole

_EXPECTED = ["", "effect", "better", "worse", "one look", "days", "half by", "90 % by", "outcomes", "challenger's"]
_NEEDED = ["", "outcomes", "challenger's", "days"]
_FORMS = ["form", "min_samples", "outcomes", "days", "power", "mean outcomes", "mean days", "one look"]
_ERRORS = ["ended", "truth", "share", "99 % limits", "planned", "level", "allowed", ""]
_ENDS = ["truth", "effect", "days", "planned", "10 %", "half", "90 %", "outcomes", "estimate", "bias", "winners'"]


def text(report: PlanReport | SimulationReport) -> str:
    """The whole report, ending with a newline."""
    parts = _simulation(report) if isinstance(report, SimulationReport) else _plan(report)
    return "\n\n".join("\n".join(part) for part in [*parts, bullets(report.notes)] if part) + "\n"


def html(report: PlanReport) -> str:
    """The page."""
    from evaluator.offline.render import figures, plot
    from evaluator.offline.render.html import page

    with plot.drawing():
        drawn = plot.svg(figures.plan(report), "plan", "Power and duration by the true effect, and the evidence by day")
    context = {
        "report": report,
        "question": _question(report.settings),
        "detectable": _detectable(report),
        "figure": drawn,
        "expected": (_EXPECTED, _expected(report)),
        "needed": (_NEEDED, _needed(report)),
        "forms": (_FORMS, _forms(report)),
        "saving": _saving(report),
        "notes": [*_clusters(report), *report.notes],
    }
    return page("plan.html", context)


def picture(report: PlanReport | SimulationReport, kind: str) -> bytes:
    """The plots as a file: png, svg or pdf."""
    from evaluator.offline.render import figures, plot

    with plot.drawing():
        drawn = figures.plan(report) if isinstance(report, PlanReport) else figures.simulation(report)
        return plot.saved(drawn, kind)


def _plan(report: PlanReport) -> list[list[str]]:
    form, asked = report.form, report.settings
    unit, outcomes = "pairs", f"{whole(form.outcomes)} pairs"
    if form.form == "split":
        unit = "outcomes of the challenger"
        outcomes = f"{whole(form.champion)} outcomes of the champion and {whole(form.challenger)} of the challenger"
    answer = [
        _question(asked),
        f"{whole(form.days)} days to the horizon at {number(asked['traffic'])} units a day: {outcomes}, "
        f"{form.blocks:,} blocks, {form.looks:,} looks",
        f"power {percent(form.power)} for an effect of {signed(asked['effect'])}; {_detectable(report)}",
        f"on average {whole(form.expected_days)} days and {whole(form.expected_outcomes)} outcomes "
        "if that effect is there",
    ]
    to_find = f"To find {signed(asked['effect'])} with {percent(asked['power'])}:"
    return [
        [f"min_samples: {form.min_samples:,}  ({unit}; form: {form.form})", *bullets([*answer, *_clusters(report)])],
        [
            "What to expect, by the true effect (days, outcomes: means at the end):",
            *table(_EXPECTED, _expected(report), "l" + "r" * 9),
        ],
        [to_find, *table(_NEEDED, _needed(report), "lrrr")],
        [
            "Paired (shadow scores) beside split:",
            *table(_FORMS, _forms(report), "l" + "r" * 7),
            *bullets([_saving(report)]),
        ],
    ]


def _simulation(report: SimulationReport) -> list[list[str]]:
    head = (
        f"{report.runs:,} runs each of {len(report.scenarios)} true effects through the engine ({report.mode}, seed "
        f"{report.seed}): {'no error rate is above its level' if report.held else 'AN ERROR RATE IS ABOVE ITS LEVEL'}"
    )
    asked = [
        _question(report.settings),
        f"horizon min_samples {report.min_samples:,}, {whole(report.days)} days, {report.looks:,} looks",
        "; ".join(f"{name} {number(value)}" for name, value in report.world.items() if value),
    ]
    errors = [
        [name, one.name, *_share(share)]
        for one in report.scenarios
        for name, share in (("better", one.better), ("worse", one.worse), ("covered", one.covered))
    ]
    ends = [_end(one) for one in report.scenarios]
    return [
        [*textwrap.wrap(head, WIDTH), *bullets(asked)],
        table(_ERRORS, errors, "llrrrrrl"),
        ["When they ended, and what was estimated then:", *table(_ENDS, ends, "l" + "r" * 10)],
    ]


def _question(asked: dict[str, Any]) -> str:
    what = "a proportion of" if asked["sd"] is None else f"a mean (sd {asked['sd']:g}) of"
    return (
        f"{what} {asked['baseline']:g}, smallest effect worth having {signed(float(asked['effect']))}; alpha "
        f"{asked['alpha']:g} two-sided for a win, {asked['harm_alpha']:g} one-sided for harm"
    )


def _detectable(report: PlanReport) -> str:
    power, effect = percent(report.settings["power"]), report.form.detectable
    return f"{'no effect' if effect is None else signed(float(f'{effect:.2g}'))} is found with {power}"


def _clusters(report: PlanReport) -> list[str]:
    if report.form.design_effect == 1.0:
        return []
    return [f"clusters and correlated blocks widen the variance {report.form.design_effect:.2f}-fold"]


def _saving(report: PlanReport) -> str:
    """What the paired form saves."""
    if report.other is None:
        return "Only one of the forms can be planned; the notes say why."
    by_form = {form.form: form for form in (report.form, report.other)}
    split, paired = by_form["split"], by_form["paired"]
    option = "--discordance" if report.settings["sd"] is None else "--sd-difference"
    assumed = (
        f" That takes the arms' errors for independent, and two models of one task agree far more: give {option} for "
        "your own."
    )
    return (
        f"Shadow scoring needs 1/{split.fixed_outcomes / paired.fixed_outcomes:.3g} of the split form's outcomes for "
        f"one look, and {whole(paired.days)} days instead of {whole(split.days)} to the horizon."
        f"{assumed if report.other_assumed else ''}"
    )


def _expected(report: PlanReport) -> list[list[str]]:
    """A row an effect: no effect, harm, and multiples of the planned one."""
    shown = [one for one in report.stopping if one.name != "the effect"] + list(report.effects)
    rows = []
    for one in shown:
        shares = map(percent, (one.better, one.worse, one.fixed_power))
        means = map(whole, (one.days, one.half_by, one.most_by, one.outcomes, one.challenger))
        rows.append([one.name, signed(one.effect), *shares, *means])
    return rows


def _needed(report: PlanReport) -> list[list[str]]:
    return [[one.name, whole(one.outcomes), whole(one.challenger), whole(one.days)] for one in report.reference_tests]


def _forms(report: PlanReport) -> list[list[str]]:
    def row(form: FormPlan) -> list[str]:
        size = [f"{form.min_samples:,}", whole(form.outcomes), whole(form.days), percent(form.power)]
        return [form.form, *size, *map(whole, (form.expected_outcomes, form.expected_days, form.fixed_outcomes))]

    forms = [form for form in (report.form, report.other) if form is not None]
    return [row(form) for form in sorted(forms, key=lambda form: form.form, reverse=True)]


def _share(share: Share) -> list[str]:
    side = "at least" if share.level is not None and share.level > 0.5 else "at most"
    return [
        percent(share.share),
        f"{percent(share.lower)} to {percent(share.upper)}",
        percent(share.planned),
        percent(share.level),
        "–" if share.allowed is None else f"{side} {share.allowed:,} runs",
        {None: "", True: "held", False: "ABOVE ITS LEVEL"}[share.held],
    ]


def _end(one: Scenario) -> list[str]:
    error = "" if one.bias is None or one.bias_error is None else f" ± {one.bias_error:.1g}"
    days = map(whole, (one.days, one.planned_days, *one.day_percentiles, one.outcomes))
    return [
        one.name,
        signed(one.effect),
        *days,
        signed(one.estimate),
        signed(one.bias) + error,
        signed(one.winners_bias),
    ]
