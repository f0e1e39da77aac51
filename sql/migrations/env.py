"""Alembic environment, used by `recsys.warehouse.migrate`, which passes an open connection.

All revisions run in one transaction of that connection, so an upgrade is applied completely or not at all.
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
