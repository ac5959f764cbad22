"""The checklist of a promotion, a rollback or an archived challenger, filled in from facts. Pure.

An item is met, not met, or None where nothing tells; an operator may decide against the list, and that stays visible.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from gauntlet.registry import Version
from gauntlet.rollout import Control, Rollout
from gauntlet.types import Decision
from retrainer.store import JobRecord

LISTED = (Decision.PROMOTE, Decision.ROLLBACK, Decision.ARCHIVE)
"""Decisions that get a checklist."""


class ChecklistItem(msgspec.Struct, frozen=True):
    """One item with what is known of it."""

    item: str
    met: bool | None
    detail: str


class DecisionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when the decision is written down. `targets`: how many are told of alerts."""

    before: Control
    after: Control
    challenger: Version | None = None
    champion: Version | None = None
    job: JobRecord | None = None
    targets: int = 0


def challenger_of(before: Control, after: Control) -> str | None:
    """The version that a transition is about, if it is about one."""
    last = after.last
    if last is None or last.rollout is None:
        return None
    rollout = before.running(last.rollout) or after.running(last.rollout)
    if rollout is not None:
        return rollout.challenger
    return next((ended.challenger for ended in reversed(after.ended) if ended.id == last.rollout), None)


def checklist(facts: DecisionFacts) -> list[ChecklistItem]:
    """Every item, in the order in which a model goes through them; empty for a decision that gets none."""
    last = facts.after.last
    if last is None or last.decision not in LISTED:
        return []
    rollout = facts.before.running(last.rollout)
    return [
        _data(facts.job),
        _preprocessing(facts.challenger, facts.champion),
        _trained(facts.challenger),
        _measured(facts.job),
        _accepted(facts.job),
        _registered(facts.challenger),
        _canary(rollout),
        _approval(rollout),
        ChecklistItem("evidence", last.evidence is not None, last.evidence or f"{last.actor} decided without"),
        _way_back(facts),
        ChecklistItem("alerts", facts.targets > 0, f"{facts.targets} targets of `notify`"),
    ]


_NO_JOB = "no job has made it: a person has registered it"


def _data(job: JobRecord | None) -> ChecklistItem:
    """New data collected and validated."""
    if job is None:
        return ChecklistItem("data", None, _NO_JOB)
    split = job.answer.split
    skipped = sum(int(count) for name, count in split.items() if name.startswith("skipped_"))
    trained, held = int(split.get("train_rows", 0)), int(split.get("holdout_rows", 0))
    detail = f"{trained:,} rows to train on, {held:,} held out, {skipped:,} skipped"
    return ChecklistItem("data", trained > 0 and held > 0, detail)


def _preprocessing(challenger: Version | None, champion: Version | None) -> ChecklistItem:
    """Preprocessing consistent: it is part of the model, so the same raw features have to go in."""
    if challenger is None or champion is None:
        return ChecklistItem("preprocessing", None, "a version is not in the registry any more")
    ours, theirs = challenger.schema, champion.schema
    same = ours.features == theirs.features and ours.classes == theirs.classes
    detail = f"{len(ours.features)} features{'' if same else ', not those'} of {champion.version}"
    return ChecklistItem("preprocessing", same, detail)


def _trained(challenger: Version | None) -> ChecklistItem:
    """Trained on the data that it was to be trained on."""
    if challenger is None or not challenger.rows or challenger.data_from is None or challenger.data_to is None:
        return ChecklistItem("trained", None, "its rows are not on record")
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (challenger.data_from, challenger.data_to))
    return ChecklistItem("trained", True, f"{challenger.algorithm} on {challenger.rows:,} rows, {first} to {last}")


def _measured(job: JobRecord | None) -> ChecklistItem:
    """Metrics calculated, and compared with the champion's on the same rows."""
    if job is None:
        return ChecklistItem("compared", None, _NO_JOB)
    before, after = (job.answer.metrics.get(arm, {}) for arm in ("champion", "challenger"))
    shown = ", ".join(f"{name} {before[name]:.4g} → {after[name]:.4g}" for name in sorted(before.keys() & after.keys()))
    return ChecklistItem("compared", bool(shown), shown or "no metric of both")


def _accepted(job: JobRecord | None) -> ChecklistItem:
    """The holdout gate passed."""
    return (
        ChecklistItem("holdout", None, _NO_JOB)
        if job is None
        else ChecklistItem("holdout", job.accepted, job.answer.reason)
    )


def _registered(challenger: Version | None) -> ChecklistItem:
    """Versioned and registered."""
    if challenger is None:
        return ChecklistItem("registered", False, "not in the registry")
    return ChecklistItem(
        "registered", True, f"{challenger.version}, sha256 {(challenger.checksum or 'of a function')[:12]}"
    )


def _canary(rollout: Rollout | None) -> ChecklistItem:
    """The whole ramp passed."""
    if rollout is None:
        return ChecklistItem("canary", None, "no rollout was running")
    where = "in shadow" if rollout.in_shadow else f"in stage {rollout.stage + 1} of {len(rollout.stages)}"
    return ChecklistItem("canary", rollout.last_stage, f"{where}, {rollout.share:.2%} of the traffic")


def _approval(rollout: Rollout | None) -> ChecklistItem:
    """Approved where that was asked."""
    if rollout is None:
        return ChecklistItem("approval", None, "no rollout was running")
    gates = {-1: rollout.shadow, **dict(enumerate(rollout.stages))}
    asked = [stage for stage, gate in gates.items() if gate.approval and stage <= rollout.stage]
    if not asked:
        return ChecklistItem("approval", True, "not asked for")
    missing = [stage for stage in asked if stage not in rollout.approved]
    return ChecklistItem(
        "approval", not missing, f"asked for in {len(asked)} stages, given in {len(asked) - len(missing)}"
    )


def _way_back(facts: DecisionFacts) -> ChecklistItem:
    """A version to go back to."""
    previous = facts.after.previous
    return ChecklistItem("way back", previous is not None, previous or "there is no previous champion")
