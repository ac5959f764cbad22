"""Reconciliation: recorded traffic against what was sent, against the control record and against the first model. Pure.

Every count is taken from the log itself, so that no service's own figure can confirm itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from gauntlet.cli.demo.event_reader import Outcomes, Predictions
from gauntlet.cli.demo.replay import Sent
from gauntlet.cli.demo.report_model import (
    AllocationStep,
    Month,
    OnRamp,
    RealisedShare,
    ReconciliationCheck,
    RecordedRollout,
)
from gauntlet.losses import loss

_TAKEN_OUT = ("rolled_back", "archived")
_THREE_SIGMA = 0.9973  # of a binomial law: a normal one is wrong where an allocation had a few requests
_OUTCOME_KINDS = ("joined", "late", "duplicate", "corrected", "conflict", "orphan")


def months(flights: pd.DataFrame, predictions: Predictions, outcomes: Outcomes) -> tuple[list[Month], Month]:
    """Each month and the whole year: what was served against the first champion, on the flights with an outcome.

    flights: indexed by id; columns month (1 to 12) and first (the first champion's probability of the second class).
    """
    served = predictions.table[["model", "output"]]
    rows = flights.join(served).join(outcomes.table["value"])
    numbers = sorted(set(flights["month"].tolist()))
    return [_month(number, rows[rows["month"] == number]) for number in numbers], _month(0, rows)


def _month(number: int, rows: pd.DataFrame) -> Month:
    rated = rows[rows["value"].ge(0) & rows["output"].notna()]
    truth = rated["value"].to_numpy(dtype=float)
    log_loss, accuracy = _means(rated["output"].to_numpy(dtype=float), truth)
    log_loss_first, accuracy_first = _means(rated["first"].to_numpy(dtype=float), truth)
    return Month(
        month=number,
        flights=len(rows),
        outcomes=len(rated),
        served={str(model): int(count) for model, count in rows["model"].value_counts().sort_index().items()},
        log_loss=log_loss,
        log_loss_first=log_loss_first,
        accuracy=accuracy,
        accuracy_first=accuracy_first,
    )


def _means(p: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Mean log loss, and accuracy."""
    if not len(p):
        return None, None
    output = np.column_stack([1 - p, p])
    return float(loss("log_loss", output, truth).mean()), float(1 - loss("accuracy", output, truth).mean())


def realised_shares(predictions: Predictions, ramp: Sequence[AllocationStep]) -> list[RealisedShare]:
    """For every allocation and each challenger on its ramp: its realised share beside the ordered one."""
    table = predictions.table[~predictions.table["forced"]]
    requests = table.groupby("allocation").size()
    assigned = table[table["assigned"]].groupby(["allocation", "rollout"]).size()
    steps = {step.allocation: step for step in ramp if step.share > 0 and step.allocation in requests.index}
    return [
        _realised(number, each, int(requests[number]), int(assigned.get((number, each.rollout), 0)))
        for number, step in steps.items()
        for each in step.on_ramp
    ]


def _realised(allocation: int, ordered: OnRamp, requests: int, assigned: int) -> RealisedShare:
    lowest, highest = binom.interval(_THREE_SIGMA, requests, ordered.share)
    return RealisedShare(
        allocation=allocation,
        rollout=ordered.rollout,
        share=ordered.share,
        requests=requests,
        assigned=assigned,
        realised=assigned / requests,
        low=float(lowest) / requests,
        high=float(highest) / requests,
        inside=bool(lowest <= assigned <= highest),
    )


def misrouted(predictions: Predictions, ramp: Sequence[AllocationStep]) -> int:
    """Answers by a model that the allocation they name doesn't give to the arm that served."""
    champions = {step.allocation: step.champion for step in ramp}
    arms = {(step.allocation, each.rollout, each.challenger) for step in ramp for each in step.on_ramp}
    table = predictions.table
    wrong = table["champion"] != table["allocation"].map(champions)
    treated = table[table["assigned"]]
    unordered = [
        arm not in arms for arm in zip(treated["allocation"], treated["rollout"], treated["challenger"], strict=True)
    ]
    wrong[treated.index[unordered]] = True
    return int(wrong.sum())


def answers_after(predictions: Predictions, ramp: Sequence[AllocationStep], rollout: RecordedRollout) -> int:
    """Requests that a model answered after it was taken out and until a later allocation lets it in again.

    "After" goes by the log: from the first answer of a later allocation on, in each partition.
    """
    if rollout.state not in _TAKEN_OUT:
        return 0
    model, table = rollout.challenger, predictions.table
    # A rollout that ends in shadow doesn't change the allocation, so of one allocation the last step counts.
    present = {step.allocation: model in (step.champion, *(each.challenger for each in step.on_ramp)) for step in ramp}
    latest = table.groupby("partition")["allocation"].cummax()
    return int(((table["model"] == model) & ~latest.map(present).eq(True)).sum())


def checks(
    *,
    ids: Sequence[str],
    sent: Sent,
    predictions: Predictions,
    outcomes: Outcomes,
    counts: Mapping[str, int],
    rollouts: Sequence[RecordedRollout],
    wrong: int,
    horizon: float,
) -> list[ReconciliationCheck]:
    """The lines of the reconciliation.

    ids: the flights sent. sent: what the replay counted. counts: what the evaluator counted. wrong: the number of
    `misrouted` answers. horizon: seconds within which an outcome must come.
    """
    on_log, evaluated = len(predictions.table), counts.get("predictions", 0)
    missing = pd.Index(ids).difference(predictions.table.index, sort=False)
    example = f" (the first: {missing[0]})" if len(missing) else ""
    out = [r for r in rollouts if r.state in _TAKEN_OUT]
    after = sum(r.answers_after for r in out)
    culprits = ", ".join(f"{r.challenger} {r.answers_after:,}" for r in out if r.answers_after)
    complete = on_log == sent.flights
    return [
        _check(
            "flights answered",
            sent.flights == sent.answered,
            "{sent:,} flights sent, {answered:,} answered",
            {"sent": sent.flights, "answered": sent.answered},
        ),
        _check(
            "flights on the log",
            complete and not len(missing) and not predictions.foreign,
            f"{{on_log:,}} of them on the log by id, {{missing:,}} missing{example}, {{foreign:,}} unknown",
            {"on_log": on_log, "missing": len(missing), "foreign": predictions.foreign},
        ),
        _check(
            "routed once",
            complete and not predictions.rerouted and not wrong,
            f"{on_log:,} flights, each routed once: "
            "{rerouted:,} routed anew, {misrouted:,} not by the allocation in force",
            {"rerouted": predictions.rerouted, "misrouted": wrong},
        ),
        _check(
            "predictions evaluated",
            evaluated == on_log + predictions.foreign,
            "{evaluated:,} distinct predictions evaluated, {on_log:,} on the log",
            {"evaluated": evaluated, "on_log": on_log + predictions.foreign},
        ),
        *_outcome_checks(sent, predictions, outcomes, counts, horizon),
        _check(
            "answers after the end",
            after == 0,
            "{answers_after:,} requests answered by a model after it was taken out (taken out: {taken_out})"
            + (f": {culprits}" if culprits else ""),
            {"taken_out": len(out), "answers_after": after},
        ),
    ]


def _outcome_checks(
    sent: Sent, predictions: Predictions, outcomes: Outcomes, counts: Mapping[str, int], horizon: float
) -> list[ReconciliationCheck]:
    predicted_at = predictions.table["at"].reindex(outcomes.table.index)
    late = int((outcomes.table["at"] - predicted_at > horizon).sum())  # False where there is no prediction
    joined = int(predicted_at.notna().sum()) - late
    on_log = len(outcomes.table) + outcomes.foreign
    kinds = {kind: counts.get(kind, 0) for kind in _OUTCOME_KINDS}
    kinds["waiting"] = max(0, on_log - joined - kinds["late"] - kinds["orphan"])
    later = late - kinds["late"]  # so late that the prediction was forgotten: an orphan, once its turn comes
    evaluated = counts.get("outcomes", 0)
    return [
        _check(
            "outcomes on the log",
            sent.outcomes == sent.accepted == on_log and not outcomes.conflicting,
            "{sent:,} outcomes sent, {accepted:,} accepted, {on_log:,} on the log by id",
            {"sent": sent.outcomes, "accepted": sent.accepted, "on_log": on_log, "conflicting": outcomes.conflicting},
        ),
        _check(
            "outcomes evaluated",
            evaluated == outcomes.records == sum(kinds.values()),
            "{evaluated:,} outcomes evaluated = " + " + ".join(f"{{{kind}:,}} {kind}" for kind in kinds),
            {"evaluated": evaluated, "records": outcomes.records, **kinds},
        ),
        _check(
            "outcomes joined",
            kinds["joined"] == joined and 0 <= later <= kinds["orphan"] + kinds["waiting"],
            "{joined:,} joined and {late:,} late; the log by itself gives {joined_on_log:,} and {late_on_log:,}",
            {"joined": kinds["joined"], "late": kinds["late"], "joined_on_log": joined, "late_on_log": late},
        ),
        _check(
            "flights without outcome",
            sent.flights - on_log == sent.never,
            "{without:,} flights never got an outcome: {never:,} were cancelled or landed elsewhere",
            {"without": sent.flights - on_log, "never": sent.never},
        ),
    ]


def _check(name: str, passed: bool, text: str, counts: dict[str, int]) -> ReconciliationCheck:
    """One check; the counts fill the placeholders of `text`."""
    return ReconciliationCheck(name=name, passed=passed, text=text.format(**counts), counts=counts)
