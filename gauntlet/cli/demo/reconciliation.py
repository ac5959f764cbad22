"""Reconciliation: recorded traffic against what was sent, against the control record and against the first model. Pure.

Every count is taken from the log itself, so that no service's own figure can confirm itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gauntlet.cli.demo.event_reader import Outcomes, Predictions
from gauntlet.cli.demo.replay import Sent
from gauntlet.cli.demo.report_model import AllocationStep, Check, Month, RealisedShare, Rollout
from gauntlet.losses import loss

_TAKEN_OUT = ("rolled_back", "archived")
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
    """For every allocation with a challenger on live traffic: its realised share beside the ordered one."""
    table = predictions.table[~predictions.table["forced"]]
    assigned = dict(iter(table.groupby("allocation")["assigned"]))
    live = {step.allocation: step for step in ramp if step.share > 0 and step.allocation in assigned}
    return [_realised(step, len(assigned[number]), int(assigned[number].sum())) for number, step in live.items()]


def _realised(step: AllocationStep, requests: int, assigned: int) -> RealisedShare:
    p, realised = step.share, assigned / requests
    spread = 3 * math.sqrt(p * (1 - p) / requests)
    return RealisedShare(
        allocation=step.allocation,
        rollout=step.rollout or "",
        share=p,
        requests=requests,
        assigned=assigned,
        realised=realised,
        low=max(0.0, p - spread),
        high=min(1.0, p + spread),
        inside=abs(realised - p) <= spread,
    )


def misrouted(predictions: Predictions, ramp: Sequence[AllocationStep]) -> int:
    """Answers by a model that the allocation they name doesn't give to the arm that served."""
    columns = ["champion", "challenger", "rollout"]
    steps = pd.DataFrame(map(msgspec.structs.asdict, ramp)).drop_duplicates("allocation", keep="last")
    ordered = steps.set_index("allocation")[columns].reindex(predictions.table["allocation"])
    differs = predictions.table[columns].fillna("").to_numpy() != ordered.fillna("").to_numpy()
    assigned_wrong = predictions.table["assigned"].to_numpy() & differs[:, 1:].any(axis=1)
    return int((differs[:, 0] | assigned_wrong).sum())


def answers_after(predictions: Predictions, ramp: Sequence[AllocationStep], rollout: Rollout) -> int:
    """Requests that a model answered after it was taken out and until a later allocation lets it in again.

    "After" goes by the log: from the first answer of a later allocation on, in each partition.
    """
    if rollout.state not in _TAKEN_OUT:
        return 0
    model, table = rollout.challenger, predictions.table
    # A rollout that ends in shadow doesn't change the allocation, so of one allocation the last step counts.
    present = {step.allocation: model in (step.champion, step.challenger) for step in ramp}
    latest = table.groupby("partition")["allocation"].cummax()
    return int(((table["model"] == model) & ~latest.map(present).eq(True)).sum())


def checks(
    *,
    ids: Sequence[str],
    sent: Sent,
    predictions: Predictions,
    outcomes: Outcomes,
    counts: Mapping[str, int],
    rollouts: Sequence[Rollout],
    wrong: int,
    horizon: float,
) -> list[Check]:
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
            "{answers_after:,} requests answered by a model after it was taken out ({taken_out} were)"
            + (f": {culprits}" if culprits else ""),
            {"taken_out": len(out), "answers_after": after},
        ),
    ]


def _outcome_checks(
    sent: Sent, predictions: Predictions, outcomes: Outcomes, counts: Mapping[str, int], horizon: float
) -> list[Check]:
    predicted_at = predictions.table["at"].reindex(outcomes.table.index)
    late = int((outcomes.table["at"] - predicted_at > horizon).sum())  # False where there is no prediction
    joined = int(predicted_at.notna().sum()) - late
    on_log = len(outcomes.table) + outcomes.foreign
    kinds = {kind: counts.get(kind, 0) for kind in _OUTCOME_KINDS}
    kinds["waiting"] = max(0, on_log - joined - late - kinds["orphan"])
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
            kinds["joined"] == joined and kinds["late"] == late,
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


def _check(name: str, passed: bool, text: str, counts: dict[str, int]) -> Check:
    """One check; the counts fill the placeholders of `text`."""
    return Check(name=name, passed=passed, text=text.format(**counts), counts=counts)
