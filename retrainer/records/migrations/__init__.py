"""Alembic's migrations of the records, shipped with the package. One that was released is never changed."""
