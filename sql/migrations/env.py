"""Alembic environment; `recsys.warehouse.migrate` hands over an open connection.

All revisions run in that connection's one transaction: an upgrade happens whole or not at all.
"""

from alembic import context

from recsys.warehouse.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
