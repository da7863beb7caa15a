"""Alembic's entry point: run the revisions on the connection, and in the transaction, of the caller."""

from alembic import context

context.configure(**context.config.attributes["configure"])
context.run_migrations()
