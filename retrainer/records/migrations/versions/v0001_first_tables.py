"""The first tables: retraining events, jobs, decisions, deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from retrainer.records.tables import Json, Moment, Number

revision = "0001"
down_revision = None


def upgrade() -> None:
    _events()
    _jobs()
    _decisions()
    _deliveries()


def _events() -> None:
    op.create_table(
        "model_retraining_events",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("began", Moment(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("trigger_type", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("drift_type", sa.String()),
        sa.Column("trigger_reason", sa.String()),
        sa.Column("trigger_metrics", Json),
        sa.Column("execution_attempted", sa.Boolean(), nullable=False),
        sa.Column("execution_successful", sa.Boolean()),
        sa.Column("execution_metrics", Json),
        sa.Column("retraining_model_version", sa.String()),
        sa.Column("retraining_r2", sa.Double()),
        sa.Column("retraining_rmse", sa.Double()),
        sa.Column("retraining_accuracy", sa.Double()),
        sa.Column("comparison_previous_r2", sa.Double()),
        sa.Column("improvement_r2_percent", sa.Double()),
        sa.Column("improvement_rmse_percent", sa.Double()),
        sa.Column("improvement_accuracy_percent", sa.Double()),
        sa.Column("triggered_at", Moment(), nullable=False),
        sa.Column("execution_completed_at", Moment()),
        sa.PrimaryKeyConstraint("id", name="pk_model_retraining_events"),
        sa.UniqueConstraint("experiment", "began", "job_id", name="uq_model_retraining_events_experiment_began_job_id"),
    )
    op.create_index("idx_retraining_severity", "model_retraining_events", ["severity"])
    op.create_index("idx_retraining_trigger_type", "model_retraining_events", ["trigger_type"])
    op.create_index("idx_retraining_triggered_at", "model_retraining_events", [sa.text("triggered_at DESC")])
    op.create_index("idx_retraining_execution_successful", "model_retraining_events", ["execution_successful"])


def _jobs() -> None:
    op.create_table(
        "retraining_jobs",
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("began", Moment(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("champion", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("challenger", sa.String()),
        sa.Column("accepted", sa.Boolean()),
        sa.Column("decision_reason", sa.String()),
        sa.Column("error", sa.String()),
        sa.Column("answer", Json),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment()),
        sa.PrimaryKeyConstraint("experiment", "began", "job_id", name="pk_retraining_jobs"),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("began", Moment(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("detail", sa.String()),
        sa.Column("rollout", sa.String()),
        sa.Column("challenger", sa.String()),
        sa.Column("champion", sa.String(), nullable=False),
        sa.Column("evidence", sa.String()),
        sa.Column("job_id", sa.String()),
        sa.Column("checklist", Json),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "began", "version", name="pk_decisions"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("began", Moment(), nullable=False),
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("title", sa.String()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String()),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "began", "notice", "target", name="pk_deliveries"),
    )


def downgrade() -> None:
    for table in ("deliveries", "decisions", "retraining_jobs", "model_retraining_events"):
        op.drop_table(table)
