"""Queries on the records that SQLite and PostgreSQL understand in the same way."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from retrainer.records import tables

_events = tables.events.c
_RESULT = (
    _events.retraining_model_version,
    _events.improvement_r2_percent,
    _events.improvement_rmse_percent,
    _events.improvement_accuracy_percent,
)


def all_events(experiment: str) -> sa.Select[Any]:
    """Every retraining event, the newest first."""
    return sa.select(tables.events).where(_events.experiment == experiment).order_by(*_newest_first())


def recent(experiment: str, since: datetime) -> sa.Select[Any]:
    """What was triggered after `since`, and what came of it."""
    shown = (
        _events.triggered_at,
        _events.job_id,
        _events.severity,
        _events.trigger_type,
        _events.execution_successful,
        *_RESULT,
    )
    return (
        sa.select(*shown)
        .where(_events.experiment == experiment, _events.triggered_at > since)
        .order_by(*_newest_first())
    )


def latest(experiment: str) -> sa.Select[Any]:
    """The time of the newest event."""
    return sa.select(sa.func.max(_events.triggered_at).label("at")).where(_events.experiment == experiment)


def by_trigger(experiment: str) -> sa.Select[Any]:
    """How often each trigger has led to a job, and how many per cent of those that are over succeeded."""
    successes = sa.case((_events.execution_successful.is_(True), 1.0), (_events.execution_successful.is_(False), 0.0))
    frequency = sa.func.count().label("frequency")
    return (
        sa.select(_events.trigger_type, frequency, (sa.func.avg(successes) * 100).label("success_rate"))
        .where(_events.experiment == experiment)
        .group_by(_events.trigger_type)
        .order_by(frequency.desc(), _events.trigger_type)
    )


def improvement(experiment: str) -> sa.Select[Any]:
    """Improvement in per cent of each successful job's model over the champion of then."""
    shown = (_events.triggered_at, _events.job_id, *_RESULT)
    return (
        sa.select(*shown)
        .where(_events.experiment == experiment, _events.execution_successful.is_(True))
        .order_by(*_newest_first())
    )


def decisions(experiment: str) -> sa.Select[Any]:
    """Every change of the control record, the newest first, with the checklist of those that have one."""
    of = tables.decisions.c
    return sa.select(tables.decisions).where(of.experiment == experiment).order_by(of.began.desc(), of.version.desc())


def deliveries(experiment: str) -> sa.Select[Any]:
    """What was told to whom, the newest first."""
    of = tables.deliveries.c
    return sa.select(tables.deliveries).where(of.experiment == experiment).order_by(of.updated_at.desc(), of.notice)


def _newest_first() -> tuple[sa.ColumnElement[Any], ...]:
    return _events.triggered_at.desc(), _events.id.desc()
