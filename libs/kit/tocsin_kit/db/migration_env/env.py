"""Alembic's environment of every service: one connection, given by `tocsin_kit.db.migrations`, one transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
