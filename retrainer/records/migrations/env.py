"""Run by Alembic on the connection that `retrainer.records.database` gives it, in the caller's transaction and lock."""

from __future__ import annotations

from alembic import context

from retrainer.records.database import MIGRATION_OPTIONS
from retrainer.records.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, **MIGRATION_OPTIONS)
with context.begin_transaction():
    context.run_migrations()
