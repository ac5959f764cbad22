"""An analysed experiment as text for a terminal and as a page: the answer first, then the figures."""

from __future__ import annotations

from collections.abc import Sequence

from evaluator.offline.experiment.result import Analysis, ArmComparison
from evaluator.offline.render import interval, interval_decimals, number, p_value, rendered, signed

_MOST_SEGMENTS = 30  # rows of a segment table in the text; JSON and page have all
_MOST_IN_FOREST = 60  # segments in one plot
_MOST_FIGURES = 24  # comparisons with plots of their own, primary metrics first
_ROLES = ("primary", "guardrail", "signal", "exploratory")


def text(answer: Analysis) -> str:
    """The whole report, ending with a newline."""
    inside = [(whole, sorted(segments(answer, whole), key=_by_p_value)) for whole in overall(answer)]
    return rendered("experiment.txt", {"segments": inside, "most_segments": _MOST_SEGMENTS, **_context(answer)})


def html(answer: Analysis, title: str) -> str:
    """The page. `title` says which log this is, for example the file's name."""
    from evaluator.offline.render import figures

    whole = overall(answer)
    forests = []
    for place, one in enumerate(whole):
        inside = segments(answer, one)
        largest = sorted(inside, key=lambda part: -sum(part.n.values()))[:_MOST_IN_FOREST]
        drawn = [part for part in inside if part in largest]
        if inside:
            forests.append((one, inside, len(drawn), figures.forest(one, drawn, f"forest{place}")))
    context = {
        "title": title,
        "looks": [
            (one, figures.looks(answer, one, f"looks{place}")) for place, one in enumerate(whole[:_MOST_FIGURES])
        ],
        "forests": forests,
        "settings": [(k.replace("_", " "), _spelled(v)) for k, v in answer.settings.items() if v not in (None, (), [])],
    }
    return rendered("experiment.html", context | _context(answer))


def _context(answer: Analysis) -> dict[str, object]:
    """What text and page share: the comparisons over all rows, and functions of one comparison."""

    def figures(one: ArmComparison) -> list[str]:
        counts = [f"{one.n.get(arm, 0):,}" for arm in (answer.champion, one.challenger)]
        effect = [signed(one.effect, decimals(one)), interval(one.lower, one.upper, decimals(one))]
        return [*counts, *effect, p_value(one.p_value), one.verdict]

    functions = (better, decimals, difference, evidence, figures, ratio_levels)
    where = "at the one look that was planned" if answer.mode == "fixed" else "at every look at once"
    return {
        "answer": answer,
        "comparisons": overall(answer),
        "validity": f"Effect: challenger − champion. Intervals and p values hold {where} ({answer.mode}, alpha "
        f"{answer.alpha:g}). The effect takes each row by the champion's mean before it and by its own share; it may "
        "differ a little from the difference of the two means, which are of all rows.",
        **{one.__name__: one for one in functions},
    }


def _by_p_value(one: ArmComparison) -> float:
    return 2.0 if one.p_value is None else one.p_value


def decimals(one: ArmComparison) -> int | None:
    """How many decimals a comparison's figures have."""
    return interval_decimals(one.lower, one.upper)


def better(comparison: ArmComparison) -> str:
    """Which direction is better, and what is accepted."""
    margin = f", margin {number(comparison.margin)}" if comparison.margin else ""
    return f"{comparison.direction} is better{margin}"


def overall(answer: Analysis) -> list[ArmComparison]:
    """The comparisons over all rows, primary ones first."""
    whole = [one for one in answer.comparisons if one.segment is None]
    return sorted(whole, key=lambda one: _ROLES.index(one.role) if one.role in _ROLES else len(_ROLES))


def segments(answer: Analysis, whole: ArmComparison) -> list[ArmComparison]:
    """The segments of a comparison over all rows."""
    key = (whole.challenger, whole.metric)
    return [one for one in answer.comparisons if one.segment is not None and (one.challenger, one.metric) == key]


def evidence(one: ArmComparison) -> str:
    """How much was seen, and what it was corrected for."""
    facts = [f"{one.looks:,} {'look' if one.looks == 1 else 'looks'}"]
    if one.information_fraction is not None:
        facts.append(f"{one.information_fraction:.0%} of the planned evidence")
    if one.z is not None:
        facts.append(f"z {number(one.z, 2)}")
    if one.blocks is not None:
        facts.append(f"{one.blocks:,} blocks")
    if one.widening is not None and one.widening != 1.0:
        facts.append(f"variance widened {one.widening:.2f}-fold for correlated blocks")
    if one.skewness is not None:
        facts.append(f"skewness {number(one.skewness, 2)}")
    return ", ".join(facts)


def difference(answer: Analysis, one: ArmComparison) -> str:
    """One sentence: why the classical answer and the sequential one differ, or that they do not."""
    fixed, valid, alpha = one.fixed.p_value, one.p_value, answer.alpha
    if fixed is None or valid is None:
        return "There is not enough evidence to compare the two answers."
    if one.margin:
        return (
            "They are not about the same: the classical test asks for any difference, the sequential one whether it is "
            f"{'below −' if one.direction == 'higher' else 'above '}{number(one.margin)}, the margin."
        )
    limits = "; ".join(_classical_limits(answer, one))
    if fixed < alpha <= valid:
        why = limits or "it is valid for one look, planned before the first row"
        return f"The classical test alone would call this significant, which is not safe here: {why}."
    if valid < alpha <= fixed and one.stopped is not None:
        return (
            f"The sequential test had seen enough at look {one.stopped.look}; over all rows the difference is no "
            "longer clear to the classical test, which forgets when the evidence came."
        )
    if valid < alpha <= fixed:
        why = limits or "it weighs the rows otherwise"
        return f"Only the sequential test sees a difference; about the classical one: {why}."
    agreed = "Both see a difference" if fixed < alpha else "Neither sees a difference"
    if fixed < valid:
        clusters = ", and because the rows of a cluster are correlated" if answer.settings.get("cluster") else ""
        return f"{agreed}; the sequential p is larger because it holds at every look, not at one alone{clusters}."
    if valid < fixed and one.looks > 1:
        return f"{agreed}; the sequential p is the smaller one because it keeps the evidence of its best look."
    return f"{agreed}."


def _classical_limits(answer: Analysis, one: ArmComparison) -> list[str]:
    """What the classical test does not know about these rows."""
    settings, limits = answer.settings, []
    if one.looks > 1:
        limits.append(f"it is valid for one planned look and there were {one.looks:,}")
    if settings.get("cluster") and one.blocks is not None:
        widened = f", widened {one.widening:.2f}-fold" if one.widening is not None and one.widening > 1.0 else ""
        limits.append(f"it takes rows for independent, and they come in {one.blocks:,} clusters{widened}")
    if settings.get("propensity"):
        limits.append("it pools rows of different shares, so that a change over time looks like an effect")
    if settings.get("covariates"):
        limits.append("it does not use the covariates")
    return limits


def ratio_levels(answer: Analysis) -> str:
    """The p values of the sample ratio."""
    ratio = answer.sample_ratio
    assert ratio is not None, "asked of an answer with a sample ratio"
    return f"p {p_value(ratio.sequential_p_value)} at any look, {p_value(ratio.p_value)} at one"


def _spelled(value: object) -> str:
    """A setting's value as people write it."""
    if isinstance(value, dict) and {"name", "kind", "columns"} <= value.keys():  # a metric
        return f"{value['name']} ({value['kind']} of {_spelled(value['columns'])}, {value.get('role', '')})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spelled(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(_spelled, value))
    return number(value) if isinstance(value, float) else str(value)
