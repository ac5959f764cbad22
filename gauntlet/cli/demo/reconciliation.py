"""The reckoning: recorded traffic against what was sent, ordered and counted, and against the first model. Pure.

Every check is made from the log itself, so that a count that is merely repeated from somewhere can't confirm itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gauntlet.cli.demo.event_reader import Flags, Floats, Ints, Outcomes, Predictions
from gauntlet.cli.demo.report_model import Check, Month, Realised, Rollout
from gauntlet.cli.demo.timeline import History
from gauntlet.losses import loss


def months(month: Ints, predictions: Predictions, outcomes: Outcomes, first: Floats) -> tuple[list[Month], Month]:
    """Each month and the year: what was served against the first champion, on the flights that have an outcome.

    month: of each flight, 1..12. first: the first champion's probability of the second class for each flight.
    """
    n = len(first)
    truth = np.full(n, -1, dtype=np.int64)
    truth[outcomes.flight] = outcomes.value
    served = np.full(n, np.nan)
    served[predictions.flight] = predictions.output
    model = np.zeros(n, dtype=np.int64)
    model[predictions.flight] = predictions.model
    known = (truth >= 0) & ~np.isnan(served)
    rows: list[Month] = []
    for number in [*np.unique(month).tolist(), 0]:
        inside = (month == number) | (number == 0)
        rated = inside & known
        versions, counts = np.unique(model[inside & (model > 0)], return_counts=True)
        names = {predictions.names.all[v] or "": c for v, c in zip(versions.tolist(), counts.tolist(), strict=True)}
        ours, error = _means(served[rated], truth[rated])
        theirs, error_first = _means(first[rated], truth[rated])
        rows.append(
            Month(
                month=number,
                flights=int(inside.sum()),
                outcomes=int(rated.sum()),
                served=names,
                log_loss=ours,
                log_loss_first=theirs,
                accuracy=error,
                accuracy_first=error_first,
            )
        )
    return rows[:-1], rows[-1]


def _means(p: Floats, truth: Ints) -> tuple[float | None, float | None]:
    """Mean log loss, and accuracy."""
    if not len(p):
        return None, None
    output, target = np.column_stack([1 - p, p]), truth.astype(np.float64)
    return float(loss("log_loss", output, target).mean()), float(1 - loss("accuracy", output, target).mean())


def realised(predictions: Predictions, history: History) -> list[Realised]:
    """For every allocation with a challenger on live traffic: its real share beside the ordered one."""
    found: dict[int, Realised] = {}
    for _, control in history:
        p = control.share
        if control.rollout is None or p == 0 or control.allocation in found:
            continue
        mine = (predictions.allocation == control.allocation) & ~predictions.forced
        n = int(mine.sum())
        if not n:
            continue
        assigned = int((mine & predictions.assigned).sum())
        spread = 3 * math.sqrt(p * (1 - p) / n)
        found[control.allocation] = Realised(
            allocation=control.allocation,
            rollout=control.rollout.id,
            share=p,
            requests=n,
            assigned=assigned,
            realised=assigned / n,
            low=max(0.0, p - spread),
            high=min(1.0, p + spread),
            inside=abs(assigned / n - p) <= spread,
        )
    return list(found.values())


def misrouted(predictions: Predictions, history: History) -> int:
    """Answers by a model that the allocation they were made under does not give the arm that served."""
    names = predictions.names
    wrong = ~np.isin(predictions.allocation, [control.allocation for _, control in history])
    for allocation, control in {control.allocation: control for _, control in history}.items():
        mine = predictions.allocation == allocation
        wrong |= mine & (predictions.champion != names.number(control.champion))
        rollout = control.rollout
        challenger = names.number(rollout.challenger if rollout else None)
        wrong |= mine & predictions.served & (predictions.challenger != challenger)
        wrong |= mine & predictions.served & (predictions.rollout != names.number(rollout.id if rollout else None))
    return int(wrong.sum())


def answers_after(predictions: Predictions, history: History, rollout: Rollout) -> int:
    """Requests that a model answered after it was taken out, until a later allocation lets it in again.

    "After" goes by the log: from the first answer of a later allocation on, in each of its partitions.
    """
    if rollout.state not in ("rolled_back", "archived"):
        return 0
    model = rollout.challenger
    took_part = False
    out: int | None = None
    back = math.inf
    for _, control in history:
        inside = model == control.champion or (control.rollout is not None and control.rollout.challenger == model)
        ended = any(e.id == rollout.id and e.state == rollout.state for e in control.ended)
        if out is None and took_part and ended and not inside:
            out = control.allocation
        elif out is not None and inside:
            back = control.allocation
            break
        took_part |= control.rollout is not None and control.rollout.id == rollout.id
    if out is None:
        return 0
    served_by = predictions.model == predictions.names.number(model)
    total = 0
    for partition in np.unique(predictions.partition):
        mine = predictions.partition == partition
        allocation = predictions.allocation[mine]
        after = _from_first(allocation >= out) & ~_from_first(allocation >= back)
        total += int((after & served_by[mine]).sum())
    return total


def _from_first(flags: Flags) -> Flags:
    return np.logical_or.accumulate(flags) if len(flags) else flags


def checks(
    *,
    keys: Sequence[str],
    sent: Mapping[str, int],
    predictions: Predictions,
    outcomes: Outcomes,
    counts: Mapping[str, int],
    rollouts: Sequence[Rollout],
    wrong: int,
    horizon: float,
) -> list[Check]:
    """The lines of the reconciliation; each holds or does not.

    keys: the ids of the flights sent. sent: what the replay counted (flights, answered, outcomes, accepted, never).
    counts: what the evaluator counted. wrong: answers not in line with their allocation.
    """
    on_log = len(predictions.flight)
    missing = np.setdiff1d(np.arange(len(keys)), predictions.flight)
    example = f" (the first: {keys[missing[0]]})" if len(missing) else ""
    evaluated = counts.get("predictions", 0)
    found = [
        _check(
            "flights answered",
            sent["flights"] == sent["answered"],
            f"{sent['flights']:,} flights sent, {sent['answered']:,} answered",
            sent=sent["flights"],
            answered=sent["answered"],
        ),
        _check(
            "flights on the log",
            not len(missing) and not predictions.foreign and on_log == sent["flights"],
            f"{on_log:,} of them on the log by id, {len(missing):,} missing{example}, {predictions.foreign:,} unknown",
            on_log=on_log,
            missing=len(missing),
            foreign=predictions.foreign,
        ),
        _check(
            "routed once",
            not predictions.rerouted and not wrong and on_log == sent["flights"],
            f"{on_log:,} flights, each routed once: {predictions.rerouted:,} routed anew, "
            f"{wrong:,} not by the allocation in force",
            rerouted=predictions.rerouted,
            misrouted=wrong,
        ),
        _check(
            "predictions evaluated",
            evaluated == on_log + predictions.foreign,
            f"{evaluated:,} distinct predictions evaluated, {on_log + predictions.foreign:,} on the log",
            evaluated=evaluated,
            on_log=on_log + predictions.foreign,
        ),
    ]
    found += _outcome_checks(sent, predictions, outcomes, counts, horizon)
    out = [r for r in rollouts if r.state in ("rolled_back", "archived")]
    after = sum(r.answers_after for r in out)
    culprits = ", ".join(f"{r.challenger} {r.answers_after:,}" for r in out if r.answers_after)
    found.append(
        _check(
            "answers after the end",
            after == 0,
            f"{after:,} requests answered by a model after it was taken out ({len(out)} were)"
            + (f": {culprits}" if culprits else ""),
            taken_out=len(out),
            answers_after=after,
        )
    )
    return found


def _outcome_checks(
    sent: Mapping[str, int], predictions: Predictions, outcomes: Outcomes, counts: Mapping[str, int], horizon: float
) -> list[Check]:
    known = np.zeros(1 + max(predictions.flight.max(initial=-1), outcomes.flight.max(initial=-1)), dtype=bool)
    made = np.zeros(len(known))
    known[predictions.flight] = True
    made[predictions.flight] = predictions.at
    met = known[outcomes.flight]
    late = met & (outcomes.at - made[outcomes.flight] > horizon)
    distinct = len(outcomes.flight) + outcomes.foreign
    alone = distinct - int(met.sum())  # an outcome without its prediction
    names = ("joined", "late", "duplicate", "conflict", "orphan")
    kinds = {name: counts.get(name, 0) for name in names}
    waiting = max(0, alone - kinds["orphan"])
    total = sum(kinds.values()) + waiting
    evaluated = counts.get("outcomes", 0)
    own = int(met.sum()) - int(late.sum())
    unrated = sent["flights"] - distinct
    return [
        _check(
            "outcomes on the log",
            sent["outcomes"] == sent["accepted"] == distinct and not outcomes.conflicting,
            f"{sent['outcomes']:,} outcomes sent, {sent['accepted']:,} accepted, {distinct:,} on the log by id",
            sent=sent["outcomes"],
            accepted=sent["accepted"],
            on_log=distinct,
            conflicting=outcomes.conflicting,
        ),
        _check(
            "outcomes evaluated",
            evaluated == outcomes.records == total,
            f"{evaluated:,} outcomes evaluated = "
            + " + ".join(f"{kinds[name]:,} {name}" for name in names)
            + f" + {waiting:,} waiting",
            evaluated=evaluated,
            records=outcomes.records,
            **kinds,
            waiting=waiting,
        ),
        _check(
            "outcomes joined",
            kinds["joined"] == own and kinds["late"] == int(late.sum()),
            f"{kinds['joined']:,} joined and {kinds['late']:,} late; the log by itself gives "
            f"{own:,} and {int(late.sum()):,}",
            joined=kinds["joined"],
            late=kinds["late"],
            joined_on_log=own,
            late_on_log=int(late.sum()),
        ),
        _check(
            "flights without outcome",
            unrated == sent["never"],
            f"{unrated:,} flights never got an outcome: {sent['never']:,} were cancelled or landed elsewhere",
            without=unrated,
            never=sent["never"],
        ),
    ]


def _check(name: str, passed: bool, text: str, **counts: int) -> Check:
    return Check(name=name, passed=bool(passed), text=text, counts={k: int(v) for k, v in counts.items()})
