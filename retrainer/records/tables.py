"""The tables, for SQLite and PostgreSQL alike. `migrations/` makes them; a test holds the two equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts up only what it calls INTEGER


class Moment(sa.TypeDecorator[datetime]):
    """A time with its zone; SQLite, which has none, keeps UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} names no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, **options: Any) -> sa.Column[str]:
    """A text column. It has no length, or PostgreSQL would refuse a longer text and the row would never be written."""
    return sa.Column(name, sa.String(), **options)


def _origin() -> tuple[sa.Column[Any], ...]:
    """The columns that say whose row it is. Experiments may share a database, and one that starts over counts its jobs
    anew."""
    return _text("experiment", nullable=False), sa.Column("began", Moment(), nullable=False)


events = sa.Table(
    "model_retraining_events",
    metadata,
    sa.Column("id", Number, primary_key=True, autoincrement=True),
    *_origin(),
    _text("job_id", nullable=False),
    _text("trigger_type", nullable=False),
    _text("severity", nullable=False),
    _text("drift_type"),
    _text("trigger_reason"),
    sa.Column("trigger_metrics", Json),
    sa.Column("execution_attempted", sa.Boolean(), nullable=False),
    sa.Column("execution_successful", sa.Boolean()),
    sa.Column("execution_metrics", Json),
    _text("retraining_model_version"),
    sa.Column("retraining_r2", sa.Double()),
    sa.Column("retraining_rmse", sa.Double()),
    sa.Column("retraining_accuracy", sa.Double()),
    sa.Column("comparison_previous_r2", sa.Double()),
    sa.Column("improvement_r2_percent", sa.Double()),
    sa.Column("improvement_rmse_percent", sa.Double()),
    sa.Column("improvement_accuracy_percent", sa.Double()),
    sa.Column("triggered_at", Moment(), nullable=False),
    sa.Column("execution_completed_at", Moment()),
    sa.UniqueConstraint("experiment", "began", "job_id"),
    sa.Index("idx_retraining_severity", "severity"),
    sa.Index("idx_retraining_trigger_type", "trigger_type"),
    sa.Index("idx_retraining_execution_successful", "execution_successful"),
)
"""One row a job, from its trigger to its outcome. Improvements are in per cent of the champion's figure on the same
held-out rows, positive when the new model is better; NULL where the metric is not defined."""

sa.Index("idx_retraining_triggered_at", events.c.triggered_at.desc())

jobs = sa.Table(
    "retraining_jobs",
    metadata,
    *_origin(),
    _text("job_id", nullable=False),
    _text("status", nullable=False),
    _text("trigger", nullable=False),
    _text("request", nullable=False),
    _text("severity", nullable=False),
    _text("reason"),
    _text("champion", nullable=False),
    _text("recipe", nullable=False),
    _text("challenger"),
    sa.Column("accepted", sa.Boolean()),
    _text("decision_reason"),
    _text("error"),
    sa.Column("answer", Json),
    sa.Column("starts", sa.Integer(), nullable=False),
    sa.Column("seconds", sa.Double(), nullable=False),
    sa.Column("created_at", Moment(), nullable=False),
    sa.Column("updated_at", Moment(), nullable=False),
    sa.Column("ended_at", Moment()),
    sa.PrimaryKeyConstraint("experiment", "began", "job_id"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    *_origin(),
    sa.Column("version", sa.Integer(), nullable=False),
    _text("command", nullable=False),
    _text("decision", nullable=False),
    _text("actor", nullable=False),
    _text("reason"),
    _text("detail"),
    _text("rollout"),
    _text("challenger"),
    _text("champion", nullable=False),
    _text("evidence"),
    _text("job_id"),
    sa.Column("checklist", Json),
    sa.Column("at", Moment(), nullable=False),
    sa.PrimaryKeyConstraint("experiment", "began", "version"),
)
"""One row for each version of the control record; `champion` is who serves from then on."""

deliveries = sa.Table(
    "deliveries",
    metadata,
    *_origin(),
    _text("notice", nullable=False),
    _text("target", nullable=False),
    _text("kind", nullable=False),
    _text("severity", nullable=False),
    _text("title"),
    _text("status", nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    _text("error"),
    sa.Column("at", Moment(), nullable=False),
    sa.Column("updated_at", Moment(), nullable=False),
    sa.PrimaryKeyConstraint("experiment", "began", "notice", "target"),
)
"""One row for each notice and target: pending, sent or dead. `at` is the event's time, `updated_at` the machine's."""
