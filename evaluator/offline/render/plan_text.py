"""A plan and a simulation for a terminal: the answer first, then what to expect, then what it is compared with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from evaluator.offline.planning.result import FormPlan, PlanReport, Scenario, Share, SimulationReport
from evaluator.offline.render.experiment_text import WIDTH, number, signed

_EXPECTED = ("", "effect", "better", "worse", "one look", "days", "half by", "90 % by", "outcomes", "challenger's")
_SIDES = "l" + "r" * (len(_EXPECTED) - 1)


def plan(report: PlanReport) -> str:
    """The whole plan, ending with a newline."""
    form, given = report.form, report.question
    unit = "pairs" if form.form == "paired" else "outcomes of the challenger"
    lines = [
        f"min_samples: {form.min_samples:,}  ({unit}; form: {form.form})",
        *bullets(
            [
                f"{question(given)}",
                f"{whole(form.days)} days to the horizon at {number(given['traffic'])} units a day: {_arms(form)}, "
                f"{form.blocks:,} blocks, {form.looks:,} looks",
                f"power {percent(form.power)} for an effect of {signed(given['effect'])}; {found(report)}",
                f"on average {whole(form.expected_days)} days and {whole(form.expected_outcomes)} outcomes "
                "if that effect is there",
                *clusters(report),
            ]
        ),
    ]
    parts = ["\n".join(lines), _expected(report), _yardsticks(report), _forms(report), "\n".join(bullets(report.notes))]
    return "\n\n".join(part for part in parts if part) + "\n"


def simulation(report: SimulationReport) -> str:
    """The whole simulation, ending with a newline."""
    held = "no error rate is above its level" if report.held else "AN ERROR RATE IS ABOVE ITS LEVEL"
    head = (
        f"{report.runs:,} runs each of {len(report.scenarios)} true effects through the engine ({report.mode}, seed "
        f"{report.seed}): {held}"
    )
    lines = [
        *textwrap.wrap(head, WIDTH),
        *bullets(
            [
                f"{question(report.question)}",
                f"horizon min_samples {report.min_samples:,}, {whole(report.days)} days, {report.looks:,} looks",
                *(
                    ["; ".join(f"{name} {number(value)}" for name, value in report.world.items() if value)]
                    if any(report.world.values())
                    else []
                ),
            ]
        ),
    ]
    rows = [
        [name, shown.name, *_share(share)]
        for shown in report.scenarios
        for name, share in (("better", shown.better), ("worse", shown.worse), ("covered", shown.covered))
    ]
    head_row = ["ended", "truth", "share", "99 % limits", "planned", "level", "allowed", ""]
    ends = [_end(one) for one in report.scenarios]
    ends_head = [
        "truth",
        "effect",
        "days",
        "planned",
        "10 %",
        "half",
        "90 %",
        "outcomes",
        "estimate",
        "bias",
        "winners'",
    ]
    return (
        "\n\n".join(
            [
                "\n".join(lines),
                "\n".join(table(head_row, rows, "llrrrrrl")),
                "\n".join(["When they ended, and what was estimated then:", *table(ends_head, ends, "l" + "r" * 10)]),
                "\n".join(bullets(report.notes)),
            ]
        )
        + "\n"
    )


def question(given: dict[str, object]) -> str:
    """What is looked for, at which levels."""
    what = "a proportion of" if given["sd"] is None else f"a mean (sd {given['sd']:g}) of"
    return (
        f"{what} {given['baseline']:g}, smallest effect worth having {signed(float(str(given['effect'])))}; alpha "
        f"{given['alpha']:g} two-sided for a win, {given['harm_alpha']:g} one-sided for harm"
    )


def found(report: PlanReport) -> str:
    """What the horizon can find."""
    power = percent(report.question["power"])
    if report.form.detectable is None:
        return f"no effect is found with {power}"
    return f"{signed(float(f'{report.form.detectable:.2g}'))} is found with {power}"


def clusters(report: PlanReport) -> list[str]:
    if report.form.design_effect == 1.0:
        return []
    return [f"clusters and correlated blocks widen the variance {report.form.design_effect:.2f}-fold"]


def saving(report: PlanReport) -> str:
    """What the paired form saves, in one sentence."""
    if report.other is None:
        return "Only one of the forms can be planned; the notes say why."
    by_form = {form.form: form for form in (report.form, report.other)}
    split, paired = by_form["split"], by_form["paired"]
    assumed = (
        " That takes the arms' errors for independent, and two models of one task agree far more: give "
        + ("--discordance" if report.question["sd"] is None else "--sd-difference")
        + " for your own."
        if report.other_assumed
        else ""
    )
    ratio = split.fixed_outcomes / paired.fixed_outcomes
    return (
        f"Shadow scoring needs 1/{ratio:.3g} of the split form's outcomes for one look, and {whole(paired.days)} days "
        f"instead of {whole(split.days)} to the horizon.{assumed}"
    )


def whole(value: float) -> str:
    """Days and counts: without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")


