"""Alembic runs this file. It upgrades over the connection that `schema.upgrade` hands it, inside that transaction."""

from alembic import context

from llmwise.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
