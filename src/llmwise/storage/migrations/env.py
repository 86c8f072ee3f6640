"""Alembic runs this file. It upgrades over the connection that `schema.upgrade` hands it, inside that transaction."""

from alembic import context

from llmwise.storage.tables import metadata

connection = context.config.attributes["connection"]
# Alembic takes DDL on SQLite for not transactional, because the driver commits before it; ours doesn't (database.py).
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