def percent(value: float) -> str:
    return f"{100 * value:.2f} %" if 0.0001 <= value < 0.1 else f"{100 * value:.1f} %"


def _arms(form: FormPlan) -> str:
    if form.form == "paired":
        return f"{whole(form.outcomes)} pairs"
    return f"{whole(form.champion)} outcomes of the champion and {whole(form.challenger)} of the challenger"


def expected_rows(report: PlanReport) -> list[list[str]]:
    """One row an effect: no effect, harm, and multiples of the planned one."""
    shown = [one for one in report.stopping if one.name != "the effect"] + list(report.effects)
    return [
        [
            one.name,
            signed(one.effect),
            percent(one.better),
            percent(one.worse),
            percent(one.fixed_power),
            whole(one.days),
            whole(one.half_by),
            whole(one.most_by),
            whole(one.outcomes),
            whole(one.challenger),
        ]
        for one in shown
    ]


def _expected(report: PlanReport) -> str:
    head = "What to expect, by the true effect (days, outcomes: means at the end):"
    return "\n".join([head, *table(_EXPECTED, expected_rows(report), _SIDES)])


def yardstick_rows(report: PlanReport) -> list[list[str]]:
    return [[one.name, whole(one.outcomes), whole(one.challenger), whole(one.days)] for one in report.yardsticks]


def _yardsticks(report: PlanReport) -> str:
    head = f"To find {signed(report.question['effect'])} with {percent(report.question['power'])}:"
    return "\n".join([head, *table(["", "outcomes", "challenger's", "days"], yardstick_rows(report), "lrrr")])


def form_rows(report: PlanReport) -> list[list[str]]:
    forms = [form for form in (report.form, report.other) if form is not None]
    return [
        [
            form.form,
            f"{form.min_samples:,}",
            whole(form.outcomes),
            whole(form.days),
            percent(form.power),
            whole(form.expected_outcomes),
            whole(form.expected_days),
            whole(form.fixed_outcomes),
        ]
        for form in sorted(forms, key=lambda form: form.form, reverse=True)
    ]


FORM_HEAD = ("form", "min_samples", "outcomes", "days", "power", "mean outcomes", "mean days", "one look")


def _forms(report: PlanReport) -> str:
    lines = table(FORM_HEAD, form_rows(report), "lrrrrrrr")
    return "\n".join(["Paired (shadow scores) beside split:", *lines, *bullets([saving(report)])])


def _share(share: Share) -> list[str]:
    verdict = "" if share.held is None else "held" if share.held else "ABOVE ITS LEVEL"
    side = "at least" if share.level is not None and share.level > 0.5 else "at most"
    return [
        percent(share.share),
        f"{percent(share.lower)} to {percent(share.upper)}",
        "–" if share.planned is None else percent(share.planned),
        "–" if share.level is None else percent(share.level),
        "–" if share.allowed is None else f"{side} {share.allowed:,} runs",
        verdict,
    ]


def _end(one: Scenario) -> list[str]:
    bias = (
        "–" if one.bias is None else signed(one.bias) + ("" if one.bias_error is None else f" ± {one.bias_error:.1g}")
    )
    return [
        one.name,
        signed(one.effect),
        whole(one.days),
        whole(one.planned_days),
        *map(whole, one.day_percentiles),
        whole(one.outcomes),
        signed(one.estimate),
        bias,
        signed(one.winners_bias),
    ]


def bullets(texts: Iterable[str]) -> list[str]:
    return [
        line
        for text in texts
        for line in textwrap.wrap(text, WIDTH - 2, initial_indent="  - ", subsequent_indent="    ")
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Columns as wide as their longest cell; `sides` says l or r for each."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]
