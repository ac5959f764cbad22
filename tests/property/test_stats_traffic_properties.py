"""What must hold for any data: sketches in any order, adjusted p values in order, budgets that are never overspent."""

import json

import pytest
from builders.statistics import expose
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.stats.alpha_budget import AlphaBudget, Kind
from evaluator.stats.always_valid import log_rate_evidence, rate_limits
from evaluator.stats.guards import Exposures
from evaluator.stats.multiplicity import benjamini_hochberg, holm

exposure = st.tuples(st.integers(0, 60).map(str), st.sampled_from("abc"))
exposures = st.lists(exposure, max_size=80)


def sketch(rows: list[tuple[str, str]]) -> Exposures:
    return expose(Exposures(16), rows)


@given(exposures, exposures, exposures)
def test_a_sketch_is_the_same_in_any_order_and_however_often(
    a: list[tuple[str, str]], b: list[tuple[str, str]], c: list[tuple[str, str]]
) -> None:
    whole = sketch(a + b + c)
    assert sketch((c + b + a + c)[::-1]) == whole
    assert whole.units <= 16


@given(exposures)
def test_a_sketch_holds_whole_truths(rows: list[tuple[str, str]]) -> None:
    true: dict[str, set[str]] = {}
    for unit, arm in rows:
        true.setdefault(unit, set()).add(arm)
    made = sketch(rows)
    assert all(set(arms) == true[unit] for unit, arms in made.arms.items())
    assert made.multiple == sum(len(true[unit]) > 1 for unit in made.arms)
    if len(true) <= 16:
        assert made.level == 0
        assert made.arms.keys() == true.keys()


p_value = st.floats(0.0, 1.0)
family = st.lists(st.none() | p_value, min_size=1, max_size=12)


@given(family, st.data())
def test_adjusted_values_keep_order_and_place(ps: list[float | None], data: st.DataObject) -> None:
    """Bounded, never below p, sorted as p is, the same after a permutation, and never larger if a p gets smaller."""
    for adjust in (holm, benjamini_hochberg, lambda each: benjamini_hochberg(each, dependent=True)):
        found = adjust(ps)
        pairs = sorted((p, q) for p, q in zip(ps, found, strict=True) if p is not None and q is not None)
        assert [p is None for p in ps] == [q is None for q in found]
        assert all(p <= q + 1e-15 and q <= 1.0 for p, q in pairs)
        assert [q for _, q in pairs] == sorted(q for _, q in pairs)
        order = data.draw(st.permutations(range(len(ps))))
        assert adjust([ps[k] for k in order]) == tuple(found[k] for k in order)
        at = data.draw(st.sampled_from(range(len(ps))))
        if ps[at] is not None:
            smaller = adjust([*ps[:at], ps[at] * 0.5, *ps[at + 1 :]])
            assert all(
                less <= q + 1e-15 for less, q in zip(smaller, found, strict=True) if less is not None and q is not None
            )
    for by_holm, by_rate in zip(holm(ps), benjamini_hochberg(ps), strict=True):
        assert by_holm is None or by_rate is None or by_rate <= by_holm + 1e-15


results = st.lists(st.booleans() | st.none(), max_size=60)


def run(kind: Kind, reported: list[bool | None], alpha: float = 0.05) -> AlphaBudget:
    """Tests in a row; None: never reported. Through a snapshot after each."""
    budget = AlphaBudget(alpha, kind)
    for number, result in enumerate(reported):
        _, budget = budget.request(str(number))
        if result is not None:
            budget = budget.report(str(number), result)
        budget = AlphaBudget.from_dict(json.loads(json.dumps(budget.to_dict())))
    return budget


@given(results, st.sampled_from(["power", "geometric"]))
@settings(max_examples=50)
def test_family_wise_budgets_are_never_overspent_and_ignore_results(reported: list[bool | None], kind: Kind) -> None:
    budget = run(kind, reported)
    assert budget.granted <= 0.05 * (1.0 + 1e-12)
    assert budget.granted == run(kind, [None] * len(reported)).granted
    levels = [grant.level for grant in budget.grants]
    assert levels == sorted(levels, reverse=True)
    assert all(level > 0.0 for level in levels)


@given(results)
@settings(max_examples=50)
def test_lord_never_spends_more_than_its_rejections_have_earned(reported: list[bool | None]) -> None:
    """Σ levels ≤ α max(R, 1) at every time: the estimate of the false discovery proportion that LORD++ bounds."""
    budget, spent, rejected = run("lord", reported), 0.0, 0
    for grant in budget.grants:
        spent += grant.level
        rejected += bool(grant.rejected)
        assert spent <= 0.05 * max(rejected, 1) * (1.0 + 1e-12)


@given(results, st.integers(0, 59))
@settings(max_examples=50)
def test_a_rejection_more_never_lowers_a_level(reported: list[bool | None], at: int) -> None:
    if at >= len(reported):
        return
    fewer, more = list(reported), list(reported)
    fewer[at], more[at] = False, True
    pairs = zip(run("lord", fewer).grants, run("lord", more).grants, strict=True)
    assert all(one.level <= other.level * (1.0 + 1e-12) for one, other in pairs)


@given(st.integers(0, 2000), st.integers(0, 2000), st.floats(0.001, 0.999))
def test_rate_evidence_mirrors_and_its_limits_hold_the_share(events: int, others: int, rate: float) -> None:
    trials = events + others
    above, mirrored = (
        log_rate_evidence(events, trials, rate),
        log_rate_evidence(others, trials, 1.0 - rate, above=False),
    )
    assert above == pytest.approx(mirrored, abs=1e-6 * (1.0 + trials))
    lower, upper = rate_limits(events, trials, 0.05)
    assert lower <= (events / trials if trials else 0.5) <= upper
